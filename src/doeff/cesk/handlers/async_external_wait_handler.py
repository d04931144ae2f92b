"""The handler ``async_external_wait_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import async_external_wait_handler

__all__ = ["async_external_wait_handler"]
