"""Promises that the outside world settles."""

from __future__ import annotations

from doeff._engine import (
    CreateExternalPromise,
    CreateExternalPromiseEffect,
    ExternalPromise,
)
from doeff._errors import ExternalPromiseCancelCallbackError

__all__ = [
    "CreateExternalPromise",
    "CreateExternalPromiseEffect",
    "ExternalPromise",
    "ExternalPromiseCancelCallbackError",
]
