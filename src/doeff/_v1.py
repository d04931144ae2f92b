"""What a request of a v1 handler makes the runtime do.

``answer`` is the body of the handler that gave the request: it performs the public effect that
does the work, outside the v1 handlers, and resumes the continuation with the outcome.

Contract: programs, part 5; concurrency, part 4.
"""

from __future__ import annotations

from ._engine import (
    AwaitExternal,
    CreateFuture,
    CreateSpawn,
    CreateTask,
    PerformEffect,
    ResolveFuture,
    ResumeK,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence
    from typing import Any

    from ._engine import Request

    Steps = Generator[Any, Any, Any]


def answer(request: Request, env: Mapping[Any, Any], k: Sequence[Any]) -> Steps:
    """Perform the request and give its outcome to ``k``."""
    try:
        value = yield from _STEPS[type(request)](request)
    except Exception as error:
        return ResumeK(k=k, env=env, error=error)
    return ResumeK(k=k, env=env, value=value)


def _constructor(name: str, request: Request) -> Callable[..., Any]:
    """The constructor of a public effect, looked up when it is needed."""
    import doeff

    found: Callable[..., Any] | None = getattr(doeff, name, None)
    if found is None:
        raise NotImplementedError(
            f"{type(request).__name__} is done by the effect {name}, which this version"
            " of doeff does not have"
        )
    return found


def _perform_effect(request: PerformEffect) -> Steps:
    return (yield request.effect)


def _await_external(request: AwaitExternal) -> Steps:
    return (yield _constructor("Await", request)(request.awaitable))


def _create_task(request: CreateTask) -> Steps:
    from .cesk.types import TaskHandle, TaskId

    task = yield _constructor("Spawn", request)(request.program)
    return TaskHandle(TaskId.new(), task)


def _create_future(request: CreateFuture) -> Steps:
    from .cesk.types import FutureHandle, FutureId

    promise = yield _constructor("CreatePromise", request)()
    return FutureHandle(FutureId.new(promise), promise.future)


def _resolve_future(request: ResolveFuture) -> Steps:
    from .cesk.types import FutureId

    future_id = request.future_id
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
    yield _constructor("CompletePromise", request)(promise, request.value)


def _create_spawn(request: CreateSpawn) -> Steps:
    from .cesk.types import SpawnHandle, SpawnId

    spawn = _constructor("Spawn", request)
    task = yield spawn(request.program, backend=request.backend)
    return SpawnHandle(SpawnId.new(), task)


_STEPS: dict[type, Callable[[Any], Steps]] = {
    AwaitExternal: _await_external,
    CreateFuture: _create_future,
    CreateSpawn: _create_spawn,
    CreateTask: _create_task,
    PerformEffect: _perform_effect,
    ResolveFuture: _resolve_future,
}
