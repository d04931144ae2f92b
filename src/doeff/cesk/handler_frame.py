"""Installing handlers and what they are given."""

from __future__ import annotations

from doeff._aliases import Handler
from doeff._engine import HandlerContext, ResumeK, WithHandler
from doeff._frames import HandlerFrame, HandlerResultFrame

__all__ = [
    "Handler",
    "HandlerContext",
    "HandlerFrame",
    "HandlerResultFrame",
    "ResumeK",
    "WithHandler",
]
