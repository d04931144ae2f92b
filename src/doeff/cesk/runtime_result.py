"""What a run function gives, and its three stacks."""

from __future__ import annotations

from doeff._engine import (
    EffectCallNode,
    EffectStackTrace,
    KFrame,
    KStackTrace,
    PythonFrame,
    PythonStackTrace,
    RuntimeResult,
    SourceLocation,
)

__all__ = [
    "EffectCallNode",
    "EffectStackTrace",
    "KFrame",
    "KStackTrace",
    "PythonFrame",
    "PythonStackTrace",
    "RuntimeResult",
    "SourceLocation",
]
