"""Cooperative threads: a queue of continuations is a scheduler.

A thread that pauses is ``ctx.k``, the rest of its program. The handler puts it at the end of
the queue and goes on with the first one. A forked program starts on ``ctx.outer_k``, where
nothing of its parent is left, below the same handler.

Law: threads take turns in the order in which they were forked, each does its own steps in
order, and the main program's value comes when all of them have ended. If one fails, all do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from doeff import (
    CESKState,
    EffectBase,
    EffectGenerator,
    HandlerContext,
    Listen,
    Program,
    ResumeK,
    Tell,
    WithHandler,
    do,
)


@dataclass(frozen=True)
class Fork(EffectBase):
    """Starts a thread; the one that forks goes on later."""

    body: Program[Any]


@dataclass(frozen=True)
class Pause(EffectBase):
    """Lets the other threads have a turn."""


@dataclass(frozen=True)
class Exit(EffectBase):
    """Ends the thread; never comes back."""


@do
def threads(main: Program[Any]) -> EffectGenerator[Any]:
    """The value of ``main``, when it and all that it forked have ended."""
    ready: deque[Any] = deque()
    values: list[Any] = []

    @do
    def handler(effect: Fork | Pause | Exit, ctx: HandlerContext) -> Any:
        if not isinstance(effect, Exit):
            ready.append(ctx.k)
        if isinstance(effect, Fork):
            start = WithHandler(handler, effect.body.then(Exit()))
            return CESKState.with_program(start, ctx.env, ctx.store, ctx.outer_k)
        return ResumeK(k=ready.popleft()) if ready else ctx.abandon(None)

    try:
        yield WithHandler(handler, main.map(values.append).then(Exit()))
    finally:
        ready.clear()  # if one fails, the others are closed
    return values[0]


@do
def worker(name: str, steps: int) -> EffectGenerator[None]:
    for number in range(steps):
        yield Tell(f"{name}{number}")
        yield Pause()


@do
def main() -> EffectGenerator[str]:
    yield Fork(worker("a", 3))
    yield Fork(worker("b", 2))
    yield Tell("main ends")
    return "all done"


@do
def program() -> EffectGenerator[Any]:
    return (yield Listen(threads(main())))


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
