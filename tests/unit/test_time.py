"""Delay, WaitUntil, GetTime and the controlled clock: contract/concurrency.md 3."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction

import pytest

from doeff import (
    PRIORITY_IDLE,
    CreateExternalPromise,
    Delay,
    Gather,
    Get,
    GetTime,
    Local,
    Put,
    Race,
    Safe,
    Spawn,
    Wait,
    WaitUntil,
    WithHandler,
    _clock,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.types import EffectBase

NOON = datetime(2024, 1, 1, 12)


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def value(program, **kw):
    return run(program, **kw).value


def on_clock(program, clock=NOON):
    return value(program, store={"__current_time__": clock})


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


@do
def sleeper(seconds, name, log):
    yield Delay(seconds)
    log.append(name)


def test_ti_1_delays_overlap():
    log = []

    @do
    def main():
        start = yield GetTime()
        yield Gather(sleeper(3, "c", log), sleeper(1, "a", log), sleeper(2, "b", log))
        return (yield GetTime()) - start

    assert on_clock(main()) == timedelta(seconds=3)
    assert log == ["a", "b", "c"]


def test_ti_1_and_ti_3_on_the_real_clock_never_early():
    log = []

    @do
    def main():
        tasks = []
        for name, seconds in (("c", 0.03), ("b", 0.02), ("a", 0.01)):
            tasks.append((yield Spawn(sleeper(seconds, name, log))))
        yield Gather(*tasks)

    start = time.monotonic()
    run(main())
    assert time.monotonic() - start >= 0.03
    assert log == ["a", "b", "c"]


def test_ti_3_also_while_others_never_block():
    log = []

    @do
    def main():
        task = yield Spawn(sleeper(0.001, "woken", log))
        while not (yield task.is_done()):
            yield Put("k", 1)

    run(main())
    assert log == ["woken"]


def test_ti_4_equal_deadlines_in_order_of_registration():
    log = []

    @do
    def main():
        yield Gather(*[sleeper(5, n, log) for n in range(50)])

    on_clock(main())
    assert log == list(range(50))


def test_ti_5_arguments():
    for wrong in (-1, float("nan"), float("inf"), float("-inf"), -0.5):
        with pytest.raises(ValueError):
            Delay(wrong)
    for wrong in ("1", None, [], 1j):
        with pytest.raises(TypeError):
            Delay(wrong)
    with pytest.raises(TypeError):
        WaitUntil(5)

    class Seconds:
        def __float__(self):
            return 2.0

    @do
    def main():
        start = yield GetTime()
        yield Delay(Seconds())
        yield Delay(Fraction(1, 2))
        yield Delay(True)
        return ((yield GetTime()) - start).total_seconds()

    assert on_clock(main()) == 3.5


@pytest.mark.parametrize("huge", [1e30, 10**400, 1e299, 2**63])
def test_ti_5_huge_values_do_not_overflow(huge):
    @do
    def main():
        task = yield Spawn(Delay(huge))
        yield turns(2)
        done = yield task.is_done()
        yield task.cancel()
        return done

    assert value(main()) is False
    assert on_clock(main()) is False


def test_ti_6_a_delay_of_nothing_ends_the_turn():
    order = []

    @do
    def child():
        order.append("child")
        yield Put("k", 1)

    @do
    def main():
        yield Spawn(child())
        order.append("before")
        yield Delay(0)
        order.append("after")
        yield Spawn(child())
        yield WaitUntil(NOON - timedelta(days=1))
        order.append("past")

    on_clock(main())
    assert order == ["before", "child", "after", "child", "past"]


def test_ti_7_a_cancelled_delay_leaves():
    @do
    def main():
        tasks = []
        for n in range(200):
            tasks.append((yield Spawn(Delay(1000 + n))))
        yield Delay(1)
        for task in tasks[::2]:
            yield task.cancel()
        for task in tasks[1::4]:
            yield task.cancel()
        start = yield GetTime()
        yield Race(*[task for i, task in enumerate(tasks) if i % 4 == 3])
        return ((yield GetTime()) - start).total_seconds()

    assert on_clock(main()) == 1002


def test_ti_8_naive_and_aware_targets():
    @do
    def until(target):
        yield WaitUntil(target)
        return (yield GetTime())

    target = NOON + timedelta(hours=1)
    assert on_clock(until(target)) == target
    aware = datetime(2024, 1, 1, tzinfo=UTC)
    later = datetime(2024, 1, 1, 3, tzinfo=timezone(timedelta(hours=1)))
    assert on_clock(until(later), aware) == later
    assert on_clock(until(target.astimezone())) == target


def test_ti_8_on_the_wall_clock():
    @do
    def main():
        target = datetime.now() + timedelta(milliseconds=5)
        yield WaitUntil(target)
        late = datetime.now() >= target
        target = datetime.now(UTC) + timedelta(milliseconds=5)
        yield WaitUntil(target)
        return late and datetime.now(UTC) >= target

    assert value(main())


def test_ti_9_get_time():
    before = datetime.now()
    now = value(GetTime())
    assert before <= now <= datetime.now()
    assert now.tzinfo is None
    assert on_clock(GetTime()) == NOON


def test_ti_10_the_store_shows_the_clock_in_every_task():
    @do
    def child():
        yield Delay(60)
        return (yield Get("__current_time__"))

    @do
    def main():
        task = yield Spawn(child())
        there = yield Wait(task)
        return there, (yield Get("__current_time__"))

    result = run(main(), store={"__current_time__": NOON})
    minute = NOON + timedelta(seconds=60)
    assert result.value == (minute, minute)
    assert result.raw_store["__current_time__"] == minute


def test_ti_10_putting_it_sets_the_clock_for_all():
    log = []

    @do
    def child():
        yield Delay(100)
        log.append((yield GetTime()))

    @do
    def main():
        yield Put("__current_time__", NOON)
        task = yield Spawn(child())
        yield Delay(1)
        yield Put("__current_time__", NOON + timedelta(days=1))  # beyond its deadline
        yield Wait(task)
        return (yield GetTime())

    assert value(main()) == NOON + timedelta(days=1)
    assert log == [NOON + timedelta(days=1)]


def test_ti_10_put_by_another_task_while_delays_run():
    @do
    def puts():
        yield Put("__current_time__", NOON)

    @do
    def main():
        task = yield Spawn(Delay(3600))
        yield Spawn(puts())
        yield Wait(task)
        return (yield GetTime())

    woken = value(main()) - NOON  # what had passed on the real clock before counts
    assert timedelta(minutes=59) < woken <= timedelta(hours=1)


def test_ti_10_a_number_is_a_clock_as_well():
    @do
    def main():
        yield Delay(2.5)
        return (yield GetTime())

    assert on_clock(main(), 100) == 102.5


def test_ti_10_it_stands_still_while_a_task_is_ready():
    @do
    def busy():
        seen = set()
        for _ in range(50):
            yield Put("k", 1)
            seen.add((yield GetTime()))
        return seen

    @do
    def main():
        task = yield Spawn(busy())
        yield Delay(1)
        return (yield Wait(task))

    assert on_clock(main()) == {NOON}


def test_ti_10_outside_work_holds_it():
    log = []

    @do
    def main():
        e = yield CreateExternalPromise()
        yield Spawn(sleeper(3600, "timer", log), daemon=True)

        @do
        def waits():
            log.append((yield Wait(e)))

        import threading

        task = yield Spawn(waits())
        yield turns(3)
        thread = threading.Thread(target=lambda: e.complete("outside"))
        thread.start()
        yield Wait(task)
        thread.join()
        yield Delay(7200)

    on_clock(main())
    assert log == ["outside", "timer"]


def test_ti_10_idle_waits_do_not_hold_it():
    @do
    def main():
        e = yield CreateExternalPromise()
        listener = yield Spawn(Wait(e, priority=PRIORITY_IDLE))
        yield Delay(3600)
        yield listener.cancel()
        return (yield GetTime())

    assert on_clock(main()) == NOON + timedelta(hours=1)


def test_ti_10_what_is_no_time_is_answered_as_stored():
    @do
    def main():
        yield Put("__current_time__", "teatime")
        first = yield GetTime()
        yield Delay(0.001)
        return first

    assert value(main()) == "teatime"


def test_ti_10_centuries():
    @do
    def main():
        for year in (1, 9999, 1, 9999, 5000):
            yield Put("__current_time__", datetime(year, 6, 1))
            yield Delay(1)
        return (yield GetTime())

    assert value(main()) == datetime(5000, 6, 1, 0, 0, 1)


def test_ti_10_the_end_of_the_calendar():
    @do
    def main():
        return (yield Safe(Delay(10**9)))

    error = on_clock(main(), datetime(9999, 12, 31)).error
    assert isinstance(error, OverflowError)


def test_ti_11_an_inner_handler_replaces_the_clock():
    delays = []

    @do
    def fake(effect, ctx):
        if isinstance(effect, type(Delay(1))):
            delays.append(effect.seconds)
            return None
        if isinstance(effect, type(GetTime())):
            return "fake"
        return (yield effect)

    @do
    def main():
        yield Delay(1000)
        return (yield GetTime())

    assert value(WithHandler(fake, Local({}, main()))) == "fake"
    assert delays == [1000]
    assert isinstance(Delay(1), EffectBase)


@pytest.mark.deep
def test_ro_5_100_000_delays():
    log = []

    @do
    def one(n):
        yield Delay(1)
        log.append(n)

    @do
    def main():
        tasks = []
        for n in range(100_000):
            tasks.append((yield Spawn(one(n))))
        yield Gather(*tasks)
        for n in range(100_000):
            tasks[n] = yield Spawn(one(n))
        yield Delay(0.5)
        for task in tasks:
            yield task.cancel()

    on_clock(main())
    assert log == list(range(100_000))


def test_ti_4_equal_times_of_day_in_registration_order():
    log = []

    @do
    def waits(n, target):
        yield WaitUntil(target)
        log.append(n)

    @do
    def main():
        target = datetime.now() + timedelta(seconds=0.1)
        yield Gather(*[waits(n, target) for n in range(300)])
        assert datetime.now() >= target

    value(main())
    assert log == list(range(300))


@pytest.mark.parametrize("hours", [2, -2])
def test_a_time_of_day_is_awaited_on_the_clock_that_is_put_meanwhile(hours):
    now = datetime.now()
    log = []

    @do
    def waits(target):
        yield WaitUntil(target)
        log.append((target, (yield GetTime())))

    @do
    def main():
        tasks = []
        for hour in (3, 1):
            tasks.append((yield Spawn(waits(now + timedelta(hours=hour)))))
        sleeping = yield Spawn(Delay(60))
        yield turns(3)
        yield Put("__current_time__", now + timedelta(hours=hours))
        yield Wait(sleeping)
        yield Gather(*tasks)

    value(main())
    first, last = now + timedelta(hours=1), now + timedelta(hours=3)
    assert log == [(first, max(first, now + timedelta(hours=hours))), (last, last)]


class Daylight(tzinfo):
    """An hour ahead from 2 o'clock on 31 March 2024."""

    def dst(self, moment):
        spring = datetime(2024, 3, 31, 2)
        return timedelta(hours=1 if moment.replace(tzinfo=None) >= spring else 0)

    def utcoffset(self, moment):
        return self.dst(moment)

    def tzname(self, moment):
        return "daylight"


