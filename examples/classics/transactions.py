"""Transactions: state changes that all happen, or none of them.

The handler stands between the program and the state. It keeps the writes to itself and
passes them on when the program has ended. If the program fails they are forgotten: there is
nothing to roll back. A transaction in a transaction commits to the outer one.

Law: a transaction that ends well leaves the state that its body leaves; one that fails leaves
the state that it found, and raises the error of the body.
"""

from __future__ import annotations

from typing import Any

from doeff import (
    EffectGenerator,
    Get,
    HandlerContext,
    Program,
    Put,
    Safe,
    WithHandler,
    do,
)
from doeff.effects import StateGetEffect, StateModifyEffect, StatePutEffect


@do
def transaction(body: Program[Any]) -> EffectGenerator[Any]:
    """The value of ``body``; what it wrote is visible outside once it has ended."""
    written: dict[str, Any] = {}

    @do
    def handler(
        effect: StateGetEffect | StatePutEffect | StateModifyEffect, ctx: HandlerContext
    ) -> EffectGenerator[Any]:
        match effect:
            case StatePutEffect(key, value):
                written[key] = value
                return None
            case StateGetEffect(key):
                return written[key] if key in written else (yield effect)
            case StateModifyEffect(key, change):
                try:
                    old = written[key] if key in written else (yield Get(key))
                except KeyError:
                    old = None
                written[key] = change(old)
                return written[key]

    result = yield WithHandler(handler, body)
    for key, value in written.items():
        yield Put(key, value)
    return result


@do
def transfer(source: str, target: str, amount: int) -> EffectGenerator[None]:
    yield Put(target, (yield Get(target)) + amount)
    left = (yield Get(source)) - amount
    if left < 0:
        raise ValueError(f"{source} has not got {amount}")
    yield Put(source, left)


@do
def program() -> EffectGenerator[tuple[int, int]]:
    yield Put("ann", 100)
    yield Put("bob", 0)
    yield transaction(transfer("ann", "bob", 70))
    yield Safe(transaction(transfer("ann", "bob", 70)))
    return (yield Get("ann")), (yield Get("bob"))


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
