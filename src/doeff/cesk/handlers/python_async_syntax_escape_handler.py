"""The handler ``python_async_syntax_escape_handler`` of the presets."""

from __future__ import annotations

from doeff._engine import python_async_syntax_escape_handler

__all__ = ["python_async_syntax_escape_handler"]
