"""Scope, Timeout and Shield."""

from __future__ import annotations

import gc
import weakref
from datetime import datetime
from typing import Any

import pytest

from doeff import (
    AcquireSemaphore,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    EffectBase,
    Gather,
    Get,
    HandlerContext,
    Local,
    Program,
    Pure,
    Put,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Scope,
    Shield,
    Spawn,
    TaskCancelledError,
    Timeout,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.effects import ScopeEffect, ShieldEffect, TimeoutEffect
from doeff.effects.scheduler_internal import SchedulerIntrospection

START = datetime(2030, 1, 1)
NEVER = 10**6


def outcome(program, **store):
    """The result of a run on the controlled clock: no test sleeps."""
    return sync_run(
        program, sync_handlers_preset, store={"__current_time__": START, **store}
    )


def value(program, **store):
    return outcome(program, **store).value


def error(program, **store):
    return outcome(program, **store).error


class Log(list):
    def __call__(self, item):
        self.append(item)


@pytest.fixture
def log():
    return Log()


@do
def sleeper(log, name, seconds=NEVER, cleanup=0, late=None, answer=None):
    """Sleeps, and says how it ended; its cleanup takes effects."""
    try:
        yield Delay(seconds)
        log(f"{name} done")
        return answer if answer is not None else name
    except TaskCancelledError:
        log(f"{name} cancelled")
        if cleanup:
            yield Delay(cleanup)
        yield Put("cleaned", name)
        log(f"{name} cleaned")
        if late is not None:
            raise late from None
        raise


@do
def failing(log, after, failure):
    yield Delay(after)
    log(f"{failure} raised")
    raise failure


@do
def spinning():
    """Never blocks."""
    while True:
        yield Get("n")


# --- Scope ------------------------------------------------------------------------------


def test_scope_gives_the_value_of_its_body():
    @do
    def body():
        yield Put("n", 1)
        return (yield Get("n")) + 1

    assert value(Scope(body())) == 2


def test_scope_ends_after_its_tasks(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a", 3))
        yield Spawn(sleeper(log, "b", 1))
        log("body over")
        return "value"

    @do
    def main():
        got = yield Scope(body())
        log("after")
        return got

    assert value(main()) == "value"
    assert log == ["body over", "b done", "a done", "after"]


def test_scope_waits_for_what_its_tasks_spawn(log):
    @do
    def child():
        yield Spawn(sleeper(log, "grandchild", 5))
        log("child over")

    @do
    def body():
        yield Wait((yield Spawn(child())))
        log("body over")

    value(Scope(body()).map(lambda _: log("after")))
    assert log == ["child over", "body over", "grandchild done", "after"]


def test_tasks_spawned_outside_do_not_belong_to_it(log):
    @do
    def main():
        outside = yield Spawn(sleeper(log, "outside", 5))
        yield Scope(Delay(1))
        log("after")
        yield Wait(outside)

    value(main())
    assert log == ["after", "outside done"]


def test_one_failure_is_raised_as_it_is(log):
    failure = ValueError("first")

    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=1))
        yield Spawn(failing(log, 2, failure))
        try:
            yield Delay(NEVER)
        finally:
            yield Put("body", "unwound")
            log("body unwound")

    @do
    def main():
        try:
            yield Scope(body())
        except ValueError as caught:
            log("caught")
            return caught, (yield Get("body"))

    assert value(main()) == (failure, "unwound")
    assert log == [
        "first raised",
        "a cancelled",
        "body unwound",
        "a cleaned",
        "caught",
    ]


def test_several_failures_are_a_group(log):
    first, second, third = ValueError("first"), KeyError("second"), OSError("third")

    @do
    def body():
        yield Spawn(failing(log, 1, first))
        yield Spawn(sleeper(log, "a", late=second))
        try:
            yield Delay(NEVER)
        except TaskCancelledError:
            raise third from None

    failure = error(Scope(body()))
    assert type(failure) is ExceptionGroup
    assert failure.exceptions == (first, third, second)
    assert str(failure).startswith("3 failures in a Scope")


