"""Generators: a program emits values, whoever consumes it pulls them one by one.

The handler does not answer: it leaves the program with the value and the rest of the
program, and the rest runs when somebody asks for the next value. So an endless program is
no problem, and two programs can be consumed side by side.

Law: the values are those that the program emits, in order, and taking ``n`` of them runs the
program up to its ``n``-th ``Emit`` and no further. A rest that nobody keeps is closed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doeff import (
    EffectBase,
    EffectGenerator,
    HandlerContext,
    Program,
    ResumeK,
    WithHandler,
    do,
)


@dataclass(frozen=True)
class Emit(EffectBase):
    """Hands a value to whoever consumes the program."""

    value: Any


@dataclass(frozen=True)
class Next(EffectBase):
    """Goes on with a paused program."""

    rest: Any


@dataclass(frozen=True)
class Paused:
    """An emitted value, and the program that comes after it (to be run once)."""

    value: Any
    rest: Program[Any]


@do
def emit(effect: Emit, ctx: HandlerContext) -> ResumeK:
    paused = Paused(effect.value, go_on(ctx.delimited_k))
    return ResumeK(k=ctx.outer_k, value=paused)


@do
def proceed(effect: Next, ctx: HandlerContext) -> ResumeK:
    return ResumeK(k=effect.rest)


def start(body: Program[Any]) -> Program[Any]:
    """Runs ``body`` up to its first value: a Paused, or what it returns if there is none."""
    return WithHandler(emit, body)


def go_on(rest: Any) -> Program[Any]:
    return WithHandler(proceed, Next(rest))


@do
def take(most: int, body: Program[Any]) -> EffectGenerator[list[Any]]:
    """The first ``most`` values that ``body`` emits."""
    found: list[Any] = []
    following = start(body)
    while len(found) < most and isinstance(paused := (yield following), Paused):
        found.append(paused.value)
        following = paused.rest
    return found


@do
def fibonacci() -> EffectGenerator[None]:
    a, b = 0, 1
    while True:
        yield Emit(a)
        a, b = b, a + b


@do
def program() -> EffectGenerator[list[int]]:
    return (yield take(12, fibonacci()))


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
