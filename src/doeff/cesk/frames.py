"""Frames as Python sees them."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from doeff._engine import (
    ContinueError,
    ContinueGenerator,
    ContinueProgram,
    ContinueValue,
    FrameResult,
    Kontinuation,
)
from doeff._frames import (
    AskLazyFrame,
    GatherFrame,
    GraphCaptureFrame,
    HandlerFrame,
    HandlerResultFrame,
    InterceptFrame,
    ListenFrame,
    LocalFrame,
    ReturnFrame,
    SafeFrame,
)
from doeff._frames import ListenFrame as ListenCaptureFrame
from doeff._frames import LocalFrame as LocalRestoreFrame

__all__ = [
    "AskLazyFrame",
    "ContinueError",
    "ContinueGenerator",
    "ContinueProgram",
    "ContinueValue",
    "Frame",
    "FrameResult",
    "GatherFrame",
    "GraphCaptureFrame",
    "HandlerFrame",
    "HandlerResultFrame",
    "InterceptFrame",
    "Kontinuation",
    "ListenCaptureFrame",
    "ListenFrame",
    "LocalFrame",
    "LocalRestoreFrame",
    "ReturnFrame",
    "SafeFrame",
]


@runtime_checkable
class Frame(Protocol):
    """Any object with these two methods can stand in a continuation.

    They give a ``CESKState`` (or a v1 ``FrameResult``), whose K is used as it is.
    """

    def on_value(self, value: Any, env: Any, store: Any, k: Any, /) -> Any: ...

    def on_error(
        self, error: BaseException, env: Any, store: Any, k: Any, /
    ) -> Any: ...
