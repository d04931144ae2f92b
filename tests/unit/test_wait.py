"""Wait, Gather and Race: contract/concurrency.md 1.4, 1.5 and 1.6."""

from __future__ import annotations

import threading
from datetime import datetime
from itertools import pairwise

import pytest

from doeff import (
    PRIORITY_IDLE,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    FailPromise,
    Future,
    Gather,
    Get,
    GetTime,
    Pure,
    Put,
    Race,
    RaceResult,
    Safe,
    SchedulerDeadlockError,
    Spawn,
    Task,
    TaskCancelledError,
    Wait,
    Waitable,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import core_handler

NOON = datetime(2024, 1, 1, 12)


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def value(program, **kw):
    return run(program, **kw).value


def on_clock(program):
    return value(program, store={"__current_time__": NOON})


@do
def after(seconds, result):
    yield Delay(seconds)
    if isinstance(result, Exception):
        raise result
    return result


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


# ---- what can be waited for ----


def test_waitables():
    @do
    def main():
        promise = yield CreatePromise()
        external = yield CreateExternalPromise()
        task = yield Spawn(Pure(1))
        assert isinstance(task, Task)
        assert isinstance(promise.future, Future)
        for thing in (task, promise.future, external):
            assert isinstance(thing, Waitable)
        assert not isinstance(promise, Waitable)
        with pytest.raises(TypeError, match="future"):
            Wait(promise)
        external.complete(2)
        return (
            (yield Wait(waitable=task)),
            (yield Wait(external)),
            (yield Wait(external.future)),
        )

    assert value(main()) == (1, 2, 2)


def test_anything_with_a_handle():
    class Wrapped:
        def __init__(self, thing):
            self.thing = thing

        @property
        def _handle(self):
            return self.thing._handle

    @do
    def main():
        task = yield Spawn(Pure(1))
        once = Wrapped(task)
        twice = Wrapped(once)
        raced = yield Race(twice, once)
        return (yield Wait(once)), (yield Gather(once, twice)), raced.first is twice

    assert value(main()) == (1, [1, 1], True)


def test_wrong_handles():
    class Own:
        @property
        def _handle(self):
            return self

    class Raises:
        @property
        def _handle(self):
            raise KeyError("handle")

    for wrong in (5, None, Own(), Pure(1), Spawn(Pure(1))):
        for make in (Wait, Race):
            with pytest.raises(TypeError):
                make(wrong)
    for make in (Wait, Race, Gather):
        with pytest.raises(KeyError):
            make(Raises())
    with pytest.raises(TypeError, match=r"\b1\b"):
        Gather(Pure(1), 5)
    with pytest.raises(ValueError):
        Race()


def test_a_handle_that_changes_its_mind():
    class Fickle:
        def __init__(self, *things):
            self.things = list(things)

        @property
        def _handle(self):
            thing = self.things[0]
            if len(self.things) > 1:
                del self.things[0]
            return thing._handle

    @do
    def other():
        return (yield Spawn(Pure(1)))

    foreign = value(other())

    @do
    def main():
        mine = yield CreatePromise()
        errors = []
        for n in (1, 2, 3, 4):
            for make in (Wait, Gather, Race):
                thing = Fickle(*[mine.future] * n, foreign)
                errors.append(type((yield Safe(make(thing))).error))
        return set(errors)

    assert value(main()) <= {ValueError, SchedulerDeadlockError}


# ---- 1.4 ----


def test_wa_1_any_number_of_waiters_and_again_after_the_end():
    @do
    def main():
        task = yield Spawn(after(1, "x"))
        waiters = []
        for _ in range(5):
            waiters.append((yield Spawn(Wait(task))))
        return (yield Gather(*waiters)), (yield Wait(task)), (yield Wait(task))

    assert on_clock(main()) == (["x"] * 5, "x", "x")


def test_wa_2_the_same_exception_from_the_same_traceback():
    error = KeyError("k")

    def depth(tb):
        n = 0
        while tb is not None:
            tb, n = tb.tb_next, n + 1
        return n

    @do
    def main():
        task = yield Spawn(after(1, error))
        depths = []
        for _ in range(20):
            try:
                yield Wait(task)
            except KeyError as caught:
                assert caught is error
                depths.append(depth(caught.__traceback__))
        return depths

    depths = on_clock(main())
    assert len(set(depths)) == 1


def test_wa_3_a_cancelled_task():
    @do
    def main():
        task = yield Spawn(Wait((yield CreatePromise()).future))
        yield turns(2)
        yield task.cancel()
        with pytest.raises(TaskCancelledError):
            yield Wait(task)
        return True

    assert value(main())


@pytest.mark.parametrize("how", ["wait", "gather", "race", "mixed"])
def test_wa_4_waiting_for_oneself(how):
    @do
    def child(box, p):
        me = box[0]
        wait = {
            "wait": lambda: Wait(me),
            "gather": lambda: Gather(Pure(1), me),
            "race": lambda: Race(me, me),
            "mixed": lambda: Race(me, p.future),
        }[how]()
        return (yield Safe(wait))

    @do
    def main():
        box = []
        p = yield CreatePromise()
        yield Spawn(Pure(1))
        box.append((yield Spawn(child(box, p))))
        yield turns(3)
        if how == "mixed":
            yield FailPromise(p, KeyError())
        return (yield Wait(box[0]))

    error = value(main()).error
    assert isinstance(error, KeyError if how == "mixed" else SchedulerDeadlockError)


def test_wa_5_a_handle_of_another_run():
    @do
    def other():
        return (
            (yield Spawn(Pure(1))),
            (yield CreatePromise()),
            (yield CreateExternalPromise()),
        )

    task, promise, external = value(other())

    @do
    def main():
        errors = []
        for effect in (
            Wait(task),
            Wait(promise.future),
            Wait(external),
            Gather(task),
            Race(task),
            task.cancel(),
            task.is_done(),
            FailPromise(promise, KeyError()),
        ):
            errors.append((yield Safe(effect)).error)
        return errors

    assert {type(e) for e in value(main())} == {ValueError}


# ---- 1.5 ----


def test_ga_1_empty_repeated_none():
    @do
    def main():
        task = yield Spawn(Pure(None))
        return (yield Gather()), (yield Gather(task, task, Pure(None)))

    assert value(main()) == ([], [None, None, None])


def test_ga_2_mixed_items():
    @do
    def writes(key):
        yield Put(key, 1)
        return (yield Get("k"))

    @do
    def main():
        yield Put("k", 0)
        task = yield Spawn(after(0, "task"))
        promise = yield CreateExternalPromise()
        promise.complete("promise")
        result = yield Gather(
            writes("member"), Spawn(writes("spawned")), task, promise, Get("k"), Pure(5)
        )
        return result, (yield Safe(Get("spawned"))).is_err(), (yield Get("member"))

    assert value(main()) == ([0, 0, "task", "promise", 0, 5], True, 1)


def test_ga_3_all_items_make_progress():
    @do
    def main():
        start = yield GetTime()
        values = yield Gather(after(1, "a"), after(1, "b"), Delay(1))
        return values, ((yield GetTime()) - start).total_seconds()

    assert on_clock(main()) == (["a", "b", None], 1)


def test_ga_4_the_first_failure_in_time():
    @do
    def main():
        return (
            yield Safe(
                Gather(after(3, KeyError(3)), after(1, KeyError(1)), after(2, "x"))
            )
        )

    assert on_clock(main()).error.args == (1,)


def test_ga_4_of_several_already_failed_the_lowest_index():
    @do
    def main():
        late = yield Spawn(after(2, KeyError("late")))
        early = yield Spawn(after(1, KeyError("early")))
        yield Delay(5)
        cancelled = yield Spawn(Pure(1))
        yield cancelled.cancel()
        first = yield Safe(Gather(after(1, 1), late, early))
        second = yield Safe(Gather(cancelled, late))
        return first.error.args, type(second.error)

    assert on_clock(main()) == (("late",), TaskCancelledError)


def test_ga_5_handles_go_on():
    @do
    def main():
        slow = yield Spawn(after(5, "slow"))
        failed = yield Safe(Gather(slow, after(1, KeyError())))
        return failed.is_err(), (yield Wait(slow))

    assert on_clock(main()) == (True, "slow")


def test_ga_6_members_do_not_survive():
    log = []

    @do
    def member(name):
        log.append(name)
        try:
            yield Delay(100)
        finally:
            yield Put("k", name)
            yield Delay(10)
            log.append(name + "!")

    @do
    def fails():
        yield Delay(1)
        raise KeyError("k")

    @do
    def main():
        try:
            yield Gather(member("a"), fails(), member("b"))
        except KeyError:
            log.append("raised")
        return (yield Get("k"))

    assert on_clock(main()) == "b"
    assert log == ["a", "b", "a!", "b!", "raised"]


def test_ga_6_members_that_never_started_are_dropped():
    log = []

    @do
    def fails():
        log.append("fails")
        raise KeyError("k")
        yield

    @do
    def never():
        log.append("never")
        yield Pure(None)

    @do
    def main():
        return (yield Safe(Gather(fails(), never(), never()))).is_err()

    assert value(main())
    assert log == ["fails"]


def test_ga_6_when_the_caller_is_cancelled():
    log = []

    @do
    def member(name):
        try:
            yield Delay(100)
        finally:
            yield Put("k", name)
            log.append(name)

    @do
    def caller():
        try:
            yield Gather(member("a"), member("b"))
        finally:
            log.append((yield Get("k")))

    @do
    def main():
        task = yield Spawn(caller())
        yield Delay(1)
        yield task.cancel()
        return (yield Safe(Wait(task))).error

    assert isinstance(on_clock(main()), TaskCancelledError)
    assert log == ["a", "b", "b"]


def test_ga_6_a_member_that_cancels_its_gatherer():
    log = []

    @do
    def member(box):
        try:
            yield turns(1)
            yield box[0].cancel()
            log.append("not here")
        finally:
            yield Put("k", 1)
            log.append("member")

    @do
    def caller(box):
        try:
            yield Gather(member(box), Wait((yield CreatePromise()).future))
        finally:
            log.append("caller")

    @do
    def main():
        box = []
        box.append((yield Spawn(caller(box))))
        return (yield Safe(Wait(box[0]))).error

    assert isinstance(value(main()), TaskCancelledError)
    assert log == ["member", "caller"]


def test_ga_7_without_a_scheduler_in_sequence_on_the_shared_store():
    @do
    def adds():
        n = yield Get("n")
        yield Put("n", n + 1)
        return n

    result = sync_run(Gather(adds(), adds(), adds()), [core_handler], store={"n": 0})
    assert (result.value, result.raw_store["n"]) == ([0, 1, 2], 3)


# ---- 1.6 ----


def test_ra_1_any_waitables_and_no_programs():
    @do
    def main():
        task = yield Spawn(after(5, 1))
        promise = yield CreatePromise()
        external = yield CreateExternalPromise()
        external.complete("e")
        return (yield Race(task, promise.future, external)).value

    assert value(main(), store={"__current_time__": NOON}) == "e"
    with pytest.raises(TypeError, match="Spawn"):
        Race(Pure(1))


def test_ra_2_first_wins_and_rest_is_in_order():
    @do
    def main():
        a, b, c = (
            (yield Spawn(after(3, "a"))),
            (yield Spawn(after(1, "b"))),
            (yield Spawn(after(2, "c"))),
        )
        result = yield Race(a, b, c)
        assert isinstance(result, RaceResult)
        assert result.first is b
        assert result.rest == (a, c)
        first, won, rest = result
        yield Delay(10)
        again = yield Race(c, a, b)
        return won, (first, rest) == (b, (a, c)), again.value

    assert on_clock(main()) == ("b", True, "c")


def test_ra_3_the_winners_failure_is_raised_and_losers_run_on():
    log = []

    @do
    def slow():
        yield Delay(5)
        log.append("slow")
        return "slow"

    @do
    def main():
        loser = yield Spawn(slow())
        failing = yield Spawn(after(1, KeyError("k")))
        raced = yield Safe(Race(loser, failing))
        cancelled = yield Spawn(slow())
        yield cancelled.cancel()
        second = yield Safe(Race(loser, cancelled))
        return type(raced.error), type(second.error), (yield Wait(loser))

    assert on_clock(main()) == (KeyError, TaskCancelledError, "slow")
    assert log == ["slow"]


def test_ra_4_a_withdrawn_race_leaves_nothing_behind():
    woken = []

    @do
    def racer(*things):
        while True:
            try:
                woken.append((yield Race(*things)).value)
                return
            except TaskCancelledError:
                woken.append("cancelled")
                yield Delay(50)

    @do
    def main():
        loser = yield Spawn(after(5, "loser"))
        task = yield Spawn(racer(loser, (yield CreatePromise()).future))
        yield Delay(1)
        yield task.cancel()
        yield Delay(10)
        assert woken == ["cancelled"]
        yield Delay(100)
        return woken

    assert on_clock(main()) == ["cancelled", "loser"]


def test_racing_what_remains_again_and_again():
    @do
    def main():
        left = []
        for i in range(30):
            left.append((yield Spawn(after((i * 7) % 30, (i * 7) % 30))))
        order = []
        while left:
            _, won, left = yield Race(*left)
            order.append(won)
        return order

    order = on_clock(main())
    assert all(a < b for a, b in pairwise(order))


@pytest.mark.deep
@pytest.mark.parametrize("end", ["value", "failure", "cancel", "drop"])
def test_ro_6_a_chain_of_100_000_waits(end):
    @do
    def link(before):
        return (yield Wait(before))

    @do
    def main():
        promise = yield CreatePromise()
        first = last = yield Spawn(Wait(promise.future), daemon=True)
        for _ in range(100_000):
            last = yield Spawn(link(last), daemon=True)
        yield turns(3)
        if end == "value":
            return (yield Gather(last, Spawn(promise_done(promise))))[0]
        if end == "failure":
            yield FailPromise(promise, KeyError("k"))
        elif end == "cancel":
            yield first.cancel()
        else:
            return None
        return type((yield Safe(Wait(last))).error)

    @do
    def promise_done(promise):
        yield CompletePromise(promise, "done")

    expected = {
        "value": "done",
        "failure": KeyError,
        "cancel": TaskCancelledError,
        "drop": None,
    }
    assert value(main()) == expected[end]


@pytest.mark.deep
def test_ro_7_gather_and_race_over_100_000_handles():
    @do
    def main():
        tasks = []
        for i in range(100_000):
            tasks.append((yield Spawn(Pure(i))))
        values = yield Gather(*tasks)
        promises = []
        for _ in range(100_000):
            promises.append((yield CreatePromise()))
        yield Spawn(FailPromise(promises[77_777], KeyError("k")))
        raced = yield Safe(Race(*[p.future for p in promises]))
        return values == list(range(100_000)), raced.error.args

    assert value(main()) == (True, ("k",))


def test_wa_2_the_traceback_is_the_same_for_waiters_that_are_answered_at_once():
    def length(error):
        traceback, n = error.__traceback__, 0
        while traceback is not None:
            traceback, n = traceback.tb_next, n + 1
        return n

    @do
    def waiter(task):
        try:
            yield Wait(task)
        except ValueError as error:
            return length(error)

    @do
    def main():
        task = yield Spawn(after(0, ValueError("once")))
        yield Safe(Wait(task))
        waiters = []
        for _ in range(20):
            waiters.append((yield Spawn(waiter(task))))
        return set((yield Gather(*waiters)))

    assert len(value(main())) == 1


def test_waiting_for_oneself_leaves_no_priority_behind():
    log = []

    @do
    def waits_outside(box):
        yield Safe(Wait(box[0], priority=PRIORITY_IDLE))
        log.append((yield Wait(box[1])))

    @do
    def sleeps():
        yield Delay(3600)
        log.append("an hour")

    @do
    def main():
        promise = yield CreateExternalPromise()
        box = [None, promise]
        box[0] = yield Spawn(waits_outside(box))
        sleeper = yield Spawn(sleeps())
        threading.Timer(0.05, promise.complete, ("outside",)).start()
        yield Gather(box[0], sleeper)

    on_clock(main())
    assert log == [
        "outside",
        "an hour",
    ]  # the clock does not jump while the outside is awaited


def test_a_wait_that_does_not_block_has_no_wake_up_priority():
    """A high task that waits for itself with a low priority stays ahead."""
    log = []

    @do
    def high(box):
        for _ in range(2):
            yield Safe(Wait(box[0], priority=0))
            log.append("high")
            yield Spawn(Put("k", 1))  # lets the run look at the queue
            yield Put("k", 1)

    @do
    def low():
        for _ in range(3):
            log.append("low")
            yield Put("k", 1)

    @do
    def main():
        box = []
        other = yield Spawn(low())
        box.append((yield Spawn(high(box), priority=20)))
        yield Gather(box[0], other)

    value(main())
    assert log == ["high", "high", "low", "low", "low"]


@pytest.mark.parametrize("wait", [Wait, Race])
def test_a_list_is_no_handle(wait):
    with pytest.raises(
        TypeError, match=r"got list \(several at once: Gather\(\*tasks\) or Race"
    ):
        wait([])
