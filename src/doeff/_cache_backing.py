"""What the cache effects do off the hot path: serialised keys and storage objects.

The engine handles a ``dict`` as ``__cache_storage__`` by itself and comes here for keys that
cannot be hashed, for the clock, and for storage objects (:mod:`doeff.storage`).
"""

from __future__ import annotations

from typing import Any

_MARK = (
    "doeff.cache.serialised"  # (_MARK, bytes) stands for a key that cannot be hashed
)
_PREFIX = "doeff.cache:"  # of a str key in a storage object
_DIGEST = "doeff.cache.digest:"  # of any other key there
_ENTRY = "doeff.cache.entry"  # (_ENTRY, deadline or None, value) is what is kept there


# ---- keys --------------------------------------------------------------------------------------


def _dumps(thing: Any) -> bytes:
    import pickle

    try:
        return pickle.dumps(thing)
    except Exception:
        try:
            import cloudpickle  # type: ignore[import-not-found, import-untyped, unused-ignore]
        except ImportError:
            cloudpickle = None
        if cloudpickle is None:
            raise
    # It takes classes for dynamic whose modules have not been imported.
    from . import _vendor, kleisli, program, types  # noqa: F401

    return bytes(cloudpickle.dumps(thing))


def check_serialisable(key: Any) -> None:
    """Raise the pickler's error for a key that does not serialise."""
    _dumps(key)


def _serialised(thing: Any) -> bytes:
    """Bytes that are the same for equal keys, in every process.

    Pickles of equal values may differ (order of a dict, objects met twice), so containers and
    numbers are written here and only what is left goes to the pickler.
    """
    if isinstance(thing, (bool, int)) and type(thing) in (bool, int):
        body = b"n%x" % int(thing)
    elif type(thing) is float:
        body = (
            b"n%x" % int(thing) if thing.is_integer() else b"f" + thing.hex().encode()
        )
    elif type(thing) is str:
        body = b"s" + thing.encode("utf-8", "surrogatepass")
    elif type(thing) is bytes:
        body = b"b" + thing
    elif thing is None:
        body = b"N"
    elif type(thing) in (list, tuple):
        body = (b"l" if type(thing) is list else b"t") + b"".join(
            map(_serialised, thing)
        )
    elif type(thing) in (set, frozenset):
        body = b"S" + b"".join(sorted(map(_serialised, thing)))
    elif isinstance(thing, dict):
        rows = sorted(
            _serialised(key) + _serialised(value) for key, value in thing.items()
        )
        body = b"d" + b"".join(rows)
    else:
        body = b"p" + _dumps(thing)
    return b"%d:" % len(body) + body


def dict_key(key: Any) -> tuple[str, bytes]:
    """What stands for an unhashable key in a dict."""
    return _MARK, _serialised(key)


def storage_key(key: Any) -> str:
    """What stands for a key in a storage object."""
    if type(key) is str:
        return _PREFIX + key
    import hashlib

    return _DIGEST + hashlib.sha256(_serialised(key)).hexdigest()


# ---- time --------------------------------------------------------------------------------------


def seconds(time: Any) -> float | None:
    """Epoch seconds of a datetime; None for anything else."""
    from datetime import datetime

    return time.timestamp() if isinstance(time, datetime) else None


# ---- storage objects ---------------------------------------------------------------------------


def _entry(storage: Any, key: Any, now: float) -> tuple[Any] | None:
    try:
        exists, get = storage.exists, storage.get
    except AttributeError:
        raise TypeError(
            "__cache_storage__ in the store must be a dict or a storage object "
            f"(doeff.storage.DurableStorage), got {type(storage).__name__}"
        ) from None
    name = storage_key(key)
    if not exists(name):
        return None
    kept = get(name)
    if type(kept) is tuple and len(kept) == 3 and kept[0] == _ENTRY:
        _, deadline, value = kept
        if deadline is not None and now >= deadline:
            storage.delete(name)
            return None
        return (value,)
    return (
        None if kept is None else (kept,)
    )  # gone meanwhile, or put there by somebody else


def get(storage: Any, key: Any, now: float) -> tuple[Any] | None:
    """The value in a tuple of one, or None."""
    return _entry(storage, key, now)


def exists(storage: Any, key: Any, now: float) -> bool:
    return _entry(storage, key, now) is not None


def delete(storage: Any, key: Any, now: float) -> bool:
    if _entry(storage, key, now) is None:
        return False
    storage.delete(storage_key(key))
    return True


def put(storage: Any, key: Any, now: float, value: Any, deadline: float | None) -> None:
    try:
        write = storage.put
    except AttributeError:
        raise TypeError(
            "__cache_storage__ in the store must be a dict or a storage object "
            f"(doeff.storage.DurableStorage), got {type(storage).__name__}"
        ) from None
    write(storage_key(key), (_ENTRY, deadline, value))
