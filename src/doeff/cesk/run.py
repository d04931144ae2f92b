"""Running a program."""

from __future__ import annotations

from doeff._engine import (
    async_handlers_preset,
    async_run,
    sync_handlers_preset,
    sync_run,
)

__all__ = ["async_handlers_preset", "async_run", "sync_handlers_preset", "sync_run"]
