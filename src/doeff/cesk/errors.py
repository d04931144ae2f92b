"""The errors of the machine."""

from __future__ import annotations

from doeff._errors import (
    InterpreterInvariantError,
    MissingEnvKeyError,
    UnhandledEffectError,
)

__all__ = ["InterpreterInvariantError", "MissingEnvKeyError", "UnhandledEffectError"]
