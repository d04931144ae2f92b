"""Await: what asyncio has to give."""

from __future__ import annotations

from doeff._engine import Await, PythonAsyncioAwaitEffect

__all__ = [
    "Await",
    "AwaitEffect",
    "FutureAwaitEffect",
    "PythonAsyncioAwaitEffect",
    "await_",
]

AwaitEffect = PythonAsyncioAwaitEffect
FutureAwaitEffect = PythonAsyncioAwaitEffect
await_ = Await
