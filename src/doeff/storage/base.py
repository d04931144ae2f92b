"""What a storage object can do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class DurableStorage(Protocol):
    """A mapping from ``str`` keys to values that may outlive the process.

    Methods may be called from several threads. ``get`` cannot tell a stored None from a
    miss; ``exists`` can.
    """

    def get(self, key: str) -> Any | None:
        """The value, or None if there is none."""
        ...

    def put(self, key: str, value: Any) -> None:
        """Store a value, in place of one that is there."""
        ...

    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        ...

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        ...

    def keys(self) -> Iterable[str]:
        """All keys."""
        ...

    def items(self) -> Iterable[tuple[str, Any]]:
        """All keys with their values."""
        ...

    def clear(self) -> None:
        """Remove everything."""
        ...


def check_key(key: object) -> None:
    """Raise TypeError unless the key is a str."""
    if not isinstance(key, str):
        raise TypeError(f"key must be str, got {type(key).__name__}")
