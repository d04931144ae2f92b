"""Wait: for a task, a future or an external promise."""

from __future__ import annotations

from doeff._engine import (
    Wait,
    WaitEffect,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from doeff._waitable import Waitable

__all__ = [
    "Wait",
    "WaitEffect",
    "Waitable",
    "wait",
]

wait = Wait


def __getattr__(name: str) -> Any:
    if name != "Waitable":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from doeff._waitable import Waitable

    return Waitable
