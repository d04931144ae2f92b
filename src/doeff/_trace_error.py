"""An exception that carries its formatted traceback, for values that cross processes."""

from __future__ import annotations

from typing import Any

__all__ = ["TraceError", "trace_err"]


class TraceError(Exception):
    """``exc`` and the text ``tb`` of its traceback; ``created_at`` is where its effect was made."""

    def __init__(self, exc: BaseException, tb: str, created_at: Any = None) -> None:
        super().__init__(exc, tb, created_at)
        self.exc = exc
        self.tb = tb
        self.created_at = created_at

    def __str__(self) -> str:
        where = (
            f"\nCreated at {self.created_at.format_location()}"
            if self.created_at
            else ""
        )
        return f"{type(self.exc).__name__}: {self.exc}{where}\n{self.tb}"


def trace_err(e: BaseException, created_at: Any = None) -> TraceError:
    """``e`` with its traceback as text; a TraceError stays as it is."""
    import traceback

    if isinstance(e, TraceError):
        return e
    return TraceError(e, "".join(traceback.format_exception(e)), created_at)
