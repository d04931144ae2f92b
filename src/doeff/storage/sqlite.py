"""A storage object in an SQLite file."""

from __future__ import annotations

import os
import pickle
import sqlite3
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .base import check_key

if TYPE_CHECKING:
    from typing import Self

SCHEMA = """
CREATE TABLE IF NOT EXISTS cache (
    key TEXT PRIMARY KEY,
    value BLOB NOT NULL,
    created_at REAL NOT NULL,
    updated_at REAL NOT NULL
)
"""


class _Connection:
    """An open connection; closed in silence when its thread or its storage is gone."""

    def __init__(self, path: str) -> None:
        self.raw = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self.raw.execute("PRAGMA busy_timeout = 5000")

    def __del__(self) -> None:
        raw = getattr(self, "raw", None)
        if raw is not None:
            raw.close()


class SQLiteStorage:
    """A storage object that keeps pickled values in the table ``cache`` of an SQLite file.

    path: where the file is or shall be (its folder is made), or ``":memory:"``.

    Each thread gets a connection of its own; ``":memory:"`` has one that all threads share.
    After ``close()`` every method but ``close`` raises ``sqlite3.ProgrammingError``.

    Values are unpickled when they are read: open only files that you trust.

    >>> with SQLiteStorage(":memory:") as storage:
    ...     storage.put("k", [1, 2])
    ...     storage.get("k")
    [1, 2]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self._lock = threading.RLock()
        self._local = threading.local()
        self._open: weakref.WeakSet[_Connection] = weakref.WeakSet()
        self._shared: _Connection | None = None
        self._closed = False
        if self.path == ":memory:":
            self._shared = self._connect()
        else:
            folder = os.path.dirname(self.path)
            if folder:
                os.makedirs(folder, exist_ok=True)
        with self._connection() as connection:
            connection.execute(SCHEMA)

    def _connect(self) -> _Connection:
        connection = _Connection(self.path)
        with self._lock:
            self._open.add(connection)
        return connection

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise sqlite3.ProgrammingError(f"SQLiteStorage({self.path!r}) is closed")
        if self._shared is not None:
            with self._lock:
                yield self._shared.raw
            return
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        yield connection.raw

    def get(self, key: str) -> Any | None:
        """The value, or None if there is none."""
        check_key(key)
        with self._connection() as connection:
            row = connection.execute(
                "SELECT value FROM cache WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else pickle.loads(row[0])

    def put(self, key: str, value: Any) -> None:
        """Store a value, in place of one that is there. Raises the pickler's error."""
        check_key(key)
        data = pickle.dumps(value)
        now = time.time()
        with self._connection() as connection:
            connection.execute(
                "INSERT INTO cache (key, value, created_at, updated_at) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (key) DO UPDATE SET value = excluded.value, "
                "updated_at = excluded.updated_at",
                (key, data, now, now),
            )

    def delete(self, key: str) -> bool:
        """Remove a key; whether it was there."""
        check_key(key)
        with self._connection() as connection:
            return (
                connection.execute("DELETE FROM cache WHERE key = ?", (key,)).rowcount
                > 0
            )

    def exists(self, key: str) -> bool:
        """Whether there is a value."""
        check_key(key)
        with self._connection() as connection:
            row = connection.execute(
                "SELECT 1 FROM cache WHERE key = ?", (key,)
            ).fetchone()
        return row is not None

    def keys(self) -> Iterator[str]:
        """All keys, as of now."""
        with self._connection() as connection:
            rows = connection.execute("SELECT key FROM cache ORDER BY rowid").fetchall()
        return iter([row[0] for row in rows])

    def items(self) -> Iterator[tuple[str, Any]]:
        """All keys with their values, as of now."""
        with self._connection() as connection:
            rows = connection.execute(
                "SELECT key, value FROM cache ORDER BY rowid"
            ).fetchall()
        return iter([(key, pickle.loads(value)) for key, value in rows])

    def clear(self) -> None:
        """Remove everything."""
        with self._connection() as connection:
            connection.execute("DELETE FROM cache")

    def close(self) -> None:
        """Close the connections of all threads. Closing twice is fine."""
        with self._lock:
            self._closed = True
            for connection in list(self._open):
                connection.raw.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __len__(self) -> int:
        with self._connection() as connection:
            return int(connection.execute("SELECT COUNT(*) FROM cache").fetchone()[0])

    def __repr__(self) -> str:
        return f"SQLiteStorage({self.path!r})"
