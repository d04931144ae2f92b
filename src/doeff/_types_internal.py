"""Types that the parts of the package share."""

from __future__ import annotations

from doeff._aliases import DEFAULT_REPR_LIMIT, REPR_LIMIT_KEY, EffectGenerator, EnvKey
from doeff._engine import (
    NOTHING,
    CallFrame,
    EffectBase,
    Err,
    FrozenDict,
    ListenResult,
    Maybe,
    Nothing,
    Ok,
    ProgramBase,
    Result,
    RuntimeResult,
    Some,
)
from doeff._engine import EffectBase as Effect
from doeff._engine import ProgramBase as Program
from doeff._engine import RuntimeResult as RunResult
from doeff._origin import EffectCreationContext
from doeff._trace_error import TraceError, trace_err

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
