"""What the scheduler performs to the handlers outside it."""

from __future__ import annotations

from doeff._engine import (
    WaitForExternalCompletion,
    _BlockForExternalCompletion,
)

__all__ = [
    "WaitForExternalCompletion",
    "_BlockForExternalCompletion",
]
