"""The handler ``task_scheduler_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import task_scheduler_handler

__all__ = ["task_scheduler_handler"]
