"""doeff: programs yield effects, handlers decide what they mean.

>>> from doeff import Get, Put, do, sync_handlers_preset, sync_run
>>> @do
... def count():
...     n = yield Get("n")
...     yield Put("n", n + 1)
...     return n + 1
>>> sync_run(count(), sync_handlers_preset, store={"n": 1}).value
2

Importing this is cheap: names that need more of the standard library are looked up when
they are first used.
"""

from __future__ import annotations

import sys
from os import environ

from . import _errors
from ._engine import (
    IO,
    NOTHING,
    AcquireSemaphore,
    Annotate,
    Ask,
    AtomicGet,
    AtomicUpdate,
    Await,
    CacheDelete,
    CacheExists,
    CacheGet,
    CachePut,
    Cancel,
    CaptureGraph,
    CESKState,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    EffectBase,
    Err,
    ExternalPromise,
    FailPromise,
    FrozenDict,
    Future,
    Gather,
    Get,
    GetDebugContext,
    GetTime,
    HandlerContext,
    Intercept,
    KleisliProgram,
    Listen,
    ListenResult,
    Local,
    Log,
    Maybe,
    Modify,
    Nothing,
    Ok,
    ProgramCallFrame,
    ProgramCallStack,
    Promise,
    Pure,
    Put,
    Race,
    RaceResult,
    ReleaseSemaphore,
    Result,
    ResumeK,
    RuntimeResult,
    Safe,
    Scope,
    Semaphore,
    Shield,
    Snapshot,
    Some,
    Spawn,
    Step,
    StructuredLog,
    Task,
    Tell,
    Timeout,
    Wait,
    WaitUntil,
    WithHandler,
    _set_errors,
    arm_step_budget,
    async_handlers_preset,
    async_run,
    do,
    intercept_program_effect,
    perform,
    record_origins,
    set_scheduler_trace,
    set_stall_log,
    sync_handlers_preset,
    sync_run,
)
from ._engine import EffectBase as Effect
from ._engine import ProgramBase as Program
from ._engine import RuntimeResult as RunResult
from ._errors import (
    CircularAskError,
    ExternalPromiseCancelCallbackError,
    InterpreterInvariantError,
    MissingEnvKeyError,
    SchedulerDeadlockError,
    StepBudgetExceeded,
    TaskCancelledError,
    UnhandledEffectError,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ._aliases import DEFAULT_REPR_LIMIT, REPR_LIMIT_KEY, EffectGenerator
    from ._cache_policy import CacheLifecycle, CachePolicy, CacheStorage
    from ._include import get_include
    from ._trace_error import TraceError, trace_err
    from ._waitable import Waitable
    from ._wgraph import WGraph, WNode, WStep
    from .analysis import EffectCallTree
    from .cache import (
        CACHE_PATH_ENV_KEY,
        CacheComputationError,
        cache,
        cache_1hour,
        cache_1min,
        cache_5min,
        cache_forever,
        cache_key,
        clear_persistent_cache,
        persistent_cache_path,
    )
    from .effects.spawn import scheduled
    from .graph_snapshot import (
        build_graph_snapshot,
        graph_to_html,
        graph_to_html_async,
        write_graph_html,
        write_graph_html_async,
    )
    from .run import ProgramRunResult, run_program

_set_errors(
    _errors.UnhandledEffectError,
    _errors.MissingEnvKeyError,
    _errors.CircularAskError,
    _errors.InterpreterInvariantError,
    _errors.TaskCancelledError,
    _errors.SchedulerDeadlockError,
)

PRIORITY_IDLE = 0
PRIORITY_NORMAL = 10
PRIORITY_HIGH = 20

annotate = Annotate
ask = Ask
atomic_get = AtomicGet
atomic_update = AtomicUpdate
await_ = Await
cache_delete = CacheDelete
cache_exists = CacheExists
cache_get = CacheGet
cache_put = CachePut
capture_graph = CaptureGraph
get = Get
get_time = GetTime
io = IO
listen = Listen
local = Local
modify = Modify
put = Put
safe = Safe
snapshot = Snapshot
step = Step
slog = StructuredLog
tell = Tell
capture = CaptureGraph
delay = Delay
gather = Gather
race = Race
spawn = Spawn
wait = Wait
wait_until = WaitUntil

__all__ = [
    "CACHE_PATH_ENV_KEY",
    "DEFAULT_REPR_LIMIT",
    "IO",
    "NOTHING",
    "PRIORITY_HIGH",
    "PRIORITY_IDLE",
    "PRIORITY_NORMAL",
    "REPR_LIMIT_KEY",
    "AcquireSemaphore",
    "Annotate",
    "Ask",
    "AtomicGet",
    "AtomicUpdate",
    "Await",
    "CESKState",
    "CacheComputationError",
    "CacheDelete",
    "CacheExists",
    "CacheGet",
    "CacheLifecycle",
    "CachePolicy",
    "CachePut",
    "CacheStorage",
    "Cancel",
    "CaptureGraph",
    "CircularAskError",
    "CompletePromise",
    "CreateExternalPromise",
    "CreatePromise",
    "CreateSemaphore",
    "Delay",
    "Discard",
    "Effect",
    "EffectBase",
    "EffectCallTree",
    "EffectGenerator",
    "Err",
    "ExternalPromise",
    "ExternalPromiseCancelCallbackError",
    "FailPromise",
    "FrozenDict",
    "Future",
    "Gather",
    "Get",
    "GetDebugContext",
    "GetTime",
    "HandlerContext",
    "Intercept",
    "InterpreterInvariantError",
    "KleisliProgram",
    "Listen",
    "ListenResult",
    "Local",
    "Log",
    "Maybe",
    "MissingEnvKeyError",
    "Modify",
    "Nothing",
    "Ok",
    "Program",
    "ProgramCallFrame",
    "ProgramCallStack",
    "ProgramRunResult",
    "Promise",
    "Pure",
    "Put",
    "Race",
    "RaceResult",
    "ReleaseSemaphore",
    "Result",
    "ResumeK",
    "RunResult",
    "RuntimeResult",
    "Safe",
    "SchedulerDeadlockError",
    "Scope",
    "Semaphore",
    "Shield",
    "Snapshot",
    "Some",
    "Spawn",
    "Step",
    "StepBudgetExceeded",
    "StructuredLog",
    "Task",
    "TaskCancelledError",
    "Tell",
    "Timeout",
    "TraceError",
    "UnhandledEffectError",
    "WGraph",
    "WNode",
    "WStep",
    "Wait",
    "WaitUntil",
    "Waitable",
    "WithHandler",
    "annotate",
    "arm_step_budget",
    "ask",
    "async_handlers_preset",
    "async_run",
    "atomic_get",
    "atomic_update",
    "await_",
    "build_graph_snapshot",
    "cache",
    "cache_1hour",
    "cache_1min",
    "cache_5min",
    "cache_delete",
    "cache_exists",
    "cache_forever",
    "cache_get",
    "cache_key",
    "cache_put",
    "capture",
    "capture_graph",
    "clear_persistent_cache",
    "delay",
    "do",
    "gather",
    "get",
    "get_include",
    "get_time",
    "graph_to_html",
    "graph_to_html_async",
    "intercept_program_effect",
    "io",
    "listen",
    "local",
    "modify",
    "perform",
    "persistent_cache_path",
    "put",
    "race",
    "record_origins",
    "run_program",
    "safe",
    "scheduled",
    "set_scheduler_trace",
    "set_stall_log",
    "slog",
    "snapshot",
    "spawn",
    "step",
    "sync_handlers_preset",
    "sync_run",
    "tell",
    "trace_err",
    "wait",
    "wait_until",
    "write_graph_html",
    "write_graph_html_async",
]

_HOMES = {
    "build_graph_snapshot": "graph_snapshot",
    "graph_to_html": "graph_snapshot",
    "graph_to_html_async": "graph_snapshot",
    "write_graph_html": "graph_snapshot",
    "write_graph_html_async": "graph_snapshot",
    "EffectCallTree": "analysis",
    "CACHE_PATH_ENV_KEY": "cache",
    "CacheComputationError": "cache",
    "CacheLifecycle": "_cache_policy",
    "CachePolicy": "_cache_policy",
    "CacheStorage": "_cache_policy",
    "DEFAULT_REPR_LIMIT": "_aliases",
    "EffectGenerator": "_aliases",
    "ProgramRunResult": "run",
    "REPR_LIMIT_KEY": "_aliases",
    "Waitable": "_waitable",
    "TraceError": "_trace_error",
    "WGraph": "_wgraph",
    "WNode": "_wgraph",
    "WStep": "_wgraph",
    "cache": "cache",
    "cache_1hour": "cache",
    "cache_1min": "cache",
    "cache_5min": "cache",
    "cache_forever": "cache",
    "cache_key": "cache",
    "clear_persistent_cache": "cache",
    "get_include": "_include",
    "persistent_cache_path": "cache",
    "run_program": "run",
    "scheduled": "effects.spawn",
    "trace_err": "_trace_error",
}
"""Names that are looked up when they are first used, and the modules that have them."""

_MODULES = frozenset(
    [
        "analysis",
        "cesk",
        "graph_snapshot",
        "cesk_traceback",
        "cli",
        "core",
        "decorators",
        "effects",
        "kleisli",
        "program",
        "run",
        "runtimes",
        "storage",
        "testing",
        "traceback",
        "types",
        "utils",
    ]
)


def __getattr__(name: str) -> Any:
    from importlib import import_module

    home = _HOMES.get(name)
    if home is not None:
        value = getattr(import_module(f"{__name__}.{home}"), name)
        globals()[name] = value
        return value
    if name in _MODULES:
        try:
            return import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


class _Package(type(sys)):  # type: ignore[misc]
    """``doeff.do`` and ``doeff.cache`` are modules as well, which importing them would put here."""

    def __setattr__(self, name: str, value: object) -> None:
        if name not in ("do", "cache") or not isinstance(value, type(sys)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if environ.get("DOEFF_ORIGINS", "0") not in ("", "0"):
    record_origins(True)
