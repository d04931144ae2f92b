"""The scoping effects as plain functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from doeff._engine import CaptureGraph, Intercept, Listen, Local, Safe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    from doeff._engine import ListenResult, ProgramBase, Result

    T = TypeVar("T")

__all__ = [
    "with_graph_capture",
    "with_intercept",
    "with_listen",
    "with_local",
    "with_safe",
]


def with_local(
    env_update: Mapping[Any, Any], program: ProgramBase[T]
) -> ProgramBase[T]:
    """``Local(env_update, program)``."""
    return Local(env_update, program)


def with_safe(program: ProgramBase[T]) -> ProgramBase[Result[T]]:
    """``Safe(program)``."""
    return Safe(program)


def with_listen(program: ProgramBase[T]) -> ProgramBase[ListenResult[T]]:
    """``Listen(program)``."""
    return Listen(program)


def with_intercept(
    program: ProgramBase[T], *transforms: Callable[[Any], Any]
) -> ProgramBase[T]:
    """``Intercept(program, *transforms)``."""
    return Intercept(program, *transforms)


def with_graph_capture(
    program: ProgramBase[T],
) -> ProgramBase[tuple[T, list[dict[str, Any]]]]:
    """``CaptureGraph(program)``."""
    return CaptureGraph(program)
