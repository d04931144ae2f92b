"""The value types."""

from __future__ import annotations

from doeff._engine import NOTHING, Err, FrozenDict, Maybe, Nothing, Ok, Result, Some
from doeff._trace_error import TraceError, trace_err

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from doeff._wgraph import WGraph, WNode, WStep

__all__ = [
    "NOTHING",
    "Err",
    "FrozenDict",
    "Maybe",
    "Nothing",
    "Ok",
    "Result",
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
