"""What ``@do`` makes of a function."""

from __future__ import annotations

from doeff._engine import KleisliProgram, PartiallyAppliedKleisliProgram

__all__ = ["KleisliProgram", "PartiallyAppliedKleisliProgram"]
