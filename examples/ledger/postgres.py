"""The ledger in PostgreSQL, with asyncpg: a connection for each transaction, serializable."""

from __future__ import annotations

from typing import Any, TypeVar

import asyncpg

from doeff import Await, EffectGenerator, HandlerContext, Program, WithHandler, do
from ledger import Begin, Conflict, End, Execute, Query, Refused

T = TypeVar("T")


@do
def with_server(
    address: str, body: Program[T], connections: int = 4
) -> EffectGenerator[T]:
    """Run a program on a server's database."""

    async def open_pool() -> asyncpg.Pool:  # which belongs to the loop it is made in
        return await asyncpg.create_pool(address, min_size=1, max_size=connections)

    pool = yield Await(open_pool())

    @do
    def statements(
        effect: Query | Execute, ctx: HandlerContext
    ) -> EffectGenerator[Any]:
        connection = pool if effect.on is None else effect.on[0]
        if isinstance(effect, Execute):
            yield known(Await(connection.execute(effect.sql, *effect.values)))
            return None
        rows = yield known(Await(connection.fetch(effect.sql, *effect.values)))
        return [tuple(row) for row in rows]

    @do
    def transactions(effect: Begin | End, ctx: HandlerContext) -> EffectGenerator[Any]:
        if isinstance(effect, Begin):
            connection = yield Await(pool.acquire())
            begun = connection.transaction(isolation="serializable")
            try:
                yield Await(begun.start())
            except BaseException:
                yield Await(pool.release(connection))
                raise
            return connection, begun
        connection, begun = effect.on
        try:
            yield known(Await(begun.commit() if effect.commit else begun.rollback()))
        finally:
            yield Await(pool.release(connection))

    try:
        value: T = yield WithHandler(transactions, WithHandler(statements, body))
        return value
    finally:
        yield Await(pool.close())


@do
def known(work: Program[T]) -> EffectGenerator[T]:
    """The errors that the ledger knows, in its own words."""
    try:
        value: T = yield work
        return value
    except asyncpg.IntegrityConstraintViolationError as error:
        raise Refused(str(error)) from error
    except (asyncpg.SerializationError, asyncpg.DeadlockDetectedError) as error:
        raise Conflict(str(error)) from error
