"""Deadlocks: contract/concurrency.md 1.12."""

from __future__ import annotations

import threading
from datetime import datetime

import pytest

from doeff import (
    PRIORITY_IDLE,
    AcquireSemaphore,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Gather,
    Pure,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Spawn,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def value(program, **kw):
    return run(program, **kw).value


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


@do
def parked():
    yield Wait((yield CreatePromise()).future)


WAITS = {
    "wait": lambda p, s: Wait(p.future),
    "gather": lambda p, s: Gather(p.future, Pure(1)),
    "race": lambda p, s: Race(p.future),
    "acquire": lambda p, s: AcquireSemaphore(s),
    "member": lambda p, s: Gather(Wait(p.future)),
}


@pytest.mark.parametrize("kind", WAITS)
def test_dl_1_raised_at_mains_wait_and_the_run_goes_on(kind):
    @do
    def main():
        p, s = (yield CreatePromise()), (yield CreateSemaphore(1))
        yield AcquireSemaphore(s)
        caught = None
        try:
            yield WAITS[kind](p, s)
        except SchedulerDeadlockError as error:
            caught = error
        yield ReleaseSemaphore(s)
        yield Put("k", 1)
        task = yield Spawn(CompletePromise(p, "later"))
        return caught, (yield Wait(p.future)), (yield Safe(Wait(task))).is_ok()

    error, later, ok = value(main())
    assert str(error).startswith("Deadlock:")
    assert (later, ok) == ("later", True)


def test_dl_1_is_a_runtime_error_and_leaves_main():
    result = run(parked())
    assert isinstance(result.error, SchedulerDeadlockError)
    assert isinstance(result.error, RuntimeError)


def test_dl_2_who_waits_for_what():
    @do
    def child(other):
        yield Wait(other)

    @do
    def main():
        s = yield CreateSemaphore(1)
        yield AcquireSemaphore(s)
        first = yield Spawn(parked(), daemon=True)
        a = yield Spawn(child(first), daemon=True)
        yield Spawn(AcquireSemaphore(s), daemon=True)
        yield Spawn(parked(), daemon=True)
        caught = yield Safe(Gather(a, (yield CreatePromise()).future))
        return caught.error

    error = value(main())
    assert len(error.parked_waiters) == 5
    for part in (
        "main",
        "Gather",
        "AcquireSemaphore",
        "parked",
        "child",
        "test_deadlock.py",
    ):
        assert part in str(error)
    assert [len(tasks) for tasks in error.semaphore_waiters.values()] == [1]


def test_dl_2_twenty_waiters_then_counts():
    @do
    def main():
        for _ in range(50):
            yield Spawn(parked(), daemon=True)
        return (yield Safe(parked())).error

    error = value(main())
    assert len(error.parked_waiters) == 51
    assert "31 more" in str(error)


def test_dl_3_never_while_something_can_wake_a_task():
    @do
    def opener(p):
        yield Delay(60)
        yield CompletePromise(p, "opened")

    @do
    def main():
        p = yield CreatePromise()
        yield Spawn(opener(p))
        first = yield Wait(p.future)
        e = yield CreateExternalPromise()
        idle = yield Spawn(Wait(e, priority=PRIORITY_IDLE))
        yield turns(2)
        threading.Timer(0.005, lambda: e.complete("outside")).start()
        return first, (yield Wait(idle))

    clock = {"__current_time__": datetime(2024, 1, 1)}
    assert value(main(), store=clock) == ("opened", "outside")


def test_dl_3_semaphores_as_signals():
    @do
    def signals(s):
        yield turns(5)
        yield ReleaseSemaphore(s)

    @do
    def main():
        s = yield CreateSemaphore(1)
        yield AcquireSemaphore(s)
        yield Spawn(signals(s))
        yield AcquireSemaphore(s)
        return True

    assert value(main())


def test_dl_3_an_external_promise_nobody_waits_for_is_no_hope():
    @do
    def main():
        yield CreateExternalPromise()
        return (yield Safe(parked())).error

    assert isinstance(value(main()), SchedulerDeadlockError)


def test_dl_4_tasks_stuck_on_each_other_are_no_error():
    @do
    def child(box, at):
        yield Wait(box[at])

    @do
    def main():
        box = [None, None]
        box[0] = yield Spawn(child(box, 1))
        box[1] = yield Spawn(child(box, 0))
        yield turns(3)
        return "main"

    assert value(main()) == "main"


def test_dl_4_named_when_the_run_ends():
    @do
    def main():
        yield Spawn(parked())
        yield turns(3)
        return "main"

    with pytest.warns(RuntimeWarning, match="parked"):
        assert value(main()) == "main"
