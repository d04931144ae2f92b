"""Undo: a stack of inverse operations, nested.

Who acts says how to take it back. ``Undo`` takes back the last thing done, and ``group`` makes
one thing of all that its body does: undone in one step, and taken back by itself if it fails.

Law: ``n`` operations and ``n`` times ``Undo`` change nothing, whatever was grouped; undoing
with nothing done changes nothing either; a group that fails changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doeff import (
    EffectBase,
    EffectGenerator,
    Get,
    HandlerContext,
    Program,
    Pure,
    Put,
    WithHandler,
    do,
)


@dataclass(frozen=True)
class Act(EffectBase):
    """Runs ``action`` and remembers how to take it back; gives the value of ``action``."""

    action: Program[Any]
    inverse: Program[Any]


@dataclass(frozen=True)
class Undo(EffectBase):
    """Takes back the last thing done here; False if there is none."""


@do
def take_back(done: list[Program[Any]]) -> EffectGenerator[None]:
    while done:
        yield done.pop()


@do
def undoable(body: Program[Any]) -> EffectGenerator[Any]:
    """``body``, which may act and undo; what it does is taken back if it fails."""
    done: list[Program[Any]] = []

    @do
    def handler(effect: Act | Undo, ctx: HandlerContext) -> EffectGenerator[Any]:
        match effect:
            case Act(action, inverse):
                value = yield action
                done.append(inverse)
                return value
            case Undo():
                inverse = done.pop() if done else None
                if inverse is not None:
                    yield inverse
                return inverse is not None

    try:
        value = yield WithHandler(handler, body)
    except BaseException:
        yield take_back(done)
        raise
    return value, take_back(done)


@do
def group(body: Program[Any]) -> EffectGenerator[Any]:
    """The value of ``body``; all that it did is one thing to undo for the program around it."""
    value, inverse = yield undoable(body)
    yield Act(Pure(None), inverse)
    return value


@do
def put(key: str, value: Any) -> EffectGenerator[None]:
    """A Put that can be undone."""
    yield Act(Put(key, value), Put(key, (yield Get(key))))


@do
def edit() -> EffectGenerator[list[str]]:
    yield put("text", "draft")
    yield group(put("text", "two").then(put("text", "three")))
    seen = [(yield Get("text"))]
    while (yield Undo()):
        seen.append((yield Get("text")))
    return seen


@do
def program() -> EffectGenerator[list[str]]:
    yield Put("text", "")
    seen, _ = yield undoable(edit())
    return seen


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