def test_daylight_saving_time_begins_during_a_wait():
    zone = Daylight()
    evening = datetime(2024, 3, 30, 20, tzinfo=zone)
    morning = datetime(2024, 3, 31, 8, tzinfo=zone)

    @do
    def main():
        sooner = yield Spawn(Delay(11 * 3600 - 1))  # the night is an hour shorter
        later = yield Spawn(Delay(11 * 3600 + 1))
        yield WaitUntil(morning)
        done = (yield sooner.is_done()), (yield later.is_done())
        yield later.cancel()
        return done, (yield GetTime()).isoformat()

    assert on_clock(main(), evening) == ((True, False), morning.isoformat())


def test_daylight_saving_time_and_the_wall_clock(monkeypatch):
    zone = Daylight()
    moment = datetime(2024, 3, 31, 1, 59, 59, 950_000, tzinfo=zone).astimezone(UTC)
    begun = time.monotonic()

    def wall():
        return _clock.instant(moment) + int((time.monotonic() - begun) * 1e9)

    monkeypatch.setattr(_clock, "wall", wall)
    three = datetime(
        2024, 3, 31, 3, 0, 0, 50_000, tzinfo=zone
    )  # an hour that is not there is between
    value(WaitUntil(three))
    assert 0.1 <= time.monotonic() - begun < 30


