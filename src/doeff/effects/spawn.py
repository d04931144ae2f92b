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
    "spawn",
]

spawn = Spawn
PRIORITY_IDLE = 0
PRIORITY_NORMAL = 10
PRIORITY_HIGH = 20
