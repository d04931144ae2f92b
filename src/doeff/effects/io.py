"""IO: calling a function for its side effects."""

from __future__ import annotations

from doeff._engine import IO, IOPerformEffect, perform

__all__ = ["IO", "IOPerformEffect", "io", "perform", "run"]

io = IO
run = IO
