"""Safe: errors as values."""

from __future__ import annotations

from doeff._engine import ResultSafeEffect, Safe

__all__ = ["ResultSafeEffect", "Safe", "safe"]

safe = Safe
