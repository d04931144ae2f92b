"""What runs in the middle of the scheduler's work: ``__del__``, callbacks, signal handlers, handlers of waits (RO-9)."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
import warnings
from datetime import datetime

import pytest

from doeff import (
    Ask,
    Cancel,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    Discard,
    EffectBase,
    ExternalPromiseCancelCallbackError,
    Gather,
    Get,
    HandlerContext,
    Local,
    Program,
    Pure,
    Put,
    Race,
    Safe,
    Scope,
    Spawn,
    Timeout,
    Wait,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import sync_external_wait_handler
from doeff.effects.scheduler_internal import WaitForExternalCompletion

START = {"__current_time__": datetime(2030, 1, 1)}


def value(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw).value


# --- promises settled from anywhere --------------------------------------------------------


class Dying:
    def __init__(self, last):
        self.last = last

    def __del__(self):
        self.last()


def old(method, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        method(*args)


class Ping(EffectBase):
    pass


@do
def abandons(effect: Ping, ctx: HandlerContext):
    return ctx.abandon(1)
    yield


@do
def holds(thing, program: Program):
    """Waits with thing in its frame."""
    yield program


@do
def fails_with(thing, program: Program):
    held = [thing]
    del thing
    yield program
    raise ValueError(len(held))


def places():
    """What drops something in the middle of an operation of the scheduler: name -> program of what is dropped."""

    @do
    def ends(thing):
        yield Wait((yield Spawn(holds(thing, Pure(1)))))

    @do
    def fails(thing):
        yield Safe(Wait((yield Spawn(fails_with(thing, Pure(1))))))

    @do
    def cancelled(thing):
        task = yield Spawn(holds(thing, Delay(9)))
        del thing
        yield Delay(1)
        yield Cancel(task)
        yield Delay(1)

    @do
    def cancelled_new(thing):
        task = yield Spawn(Local({"thing": thing}, holds(thing, Delay(9))))
        del thing
        yield Cancel(task)
        del task
        yield Delay(1)

    @do
    def discarded(thing):
        task = yield Spawn(holds(thing, Delay(9)))
        del thing
        yield Delay(1)
        yield Discard(task)

    @do
    def member_of_a_failing_gather(thing):
        yield Safe(
            Gather(
                holds(thing, Delay(9)),
                holds(None, Gather(fails_with(None, Delay(1)), holds(None, Delay(9)))),
            )
        )

    @do
    def in_a_scope(thing):
        @do
        def body(thing):
            yield Spawn(holds(thing, Delay(9)))
            yield Spawn(fails_with(None, Delay(1)))
            del thing
            yield Delay(9)

        inner = body(thing)
        del thing
        yield Safe(Scope(inner))

    @do
    def in_a_timeout(thing):
        yield Safe(Timeout(1, holds(thing, Delay(9))))

    @do
    def value_of_a_promise(thing):
        promise = yield CreateExternalPromise()
        promise.complete(thing)
        del thing, promise
        yield Put("k", 1)

    @do
    def loser_of_a_race(thing):
        task = yield Spawn(holds(thing, Delay(9)))
        other = yield Spawn(Delay(1))
        yield Race(task, other)
        del thing
        yield Cancel(task)
        del task
        yield Delay(1)

    @do
    def abandoned(thing):
        yield WithHandler(abandons, holds(thing, Ping()))

    @do
    def in_the_store(thing):
        yield Put("thing", thing)
        del thing
        yield Put("thing", None)

    @do
    def in_a_cycle(thing):
        cycle = [thing]
        cycle.append(cycle)
        del thing, cycle
        yield Put("k", 1)
        gc.collect()
        yield Put("k", 1)

    @do
    def callback(thing):
        promise = yield CreateExternalPromise()
        promise.on_cancel(lambda thing=thing: None)
        task = yield Spawn(Wait(promise))
        del thing, promise
        yield Put("k", 1)
        yield Cancel(task)
        del task
        yield Put("k", 1)

    return [place for place in list(locals().values()) if callable(place)]


@pytest.mark.parametrize("place", places(), ids=lambda place: place.__name__)
@pytest.mark.parametrize("settle", ["complete", "fail"])
def test_an_old_method_called_by_a_finalizer(place, settle):
    """Whatever drops the object, those who wait are woken once, a Gather that fails takes its members along."""
    log = []

    @do
    def waits(future, name):
        got = yield Safe(Wait(future))
        log.append((name, got.is_ok()))

    @do
    def member(future):
        try:
            yield Gather(Wait(future), Delay(50), Gather(Delay(60), Delay(70)))
        finally:
            log.append("gather over")

    @do
    def main():
        promise = yield CreatePromise()
        tasks = []
        for name in "abc":
            tasks.append((yield Spawn(waits(promise.future, name))))
        tasks.append((yield Spawn(Safe(member(promise.future)))))
        yield Delay(1)
        if settle == "complete":
            thing = Dying(lambda: old(promise.complete, 1))
        else:
            thing = Dying(lambda: old(promise.fail, ValueError()))
        program = place(thing)
        del thing
        yield program
        del program
        gc.collect()
        assert promise.is_completed
        return (yield Gather(*tasks)) and promise.value

    got = value(main(), store=START)
    right = settle == "complete"
    assert got == (1 if right else None)
    assert [entry for entry in log if entry != "gather over"] == [
        (name, right) for name in "abc"
    ]
    assert log.count("gather over") == 1


def test_an_old_method_shows_the_outcome_at_once():
    @do
    def main():
        promise = yield CreatePromise()
        old(promise.complete, 1)
        shown = promise.is_completed, promise.value
        with pytest.raises(RuntimeError):
            old(promise.complete, 2)
        return shown, (yield Wait(promise.future)), (yield Gather(promise.future))

    assert value(main()) == ((True, 1), 1, [1])


def test_an_old_method_as_the_run_ends():
    log = []

    @do
    def waits(promise):
        log.append((yield Wait(promise.future)))

    @do
    def main():
        promise = yield CreatePromise()
        yield Spawn(waits(promise))
        yield Delay(1)
        old(promise.complete, 1)

    value(main(), store=START)
    assert log == [1]


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers of signals")
def test_an_old_method_called_by_a_signal_handler_wakes_an_idle_run():
    held = []

    def handler(*_):
        old(held[0].complete, "signal")

    @do
    def main():
        promise = yield CreatePromise()
        held.append(promise)
        sleeper = yield Spawn(Delay(60))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        got = yield Wait(promise.future)
        yield Cancel(sleeper)
        return got

    before = signal.signal(signal.SIGALRM, handler)
    try:
        assert value(main()) == "signal"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_an_old_method_called_by_a_callback_of_the_loop_wakes_a_parked_run():
    @do
    def main():
        promise = yield CreatePromise()
        sleeper = yield Spawn(Delay(60))
        asyncio.get_running_loop().call_later(0.01, old, promise.complete, "callback")
        got = yield Wait(promise.future)
        yield Cancel(sleeper)
        return got

    result = asyncio.run(async_run(main(), async_handlers_preset))
    assert result.value == "callback"


# --- wait handlers -------------------------------------------------------------------------


@pytest.mark.parametrize("old_method", [False, True])
def test_what_arrives_while_a_wait_handler_is_at_work_is_not_lost(old_method):
    """One handler's effect is answered by another: between the two the run looks outside."""
    held, calls = [], []

    @do
    def passes_on(effect: WaitForExternalCompletion, ctx: HandlerContext):
        return (yield effect)

    @do
    def completes(effect: WaitForExternalCompletion, ctx: HandlerContext):
        calls.append(effect.queue.empty())
        if len(calls) == 1:
            old(held[0].complete, 7)
        calls.append(effect.queue.empty())
        return (yield effect)

    @do
    def main():
        promise = yield CreatePromise() if old_method else CreateExternalPromise()
        held.append(promise)
        sleeper = yield Spawn(Delay(60))
        got = yield Wait(promise.future)
        yield Cancel(sleeper)
        return got

    at = sync_handlers_preset.index(sync_external_wait_handler) + 1
    handlers = [
        *sync_handlers_preset[:at],
        passes_on,
        passes_on,
        completes,
        *sync_handlers_preset[at:],
    ]
    assert sync_run(main(), handlers).value == 7
    assert calls == [True, False]


