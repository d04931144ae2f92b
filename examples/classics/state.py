"""State: a cell that a program reads and writes, though nothing in it is mutable.

The handler keeps the cell; ``with_state`` makes a new one for each run.

Law: reading after a write gives what was written, writing back what was read changes
nothing, and of two writes only the second one counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doeff import EffectBase, EffectGenerator, HandlerContext, Program, WithHandler, do


@dataclass(frozen=True)
class Read(EffectBase):
    """Gives the content of the cell."""


@dataclass(frozen=True)
class Write(EffectBase):
    """Replaces the content of the cell."""

    value: Any


@do
def with_state(initial: Any, body: Program[Any]) -> EffectGenerator[tuple[Any, Any]]:
    """What ``body`` returns, and what the cell holds in the end."""
    cell = initial

    @do
    def handler(effect: Read | Write, ctx: HandlerContext) -> Any:
        nonlocal cell
        match effect:
            case Read():
                return cell
            case Write(value):
                cell = value

    result = yield WithHandler(handler, body)
    return result, cell


@do
def count_up(times: int) -> EffectGenerator[str]:
    for _ in range(times):
        yield Write((yield Read()) + 1)
    return "done"


@do
def program() -> EffectGenerator[tuple[str, int]]:
    return (yield with_state(10, count_up(5)))


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