def test_failure_of_the_body_cancels_the_tasks_first(log):
    failure = ValueError("body")

    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=2))
        yield Delay(1)
        raise failure

    @do
    def main():
        result = yield Safe(Scope(body()))
        log("after")
        return result

    result = value(main())
    assert result.error is failure
    assert log == ["a cancelled", "a cleaned", "after"]


def test_the_tasks_that_have_not_started_do_not(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a"))
        raise ValueError

    assert isinstance(error(Scope(body())), ValueError)
    assert log == []


def test_waiting_for_the_failed_task_changes_nothing(log):
    failure = ValueError("x")

    @do
    def body():
        task = yield Spawn(failing(log, 1, failure))
        try:
            yield Wait(task)
        except TaskCancelledError:
            log("cancelled")
            raise

    assert error(Scope(body())) is failure
    assert log == ["x raised", "cancelled"]


def test_safe_does_not_stop_the_cancellation_of_the_body(log):
    failure = ValueError("x")

    @do
    def body():
        yield Spawn(failing(log, 1, failure))
        while True:
            yield Safe(Delay(NEVER))

    assert error(Scope(body())) is failure


def test_a_failure_that_several_died_of_counts_once(log):
    failure = ValueError("x")

    @do
    def waiting(promise):
        yield Wait(promise.future)

    @do
    def body():
        promise = yield CreatePromise()
        for _ in range(3):
            yield Spawn(waiting(promise))
        yield Delay(1)
        raise failure

    assert error(Scope(body())) is failure


def test_cancelled_tasks_are_no_failures(log):
    @do
    def body():
        task = yield Spawn(sleeper(log, "a"))
        yield Delay(1)
        yield Cancel(task)
        yield Spawn(sleeper(log, "b", 2))
        return "value"

    assert value(Scope(body())) == "value"
    assert log == ["a cancelled", "a cleaned", "b done"]


def test_cancelling_the_task_of_a_scope(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=3))
        try:
            yield Delay(NEVER)
        finally:
            log("body")

    @do
    def main():
        task = yield Spawn(Scope(body()))
        yield Delay(1)
        yield Cancel(task)
        result = yield Safe(Wait(task))
        log("after")
        return result

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["body", "a cancelled", "a cleaned", "after"]


def test_cancelling_a_task_that_waits_for_its_children(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=3))

    @do
    def main():
        task = yield Spawn(Scope(body()))
        yield Delay(1)
        yield Cancel(task)
        result = yield Safe(Wait(task))
        log("after")
        return result

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["a cancelled", "a cleaned", "after"]


def test_a_second_cancellation_reaches_the_cleanup_of_the_children(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=NEVER))

    @do
    def main():
        task = yield Spawn(Scope(body()))
        yield Delay(1)
        yield Cancel(task)
        yield Delay(1)
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["a cancelled"]


def test_a_cancellation_and_a_failing_cleanup(log):
    late = ValueError("cleanup")

    @do
    def body():
        yield Spawn(sleeper(log, "a", late=late))

    @do
    def main():
        task = yield Spawn(Scope(body()))
        yield Delay(1)
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    assert value(main()).error is late