# --- callbacks that raise -----------------------------------------------------------------


@pytest.fixture
def unraisable(monkeypatch):
    kinds = []
    monkeypatch.setattr(sys, "unraisablehook", lambda what: kinds.append(what.exc_type))
    return kinds


@do
def waits_touchily(kind, times=1):
    promises = []
    for _ in range(times):
        promises.append((yield CreateExternalPromise()))
        promises[-1].on_cancel(lambda: 1 / 0)
    if kind == "wait":
        yield Wait(promises[0])
    elif kind == "race":
        yield Race(*promises)
    else:
        yield Gather(*promises)


@pytest.mark.parametrize("how", [Cancel, Discard])
@pytest.mark.parametrize("kind", ["wait", "race", "gather"])
def test_the_canceller_gets_all_that_callbacks_raise(how, kind, unraisable):
    times = 1 if kind == "wait" else 3

    @do
    def main():
        task = yield Spawn(waits_touchily(kind, times))
        other = yield Spawn(Delay(9))
        yield Delay(0.01)
        caught = yield Safe(how(task))
        return caught.error, (yield other.cancel())

    error, cancelled = value(main())
    assert isinstance(error, ExternalPromiseCancelCallbackError)
    assert [type(e) for e in error.errors] == [ZeroDivisionError] * times
    assert cancelled is True
    assert unraisable == []


