"""The ledger on every database that is here: the same program, the same tests.

PostgreSQL is one of them where LEDGER_POSTGRES says where it is (``make postgres-example``).
"""

from __future__ import annotations

import asyncio
import os

import pytest

import ledger as demo
from doeff import (
    Await,
    Delay,
    Gather,
    Safe,
    TaskCancelledError,
    Timeout,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from ledger.sqlite import with_file, with_memory

pytestmark = pytest.mark.once

BALANCES = {"ann": 100, "bob": 50}
TRANSFER = demo.Transfer("t", "ann", "bob", 30)


def in_a_loop(program):
    return asyncio.run(async_run(program, async_handlers_preset))


def without_a_loop(program):
    return sync_run(program, sync_handlers_preset)


DATABASES = {"memory": ("memory", without_a_loop), "memory-loop": ("memory", in_a_loop)}
try:
    import aiosqlite  # noqa: F401
except ImportError:
    pass
else:
    DATABASES |= {
        "file": ("file", in_a_loop),
        "file-background": ("file", without_a_loop),
    }
if os.environ.get("LEDGER_POSTGRES"):
    DATABASES |= {
        "server": ("server", in_a_loop),
        "server-background": ("server", without_a_loop),
    }


@pytest.fixture(params=DATABASES)
def run(request, tmp_path):
    """Runs a program on a database with two accounts."""
    kind, how = DATABASES[request.param]

    def run(body):
        @do
        def program():
            yield demo.open_accounts(BALANCES)
            return (yield body())

        match kind:
            case "memory":
                inside = with_memory(program())
            case "file":
                inside = with_file(str(tmp_path / "ledger.sqlite"), program())
            case _:
                from ledger.postgres import with_server

                inside = with_server(os.environ["LEDGER_POSTGRES"], program())
        return how(inside)

    return run


def test_a_transfer(run):
    @do
    def body():
        done = yield demo.carry_out(TRANSFER)
        rows = yield demo.Query("SELECT * FROM transfers")
        return done, rows, (yield demo.balances())

    done, rows, balances = run(body).value
    assert done
    assert rows == [("t", "ann", "bob", 30)]
    assert balances == {"ann": 70, "bob": 80}


@pytest.mark.parametrize(
    "transfer",
    [
        demo.Transfer("t", "ann", "bob", 106),
        demo.Transfer("t", "ann", "nobody", 1),
        demo.Transfer("t", "ann", "bob", 0),
        demo.Transfer("first", "ann", "bob", 1),
    ],
    ids=["too much", "no account", "nothing", "twice"],
)
def test_a_refused_transfer_leaves_nothing_behind(run, transfer):
    @do
    def body():
        yield demo.carry_out(demo.Transfer("first", "bob", "ann", 5))
        done = yield demo.carry_out(transfer)
        rows = yield demo.Query("SELECT reference FROM transfers")
        return done, rows, (yield demo.balances())

    result = run(body)
    assert result.value == (False, [("first",)], {"ann": 105, "bob": 45})
    (told,) = result.raw_store["__log__"]
    assert told.reference == transfer.reference


def test_money_is_neither_made_nor_lost(run):
    @do
    def body():
        transfers = [
            demo.Transfer(f"{n}", *(("ann", "bob") if n % 2 else ("bob", "ann")), n + 1)
            for n in range(12)
        ]
        done = yield demo.carry_out_all(transfers + transfers)
        rows = yield demo.Query("SELECT reference FROM transfers")
        return done, rows, (yield demo.balances())

    done, rows, balances = run(body).value
    assert sum(done) == len(rows) <= 12
    assert sum(balances.values()) == 150
    assert min(balances.values()) >= 0


def test_an_error_undoes_the_transaction(run):
    @do
    def half():
        yield demo.move(TRANSFER)
        raise KeyError("bug")

    @do
    def body():
        failed = yield Safe(demo.transaction(half()))
        return failed.error, (yield demo.balances())

    error, balances = run(body).value
    assert isinstance(error, KeyError)
    assert balances == BALANCES


def test_a_time_limit_undoes_the_transaction(run):
    @do
    def slow():
        yield demo.move(TRANSFER)
        yield Delay(100)

    @do
    def body():
        failed = yield Safe(Timeout(0.05, demo.transaction(slow())))
        # What the transaction held is free again.
        assert (yield demo.carry_out(demo.Transfer("u", "ann", "bob", 1)))
        return failed.error, (yield demo.balances())

    error, balances = run(body).value
    assert isinstance(error, TimeoutError)
    assert not isinstance(error, TaskCancelledError)
    assert balances == {"ann": 99, "bob": 51}


def test_statements_at_once_in_one_transaction(run):
    @do
    def body():
        rows = yield demo.transaction(
            Gather(*(demo.Query("SELECT cents FROM accounts ORDER BY name"),) * 5)
        )
        return rows

    assert run(body).value == [[(100,), (50,)]] * 5


def test_async_functions_are_programs_too(run):
    @do
    async def both(first, second):
        await demo.move(first)
        await asyncio_turn()
        await demo.move(second)

    async def asyncio_turn():
        return await Await(asyncio.sleep(0))

    @do
    async def body():
        second = demo.Transfer("u", "bob", "ann", 1)
        await demo.transaction(both(TRANSFER, second))
        return await demo.balances()

    assert run(body).value == {"ann": 71, "bob": 79}


def test_a_conflict_is_tried_again():
    commits = []

    @do
    def in_the_way(effect: demo.End, ctx):
        commits.append(effect.commit)
        if len(commits) < 3:
            yield demo.End(effect.on, commit=False)
            raise demo.Conflict("another was faster")
        return (yield effect)

    @do
    def body():
        yield demo.open_accounts(BALANCES)
        done = yield WithHandler(in_the_way, demo.carry_out(TRANSFER))
        return done, (yield demo.balances())

    result = without_a_loop(with_memory(body()))
    assert result.value == (True, {"ann": 70, "bob": 80})
    assert commits == [True, True, True]


def test_the_program():
    outcome = demo.in_memory(demo.program()).value
    assert outcome.done + outcome.refused == 30
    assert sum(outcome.balances.values()) == sum(demo.OPENING.values())
    assert "transfers took place" in str(outcome)


def test_without_a_server(monkeypatch):
    monkeypatch.delenv("LEDGER_POSTGRES", raising=False)
    with pytest.raises(SystemExit, match="make postgres-example"):
        demo.on_a_server(demo.program())
