"""Tasks that end with the program that began them; limits of time; programs that are not cut short."""

from __future__ import annotations

from doeff._engine import (
    Scope,
    ScopeEffect,
    Shield,
    ShieldEffect,
    Timeout,
    TimeoutEffect,
)

__all__ = [
    "Scope",
    "ScopeEffect",
    "Shield",
    "ShieldEffect",
    "Timeout",
    "TimeoutEffect",
]
