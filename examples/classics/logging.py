"""Logging by interception: every effect of a program is noted, and the program knows nothing.

A transform of ``Intercept`` sees each effect before any handler does. What it answers is
performed outside the interception, so the note and the effect itself are not seen again.

Law: logging is transparent. The value, the error and the state of the program stay as
they were; the log holds its effects in the order in which they were performed.
"""

from __future__ import annotations

from typing import Any

from doeff import (
    Effect,
    EffectGenerator,
    Get,
    Intercept,
    Listen,
    Modify,
    Program,
    Put,
    Tell,
    do,
)


def note(effect: Effect) -> Program[Any]:
    return Tell(f"{effect!r}").then(effect)


def logged(body: Program[Any]) -> Program[Any]:
    """``body``, each of its effects told to the log before it is performed."""
    return Intercept(body, note)


@do
def work() -> EffectGenerator[int]:
    yield Put("n", 20)
    yield Modify("n", abs)
    return 2 * (yield Get("n"))


@do
def program() -> EffectGenerator[tuple[int, list[str]]]:
    result = yield Listen(logged(work()))
    return result.value, list(result.log)


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
