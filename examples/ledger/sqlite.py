"""The ledger in SQLite: in memory with the standard library's driver, or in a file with aiosqlite.

There is one connection; a transaction has it for itself until it ends.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from doeff import (
    AcquireSemaphore,
    Await,
    CreateSemaphore,
    EffectGenerator,
    HandlerContext,
    Program,
    Pure,
    ReleaseSemaphore,
    WithHandler,
    do,
)
from ledger import Begin, Conflict, End, Execute, Query, Refused, Row

T = TypeVar("T")
Rows = Callable[[str, dict[str, Any]], Program[list[Row]]]


@do
def with_memory(body: Program[T]) -> EffectGenerator[T]:
    """Run a program on a database that is gone afterwards. No event loop is needed."""
    connection = sqlite3.connect(":memory:", isolation_level=None)

    def rows(sql: str, values: dict[str, Any]) -> Program[list[Row]]:
        return Pure(connection.execute(sql, values).fetchall())

    try:
        value: T = yield _served(rows, body)
        return value
    finally:
        connection.close()


@do
def with_file(path: str, body: Program[T]) -> EffectGenerator[T]:
    """Run a program on a database in a file."""
    import aiosqlite

    connection = yield Await(aiosqlite.connect(path, isolation_level=None))

    def rows(sql: str, values: dict[str, Any]) -> Program[list[Row]]:
        return Await(connection.execute_fetchall(sql, values))

    try:
        value: T = yield _served(rows, body)
        return value
    finally:
        yield Await(connection.close())


@do
def _served(rows: Rows, body: Program[T]) -> EffectGenerator[T]:
    free = yield CreateSemaphore()

    @do
    def run(sql: str, values: tuple[Any, ...] = ()) -> EffectGenerator[list[Row]]:
        named = {str(place): value for place, value in enumerate(values, 1)}
        try:
            return list((yield rows(sql, named)))
        except sqlite3.IntegrityError as error:
            raise Refused(str(error)) from error
        except sqlite3.OperationalError as error:
            if "locked" in str(error):
                raise Conflict(str(error)) from error
            raise

    @do
    def statements(
        effect: Query | Execute, ctx: HandlerContext
    ) -> EffectGenerator[Any]:
        if effect.on is None:
            yield AcquireSemaphore(free)
        try:
            found = yield run(effect.sql, effect.values)
        finally:
            if effect.on is None:
                yield ReleaseSemaphore(free)
        return found if isinstance(effect, Query) else None

    @do
    def transactions(effect: Begin | End, ctx: HandlerContext) -> EffectGenerator[Any]:
        if isinstance(effect, Begin):
            yield AcquireSemaphore(free)
            try:
                yield run("BEGIN IMMEDIATE")
            except BaseException:
                yield ReleaseSemaphore(free)
                raise
            return "the connection"
        try:
            yield run("COMMIT" if effect.commit else "ROLLBACK")
        finally:
            yield ReleaseSemaphore(free)

    yield run("PRAGMA foreign_keys = ON")
    value: T = yield WithHandler(transactions, WithHandler(statements, body))
    return value
