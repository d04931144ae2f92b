"""Permits that tasks take and give back."""

from __future__ import annotations

from doeff._engine import (
    AcquireSemaphore,
    AcquireSemaphoreEffect,
    CreateSemaphore,
    CreateSemaphoreEffect,
    ReleaseSemaphore,
    ReleaseSemaphoreEffect,
    Semaphore,
)

__all__ = [
    "AcquireSemaphore",
    "AcquireSemaphoreEffect",
    "CreateSemaphore",
    "CreateSemaphoreEffect",
    "ReleaseSemaphore",
    "ReleaseSemaphoreEffect",
    "Semaphore",
]