def test_an_error_of_the_target_is_raised_where_it_is_awaited():
    looks = []

    class Fails(tzinfo):
        def utcoffset(self, moment):
            if looks:
                raise ZeroDivisionError
            return timedelta(0)

        dst = utcoffset

    target = datetime.now(UTC).replace(tzinfo=Fails()) + timedelta(milliseconds=20)

    @do
    def main():
        task = yield Spawn(WaitUntil(target))
        yield turns(2)
        looks.append("later")
        return (yield Safe(Wait(task))).error

    assert isinstance(value(main()), ZeroDivisionError)


@pytest.mark.parametrize("hours", [1, -1])
def test_ti_8_the_wall_clock_is_set_during_a_wait(monkeypatch, hours):
    class Simulated(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self):
            return self.now

        def _run_once(self):
            if not self._ready and self._scheduled:
                self.now = max(self.now, self._scheduled[0].when())
            super()._run_once()

    loop = Simulated()
    begun = _clock.wall()

    def wall():
        return begun + int(1e9 * (loop.now + (hours * 3600 if loop.now > 100 else 0)))

    monkeypatch.setattr(_clock, "wall", wall)
    target = _clock._EPOCH + timedelta(microseconds=begun / 1000, hours=3)
    log = []

    @do
    def waits(name):
        yield WaitUntil(target)
        log.append((name, loop.now))

    @do
    def main():
        first = yield Spawn(waits("first"))
        yield turns(2)
        yield Delay(50)
        yield Gather(waits("second"), waits("third"), first)

    try:
        loop.run_until_complete(async_run(main(), async_handlers_preset))
    finally:
        loop.close()
    names, times = zip(*log, strict=True)
    assert names == ("first", "second", "third")
    due = (3 - hours) * 3600
    assert all(due <= moment < due + 60 for moment in times)
