"""Intercept: effects shown to functions first."""

from __future__ import annotations

from doeff._engine import Intercept, InterceptEffect, intercept_program_effect

__all__ = ["Intercept", "InterceptEffect", "intercept_program_effect"]
