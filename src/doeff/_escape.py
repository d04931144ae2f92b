"""What the action of an escape becomes when ``step`` hands it on.

Contract: concurrency, AR-11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from doeff._engine import CESKState


def resuming(
    action: Callable[[], Any], state: CESKState
) -> Callable[[], Coroutine[Any, Any, CESKState]]:
    """A coroutine function for the state that goes on with the action's answer.

    A coroutine that ``action()`` gives is awaited; anything else, a task included, is
    the answer itself. What either raises is raised at the yield of the escape.
    """

    async def resume() -> CESKState:
        from doeff._engine import CESKState

        try:
            value = action()
            if hasattr(value, "cr_frame"):
                value = await value
        except GeneratorExit:  # this coroutine is being closed
            raise
        except BaseException as error:
            return CESKState.with_error(error, state.E, state.S, state.K)
        return CESKState.with_value(value, state.E, state.S, state.K)

    return resume
