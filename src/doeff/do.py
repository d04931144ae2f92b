"""The ``do`` decorator."""

from __future__ import annotations

from doeff._engine import do

__all__ = ["do"]
