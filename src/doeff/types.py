"""Types for annotations and ``isinstance``, and the value types."""

from __future__ import annotations

from doeff._types_internal import (
    DEFAULT_REPR_LIMIT,
    NOTHING,
    REPR_LIMIT_KEY,
    CallFrame,
    Effect,
    EffectBase,
    EffectCreationContext,
    EffectGenerator,
    EnvKey,
    Err,
    FrozenDict,
    ListenResult,
    Maybe,
    Nothing,
    Ok,
    Program,
    ProgramBase,
    Result,
    RunResult,
    RuntimeResult,
    Some,
    TraceError,
    trace_err,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from doeff._wgraph import WGraph, WNode, WStep

__all__ = [
    "DEFAULT_REPR_LIMIT",
    "NOTHING",
    "REPR_LIMIT_KEY",
    "CallFrame",
    "Effect",
    "EffectBase",
    "EffectCreationContext",
    "EffectGenerator",
    "EnvKey",
    "Err",
    "FrozenDict",
    "ListenResult",
    "Maybe",
    "Nothing",
    "Ok",
    "Program",
    "ProgramBase",
    "Result",
    "RunResult",
    "RuntimeResult",
    "Some",
    "TraceError",
    "WGraph",
    "WNode",
    "WStep",
    "trace_err",
]


def __getattr__(name: str) -> Any:
    if name in ("WGraph", "WNode", "WStep"):  # they need dataclasses
        from . import _wgraph

        return getattr(_wgraph, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
