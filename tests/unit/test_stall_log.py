"""set_stall_log: what is awaited from outside for long is logged, by runs that are idle."""

from __future__ import annotations

import asyncio
import logging

import pytest

from doeff import (
    Await,
    CreateExternalPromise,
    Delay,
    Gather,
    Safe,
    Spawn,
    Wait,
    async_handlers_preset,
    async_run,
    do,
    set_stall_log,
    sync_handlers_preset,
    sync_run,
)

SOON = 1e-9  # each look finds that the wait has lasted for too long


@pytest.fixture(autouse=True)
def off(monkeypatch):
    before = set_stall_log(None)
    yield
    set_stall_log(before)


class Log(logging.Handler):
    """Keeps the lines, and calls ``enough`` when there are so many and more."""

    def __init__(self, count, enough):
        super().__init__()
        self.lines = []
        self.count, self.enough = count, enough

    def emit(self, record):
        assert (record.name, record.levelno) == ("doeff.stall", logging.WARNING)
        self.lines.append(record.getMessage())
        if len(self.lines) >= self.count:
            self.enough()


@pytest.fixture
def log():
    logger = logging.getLogger("doeff.stall")
    handlers = []

    def log(count, enough):
        handler = Log(count, enough)
        logger.addHandler(handler)
        handlers.append(handler)
        return handler.lines

    yield log
    for handler in handlers:
        logger.removeHandler(handler)


def in_sync(program):
    return sync_run(program, sync_handlers_preset)


def in_async(program):
    return asyncio.run(async_run(program, async_handlers_preset))


@pytest.fixture(params=[in_sync, in_async])
def run(request):
    return request.param


def test_a_wait_is_logged_again_and_again(run, log):
    promises = []
    lines = log(3, lambda: promises[0].complete(7))

    @do
    def main():
        promises.append((yield CreateExternalPromise()))
        return (yield Wait(promises[0]))

    set_stall_log(SOON)
    assert run(main()).value == 7
    assert len(lines) == 3
    assert lines[0].startswith("task main has waited for something from outside for ")
    assert " in main" in lines[0]


def test_who_waits_for_what(run, log):
    promises = []
    lines = log(9, lambda: [promise.complete(1) for promise in promises])

    def unknown():
        raise LookupError("nobody knows")

    @do
    def child(promise):
        yield Wait(promise)

    @do
    def main():
        promises.append((yield CreateExternalPromise(1e-9, lambda: True)))
        promises.append((yield CreateExternalPromise(source_alive=lambda: False)))
        promises.append((yield CreateExternalPromise(3600, unknown)))
        yield Gather(child(promises[0]), Spawn(Wait(promises[1])), promises[2])

    set_stall_log(SOON)
    run(main()).value
    first, second, third = sorted(lines[:3])
    assert first.startswith("task child ")
    assert first.endswith("in child, past its deadline of 1e-09 s")
    assert second.startswith("task main ")
    assert second.endswith("and source_alive raised LookupError: nobody knows")
    assert third.startswith("task task ")
    assert ", spawned at " in third
    assert third.endswith("and what should end it is not alive")


def test_an_awaited_coroutine(run, log):
    futures = []

    def enough():
        if futures:  # a thread in the background may not have come so far
            loop, future = futures.pop()
            loop.call_soon_threadsafe(future.set_result, "there")

    lines = log(2, enough)

    async def waits():
        loop = asyncio.get_running_loop()
        futures.append((loop, loop.create_future()))
        return await futures[0][1]

    @do
    def main():
        return (yield Await(waits(), deadline=0, source_alive=lambda: True))

    set_stall_log(SOON)
    assert run(main()).value == "there"
    assert lines[0].endswith("past its deadline of 0 s")


def test_nothing_is_logged_unless_it_is_asked_for(run, log):
    lines = log(1, lambda: None)

    @do
    def main():
        return (yield Await(asyncio.sleep(0, "x"), deadline=0))

    assert run(main()).value == "x"
    assert lines == []


def test_a_sleeping_run_is_not_stalled(run, log):
    lines = log(1, lambda: None)
    set_stall_log(SOON)
    assert run(Delay(0.001)).is_ok()
    assert lines == []


def test_a_source_that_completes_the_promise_when_it_is_asked(run):
    promises = []

    @do
    def main():
        promise = yield CreateExternalPromise(source_alive=lambda: promise.complete(5))
        promises.append(promise)
        return (yield Wait(promise))

    set_stall_log(SOON)
    assert run(main()).value == 5


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_no_length_of_time(seconds):
    with pytest.raises(ValueError, match="seconds must be > 0"):
        set_stall_log(seconds)


def test_the_setting():
    assert set_stall_log(30) is None
    assert set_stall_log(1.5) == 30
    assert set_stall_log(float("inf")) == 1.5
    assert set_stall_log(None) > 1e9
    with pytest.raises(TypeError, match="seconds must be a number or None, got str"):
        set_stall_log("3")


def test_what_effects_may_say():
    coroutine = asyncio.sleep(0)

    def awaits(**given):
        return Await(coroutine, **given)

    for make in (CreateExternalPromise, awaits):
        effect = make(deadline=2.5, source_alive=bool)
        assert (effect.deadline, effect.source_alive) == (2.5, bool)
        assert (make().deadline, make().source_alive) == (None, None)
        with pytest.raises(TypeError, match="deadline must be a number of seconds"):
            make(deadline="soon")
        with pytest.raises(TypeError, match="source_alive must be callable"):
            make(source_alive=True)
    coroutine.close()


def test_failures_go_on_as_always(run, log):
    promises = []
    log(1, lambda: promises[0].fail(OSError("down")))

    @do
    def main():
        promises.append((yield CreateExternalPromise(deadline=1)))
        result = yield Safe(Wait(promises[0]))
        return str(result.error)

    set_stall_log(SOON)
    assert run(main()).value == "down"
