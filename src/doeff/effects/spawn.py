"""Spawn, Cancel and Discard: tasks."""

from __future__ import annotations

from doeff._engine import (
    Cancel,
    Discard,
    Spawn,
    SpawnEffect,
    Task,
    TaskCancelEffect,
    TaskDiscardEffect,
    TaskIsDoneEffect,
)
from doeff._errors import TaskCancelledError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from doeff import Program

    _T = TypeVar("_T")

__all__ = [
    "PRIORITY_HIGH",
    "PRIORITY_IDLE",
    "PRIORITY_NORMAL",
    "Cancel",
    "Discard",
    "Spawn",
    "SpawnEffect",
    "Task",
    "TaskCancelEffect",
    "TaskCancelledError",
    "TaskDiscardEffect",
    "TaskIsDoneEffect",
    "scheduled",
    "spawn",
]

spawn = Spawn
PRIORITY_IDLE = 0
PRIORITY_NORMAL = 10
PRIORITY_HIGH = 20


def scheduled(program: Program[_T]) -> Program[_T]:
    """The program itself: the presets have the scheduler, so nothing needs to be wrapped.

    For programs written where a scheduler had to be put around them.
    """
    return program
