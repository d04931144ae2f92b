"""The handler ``sync_external_wait_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import sync_external_wait_handler

__all__ = ["sync_external_wait_handler"]
