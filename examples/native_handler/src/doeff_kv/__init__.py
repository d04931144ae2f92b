"""doeff_kv: a table of keys and values as effects, answered by a handler written in C.

>>> from doeff import WithHandler, do, sync_handlers_preset, sync_run
>>> from doeff_kv import KvGet, KvPut, kv_handler
>>> @do
... def visit():
...     yield KvPut("visits", (yield KvGet("visits")) + 1)
...     return (yield KvGet("visits"))
>>> sync_run(WithHandler(kv_handler({"visits": 1}), visit()), sync_handlers_preset).value
2
"""

from ._native import (
    KvAwait,
    KvAwaitEffect,
    KvFetch,
    KvFetchEffect,
    KvGet,
    KvGetEffect,
    KvPaused,
    KvPut,
    KvPutEffect,
    KvResume,
    KvResumeEffect,
    KvScan,
    KvScanEffect,
    kv_handler,
)

__all__ = [
    "KvAwait",
    "KvAwaitEffect",
    "KvFetch",
    "KvFetchEffect",
    "KvGet",
    "KvGetEffect",
    "KvPaused",
    "KvPut",
    "KvPutEffect",
    "KvResume",
    "KvResumeEffect",
    "KvScan",
    "KvScanEffect",
    "kv_handler",
]
