"""Frames as Python sees them."""

from __future__ import annotations

from doeff._engine import Kontinuation
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
