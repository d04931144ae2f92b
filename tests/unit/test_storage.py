"""Storage objects, alone and behind the cache effects, and the files they leave."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from doeff import (
    CacheDelete,
    CacheExists,
    CacheGet,
    CachePut,
    Program,
    clear_persistent_cache,
    persistent_cache_path,
    sync_handlers_preset,
    sync_run,
)
from doeff.storage import DurableStorage, InMemoryStorage, SQLiteStorage


@pytest.fixture(params=["memory", "sqlite", "sqlite-memory"])
def storage(request, tmp_path):
    if request.param == "memory":
        yield InMemoryStorage()
        return
    path = (
        ":memory:"
        if request.param == "sqlite-memory"
        else tmp_path / "deep" / "cache.db"
    )
    with SQLiteStorage(path) as made:
        yield made


def test_a_storage_is_a_mapping_of_str_keys(storage):
    assert isinstance(storage, DurableStorage)
    assert storage.get("k") is None
    assert not storage.exists("k")
    storage.put("k", {"a": [1]})
    storage.put("none", None)
    storage.put("k", 2)
    assert storage.get("k") == 2
    assert storage.exists("none")
    assert list(storage.keys()) == ["k", "none"]
    assert list(storage.items()) == [("k", 2), ("none", None)]
    assert len(storage) == 2
    assert storage.delete("k") is True
    assert storage.delete("k") is False
    storage.clear()
    assert list(storage.keys()) == []
    for wrong in (1, None, b"k"):
        with pytest.raises(TypeError, match="key must be str"):
            storage.put(wrong, 1)


def test_threads_share_a_storage(storage):
    def fill(number):
        for i in range(20):
            storage.put(f"{number}:{i}", i)

    threads = [threading.Thread(target=fill, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(storage) == 80


def test_cache_effects_on_a_storage(storage):
    class Marker:
        pass

    keys = ["text", 5, ("t", 1), [1, 2], {"a": [1]}, None, True]
    for number, key in enumerate(keys):
        program = Program.list(
            CacheExists(key),
            CachePut(key, {"n": number}),
            CacheExists(key),
            CacheGet(key),
            CachePut(key, None),
            CacheGet(key),
            CacheDelete(key),
            CacheDelete(key),
        )
        result = sync_run(
            program, sync_handlers_preset, store={"__cache_storage__": storage}
        )
        assert result.value == [
            False,
            None,
            True,
            {"n": number},
            None,
            None,
            True,
            False,
        ]
    result = sync_run(
        CacheGet("absent"), sync_handlers_preset, store={"__cache_storage__": storage}
    )
    assert isinstance(result.error, KeyError)


def test_values_that_do_not_pickle(storage):
    program = CachePut("k", (x for x in ()))
    result = sync_run(
        program, sync_handlers_preset, store={"__cache_storage__": storage}
    )
    assert result.is_err() == isinstance(storage, SQLiteStorage)


def test_closed(tmp_path):
    storage = SQLiteStorage(str(tmp_path / "c.db"))
    storage.put("k", 1)
    storage.close()
    storage.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        storage.get("k")
    with SQLiteStorage(tmp_path / "c.db") as again:
        assert again.get("k") == 1


def test_silent_at_the_end_of_the_interpreter(tmp_path):
    script = (
        "import threading\n"
        "from doeff.storage import SQLiteStorage\n"
        f"s = SQLiteStorage({str(tmp_path / 'end.db')!r})\n"
        "m = SQLiteStorage(':memory:')\n"
        "t = threading.Thread(target=lambda: s.put('k', 1)); t.start(); t.join()\n"
        "m.put('k', 1)\n"
        "print(s.get('k'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
    assert "ResourceWarning" not in done.stderr
    assert "Exception" not in done.stderr


# --- clear_persistent_cache ------------------------------------------------------------------


def test_clearing_empties_the_table_and_keeps_the_file(tmp_path):
    path = tmp_path / "cache.db"
    with SQLiteStorage(path) as storage:
        storage.put("k", 1)
    assert clear_persistent_cache(str(path)) == path
    with SQLiteStorage(path) as storage:
        assert len(storage) == 0


def test_clearing_what_is_not_a_cache(tmp_path):
    missing = tmp_path / "missing.db"
    assert clear_persistent_cache(missing) == missing
    assert not missing.exists()
    with pytest.raises(IsADirectoryError):
        clear_persistent_cache(tmp_path)
    text = tmp_path / "notes.txt"
    text.write_text("keep me " * 200)
    with pytest.raises(ValueError, match="no cache file"):
        clear_persistent_cache(text)
    assert text.read_text() == "keep me " * 200
    other = tmp_path / "other.db"
    connection = sqlite3.connect(other)
    connection.execute("CREATE TABLE cache (id INTEGER)")
    connection.execute("INSERT INTO cache VALUES (1)")
    connection.commit()
    connection.close()
    with pytest.raises(ValueError, match="no cache file"):
        clear_persistent_cache(other)


def test_the_conventional_path():
    assert isinstance(persistent_cache_path(), Path)
    assert persistent_cache_path().name == "doeff_cache.sqlite3"
