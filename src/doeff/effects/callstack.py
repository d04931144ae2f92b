"""The @do calls that are running."""

from __future__ import annotations

from doeff._engine import (
    ProgramCallFrame,
    ProgramCallFrameEffect,
    ProgramCallStack,
    ProgramCallStackEffect,
)

__all__ = [
    "ProgramCallFrame",
    "ProgramCallFrameEffect",
    "ProgramCallStack",
    "ProgramCallStackEffect",
]
