"""Early exit: leave a block from any depth of calls, with a value.

Each ``block`` makes a label of its own. ``Leave`` names the label, so it passes the blocks
in between: their handlers let it go on outward by yielding it again.

Law: nothing after a ``Leave`` runs but ``finally`` blocks, and the block that is left
is the one that is named, however many others stand between.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from doeff import EffectBase, EffectGenerator, HandlerContext, Program, WithHandler, do


class Label:
    """Names one run of a block."""


@dataclass(frozen=True)
class Leave(EffectBase):
    """Leaves the block with that label; never comes back."""

    label: Label
    value: Any = None


@do
def block(body: Callable[[Label], Program[Any]]) -> EffectGenerator[Any]:
    """The value of ``body(label)``, or the one that it was left with."""
    label = Label()

    @do
    def handler(effect: Leave, ctx: HandlerContext) -> EffectGenerator[Any]:
        if effect.label is label:
            return ctx.abandon(effect.value)
        return (yield effect)

    return (yield WithHandler(handler, body(label)))


@do
def scan(label: Label, row: Sequence[int], wanted: int) -> EffectGenerator[None]:
    for column, value in enumerate(row):
        if value == wanted:
            yield Leave(label, column)


@do
def find(rows: Sequence[Sequence[int]], wanted: int) -> EffectGenerator[Any]:
    """Row and column of a number; no flag is passed back through the calls."""
    for number, row in enumerate(rows):
        column = yield block(lambda label, row=row: scan(label, row, wanted))
        if column is not None:
            return number, column
    return None


@do
def program() -> EffectGenerator[Any]:
    return (yield find([[3, 1, 4], [1, 5, 9], [2, 6, 5]], 9))


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
