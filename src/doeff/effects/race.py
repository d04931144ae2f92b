"""Race: the first of several."""

from __future__ import annotations

from doeff._engine import (
    Race,
    RaceEffect,
    RaceResult,
)

__all__ = [
    "Race",
    "RaceEffect",
    "RaceResult",
    "race",
]

race = Race