def test_discarding_the_task_of_a_scope_cancels_its_children(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a"))
        yield Delay(NEVER)

    @do
    def main():
        task = yield Spawn(Scope(body()))
        yield Delay(1)
        yield Discard(task)
        yield Delay(1)

    value(main())
    assert log == ["a cancelled", "a cleaned"]


def test_scopes_in_scopes(log):
    @do
    def inner():
        yield Spawn(sleeper(log, "inner", cleanup=2))
        yield Delay(NEVER)

    @do
    def outer():
        yield Spawn(Scope(inner()))
        yield Spawn(sleeper(log, "outer"))
        yield Spawn(failing(log, 1, ValueError("x")))
        yield Scope(inner())

    assert str(error(Scope(outer()))) == "x"
    assert sorted(log) == [
        "inner cancelled",
        "inner cancelled",
        "inner cleaned",
        "inner cleaned",
        "outer cancelled",
        "outer cleaned",
        "x raised",
    ]


def test_a_task_that_is_spawned_while_the_scope_unwinds_is_waited_for(log):
    @do
    def body():
        try:
            raise ValueError
        finally:
            task = yield Spawn(sleeper(log, "late", 2))
            yield Wait(task)

    assert isinstance(error(Scope(body())), ValueError)
    assert log == ["late done"]


def test_daemons_end_with_their_scope(log):
    @do
    def body():
        yield Spawn(sleeper(log, "daemon"), daemon=True)
        yield Spawn(sleeper(log, "a", 2))
        return 1

    assert value(Scope(body())) == 1
    assert log == ["a done", "daemon cancelled", "daemon cleaned"]


def test_only_daemons(log):
    @do
    def body():
        yield Spawn(sleeper(log, "daemon"), daemon=True)
        yield Delay(1)
        return 1

    assert value(Scope(body())) == 1
    assert log == ["daemon cancelled", "daemon cleaned"]


def test_members_of_a_gather_belong_to_the_gather(log):
    @do
    def spawning():
        yield Spawn(sleeper(log, "below", 4))
        raise ValueError("member")

    @do
    def body():
        result = yield Safe(Gather(spawning(), Delay(NEVER)))
        log(type(result.error).__name__)
        return 1

    assert value(Scope(body())) == 1
    assert log == ["ValueError", "below done"]


def test_children_of_children_of_a_spawn_in_a_gather(log):
    @do
    def body():
        yield Gather(Spawn(sleeper(log, "a", 1)), Spawn(sleeper(log, "b", 2)))
        return 1

    assert value(Scope(body())) == 1
    assert log == ["a done", "b done"]


def test_a_deadlock_inside_a_scope_is_raised_at_its_end(log):
    @do
    def stuck():
        promise = yield CreatePromise()
        try:
            yield Wait(promise.future)
        finally:
            log("unwound")

    @do
    def body():
        yield Spawn(stuck())

    assert isinstance(error(Scope(body())), SchedulerDeadlockError)
    assert log == ["unwound"]


def test_an_interrupt_in_a_task_leaves_the_scope_as_it_is(log):
    @do
    def interrupted():
        yield Delay(1)
        raise KeyboardInterrupt

    @do
    def body():
        yield Spawn(interrupted())
        yield Spawn(sleeper(log, "a"))
        yield Delay(NEVER)

    with pytest.raises(KeyboardInterrupt):
        outcome(Scope(body()))
    assert log == ["a cancelled", "a cleaned"]


def test_the_run_ends_while_a_scope_is_open(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a"))
        yield Delay(NEVER)

    @do
    def main():
        yield Spawn(Scope(body()), daemon=True)
        yield Delay(1)

    outcome(main()).value
    assert "a cleaned" in log


class Leave(EffectBase):
    pass


def test_a_jump_out_of_a_scope_unwinds_its_tasks_first(log):
    @do
    def leave(effect: Leave, ctx: HandlerContext):
        log("leaving")
        return ctx.abandon("left")
        yield

    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=1))
        yield Delay(1)
        yield Leave()

    @do
    def main():
        got = yield WithHandler(leave, Scope(body()))
        log("after")
        return got

    assert value(main()) == "left"
    assert log == ["leaving", "a cancelled", "a cleaned", "after"]


def test_what_a_handler_spawns_for_an_effect_belongs_to_the_scope_of_that(log):
    class Start(EffectBase):
        pass

    @do
    def start(effect: Start, ctx: HandlerContext):
        yield Spawn(sleeper(log, "a", 2))
        return None

    @do
    def body():
        yield Start()

    value(WithHandler(start, Scope(body())).map(lambda _: log("after")))
    assert log == ["a done", "after"]


def test_a_scope_on_the_real_clock():
    @do
    def body():
        promise = yield CreatePromise()
        yield Spawn(CompletePromise(promise, 1))
        return (yield Wait(promise.future))

    assert sync_run(Scope(body()), sync_handlers_preset).value == 1


# --- Timeout ----------------------------------------------------------------------------


