"""Retry with backoff: a handler that asks again, and waits longer each time.

The handler yields the effect that it was given, as often as it takes: whoever answers
requests stands outside it. Waiting is an effect as well, so a test needs no time.

Law: a request that fails ``f`` times is sent ``min(f, retries) + 1`` times, the waits
before the further attempts double, other errors are not retried, and the last error is raised
when the retries are used up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from doeff import EffectBase, EffectGenerator, HandlerContext, Program, WithHandler, do


@dataclass(frozen=True)
class Sleep(EffectBase):
    """Lets time pass."""

    seconds: float


@dataclass(frozen=True)
class Request(EffectBase):
    """Gives the answer of a server that is not always there."""

    path: str


def retrying(retries: int, wait: float, body: Program[Any]) -> Program[Any]:
    """``body``, each of its requests sent again after a ConnectionError."""

    @do
    def handler(effect: Request, ctx: HandlerContext) -> EffectGenerator[Any]:
        for attempt in range(retries):
            try:
                return (yield effect)
            except ConnectionError:
                yield Sleep(wait * 2**attempt)
        return (yield effect)

    return WithHandler(handler, body)


def virtual_clock(waits: list[float], body: Program[Any]) -> Program[Any]:
    """``body``, its sleeps noted and not waited for."""

    @do
    def handler(effect: Sleep, ctx: HandlerContext) -> None:
        waits.append(effect.seconds)

    return WithHandler(handler, body)


def flaky_server(failures: int, body: Program[Any]) -> Program[Any]:
    """``body``, its first requests failing."""
    left = failures

    @do
    def handler(effect: Request, ctx: HandlerContext) -> str:
        nonlocal left
        if left > 0:
            left -= 1
            raise ConnectionError(effect.path)
        return f"content of {effect.path}"

    return WithHandler(handler, body)


@do
def program() -> EffectGenerator[tuple[str, list[float]]]:
    waits: list[float] = []
    body = retrying(5, 0.5, Request("/index"))
    content = yield virtual_clock(waits, flaky_server(3, body))
    return content, waits


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
