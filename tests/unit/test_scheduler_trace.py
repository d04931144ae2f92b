"""set_scheduler_trace: what is told, when, and what a sink cannot break."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import pickle
import threading
import warnings

import pytest

from doeff import (
    Await,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    Gather,
    Get,
    Put,
    Race,
    Safe,
    SchedulerDeadlockError,
    Spawn,
    Wait,
    async_handlers_preset,
    async_run,
    do,
    set_scheduler_trace,
    sync_handlers_preset,
    sync_run,
)
from doeff.testing import SchedulerEvent, virtual_time


@pytest.fixture
def trace(
    monkeypatch,
):  # whoever patches keeps state: the leak hunt runs such tests once
    """Sets a sink; the one before it is set again at the end."""
    before = set_scheduler_trace(None)
    yield set_scheduler_trace
    set_scheduler_trace(before)


@pytest.fixture
def events(trace):
    events = []
    trace(events.append)
    return events


@pytest.fixture
def unraisable(monkeypatch):
    seen = []
    monkeypatch.setattr(
        "sys.unraisablehook", lambda info: seen.append((info.exc_value, info.object))
    )
    return seen


def run(program):
    return sync_run(program, sync_handlers_preset)


def lines(events):
    return [str(event) for event in events]


@do
def worker(n):
    yield Put("n", n)
    return n


@do
def two():
    task = yield Spawn(worker(1))
    yield Wait(task)


def test_a_task_from_its_birth_to_its_end(events):
    run(two())
    assert lines(events) == [
        "start main",
        "spawned worker#1 (by main)",
        "enqueued worker#1 (its program)",
        "blocked main (Wait)",
        "task-enter worker#1",
        "task-leave worker#1 (value)",
        "enqueued main (outcome)",
        "resumed main (outcome)",
        "task-leave main (value)",
    ]


def test_a_turn_that_ends(events):
    @do
    def main():
        yield Spawn(worker(1))
        yield Get("n")

    sync_run(main(), sync_handlers_preset, store={"n": 0})
    assert lines(events)[3:6] == [
        "enqueued main (its turn is over)",
        "task-enter worker#1",
        "enqueued worker#1 (its turn is over)",
    ]


def test_tasks_of_one_name_have_numbers_and_runs_have_some_too(events):
    @do
    def main():
        yield Gather(worker(1), worker(2))

    run(main())
    first = {event.task for event in events}
    assert first == {"main", "worker#1", "worker#2"}
    run(main())
    assert {event.task for event in events} == first
    assert len({event.run for event in events}) == 2


def test_how_tasks_end(events):
    @do
    def fails():
        yield Put("a", 1)
        raise KeyError("x")

    @do
    def main():
        task = yield Spawn(fails())
        yield Safe(Wait(task))
        task = yield Spawn(Delay(100))
        yield Delay(1)
        yield Cancel(task)
        never = yield Spawn(worker(1))
        yield Cancel(never)
        yield Race((yield Spawn(Delay(1))), (yield Spawn(Delay(2))))

    run(virtual_time(main()))
    told = lines(events)
    assert "task-leave fails#1 (KeyError)" in told
    assert "blocked DelayEffect#2 (time)" in told
    assert "task-leave DelayEffect#2 (cancelled)" in told
    assert "task-enter worker#3" not in told
    assert "task-leave worker#3 (cancelled)" in told
    assert "blocked main (Race)" in told
    assert told[-4:] == [
        "task-leave main (value)",
        "enqueued DelayEffect#5 (error)",
        "resumed DelayEffect#5 (error)",
        "task-leave DelayEffect#5 (cancelled)",
    ]


def test_what_comes_from_outside(events):
    @do
    def main():
        one = yield CreateExternalPromise()
        other = yield CreateExternalPromise()
        other.complete(2)
        thread = threading.Thread(target=one.fail, args=(OSError("down"),))
        third = yield CreateExternalPromise()
        waiting = yield Spawn(Wait(third))
        yield Delay(0)
        yield Cancel(waiting)
        thread.start()
        yield Safe(Wait(one))
        thread.join()

    run(main())
    outside = [
        (event.task, event.what)
        for event in events
        if event.name.startswith("external") and event.name != "external-wait"
    ]
    assert outside == [
        ("main", "promise#1"),
        ("main", "promise#2"),
        (None, "promise#2: value"),
        ("main", "promise#3"),
        (None, "promise#3"),
        (None, "promise#1: OSError"),
    ]
    names = [event.name for event in events]
    assert names.count("external-cancelled") == 1


def test_waiting_for_time_or_for_the_outside(events):
    @do
    def main():
        yield Delay(0.001)
        promise = yield CreateExternalPromise()
        thread = threading.Thread(target=lambda: promise.complete(1))
        yield Spawn(started(thread))
        yield Wait(promise)
        thread.join()

    @do
    def started(thread):
        yield Delay(0.001)
        thread.start()

    run(main())
    idle = [event.what for event in events if event.name == "external-wait"]
    assert idle[:2] == ["time", "outside"]


def test_under_async_run(events):
    @do
    def main():
        yield Gather(Await(asyncio.sleep(0)), worker(1))

    asyncio.run(async_run(main(), async_handlers_preset))
    names = {event.name for event in events}
    assert {"external-created", "external-completed", "external-wait"} <= names
    assert str(events[-1]) == "task-leave main (value)"


def test_a_program_without_tasks_tells_nothing(events):
    run(worker(1))
    assert events == []


def test_an_event_is_a_value(events):
    run(two())
    event = events[1]
    assert event == SchedulerEvent("spawned", "worker#1", "by main", event.run)
    assert pickle.loads(pickle.dumps(event)) == event
    assert repr(events[0]) == (
        f"SchedulerEvent(name='start', task='main', what=None, run={event.run})"
    )
    match event:
        case SchedulerEvent("spawned", task):
            assert task == "worker#1"


def test_setting_gives_what_was_set_before(trace):
    assert trace(print) is None
    assert trace(repr) is print
    assert trace(None) is repr
    with pytest.raises(TypeError, match="sink must be callable or None, got int"):
        trace(3)


def test_a_run_that_has_tasks_already_is_not_heard(trace):
    events = []

    @do
    def main():
        yield Spawn(worker(1))
        trace(events.append)
        yield Spawn(worker(2))

    run(main())
    assert events == []


# --- what a sink does -----------------------------------------------------------------


def test_each_event_comes_before_the_task_goes_on(trace):
    log = []

    @do
    def child():
        log.append("child")
        yield Put("x", 1)

    @do
    def main():
        task = yield Spawn(child())
        yield Wait(task)
        log.append("main")

    trace(lambda event: log.append(event.name))
    run(main())
    assert log[log.index("child") - 1] == "task-enter"
    assert log[log.index("main") - 1] == "resumed"


def test_a_sink_that_raises_changes_nothing(trace, unraisable):
    calls = []

    def sink(event):
        calls.append(event.name)
        raise ValueError(event.name)

    trace(sink)
    assert run(two()).is_ok()
    assert calls.count("spawned") == 1
    assert calls[-1] == "task-leave"
    assert [str(error) for error, _ in unraisable] == calls
    assert {where for _, where in unraisable} == {sink}


def test_an_interrupt_in_a_sink_is_the_runs(trace):
    log = []

    @do
    def main():
        task = yield Spawn(worker(1))
        try:
            yield Wait(task)
        finally:
            log.append("unwound")

    def sink(event):
        if event.name == "task-enter":
            raise KeyboardInterrupt

    trace(sink)
    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log == ["unwound"]


def test_an_interrupt_in_a_sink_after_main(trace):
    def sink(event):
        if str(event) == "task-leave worker#1 (value)":
            raise KeyboardInterrupt

    @do
    def main():
        yield Spawn(worker(1))

    trace(sink)
    with pytest.raises(KeyboardInterrupt):
        run(main())


def test_a_sink_that_removes_itself(trace):
    events = []

    def sink(event):
        events.append(event.name)
        if event.name == "spawned":
            trace(None)

    trace(sink)
    assert run(two()).is_ok()
    assert events == ["start", "spawned"]


def test_a_sink_that_puts_another_in_its_place(trace):
    first, second = [], []

    def sink(event):
        first.append(event.name)
        trace(lambda event: second.append(event.name))

    trace(sink)
    run(two())
    assert first == ["start"]
    assert second[0] == "spawned"
    assert second[-1] == "task-leave"


def test_a_sink_that_runs_programs(trace):
    inner = []

    def sink(event):
        if event.name == "start" and not inner:
            inner.append(None)
            inner[0] = run(two()).is_ok()

    trace(sink)
    assert run(two()).is_ok()
    assert inner == [True]


@pytest.mark.parametrize(
    "at", ["blocked main (Wait)", "external-wait (time)", "external-wait (outside)"]
)
def test_a_sink_that_completes_promises(trace, at):
    promises = []
    completed = []

    def sink(event):
        if str(event) == at and promises:
            completed.append(promises.pop().complete(7))

    @do
    def main():
        promises.append((yield CreateExternalPromise()))
        promise = promises[0]
        if at == "external-wait (time)":
            yield Delay(0.001)
        return (yield Wait(promise))

    trace(sink)
    assert run(main()).value == 7
    assert completed == [True]


@pytest.mark.parametrize("at", ["blocked main (Wait)", "external-wait (outside)"])
def test_a_sink_that_settles_promises_by_the_old_method(trace, at):
    promises = []

    def sink(event):
        if str(event) == at and promises:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                promises.pop().complete(7)

    @do
    def main():
        promise = yield CreatePromise()
        promises.append(promise)
        yield Spawn(Wait((yield CreateExternalPromise())), daemon=True)
        return (yield Wait(promise.future))

    trace(sink)
    assert run(main()).value == 7


def test_a_sink_that_collects_garbage_and_drops_handles(trace):
    handles = []

    def sink(event):
        handles.clear()
        gc.collect()

    @do
    def main():
        for n in range(3):
            handles.append((yield Spawn(worker(n))))
        promise = yield CreatePromise()
        handles.append((yield Spawn(CompletePromise(promise, 1))))
        return (yield Wait(promise.future))

    trace(sink)
    assert run(main()).value == 1


def test_what_a_sink_sets_stays_in_it(trace):
    variable = contextvars.ContextVar("variable", default="as it was")
    seen = []

    @do
    def child():
        seen.append(variable.get())
        yield Put("x", 1)
        seen.append(variable.get())

    @do
    def main():
        yield Wait((yield Spawn(child())))
        seen.append(variable.get())

    trace(lambda event: variable.set(event.name))
    run(main())
    assert seen == ["as it was"] * 3


def test_a_deadlock_is_told_as_without_a_sink(events):
    @do
    def main():
        promise = yield CreatePromise()
        yield Wait(promise.future)

    with pytest.raises(SchedulerDeadlockError):
        _ = run(main()).value
    assert lines(events)[-2:] == [
        "resumed main (error)",
        "task-leave main (SchedulerDeadlockError)",
    ]
