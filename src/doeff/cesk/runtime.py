"""The runtimes of the first handler API: a dictionary of handlers over the built-in ones.

Contract: programs, part 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doeff._engine import (
    _v1_layer,
    async_handlers_preset,
    async_run,
    default_handlers,
    sync_handlers_preset,
    sync_run,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import TypeAlias

    from doeff._engine import FrameResult, ProgramBase, RuntimeResult, TaskState

    V1Handler: TypeAlias = Callable[[Any, TaskState, dict[str, Any]], FrameResult]
    Handlers: TypeAlias = Mapping[Any, V1Handler]

__all__ = ["AsyncRuntime", "SyncRuntime", "default_handlers"]


class SyncRuntime:
    """Runs programs with ``sync_run``, under handlers of the first API.

    handlers: a dict from classes of effects to ``handler(effect, task_state, store)``, read when
    the runtime is made. Effects that it does not name keep their built-in meaning.

    >>> SyncRuntime(handlers={MyEffect: handle_my_effect}).run(program()).value
    """

    def __init__(self, handlers: Handlers | None = None) -> None:
        self._layer = _v1_layer(handlers)

    def run(
        self,
        program: ProgramBase[Any],
        env: Mapping[Any, Any] | None = None,
        store: Mapping[str, Any] | None = None,
    ) -> RuntimeResult[Any]:
        """Run a program to its end on this thread."""
        return sync_run(program, [*sync_handlers_preset, self._layer], env, store)


class AsyncRuntime:
    """Runs programs with ``async_run``, under handlers of the first API.

    handlers: as for SyncRuntime.

    >>> result = await AsyncRuntime(handlers={MyEffect: handle_my_effect}).run(program())
    """

    def __init__(self, handlers: Handlers | None = None) -> None:
        self._layer = _v1_layer(handlers)

    async def run(
        self,
        program: ProgramBase[Any],
        env: Mapping[Any, Any] | None = None,
        store: Mapping[str, Any] | None = None,
    ) -> RuntimeResult[Any]:
        """Run a program to its end on the running event loop."""
        handlers = [*async_handlers_preset, self._layer]
        return await async_run(program, handlers, env, store)
