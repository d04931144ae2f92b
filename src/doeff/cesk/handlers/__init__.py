"""The built-in handlers: the very objects that are in the presets.

Each has a module of its own name as well; the modules are loaded first, so the names mean
the handlers here.
"""

from __future__ import annotations

from doeff._aliases import Handler
from doeff._engine import HandlerContext, default_handlers
from doeff._errors import CircularAskError
from doeff.cesk.handlers.async_external_wait_handler import async_external_wait_handler
from doeff.cesk.handlers.core_handler import core_handler
from doeff.cesk.handlers.python_async_syntax_escape_handler import (
    python_async_syntax_escape_handler,
)
from doeff.cesk.handlers.scheduler_state_handler import scheduler_state_handler
from doeff.cesk.handlers.sync_await_handler import sync_await_handler
from doeff.cesk.handlers.sync_external_wait_handler import sync_external_wait_handler
from doeff.cesk.handlers.task_scheduler_handler import task_scheduler_handler

# names of earlier versions
async_effects_handler = python_async_syntax_escape_handler
python_async_handler = python_async_syntax_escape_handler
queue_handler = scheduler_state_handler
scheduler_handler = task_scheduler_handler
threaded_asyncio_handler = sync_await_handler

__all__ = [
    "CircularAskError",
    "Handler",
    "HandlerContext",
    "async_effects_handler",
    "async_external_wait_handler",
    "core_handler",
    "default_handlers",
    "python_async_handler",
    "python_async_syntax_escape_handler",
    "queue_handler",
    "scheduler_handler",
    "scheduler_state_handler",
    "sync_await_handler",
    "sync_external_wait_handler",
    "task_scheduler_handler",
    "threaded_asyncio_handler",
]
