"""Programs: what they are and what ``@do`` calls make."""

from __future__ import annotations

from doeff._engine import GeneratorProgram, KleisliProgramCall, ProgramBase
from doeff._engine import ProgramBase as Program

__all__ = ["GeneratorProgram", "KleisliProgramCall", "Program", "ProgramBase"]
