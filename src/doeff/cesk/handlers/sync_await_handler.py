"""The handler ``sync_await_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import sync_await_handler

__all__ = ["sync_await_handler"]
