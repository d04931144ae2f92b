"""Semaphores: contract/concurrency.md 1.10."""

from __future__ import annotations

import asyncio
import time
from datetime import datetime

import pytest

from doeff import (
    PRIORITY_IDLE,
    AcquireSemaphore,
    Cancel,
    CreateSemaphore,
    Delay,
    Discard,
    Gather,
    Put,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Semaphore,
    Spawn,
    Timeout,
    Wait,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)


def value(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw).value


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


def test_se_1_permits():
    for wrong in (0, -1, -(2**80)):
        with pytest.raises(ValueError, match="permits must be >= 1"):
            CreateSemaphore(wrong)
    for wrong in ("1", 1.0, [], True):
        with pytest.raises(TypeError):
            CreateSemaphore(wrong)
    with pytest.raises(TypeError):
        Semaphore()
    with pytest.raises(TypeError):
        AcquireSemaphore(5)
    with pytest.raises(TypeError):
        ReleaseSemaphore(None)
    assert value(CreateSemaphore(2**80).map(lambda s: isinstance(s, Semaphore)))


def test_se_2_first_come_first_served():
    order = []

    @do
    def worker(s, n):
        yield AcquireSemaphore(s)
        order.append(n)
        yield turns(3)
        yield ReleaseSemaphore(s)

    @do
    def main():
        s = yield CreateSemaphore(2)
        tasks = []
        for n in range(6):
            tasks.append((yield Spawn(worker(s, n))))
        yield Gather(*tasks)

    value(main())
    assert order == list(range(6))


def test_se_2_a_newcomer_cannot_overtake():
    order = []

    @do
    def worker(s, n):
        yield AcquireSemaphore(s)
        order.append(n)

    @do
    def main():
        s = yield CreateSemaphore(1)
        yield AcquireSemaphore(s)
        first = yield Spawn(worker(s, "first"), priority=0)
        yield Wait((yield Spawn(Put("k", 1), priority=0)))
        yield ReleaseSemaphore(s)  # handed to first, which is not urgent
        second = yield Spawn(worker(s, "second"), priority=20)
        yield turns(2)
        yield ReleaseSemaphore(s)  # any task may release
        yield Gather(first, second)

    value(main())
    assert sorted(order) == ["first", "second"]


def test_se_2_a_permit_handed_on_is_not_free():
    @do
    def main():
        s = yield CreateSemaphore(1)
        yield AcquireSemaphore(s)
        first = yield Spawn(AcquireSemaphore(s), priority=0)
        yield Wait((yield Spawn(Put("k", 1), priority=0)))
        yield ReleaseSemaphore(s)
        newcomer = yield Spawn(AcquireSemaphore(s), priority=20)
        yield turns(2)
        overtaken = yield newcomer.is_done()
        yield Wait(first)
        yield ReleaseSemaphore(s)
        yield Wait(newcomer)
        return overtaken

    assert value(main()) is False


def test_se_3_released_too_many_times():
    @do
    def main():
        s = yield CreateSemaphore(2)
        yield AcquireSemaphore(s)
        yield ReleaseSemaphore(s)
        return (yield Safe(ReleaseSemaphore(s))).error

    error = value(main())
    assert isinstance(error, RuntimeError)
    assert "semaphore released too many times" in str(error)


def test_se_4_a_task_that_ends_without_releasing_leaks_the_permit():
    @do
    def main():
        s = yield CreateSemaphore(1)
        yield Wait((yield Spawn(AcquireSemaphore(s))))
        caught = yield Safe(AcquireSemaphore(s))
        yield ReleaseSemaphore(s)
        yield AcquireSemaphore(s)
        return caught.error

    error = value(main())
    assert isinstance(error, SchedulerDeadlockError)
    assert [len(tasks) for tasks in error.semaphore_waiters.values()] == [1]


