"""Helpers for continuations: sequences of frames, the innermost first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doeff._engine import CESKState, Kontinuation

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "Kontinuation",
    "continuation_depth",
    "find_frame",
    "has_frame",
    "pop_frame",
    "push_frame",
    "unwind_error",
    "unwind_value",
]


def push_frame(k: Sequence[Any], frame: Any) -> Sequence[Any]:
    """``frame`` in front of ``k``."""
    front: Any = [frame]
    joined: Sequence[Any] = front + k  # a Kontinuation stays one
    return joined


def pop_frame(k: Sequence[Any]) -> tuple[Any, Sequence[Any]]:
    """The innermost frame and the rest; None and an empty ``k`` if there is none."""
    return (k[0], k[1:]) if len(k) else (None, k)


def find_frame(k: Sequence[Any], frame_type: type) -> tuple[Any, int]:
    """The innermost frame of a type and its index; None and -1 if there is none."""
    for index, frame in enumerate(k):
        if isinstance(frame, frame_type):
            return frame, index
    return None, -1


def has_frame(k: Sequence[Any], frame_type: type) -> bool:
    return find_frame(k, frame_type)[1] >= 0


def continuation_depth(k: Sequence[Any]) -> int:
    return len(k)


def unwind_value(value: Any, env: Any, store: Any, k: Sequence[Any]) -> CESKState:
    """The state that gives ``value`` to ``k``."""
    return CESKState.with_value(value, env, store, k)


def unwind_error(
    error: BaseException, env: Any, store: Any, k: Sequence[Any]
) -> CESKState:
    """The state that throws ``error`` into ``k``."""
    return CESKState.with_error(error, env, store, k)
