"""Looking at what a program did."""

from __future__ import annotations

from .call_tree import EffectCallTree

__all__ = ["EffectCallTree"]
