"""Accounts in a database: transfers that happen in whole or not at all, several at a time.

The program performs ``Query`` and ``Execute``, and puts what belongs together in a ``transaction``. Which database
answers is said by what it runs in: ``sqlite.with_memory`` (the standard library's driver, no event loop),
``sqlite.with_file`` (aiosqlite) or ``postgres.with_server`` (asyncpg):

    doeff run ledger:program

runs it in memory; ``--interpreter ledger:in_a_file`` and ``--interpreter ledger:on_a_server`` are the others. The last
one reads the address of the server from LEDGER_POSTGRES; ``make postgres-example`` starts one for it.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from doeff import (
    AcquireSemaphore,
    CreateSemaphore,
    Delay,
    EffectBase,
    EffectGenerator,
    Gather,
    HandlerContext,
    Program,
    ReleaseSemaphore,
    RuntimeResult,
    Shield,
    Tell,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)

T = TypeVar("T")
Row = tuple[Any, ...]

# --- effects --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Query(EffectBase):
    """Gives the rows of a SELECT. ``$1`` stands for the first value. on: a transaction."""

    sql: str
    values: tuple[Any, ...] = ()
    on: Any = None


@dataclass(frozen=True)
class Execute(EffectBase):
    """Runs a statement that gives no rows."""

    sql: str
    values: tuple[Any, ...] = ()
    on: Any = None


@dataclass(frozen=True)
class Begin(EffectBase):
    """Begins a transaction and gives what ``on`` wants."""


@dataclass(frozen=True)
class End(EffectBase):
    """Ends a transaction."""

    on: Any
    commit: bool


class Refused(Exception):
    """The database keeps to its rules: a balance below nothing, a transfer that is there already."""


class Conflict(Exception):
    """Another transaction was in the way; this one is undone and may be tried again."""


# --- transactions, for every database ---------------------------------------------------------


@do
def transaction(body: Program[T]) -> EffectGenerator[T]:
    """Run a program whose statements count together: all of them, or none if it fails or is cancelled."""
    on = yield Begin()
    one_at_a_time = yield CreateSemaphore()

    @do
    def inside(effect: Query | Execute, ctx: HandlerContext) -> EffectGenerator[Any]:
        yield AcquireSemaphore(one_at_a_time)
        try:
            return (yield replace(effect, on=on))
        finally:
            yield ReleaseSemaphore(one_at_a_time)

    try:
        value: T = yield WithHandler(inside, body)
    except GeneratorExit:  # nothing can be performed any more
        raise
    except BaseException:
        yield Shield(End(on, commit=False))
        raise
    yield Shield(End(on, commit=True))
    return value


@do
def again_on_conflict(
    body: Program[T], attempts: int = 8, wait: float = 0.01
) -> EffectGenerator[T]:
    for attempt in range(1, attempts + 1):
        try:
            value: T = yield body
            return value
        except Conflict:
            if attempt == attempts:
                raise
        yield Delay(wait * 2**attempt)
    raise AssertionError


# --- the program --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Transfer:
    """reference: each is carried out once."""

    reference: str
    source: str
    target: str
    cents: int


@dataclass(frozen=True)
class NotDone:
    """Finding: a transfer that the database refused."""

    reference: str
    reason: str


TABLES = (
    """CREATE TABLE accounts (
           name TEXT PRIMARY KEY,
           cents BIGINT NOT NULL CHECK (cents >= 0))""",
    """CREATE TABLE transfers (
           reference TEXT PRIMARY KEY,
           source TEXT NOT NULL REFERENCES accounts,
           target TEXT NOT NULL REFERENCES accounts,
           cents BIGINT NOT NULL CHECK (cents > 0))""",
)


@do
def open_accounts(balances: dict[str, int]) -> EffectGenerator[None]:
    for table in ("transfers", "accounts"):
        yield Execute(f"DROP TABLE IF EXISTS {table}")
    for sql in TABLES:
        yield Execute(sql)
    for name, cents in balances.items():
        yield Execute("INSERT INTO accounts VALUES ($1, $2)", (name, cents))


@do
def move(transfer: Transfer) -> EffectGenerator[None]:
    yield Execute(
        "INSERT INTO transfers VALUES ($1, $2, $3, $4)",
        (transfer.reference, transfer.source, transfer.target, transfer.cents),
    )
    for name, change in (
        (transfer.target, transfer.cents),
        (transfer.source, -transfer.cents),
    ):
        yield Execute(
            "UPDATE accounts SET cents = cents + $1 WHERE name = $2", (change, name)
        )


@do
def carry_out(transfer: Transfer) -> EffectGenerator[bool]:
    """Whether the transfer took place; why it did not is told."""
    try:
        yield again_on_conflict(transaction(move(transfer)))
    except Refused as error:
        yield Tell(NotDone(transfer.reference, str(error)))
        return False
    return True


@do
def carry_out_all(transfers: Iterable[Transfer]) -> EffectGenerator[list[bool]]:
    done: list[bool] = yield Gather(*(carry_out(transfer) for transfer in transfers))
    return done


@do
def balances() -> EffectGenerator[dict[str, int]]:
    rows: list[Row] = yield Query("SELECT name, cents FROM accounts ORDER BY name")
    return {name: cents for name, cents in rows}


@dataclass(frozen=True)
class Outcome:
    """What the program returns."""

    done: int
    refused: int
    balances: dict[str, int]

    def __str__(self) -> str:
        rows = [
            f"  {name:<8} {cents / 100:>10.2f}" for name, cents in self.balances.items()
        ]
        head = f"{self.done} transfers took place, {self.refused} were refused"
        return "\n".join([head, *rows])


OPENING = {"ann": 100_00, "bob": 50_00, "cleo": 0}


@do
def program() -> EffectGenerator[Outcome]:
    """Thirty transfers at once between three accounts, ten of them sent twice.

    Which are refused for want of money depends on the order in which the database takes them.
    """
    yield open_accounts(OPENING)
    names = list(OPENING)
    transfers = [
        Transfer(f"t{n}", names[n % 3], names[(n + 1) % 3], 10_00 + n)
        for n in range(20)
    ]
    done = yield carry_out_all(transfers + transfers[10:])
    return Outcome(sum(done), len(done) - sum(done), (yield balances()))


# --- running it -----------------------------------------------------------------------------------


def in_memory(program: Program[T]) -> RuntimeResult[T]:  # doeff: interpreter, default
    from ledger.sqlite import with_memory

    return sync_run(with_memory(program), sync_handlers_preset)


def in_a_file(program: Program[T]) -> RuntimeResult[T]:
    from ledger.sqlite import with_file

    with tempfile.TemporaryDirectory() as folder:
        inside = with_file(str(Path(folder) / "ledger.sqlite"), program)
        return asyncio.run(async_run(inside, async_handlers_preset))


def on_a_server(program: Program[T]) -> RuntimeResult[T]:
    address = os.environ.get("LEDGER_POSTGRES")
    if not address:
        raise SystemExit("LEDGER_POSTGRES is not set; see make postgres-example")
    from ledger.postgres import with_server

    inside = with_server(address, program)
    return asyncio.run(async_run(inside, async_handlers_preset))