def test_timeout_gives_the_value_in_time():
    assert value(Timeout(2, Delay(1).map(lambda _: "in time"))) == "in time"


def test_timeout_raises_after_unwinding(log):
    @do
    def main():
        try:
            yield Timeout(2, sleeper(log, "a", cleanup=5))
        except TimeoutError as caught:
            log("timeout")
            return caught, (yield Get("cleaned"))

    caught, cleaned = value(main())
    assert isinstance(caught.__cause__, TaskCancelledError)
    assert "within 2 s" in str(caught)
    assert cleaned == "a"
    assert log == ["a cancelled", "a cleaned", "timeout"]


def test_timeout_of_a_program_that_never_blocks():
    @do
    def main():
        yield Timeout(0.002, spinning())

    result = sync_run(main(), sync_handlers_preset, store={"n": 1})
    assert isinstance(result.error, TimeoutError)


def test_timeout_that_has_passed_already():
    @do
    def main():
        yield Timeout(0, spinning())

    result = sync_run(main(), sync_handlers_preset, store={"n": 1})
    assert isinstance(result.error, TimeoutError)


def test_safe_does_not_stop_a_timeout():
    @do
    def stubborn():
        while True:
            yield Safe(spinning())

    result = sync_run(Timeout(0.001, stubborn()), sync_handlers_preset, store={"n": 1})
    assert isinstance(result.error, TimeoutError)


def test_the_task_goes_on_after_a_timeout(log):
    @do
    def worker():
        result = yield Safe(Timeout(1, Delay(NEVER)))
        yield Delay(1)
        return type(result.error)

    @do
    def main():
        return (yield Wait((yield Spawn(worker()))))

    assert value(main()) is TimeoutError


def test_an_error_of_the_program_passes():
    assert isinstance(error(Timeout(2, failing(Log(), 1, ValueError()))), ValueError)


def test_cleanup_that_fails_wins(log):
    late = ValueError("late")
    assert error(Timeout(1, sleeper(log, "a", late=late))) is late


def test_a_program_that_goes_on_after_its_cancellation_has_timed_out():
    @do
    def stubborn():
        try:
            yield Delay(NEVER)
        except TaskCancelledError:
            pass
        return "too late"

    assert isinstance(error(Timeout(1, stubborn())), TimeoutError)


@pytest.mark.parametrize(("inner", "outer"), [(1, 2), (2, 1), (1, 1)])
def test_nested_timeouts(inner, outer):
    @do
    def nested():
        try:
            yield Timeout(inner, Delay(NEVER))
        except TimeoutError:
            return "inner"

    result = outcome(Timeout(outer, nested()))
    if inner < outer:
        assert result.value == "inner"
    else:
        assert isinstance(result.error, TimeoutError)


def test_the_outer_timeout_fires_while_the_inner_one_unwinds(log):
    @do
    def main():
        yield Timeout(2, Timeout(1, sleeper(log, "a", cleanup=NEVER)))

    assert "within 2 s" in str(error(main()))
    assert log == ["a cancelled"]


def test_the_inner_timeout_fires_while_a_cancellation_unwinds(log):
    """The task is cancelled in the end, and not failed by the timeout."""

    @do
    def main():
        task = yield Spawn(Timeout(2, sleeper(log, "a", cleanup=NEVER)))
        yield Delay(1)
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["a cancelled"]


def test_a_timeout_around_cleanup(log):
    @do
    def worker():
        try:
            yield Delay(NEVER)
        finally:
            result = yield Safe(Timeout(1, Delay(NEVER)))
            log(type(result.error).__name__)

    @do
    def main():
        task = yield Spawn(worker())
        yield Delay(1)
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["TimeoutError"]


