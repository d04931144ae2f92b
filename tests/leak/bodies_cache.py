"""Bodies for the cache effects, the decorator and storage objects."""

from __future__ import annotations

from datetime import datetime

from doeff import (
    CacheDelete,
    CacheExists,
    CacheGet,
    CachePut,
    Program,
    Put,
    sync_handlers_preset,
    sync_run,
)
from doeff.storage import InMemoryStorage


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def error_of(result):
    if not isinstance(result.error, (KeyError, TypeError)):
        raise result.error
    return type(result.error).__name__


STORAGE = InMemoryStorage()


def leak_round_trip():
    program = Program.list(
        CachePut("k", [1]),
        CacheGet("k"),
        CacheExists("k"),
        CacheDelete("k"),
        CacheDelete("k"),
    )
    return run(program).value


def leak_unhashable_key():
    return run(Program.list(CachePut([1, {"a": 2}], 1), CacheGet([1, {"a": 2}]))).value


def leak_missing():
    return error_of(run(CacheGet(("absent", 1))))


def leak_wrong_constructions():
    errors = []
    for make in (
        lambda: CachePut("k"),
        lambda: CachePut("k", 1, policy=5),
        lambda: CachePut("k", 1, 5, policy={}),
        lambda: CachePut("k", 1, nonsense=1),
        lambda: CachePut((x for x in ()), 1),
    ):
        try:
            make()
        except (TypeError, ValueError) as error:
            errors.append(type(error).__name__)
    return errors


def leak_expiry():
    program = Program.list(
        Put("__current_time__", datetime(2024, 1, 1)),
        CachePut("k", 1, ttl=5),
        Put("__current_time__", datetime(2024, 1, 2)),
        CacheExists("k"),
        CachePut("k", 2, ttl=5),
    )
    result = run(program)
    return result.value, result.raw_store["__cache_expiry__"]


def leak_backing_given():
    result = run(CachePut("k", 1), store={"__cache_storage__": {"l": 2}})
    return result.value, result.raw_store["__cache_storage__"]


def leak_storage_object():
    program = Program.list(CachePut("k", 1, ttl=100), CacheGet("k"), CacheDelete("k"))
    return run(program, store={"__cache_storage__": STORAGE}).value


def leak_wrong_backing():
    return error_of(run(CacheGet("k"), store={"__cache_storage__": 5}))
