"""The handler ``scheduler_state_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import scheduler_state_handler

__all__ = ["scheduler_state_handler"]