def test_timeout_of_each_kind_of_wait(log):
    @do
    def waiting(kind):
        promise = yield CreatePromise()
        external = yield CreateExternalPromise()
        external.on_cancel(lambda: log("external cancelled"))
        semaphore = yield CreateSemaphore(1)
        yield AcquireSemaphore(semaphore)
        task = yield Spawn(Delay(100), daemon=True)
        match kind:
            case 0:
                yield Wait(promise.future)
            case 1:
                yield Wait(external, priority=0)
            case 2:
                yield AcquireSemaphore(semaphore)
            case 3:
                yield Gather(task, Delay(NEVER))
            case 4:
                yield Wait(task)

    for kind in range(5):
        assert isinstance(error(Timeout(1, waiting(kind))), TimeoutError), kind
    assert log == ["external cancelled"]


def test_a_permit_is_not_lost_to_a_timeout():
    @do
    def main():
        semaphore = yield CreateSemaphore(1)
        yield AcquireSemaphore(semaphore)
        yield Safe(Timeout(1, AcquireSemaphore(semaphore)))
        yield ReleaseSemaphore(semaphore)
        yield AcquireSemaphore(semaphore)
        return "taken"

    assert value(main()) == "taken"


def test_the_timer_is_gone_afterwards():
    """No wait until the deadline: the clock stands where the program ended."""

    @do
    def main():
        yield Timeout(50, Delay(1))
        yield Safe(Timeout(50, failing(Log(), 1, ValueError())))
        promise = yield CreatePromise()
        yield Safe(Wait(promise.future))  # a deadlock: nothing else is pending
        return (yield Get("__current_time__"))

    assert (value(main()) - START).total_seconds() == 2


def test_timeout_holds_off_a_deadlock():
    @do
    def main():
        promise = yield CreatePromise()
        yield Timeout(3, Wait(promise.future))

    assert isinstance(error(main()), TimeoutError)


def test_a_time_that_is_put_lets_timeouts_fire():
    @do
    def main():
        yield Timeout(3, jump())

    @do
    def jump():
        yield Put("__current_time__", datetime(2030, 1, 2))
        yield Delay(NEVER)

    assert isinstance(error(main()), TimeoutError)


def test_a_put_time_and_a_delay_in_one(log):
    """The deadline has come when the next effect begins to wait."""

    @do
    def main():
        yield Timeout(3, jump())

    @do
    def jump():
        yield Delay(1)
        yield Local({}, Put("__current_time__", datetime(2031, 1, 2)))
        log("still here")
        yield Delay(NEVER)

    assert isinstance(error(main()), TimeoutError)


def test_timeout_and_scope(log):
    @do
    def body():
        yield Spawn(sleeper(log, "a", cleanup=1))
        yield Spawn(sleeper(log, "b", cleanup=2))

    assert isinstance(error(Timeout(1, Scope(body()))), TimeoutError)
    assert log == ["a cancelled", "b cancelled", "a cleaned", "b cleaned"]


def test_a_timeout_in_a_task_of_a_scope_is_a_failure(log):
    @do
    def body():
        yield Spawn(Timeout(1, Delay(NEVER)))
        yield Delay(NEVER)

    assert isinstance(error(Scope(body())), TimeoutError)


def test_a_timeout_in_a_captured_continuation():
    """A handler's body runs for an effect inside: it is cut short as well."""

    class Slow(EffectBase):
        pass

    @do
    def slow(effect: Slow, ctx: HandlerContext):
        yield Delay(NEVER)
        return "never"

    @do
    def main():
        return (yield Safe(WithHandler(slow, Timeout(1, Slow()))))

    assert isinstance(value(main()).error, TimeoutError)


# --- Shield -----------------------------------------------------------------------------


@do
def shielded(log, program: Program[Any]):
    got = yield Shield(program)
    log(f"got {got}")
    yield Delay(NEVER)


def test_shield_gives_the_value():
    assert value(Shield(Delay(1).map(lambda _: 7))) == 7


def test_shield_delays_a_cancellation(log):
    @do
    def main():
        task = yield Spawn(shielded(log, sleeper(log, "a", 5)))
        yield Delay(1)
        assert (yield Cancel(task)) is True
        assert (yield task.is_done()) is False
        return (yield Safe(Wait(task)))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["a done"]


