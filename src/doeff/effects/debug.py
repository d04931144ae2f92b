"""A picture of the running program."""

from __future__ import annotations

from doeff._engine import GetDebugContext, GetDebugContextEffect

__all__ = ["GetDebugContext", "GetDebugContextEffect"]
