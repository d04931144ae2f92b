"""A storage object in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from .base import check_key


class InMemoryStorage:
    """A storage object that lasts as long as it is referred to.

    >>> storage = InMemoryStorage()
    >>> storage.put("k", 1)
    >>> storage.get("k"), storage.delete("k"), storage.exists("k")
    (1, True, False)
    """

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}
        self._lock = threading.Lock()

    def get(self, key: str) -> Any | None:
        """The value, or None if there is none."""
        check_key(key)
        with self._lock:
            return self._data.get(key)

    def put(self, key: str, value: Any) -> None:
        """Store a value, in place of one that is there."""
        check_key(key)
        with self._lock:
            old = self._data.get(key)
            self._data[key] = value
        del old  # outside the lock: its finalizer may come back here

    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        check_key(key)
        with self._lock:
            row = (self._data.pop(key),) if key in self._data else ()
        return bool(row)

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        check_key(key)
        with self._lock:
            return key in self._data

    def keys(self) -> Iterator[str]:
        """All keys, as of now."""
        with self._lock:
            return iter(list(self._data))

    def items(self) -> Iterator[tuple[str, Any]]:
        """All keys with their values, as of now."""
        with self._lock:
            return iter(list(self._data.items()))

    def clear(self) -> None:
        """Remove everything."""
        with self._lock:
            old, self._data = self._data, {}
        old.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._data)

    def __repr__(self) -> str:
        return f"InMemoryStorage({len(self)} entries)"
