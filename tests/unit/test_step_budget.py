"""arm_step_budget: a run that goes on and on ends."""

from __future__ import annotations

import asyncio
import pickle

import pytest

from doeff import (
    PRIORITY_HIGH,
    Await,
    Delay,
    Gather,
    Get,
    Put,
    Safe,
    Spawn,
    StepBudgetExceeded,
    Wait,
    WithHandler,
    arm_step_budget,
    async_handlers_preset,
    async_run,
    do,
    perform,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import sync_external_wait_handler
from doeff.effects import EffectBase
from doeff.testing import virtual_time


@pytest.fixture(autouse=True)
def disarmed():
    before = arm_step_budget(None)
    yield
    arm_step_budget(before)


def in_sync(program):
    return sync_run(program, sync_handlers_preset, store={"n": 0})


def in_async(program):
    return asyncio.run(async_run(program, async_handlers_preset, store={"n": 0}))


@pytest.fixture(params=[in_sync, in_async])
def run(request):
    return request.param


def exceeds(run, program, turns=50):
    arm_step_budget(turns)
    with pytest.raises(StepBudgetExceeded) as info:
        run(program)
    assert info.value.turns == turns
    return info.value


@do
def puts(n):
    for i in range(n):
        yield Put("n", i)
    return n


def test_so_many_turns_and_no_more(run):
    arm_step_budget(10)
    assert run(puts(10)).value == 10
    exceeds(run, puts(11), 10)


def test_each_run_has_its_own(run):
    arm_step_budget(10)
    for _ in range(3):
        assert run(puts(8)).value == 8


def test_nothing_is_counted_when_it_is_not_armed(run):
    assert arm_step_budget(5) is None
    assert arm_step_budget(None) == 5
    assert run(puts(5000)).value == 5000


def test_the_message_says_where(run):
    error = exceeds(run, puts(100), 7)
    assert str(error).startswith(
        "the run has not ended after 7 turns; the last one at "
    )
    assert "in puts" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.turns) == (str(error), 7)


@do
def nothing():
    return 1
    yield


class Tick(EffectBase):
    pass


@do
def answers(effect, ctx):
    if isinstance(effect, Tick):
        return 1
    return (yield effect)


@do
def polls_effects():
    while True:
        yield Get("n")


@do
def polls_programs():
    while True:
        yield nothing()


@do
def tries_again_and_again():
    while True:
        yield Safe(Get("no such key"))


@do
def catches_everything_that_goes_wrong():
    while True:
        try:
            yield Get("no such key")
        except Exception:
            pass


@do
def asks_its_handler():
    while True:
        yield Tick()


@do
async def asynchronous():
    while True:
        await Get("n")


@do
def always_a_deadline():
    while True:
        yield Delay(60)


@do
def in_place():
    while True:
        yield perform(int)


LOOPS = [
    polls_effects,
    polls_programs,
    tries_again_and_again,
    catches_everything_that_goes_wrong,
    asynchronous,
    in_place,
]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_ends(run, loop):
    exceeds(run, loop())


def test_a_loop_over_effects_of_a_python_handler_ends(run):
    exceeds(run, WithHandler(answers, asks_its_handler()))


def test_a_loop_over_virtual_time_ends(run):
    exceeds(run, virtual_time(always_a_deadline()))


def test_a_loop_of_a_handler_ends(run):
    @do
    def never_answers(effect, ctx):
        if not isinstance(effect, Tick):
            return (yield effect)
        while True:
            yield Get("n")

    exceeds(run, WithHandler(never_answers, asks_its_handler()))


@pytest.mark.parametrize("priority", [0, 10, PRIORITY_HIGH])
@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_in_a_task_ends(run, loop, priority):
    log = []

    @do
    def main():
        task = yield Spawn(loop(), priority=priority)
        try:
            yield Wait(task)
        finally:
            yield Put("cleaned", 1)
            log.append("cleaned up")

    exceeds(run, main())
    assert log == ["cleaned up"]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_in_a_task_that_nobody_waits_for_ends(run, loop):
    @do
    def main():
        yield Spawn(loop())
        yield Spawn(loop())

    name = loop.__name__
    with pytest.warns(
        RuntimeWarning, match=rf"still waited: {name} \(.*\), {name} \(.*\); cancelled"
    ):
        exceeds(run, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_a_loop_in_a_member_ends(run, loop):
    @do
    def main():
        yield Gather(loop(), Delay(0), loop())

    exceeds(run, main())


@pytest.mark.parametrize("loop", LOOPS)
def test_main_is_told_while_others_keep_it_from_running(run, loop):
    @do
    def main():
        yield Spawn(loop(), priority=PRIORITY_HIGH, daemon=True)
        yield from ()
        yield Get("n")
        return "never"

    exceeds(run, main())


def test_a_main_that_goes_on_is_told_again(run):
    told = []

    @do
    def main():
        for _ in range(3):
            try:
                yield polls_effects()
            except StepBudgetExceeded as error:
                told.append(error.turns)
        return "enough"

    arm_step_budget(20)
    assert run(main()).value == "enough"
    assert told == [20] * 3


def test_cleanup_has_the_same_number_of_turns(run):
    log = []

    @do
    def main():
        try:
            yield polls_effects()
        finally:
            yield puts(10)
            log.append("all of it")
            yield polls_effects()

    exceeds(run, main(), 20)
    assert log == ["all of it"]


@pytest.mark.filterwarnings("ignore:the run ended")
def test_what_takes_no_cancellation_is_discarded(run, monkeypatch):
    monkeypatch.setattr("sys.unraisablehook", lambda info: None)

    @do
    def stubborn():
        while True:
            try:
                yield Get("n")
            except BaseException:
                pass

    @do
    def main():
        yield Spawn(stubborn())

    exceeds(run, main())


def test_what_is_awaited_goes_on_as_always(run):
    @do
    def main():
        for _ in range(5):
            yield Await(asyncio.sleep(0))
        return "done"

    arm_step_budget(20)
    assert run(main()).value == "done"


def test_a_wait_handler_that_never_answers():
    @do
    def looks_again(effect, ctx):
        while True:
            yield Get("n")

    handlers = list(sync_handlers_preset)
    handlers[handlers.index(sync_external_wait_handler)] = looks_again
    # the handlers of the state stand inside the wait handler in the preset
    handlers.insert(0, handlers[-1])
    arm_step_budget(50)
    with pytest.raises(StepBudgetExceeded):
        sync_run(Delay(60), handlers, store={"n": 0})


@pytest.mark.parametrize("turns", [0, -1, -(10**30)])
def test_numbers_that_are_none(turns):
    with pytest.raises(ValueError, match="turns must be >= 1"):
        arm_step_budget(turns)


@pytest.mark.parametrize("turns", ["3", 2.0, True])
def test_no_numbers_at_all(turns):
    with pytest.raises(TypeError, match="turns must be int or None"):
        arm_step_budget(turns)


def test_a_large_number(run):
    arm_step_budget(10**30)
    assert run(puts(3)).value == 3
