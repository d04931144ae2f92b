"""Tell and Listen: the log of a task."""

from __future__ import annotations

from doeff._engine import (
    Listen,
    StructuredLog,
    Tell,
    WriterListenEffect,
    WriterTellEffect,
)

__all__ = [
    "Listen",
    "Log",
    "StructuredLog",
    "Tell",
    "WriterListenEffect",
    "WriterTellEffect",
    "listen",
    "slog",
    "tell",
]

Log = Tell
listen = Listen
slog = StructuredLog
tell = Tell
