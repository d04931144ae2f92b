"""Machine states and their controls, and what v1 handlers see and ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from doeff._engine import (
    AwaitExternal,
    CESKState,
    CreateFuture,
    CreateSpawn,
    CreateTask,
    EffectControl,
    Err,
    Error,
    Ok,
    PerformEffect,
    PerformIO,
    ProgramControl,
    Request,
    ResolveFuture,
    TaskState,
    Value,
)

if TYPE_CHECKING:
    from datetime import datetime

    from doeff.cesk.types import FutureId, SpawnId, TaskId

__all__ = [
    "AwaitExternal",
    "Blocked",
    "CESKState",
    "Condition",
    "Control",
    "CreateFuture",
    "CreateSpawn",
    "CreateTask",
    "Done",
    "EffectControl",
    "Error",
    "FutureCondition",
    "PerformEffect",
    "PerformIO",
    "ProgramControl",
    "Ready",
    "Request",
    "Requesting",
    "ResolveFuture",
    "SpawnCondition",
    "TaskCondition",
    "TaskState",
    "TaskStatus",
    "TimeCondition",
    "Value",
]

Control: TypeAlias = Value | Error | EffectControl | ProgramControl


class Condition:
    """What a blocked task waits for."""

    __slots__ = ()


@dataclass(frozen=True)
class TimeCondition(Condition):
    """A time of the clock of the run."""

    wake_time: datetime | float


@dataclass(frozen=True)
class FutureCondition(Condition):
    """A future that is to be resolved."""

    future_id: FutureId


@dataclass(frozen=True)
class TaskCondition(Condition):
    """A task that is to end."""

    task_id: TaskId


@dataclass(frozen=True)
class SpawnCondition(Condition):
    """A program on a backend that is to end."""

    spawn_id: SpawnId


class TaskStatus:
    """Where a task stands: Ready, Blocked, Requesting or Done."""

    __slots__ = ()


@dataclass(frozen=True)
class Ready(TaskStatus):
    """The task can go on, with a value if it was blocked."""

    resume_value: Any = None


@dataclass(frozen=True)
class Blocked(TaskStatus):
    """The task waits."""

    condition: Condition


@dataclass(frozen=True)
class Requesting(TaskStatus):
    """The task waits for what the runtime does for it."""

    request: Request


@dataclass(frozen=True)
class Done(TaskStatus):
    """The task has ended, with Ok or Err."""

    result: Ok[Any] | Err

    @classmethod
    def ok(cls, value: Any) -> Done:
        return cls(Ok(value))

    @classmethod
    def err(cls, error: BaseException) -> Done:
        return cls(Err(error))
