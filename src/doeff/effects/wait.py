"""Wait: for a task, a future or an external promise."""

from __future__ import annotations

from doeff._engine import (
    Wait,
    WaitEffect,
)

__all__ = [
    "Wait",
    "WaitEffect",
    "wait",
]

wait = Wait