def test_a_failure_behind_a_shield_is_the_context_of_the_cancellation(log):
    failure = ValueError("x")

    @do
    def main():
        task = yield Spawn(Shield(failing(log, 5, failure)))
        yield Delay(1)
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    got = value(main()).error
    assert isinstance(got, TaskCancelledError)
    assert got.__context__ is failure


def test_shield_delays_the_timeout_around_it(log):
    @do
    def main():
        try:
            yield Timeout(1, shielded(log, sleeper(log, "a", 5)))
        except TimeoutError:
            return (yield Get("__current_time__"))

    assert (value(main()) - START).total_seconds() == 5
    assert log == ["a done"]


def test_a_timeout_behind_a_shield_is_not_delayed(log):
    @do
    def main():
        task = yield Spawn(Shield(Timeout(2, sleeper(log, "a"))))
        yield Delay(1)
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    got = value(main()).error
    assert isinstance(got, TaskCancelledError)
    assert isinstance(got.__context__, TimeoutError)
    assert log == ["a cancelled", "a cleaned"]


def test_nested_shields(log):
    @do
    def inner():
        yield Shield(sleeper(log, "inner", 3))
        yield sleeper(log, "outer", 3)

    @do
    def main():
        task = yield Spawn(shielded(log, inner()))
        yield Delay(1)
        yield Cancel(task)
        yield Safe(Wait(task))
        return (yield Get("__current_time__"))

    assert (value(main()) - START).total_seconds() == 6
    assert log == ["inner done", "outer done"]


def test_a_scope_waits_for_a_shielded_task(log):
    @do
    def body():
        yield Spawn(Shield(sleeper(log, "a", 5)))
        yield Delay(1)
        raise ValueError("body")

    @do
    def main():
        result = yield Safe(Scope(body()))
        return result, (yield Get("__current_time__"))

    result, now = value(main())
    assert str(result.error) == "body"
    assert (now - START).total_seconds() == 5
    assert log == ["a done"]


def test_a_task_that_cancels_itself_behind_its_shield(log):
    @do
    def inside(cell):
        assert (yield Cancel(cell[0])) is True
        yield Delay(1)
        log("still here")

    @do
    def main():
        cell = []
        task = yield Spawn(shielded(log, inside(cell)))
        cell.append(task)
        return (yield Safe(Wait(task)))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["still here"]


def test_discard_does_not_ask_a_shield(log):
    @do
    def main():
        task = yield Spawn(Shield(sleeper(log, "a")))
        yield Delay(1)
        yield Discard(task)
        return (yield Safe(Wait(task)))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == []


# --- wrong use --------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Scope, Shield, lambda x: Timeout(1, x)])
def test_what_is_no_program(make):
    for wrong in (1, None, "x", sleeper):
        with pytest.raises(TypeError):
            make(wrong)


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf")])
def test_impossible_seconds(seconds):
    with pytest.raises(ValueError, match="seconds must be finite"):
        Timeout(seconds, Delay(1))


def test_seconds_that_are_no_number():
    with pytest.raises(TypeError, match="seconds must be a number"):
        Timeout("soon", Delay(1))


def test_the_effects_as_values():
    body = Delay(1)
    assert Scope(body) == ScopeEffect(body)
    assert Scope(body=body).body is body
    assert Timeout(1, body) == TimeoutEffect(1, body)
    assert Timeout(seconds=1, program=body).program is body
    assert Shield(program=body) == ShieldEffect(body)
    assert repr(Scope(body)) == "ScopeEffect(body=DelayEffect(seconds=1))"


# --- what takes no cancellation -----------------------------------------------------------


@do
def stubborn():
    promise = yield CreatePromise()
    while True:
        try:
            yield Wait(promise.future)
        except TaskCancelledError:
            pass


@pytest.mark.parametrize(
    "make", [lambda: Scope(Spawn(stubborn())), lambda: Gather(stubborn(), Delay(1))]
)
def test_a_deadlock_of_tasks_that_take_no_cancellation(make):
    """They are discarded: the run ends."""
    assert isinstance(error(make()), SchedulerDeadlockError)


