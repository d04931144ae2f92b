"""Gather: several things at once."""

from __future__ import annotations

from doeff._engine import (
    Gather,
    GatherEffect,
)

__all__ = [
    "Gather",
    "GatherEffect",
    "gather",
]

gather = Gather
