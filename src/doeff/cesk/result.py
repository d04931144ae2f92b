"""How a machine can stop."""

from __future__ import annotations

from typing import TypeAlias

from doeff._engine import (
    CESKState,
    DirectState,
    Done,
    Failed,
    PythonAsyncSyntaxEscape,
)

__all__ = [
    "DirectState",
    "Done",
    "Failed",
    "PythonAsyncSyntaxEscape",
    "StepResult",
    "Terminal",
]

Terminal: TypeAlias = Done | Failed
StepResult: TypeAlias = CESKState | Done | Failed | PythonAsyncSyntaxEscape
