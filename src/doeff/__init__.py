"""doeff: programs yield effects, handlers decide what they mean."""

from __future__ import annotations

from . import _engine, _errors

_engine._set_errors(
    _errors.UnhandledEffectError,
    _errors.MissingEnvKeyError,
    _errors.CircularAskError,
    _errors.InterpreterInvariantError,
    _errors.TaskCancelledError,
)

from ._engine import *  # noqa: F403
from ._engine import EffectBase, ProgramBase as Program  # noqa: F401
