"""Promises that tasks settle."""

from __future__ import annotations

from doeff._engine import (
    CompletePromise,
    CompletePromiseEffect,
    CreatePromise,
    CreatePromiseEffect,
    FailPromise,
    FailPromiseEffect,
    Future,
    Promise,
)

__all__ = [
    "CompletePromise",
    "CompletePromiseEffect",
    "CreatePromise",
    "CreatePromiseEffect",
    "FailPromise",
    "FailPromiseEffect",
    "Future",
    "Promise",
]
