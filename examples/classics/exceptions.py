"""Exceptions: a raise that leaves the program, and a handler that says what comes instead.

``ctx.abandon(value)`` never goes back to the program: it is unwound, its ``finally``
blocks run, and ``value`` becomes the value of the handled program.

Law: it is Python's own ``try``/``except``. A body that raises nothing keeps its value,
nothing after a raise is run, the innermost handler catches, and every ``finally`` runs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from doeff import EffectBase, EffectGenerator, HandlerContext, Program, WithHandler, do


@dataclass(frozen=True)
class Raise(EffectBase):
    """Leaves the innermost ``catching``; never comes back."""

    reason: Any


def catching(
    body: Program[Any], recover: Callable[[Any], Program[Any]]
) -> Program[Any]:
    """The value of ``body``, or of ``recover(reason)`` if it raised."""

    @do
    def handler(effect: Raise, ctx: HandlerContext) -> EffectGenerator[Any]:
        return ctx.abandon((yield recover(effect.reason)))

    return WithHandler(handler, body)


@do
def divide(a: int, b: int) -> EffectGenerator[float]:
    if b == 0:
        yield Raise(f"{a} / 0")
    return a / b


@do
def report(reason: str) -> str:
    return f"no result: {reason}"


@do
def program() -> EffectGenerator[list[Any]]:
    good = yield catching(divide(6, 3), report)
    bad = yield catching(divide(6, 0), report)
    return [good, bad]


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