def test_se_5_of_another_run():
    other = value(CreateSemaphore(1))

    @do
    def main():
        return type((yield Safe(AcquireSemaphore(other))).error), type(
            (yield Safe(ReleaseSemaphore(other))).error
        )

    assert value(main()) == (ValueError, ValueError)


@pytest.mark.deep
@pytest.mark.parametrize("backwards", [False, True])
def test_cancelling_100_000_in_a_line(backwards):
    @do
    def main():
        s = yield CreateSemaphore(1)
        yield AcquireSemaphore(s)
        tasks = []
        for _ in range(100_000):
            tasks.append((yield Spawn(AcquireSemaphore(s))))
        yield turns(3)
        for task in reversed(tasks) if backwards else tasks:
            yield task.cancel()
        yield ReleaseSemaphore(s)
        yield AcquireSemaphore(s)
        return True

    assert value(main())


# --- a permit that its task does not learn of (CA-8) ---------------------------------------

FREE = "<Semaphore 1 of 1 permits free, 0 waiting>"


@do
def holds(semaphore, log):
    yield AcquireSemaphore(semaphore)
    try:
        log.append("holds")
        yield Delay(9)
    finally:
        yield ReleaseSemaphore(semaphore)


@pytest.mark.parametrize("how", [Cancel, Discard])
@pytest.mark.parametrize("handed_over", [False, True])
def test_a_task_that_ends_before_it_learns_of_its_permit(how, handed_over):
    """It is ready, with the permit as answer: the next in line gets it."""
    log = []

    @do
    def main():
        semaphore = yield CreateSemaphore(1)
        if handed_over:
            yield AcquireSemaphore(semaphore)
            task = yield Spawn(holds(semaphore, log), priority=PRIORITY_IDLE)
            yield Delay(1)
            yield ReleaseSemaphore(semaphore)
        else:
            task = yield Spawn(holds(semaphore, log))
            yield Put("turn", 0)
        yield how(task)
        yield AcquireSemaphore(semaphore)
        return repr(semaphore)

    noon = {"__current_time__": datetime(2030, 1, 1)}
    assert value(main(), store=noon) == FREE.replace("1 of", "0 of")
    assert log == []


def test_a_timeout_that_ends_the_acquiring_effect():
    @do
    def late(semaphore):
        over = time.monotonic() + 0.02
        while time.monotonic() < over:
            pass
        yield AcquireSemaphore(semaphore)
        yield ReleaseSemaphore(semaphore)

    @do
    def main():
        semaphore = yield CreateSemaphore(1)
        caught = yield Safe(Timeout(0.01, late(semaphore)))
        return type(caught.error), repr(semaphore)

    assert value(main()) == (TimeoutError, FREE)


@pytest.mark.parametrize("handed_over", [False, True])
def test_an_async_run_that_is_cancelled_at_the_acquiring_effect(handed_over):
    """The loop gets its turn after so many effects: one of the numbers is that of the acquiring one."""
    shown = []

    @do
    def effects(n):
        for _ in range(n):
            yield Put("turn", 0)

    @do
    def gives(semaphore, n):
        yield effects(n)
        yield ReleaseSemaphore(semaphore)

    @do
    def main(n):
        semaphore = yield CreateSemaphore(1)
        asyncio.get_running_loop().call_soon(asyncio.current_task().cancel)
        try:
            if handed_over:
                yield AcquireSemaphore(semaphore)
                giver = yield Spawn(gives(semaphore, n))
            else:
                yield effects(n)
            yield AcquireSemaphore(semaphore)
            try:
                yield effects(2000)
            finally:
                yield ReleaseSemaphore(semaphore)
        finally:
            if handed_over:
                yield Wait(giver)
            shown.append(repr(semaphore))

    async def outside(n):
        with pytest.raises(asyncio.CancelledError):
            await async_run(main(n), async_handlers_preset)

    for n in range(985, 1002):
        asyncio.run(outside(n))
    assert shown == [FREE] * 17