@pytest.mark.parametrize("around", [Scope, lambda body: Gather(body, Delay(1))])
def test_nothing_is_left_of_a_deadlock_that_is_forced(around):
    """Members that take no cancellation are discarded, and with them what they had."""

    class Held:
        pass

    @do
    def holding(held):
        yield stubborn()

    @do
    def main():
        held = Held()
        there = weakref.ref(held)
        program = around(Gather(holding(held), holding(held)))
        del held
        caught = yield Safe(program)
        del program
        return there, type(caught.error), (yield SchedulerIntrospection())

    there, kind, counts = value(main())
    assert kind is SchedulerDeadlockError
    assert not any(counts.values())
    gc.collect()
    assert there() is None


# --- what killed tasks leave behind -----------------------------------------------------


@do
def slow_to_end(log):
    try:
        yield Delay(NEVER)
    finally:
        yield Delay(5)
        log.append("ended")


@do
def with_children(log, inner: Program):
    @do
    def body():
        yield Spawn(slow_to_end(log))
        yield Spawn(slow_to_end(log))
        yield inner

    yield Scope(body())


@pytest.mark.parametrize(
    "make",
    [
        lambda log: with_children(log, Delay(NEVER)),
        lambda log: with_children(log, Pure(1)),  # it waits at the end of its Scope
        lambda log: Gather(with_children(log, Delay(NEVER)), Delay(NEVER)),
        lambda log: Scope(Gather(Gather(with_children(log, Delay(NEVER))))),
    ],
)
def test_a_scope_waits_for_what_a_killed_task_has_spawned(make):
    log = []

    @do
    def body():
        task = yield Spawn(make(log))
        yield Delay(1)
        yield Discard(task)
        return "body"

    @do
    def main():
        got = yield Scope(body())
        return got, list(log), (yield SchedulerIntrospection())["tasks"]

    assert value(main()) == ("body", ["ended", "ended"], 0)


def test_a_scope_waits_for_a_member_that_discards_its_gatherer():
    log = []

    @do
    def member(box):
        try:
            yield Delay(1)
            yield Discard(box[0])
            yield Delay(NEVER)
        finally:
            yield Delay(2)
            log.append("member")

    @do
    def body():
        box = []
        box.append((yield Spawn(Gather(member(box)))))
        yield Safe(Wait(box[0]))

    @do
    def main():
        yield Scope(body())
        return list(log), (yield SchedulerIntrospection())["tasks"]

    assert value(main()) == (["member"], 0)


def test_a_failure_of_what_a_killed_task_has_spawned_is_the_scopes():
    @do
    def fails_late():
        try:
            yield Delay(NEVER)
        finally:
            yield Delay(1)
            raise ValueError("late")

    @do
    def body():
        task = yield Spawn(Scope(Spawn(fails_late())))
        yield Delay(1)
        yield Discard(task)
        yield Delay(NEVER)

    assert isinstance(error(Scope(body())), ValueError)


def test_very_many_failures():
    @do
    def fails(i):
        try:
            yield Delay(NEVER)
        finally:
            raise ValueError(i)

    @do
    def body():
        for i in range(20_000):
            yield Spawn(fails(i))
        yield Delay(1)
        raise KeyError("first")

    group = error(Scope(body()))
    assert isinstance(group, ExceptionGroup)
    assert [type(e) for e in group.exceptions[:2]] == [KeyError, ValueError]
    assert [e.args for e in group.exceptions[1:]] == [(i,) for i in range(20_000)]


@do
def passes_on(effect, ctx):
    return (yield effect)


@pytest.mark.parametrize("around", [Scope, lambda body: Scope(Shield(body))])
def test_a_killed_tasks_scope_below_a_handler_that_sees_every_effect(around):
    log = []

    @do
    def body():
        program = WithHandler(passes_on, around(with_children(log, Delay(NEVER))))
        task = yield Spawn(Gather(program))
        yield Delay(1)
        yield Discard(task)

    @do
    def main():
        yield Scope(body())
        return list(log), (yield SchedulerIntrospection())["tasks"]

    assert value(main()) == (["ended", "ended"], 0)
