"""What a request of a v1 handler makes the runtime do.

``answer`` is the body of the handler that gave the request: it performs the effect that does the
work, outside the v1 handlers, and resumes the continuation with the outcome.

Contract: programs, part 5; concurrency, part 4.
"""

from __future__ import annotations

from ._engine import (
    Await,
    AwaitExternal,
    CompletePromise,
    CreateExternalPromise,
    CreateFuture,
    CreatePromise,
    CreateSpawn,
    CreateTask,
    PerformEffect,
    ResolveFuture,
    ResumeK,
    Spawn,
    Wait,
    _CreateTaskEffect,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from typing import Any

    from ._engine import Request

    Steps = Generator[Any, Any, Any]


class Asked:
    """A request with what was in force when the handler gave it."""

    __slots__ = ("env", "layer", "request", "store")

    def __init__(
        self,
        request: Any,
        env: Mapping[Any, Any] | None,
        store: Mapping[str, Any] | None,
        layer: Any,
    ) -> None:
        self.request = request
        self.env = env
        self.store = store
        self.layer = layer


def answer(
    request: Request,
    env: Mapping[Any, Any] | None,
    store: Mapping[str, Any] | None,
    k: Sequence[Any],
    layer: Any,
) -> Steps:
    """Perform the request and give its outcome to ``k``."""
    try:
        value = yield from _STEPS[type(request)](Asked(request, env, store, layer))
    except Exception as error:
        return ResumeK(k=k, env=env, error=error)
    return ResumeK(k=k, env=env, value=value)


def _perform_effect(asked: Asked) -> Steps:
    return (yield asked.request.effect)


def _await_external(asked: Asked) -> Steps:
    return (yield Await(asked.request.awaitable))


def _create_task(asked: Asked) -> Steps:
    from .cesk.types import TaskHandle, TaskId

    task = yield _CreateTaskEffect(asked.request.program)
    return TaskHandle(TaskId.new(), task)


def _create_future(asked: Asked) -> Steps:
    from .cesk.types import FutureHandle, FutureId

    promise = yield CreatePromise()
    return FutureHandle(FutureId.new(promise), promise.future)


def _resolve_future(asked: Asked) -> Steps:
    from .cesk.types import FutureId

    future_id = asked.request.future_id
    if not isinstance(future_id, FutureId):
        raise TypeError(
            "future_id of ResolveFuture must be the future_id of a FutureHandle, got "
            f"{type(future_id).__name__}"
        )
    promise = future_id.promise
    if promise is None:
        raise KeyError(future_id)
    if promise.is_completed:
        raise RuntimeError(f"{future_id} was resolved before")
    yield CompletePromise(promise, asked.request.value)


def _create_spawn(asked: Asked) -> Steps:
    from . import _v1_spawn
    from .cesk.types import SpawnHandle, SpawnId

    promise = yield CreateExternalPromise()
    start = _v1_spawn.BACKENDS[asked.request.backend]
    start(asked.request.program, asked.layer, asked.env, asked.store, promise)
    # A task waits for it, so that cancelling the handle, or the end of the run, reaches the backend.
    task = yield Spawn(Wait(promise.future))
    return SpawnHandle(SpawnId.new(), task)


_STEPS: dict[type, Callable[[Asked], Steps]] = {
    AwaitExternal: _await_external,
    CreateFuture: _create_future,
    CreateSpawn: _create_spawn,
    CreateTask: _create_task,
    PerformEffect: _perform_effect,
    ResolveFuture: _resolve_future,
}
