"""The detailed trace of an error: what an ``Err`` holds as ``captured_traceback``."""

from __future__ import annotations

from doeff._engine import CapturedTraceback, CodeLocation, EffectFrame, PythonFrame

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = [
    "CapturedTraceback",
    "CodeLocation",
    "EffectFrame",
    "PythonFrame",
    "format_traceback",
    "format_traceback_short",
    "to_dict",
]


def format_traceback(trace: CapturedTraceback) -> str:
    """The trace as a text, as ``trace.format()``."""
    return trace.format()


def format_traceback_short(trace: CapturedTraceback) -> str:
    """The trace on one line: ``a -> b: Type: message``."""
    return trace.format_short()


def to_dict(trace: CapturedTraceback) -> dict[str, Any]:
    """The trace as JSON-safe data."""
    return trace.to_dict()
