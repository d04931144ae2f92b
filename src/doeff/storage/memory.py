"""A storage object in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .base import check_key

_ABSENT = object()


class InMemoryStorage:
    """A storage object that lasts as long as it is referred to. Threads may share it.

    >>> storage = InMemoryStorage()
    >>> storage.put("k", 1)
    >>> storage.get("k"), storage.delete("k"), storage.exists("k")
    (1, True, False)
    """

    # Each method is one operation of a dict, which is atomic; a lock would be left held by a thread that is out of
    # memory when it should call __exit__.

    def __init__(self) -> None:
        self._data: dict[str, Any] = {}

    def get(self, key: str) -> Any | None:
        """The value, or None if there is none."""
        check_key(key)
        return self._data.get(key)

    def put(self, key: str, value: Any) -> None:
        """Store a value, in place of one that is there."""
        check_key(key)
        self._data[key] = value

    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        check_key(key)
        return self._data.pop(key, _ABSENT) is not _ABSENT

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        check_key(key)
        return key in self._data

    def keys(self) -> Iterator[str]:
        """All keys, as of now."""
        return iter(list(self._data))

    def items(self) -> Iterator[tuple[str, Any]]:
        """All keys with their values, as of now."""
        return iter(self._data.copy().items())

    def clear(self) -> None:
        """Remove everything."""
        self._data.clear()

    def __len__(self) -> int:
        return len(self._data)

    def __repr__(self) -> str:
        return f"InMemoryStorage({len(self)} entries)"
