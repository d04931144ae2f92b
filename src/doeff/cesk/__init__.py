"""The machine: states, frames, handlers, results.

``step`` is the function here, although ``doeff.cesk.step`` is a module as well.
"""

from __future__ import annotations

from doeff.cesk.errors import (
    InterpreterInvariantError,
    MissingEnvKeyError,
    UnhandledEffectError,
)
from doeff.cesk.frames import (
    AskLazyFrame,
    Frame,
    GatherFrame,
    GraphCaptureFrame,
    HandlerFrame,
    HandlerResultFrame,
    InterceptFrame,
    Kontinuation,
    ListenCaptureFrame,
    ListenFrame,
    LocalFrame,
    LocalRestoreFrame,
    ReturnFrame,
    SafeFrame,
)
from doeff.cesk.handler_frame import Handler, HandlerContext, ResumeK, WithHandler
from doeff.cesk.handlers import (
    async_external_wait_handler,
    core_handler,
    python_async_syntax_escape_handler,
    scheduler_state_handler,
    sync_await_handler,
    sync_external_wait_handler,
    task_scheduler_handler,
)
from doeff.cesk.result import DirectState
from doeff.cesk.run import async_handlers_preset, sync_handlers_preset, sync_run
from doeff.cesk.runtime_result import (
    EffectCallNode,
    EffectStackTrace,
    KFrame,
    KStackTrace,
    PythonFrame,
    PythonStackTrace,
    RuntimeResult,
    SourceLocation,
)
from doeff.cesk.state import CESKState, EffectControl, Error, ProgramControl, Value
from doeff.cesk.types import Environment, Store, empty_environment, empty_store

__all__ = [
    "AskLazyFrame",
    "CESKState",
    "DirectState",
    "EffectCallNode",
    "EffectControl",
    "EffectStackTrace",
    "Environment",
    "Error",
    "Frame",
    "GatherFrame",
    "GraphCaptureFrame",
    "Handler",
    "HandlerContext",
    "HandlerFrame",
    "HandlerResultFrame",
    "InterceptFrame",
    "InterpreterInvariantError",
    "KFrame",
    "KStackTrace",
    "Kontinuation",
    "ListenCaptureFrame",
    "ListenFrame",
    "LocalFrame",
    "LocalRestoreFrame",
    "MissingEnvKeyError",
    "ProgramControl",
    "PythonFrame",
    "PythonStackTrace",
    "ResumeK",
    "ReturnFrame",
    "RuntimeResult",
    "SafeFrame",
    "SourceLocation",
    "Store",
    "UnhandledEffectError",
    "Value",
    "WithHandler",
    "async_external_wait_handler",
    "async_handlers_preset",
    "core_handler",
    "empty_environment",
    "empty_store",
    "python_async_syntax_escape_handler",
    "scheduler_state_handler",
    "sync_await_handler",
    "sync_external_wait_handler",
    "sync_handlers_preset",
    "sync_run",
    "task_scheduler_handler",
]
