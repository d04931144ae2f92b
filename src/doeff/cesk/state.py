"""Machine states and their controls."""

from __future__ import annotations

from doeff._engine import CESKState, EffectControl, Error, ProgramControl, Value

__all__ = ["CESKState", "EffectControl", "Error", "ProgramControl", "Value"]
