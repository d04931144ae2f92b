"""What a run does once, however many tasks ask: lazy bindings, cached functions (S9, S10, contract 2.4)."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from doeff import (
    Ask,
    CircularAskError,
    Delay,
    Discard,
    Gather,
    GetTime,
    Local,
    Put,
    Safe,
    Spawn,
    TaskCancelledError,
    Wait,
    cache,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import core_handler

START = datetime(2020, 1, 1)


def run(program, **env):
    """On a controlled clock: delays take no time."""
    return sync_run(program, sync_handlers_preset, env, {"__current_time__": START})


class Counted:
    def __init__(self):
        self.times = 0

    @do
    def slowly(self, failures=0):
        self.times += 1
        turn = self.times
        yield Delay(1)
        if turn <= failures:
            raise ValueError(turn)
        return turn


@do
def ask(key):
    return (yield Ask(key))


def test_tasks_that_ask_together_share_one_evaluation():
    counted = Counted()

    @do
    def main():
        return (yield Gather(Spawn(ask("x")), Spawn(ask("x")), ask("x"), Ask("x")))

    assert run(main(), x=counted.slowly()).value == [1, 1, 1, 1]
    assert counted.times == 1


def test_a_failed_evaluation_is_taken_up_by_the_next_in_line():
    counted = Counted()

    @do
    def main():
        return (yield Gather(*[Spawn(Safe(ask("x"))) for _ in range(4)]))

    outcomes = run(main(), x=counted.slowly(2)).value
    assert [o.is_ok() for o in outcomes] == [False, False, True, True]
    assert [o.value for o in outcomes[2:]] == [3, 3]


@pytest.mark.parametrize("end", [Discard, lambda task: task.cancel()])
def test_who_waits_for_an_evaluation_that_is_killed_does_it(end):
    counted = Counted()

    @do
    def main():
        first = yield Spawn(ask("x"))
        second = yield Spawn(ask("x"))
        yield Delay(0.5)
        yield end(first)
        return (yield Wait(second))

    assert run(main(), x=counted.slowly()).value == 2


def test_one_program_under_two_keys_is_no_circle_and_no_wait():
    counted = Counted()
    program = counted.slowly()

    @do
    def through():
        return (yield Ask("y"))

    @do
    def main():
        return (yield Gather(Spawn(ask("x")), Spawn(Local({"x": program}, ask("x")))))

    assert run(main(), x=program, y=program).value == [1, 1]
    assert run(Ask("z"), z=through(), y=program).value == 2


def test_a_real_circle_is_still_one_beside_other_tasks():
    @do
    def circle():
        yield Delay(1)
        return (yield Ask("x"))

    @do
    def main():
        return (yield Gather(*[Spawn(Safe(ask("x"))) for _ in range(2)]))

    outcomes = run(main(), x=circle()).value
    assert [type(o.error) for o in outcomes] == [CircularAskError, CircularAskError]


def test_concurrent_misses_of_a_cached_function_compute_once():
    calls = []

    @cache(ttl=60)
    @do
    def double(x):
        calls.append(x)
        yield Delay(1)
        return x * 2

    @do
    def main():
        values = yield Gather(*[Spawn(double(i % 2)) for i in range(6)])
        return values, (yield double(1))

    assert run(main()).value == ([0, 2, 0, 2, 0, 2], 2)
    assert calls == [0, 1]


def test_a_cached_none_is_a_value_and_a_failure_is_not():
    calls = []

    @cache(ttl=60)
    @do
    def flaky():
        calls.append(1)
        yield Delay(1)
        if len(calls) < 3:
            raise ValueError
        return None

    @do
    def main():
        return (yield Gather(*[Spawn(Safe(flaky())) for _ in range(5)]))

    outcomes = run(main()).value
    assert [o.is_ok() for o in outcomes] == [False, False, True, True, True]
    assert len(calls) == 3


def test_gather_without_a_scheduler_runs_in_sequence_on_one_store():
    """GA-7"""

    @do
    def step(i):
        seen = yield Ask("log")
        seen.append(i)
        return i

    seen = []
    result = sync_run(Gather(step(1), step(2), step(3)), [core_handler], {"log": seen})
    assert result.value == [1, 2, 3]
    assert seen == [1, 2, 3]


def test_putting_the_clock_controls_time_from_then_on():
    """TI-10"""

    @do
    def main():
        yield Put("__current_time__", START)
        yield Delay(86400)
        yield Put("__current_time__", START)
        yield Delay(60)
        return (yield GetTime())

    assert sync_run(main(), sync_handlers_preset).value == START + timedelta(seconds=60)


def test_safe_does_not_keep_a_task_from_being_cancelled():
    """CA-7"""
    passed = []

    @do
    def stubborn():
        yield Safe(Delay(10))
        passed.append(1)

    @do
    def main():
        task = yield Spawn(stubborn())
        yield Delay(1)
        yield task.cancel()
        return (yield Safe(Wait(task)))

    assert isinstance(run(main()).value.error, TaskCancelledError)
    assert passed == []
