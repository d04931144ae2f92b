"""The handler ``core_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import core_handler
from doeff._errors import CircularAskError

__all__ = ["CircularAskError", "core_handler"]
