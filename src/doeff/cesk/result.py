"""How a machine can stop."""

from __future__ import annotations

from doeff._engine import DirectState, PythonAsyncSyntaxEscape

__all__ = ["DirectState", "PythonAsyncSyntaxEscape"]