def by_timeout():
    return Safe(Timeout(0.01, waits_touchily("wait")))


def by_failing_gather():
    return Safe(Gather(waits_touchily("wait"), fails_with(None, Delay(0.01))))


@do
def by_failing_scope():
    @do
    def body():
        yield Spawn(waits_touchily("wait"))
        yield fails_with(None, Delay(0.01))

    yield Safe(Scope(body()))


@pytest.mark.parametrize("ends", [by_timeout, by_failing_gather, by_failing_scope])
def test_without_a_canceller_nobody_else_gets_it(ends, unraisable):
    @do
    def main():
        other = yield Spawn(Delay(9))
        yield ends()
        return (yield other.cancel())

    assert value(main()) is True
    assert unraisable == [ZeroDivisionError]


def test_at_the_end_of_a_run_nobody_else_gets_it(unraisable):
    """A task that the end cancels cancels others in its cleanup: it is told of theirs only."""
    log = []

    @do
    def cancels(task):
        try:
            yield Delay(9)
        finally:
            log.append((yield Safe(Cancel(task))))

    @do
    def main():
        other = yield Spawn(Delay(9), daemon=True)
        yield Spawn(waits_touchily("wait"), daemon=True)
        yield Spawn(cancels(other), daemon=True)
        yield Delay(0.01)

    value(main())
    assert [result.is_ok() for result in log] == [True]
    assert unraisable == [ZeroDivisionError]


# --- runs inside ---------------------------------------------------------------------------


def test_a_run_started_by_a_finalizer_and_by_a_callback():
    seen = []

    def starts():
        seen.append(value(Gather(Pure(1), Get("x")), store={"x": 2}))

    @do
    def child(thing):
        promise = yield CreateExternalPromise()
        promise.on_cancel(starts)
        yield Wait(promise)

    @do
    def main():
        task = yield Spawn(child(Dying(starts)))
        yield Delay(0.01)
        yield Cancel(task)
        yield Safe(Wait(task))
        return (yield Ask("a"))

    assert value(main(), env={"a": 3}) == 3
    gc.collect()
    assert seen == [[1, 2], [1, 2]]
