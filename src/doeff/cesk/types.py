"""What environments and stores are; identities and handles of the first handler API."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any

from doeff._aliases import Store, empty_environment, empty_store
from doeff._engine import FrozenDict as Environment

__all__ = [
    "Environment",
    "FutureHandle",
    "FutureId",
    "SpawnHandle",
    "SpawnId",
    "Store",
    "TaskHandle",
    "TaskId",
    "empty_environment",
    "empty_store",
]

_numbers = count(1)


@dataclass(frozen=True)
class TaskId:
    """Names a task. ``new()`` gives one that nothing else in this process has."""

    number: int

    @classmethod
    def new(cls) -> TaskId:
        return cls(next(_numbers))


@dataclass(frozen=True)
class FutureId:
    """Names a future. ``new()`` gives one that nothing else in this process has."""

    number: int
    promise: Any = field(default=None, repr=False, compare=False)

    @classmethod
    def new(cls, promise: Any = None) -> FutureId:
        return cls(next(_numbers), promise)


@dataclass(frozen=True)
class SpawnId:
    """Names a program on a backend. ``new()`` gives one that nothing else in this process has."""

    number: int

    @classmethod
    def new(cls) -> SpawnId:
        return cls(next(_numbers))


class _Handle:
    """Something that Wait, Gather and Race take."""

    __slots__ = ()
    waitable: Any

    @property
    def _handle(self) -> Any:
        return self.waitable._handle


@dataclass(frozen=True)
class TaskHandle(_Handle):
    """What CreateTask gives."""

    task_id: TaskId
    waitable: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class FutureHandle(_Handle):
    """What CreateFuture gives; ``ResolveFuture(handle.future_id, value)`` settles it."""

    future_id: FutureId
    waitable: Any = field(repr=False, compare=False)


@dataclass(frozen=True)
class SpawnHandle(_Handle):
    """What CreateSpawn gives."""

    spawn_id: SpawnId
    waitable: Any = field(repr=False, compare=False)
