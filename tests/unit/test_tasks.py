"""Spawn, Cancel, is_done and Discard: contract/concurrency.md 1.1, 1.2, 1.3, 1.7 and table 2.4."""

from __future__ import annotations

import contextlib
import contextvars
import gc
import weakref
from datetime import datetime

import pytest

from doeff import (
    PRIORITY_IDLE,
    AcquireSemaphore,
    Ask,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    ExternalPromiseCancelCallbackError,
    Gather,
    Get,
    GetTime,
    Listen,
    Local,
    Pure,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Spawn,
    Task,
    TaskCancelledError,
    Tell,
    Wait,
    WithHandler,
    cache,
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


@do
def returns(x):
    yield Pure(None)
    return x


@do
def fails(error):
    yield Pure(None)
    raise error


@do
def parked(promise, log=None):
    try:
        return (yield Wait(promise.future))
    finally:
        if log is not None:
            log.append("cleanup")


@do
def turns(n):
    """Gives the other tasks n turns."""
    for _ in range(n):
        yield Put("turn", 0)


@do
def outcome_after_cancel(task):
    was_live = yield task.cancel()
    return was_live, (yield Safe(Wait(task)))


# ---- 1.1 ----


def test_names_and_fields():
    p = returns(1)
    effect = Spawn(
        p, preferred_backend="process", priority=3, daemon=True, colour="red"
    )
    assert effect.program is p
    assert effect.preferred_backend == "process"
    assert effect.priority == 3
    assert effect.daemon is True
    assert effect.options == {"colour": "red"}
    assert isinstance(effect, EffectBase)


def test_argument_errors_come_from_the_constructor():
    with pytest.raises(TypeError, match="call"):
        Spawn(returns)
    with pytest.raises(TypeError):
        Spawn(5)
    with pytest.raises(ValueError):
        Spawn(returns(1), preferred_backend="gpu")
    for wrong in (5, returns(1), Spawn(returns(1))):
        with pytest.raises(TypeError):
            Cancel(wrong)
        with pytest.raises(TypeError):
            Discard(wrong)


def test_the_public_face_of_a_task():
    @do
    def main():
        task = yield Spawn(returns(1))
        same = task
        assert task == same
        assert task != (yield Spawn(returns(1)))
        assert len({task, same}) == 1
        assert task.backend == "thread"
        assert "thread" in repr(task)
        with pytest.raises(AttributeError):
            task.backend = "x"
        assert task._handle == task._handle
        assert hash(task._handle) == hash(task._handle)
        with pytest.warns(DeprecationWarning, match="old spelling"):
            joined = task.join()
        return (yield joined)

    assert value(main()) == 1
    with pytest.raises(TypeError):
        Task()


def test_an_effect_may_be_performed_any_number_of_times():
    @do
    def main():
        spawn = Spawn(returns(1))
        a, b = (yield spawn), (yield spawn)
        assert a is not b
        wait = Wait(a)
        return (yield wait), (yield wait), (yield Wait(b))

    assert value(main()) == (1, 1, 1)


# ---- 1.3 ----


def test_sp_1_the_child_has_not_run_when_the_spawner_continues():
    log = []

    @do
    def child():
        log.append("child")
        yield Pure(None)

    @do
    def main():
        task = yield Spawn(child())
        log.append("main")
        yield Wait(task)

    run(main())
    assert log == ["main", "child"]


def test_sp_2_any_program_or_effect():
    @do
    def main():
        program = returns(7)
        tasks = []
        for what in (
            program,
            program,
            Pure(1),
            Ask("a"),
            Pure(2).map(lambda x: x + 1),
            Gather(),
        ):
            tasks.append((yield Spawn(what)))
        return (yield Gather(*tasks))

    assert value(main(), env={"a": "env"}) == [7, 7, 1, "env", 3, []]


def test_sp_2_the_same_program_twice_runs_twice():
    count = []

    @do
    def child():
        count.append(1)
        yield Pure(None)

    @do
    def main():
        program = child()
        yield Gather((yield Spawn(program)), (yield Spawn(program)))

    run(main())
    assert len(count) == 2


@pytest.mark.parametrize("hint", ["thread", "process", "ray", None])
def test_sp_3_a_hint_changes_nothing(hint):
    @do
    def main():
        task = yield Spawn(returns(lambda: 1), preferred_backend=hint)
        assert task.backend == "thread"
        failing = yield Spawn(fails(KeyError("k")), preferred_backend=hint)
        return (yield Wait(task))(), (yield Safe(Wait(failing))).error.args

    assert value(main()) == (1, ("k",))


def test_sp_4_results_are_kept_only_while_somebody_holds_them():
    class Big:
        pass

    seen = []

    @do
    def child():
        big = Big()
        seen.append(weakref.ref(big))
        yield Put("k", big)
        return big

    @do
    def main():
        task = yield Spawn(child())
        yield Wait(task)
        alive = seen[0]() is not None
        del task
        yield turns(2)
        gone = seen[0]() is None
        yield Spawn(child())  # fire and forget
        yield turns(4)
        return alive, gone, seen[1]() is None

    assert value(main()) == (True, True, True)


def test_sp_4_the_frame_of_an_ended_task_is_released():
    class Local_:
        pass

    seen = []

    @do
    def child():
        local = Local_()
        seen.append(weakref.ref(local))
        yield Pure(None)
        return 1

    @do
    def main():
        task = yield Spawn(child())
        yield Wait(task)
        return seen[0]() is None, task

    freed, _ = value(main())
    assert freed


def test_sp_5_store_and_log_are_snapshots():
    @do
    def child():
        before = yield Get("k")
        yield Put("k", "child")
        yield Tell("child")
        return before, (yield Get("k"))

    @do
    def main():
        yield Put("k", "main")
        yield Tell("start")
        task = yield Spawn(child())
        yield Put("k", "later")
        inside = yield Wait(task)
        return inside, (yield Get("k"))

    result = run(main())
    assert result.value == (("main", "child"), "later")
    assert result.raw_store["__log__"] == ["start"]


# ---- table 2.4 ----


def test_table_2_4_environment_of_the_spawn():
    @do
    def child():
        yield turns(3)
        return (yield Ask("a"))

    @do
    def main():
        task = yield Local({"a": 2}, Spawn(child()))
        return (yield Local({"a": 3}, Wait(task))), (yield Ask("a"))

    assert value(main(), env={"a": 1}) == (2, 1)


def test_table_2_4_values_are_shared_and_bindings_are_not():
    @do
    def child():
        (yield Get("list")).append("child")
        yield Put("list", "other")

    @do
    def main():
        task = yield Spawn(child())
        yield Wait(task)
        return (yield Get("list"))

    assert value(main(), store={"list": []}) == ["child"]


def test_table_2_4_a_members_store_and_log_are_the_callers():
    @do
    def member(name):
        yield Tell(name)
        yield Put(name, 1)

    @do
    def main():
        listened = yield Listen(Gather(member("a"), member("b")))
        return listened.log, (yield Get("a")), (yield Get("b"))

    result = run(main())
    assert result.value == (["a", "b"], 1, 1)
    assert result.raw_store["__log__"] == ["a", "b"]


def test_table_2_4_listen_does_not_see_a_spawned_child_or_a_sibling():
    @do
    def child():
        yield Tell("child")

    @do
    def member(name, promise, settle):
        yield Tell(name + "0")
        if settle:
            yield CompletePromise(promise, None)
        else:
            yield Wait(promise.future)
        yield Tell(name + "1")

    @do
    def main():
        promise = yield CreatePromise()
        inner = yield Gather(
            Listen(member("a", promise, False)), Listen(member("b", promise, True))
        )
        task = yield Spawn(child())
        spawned = yield Listen(Wait(task))
        return [sorted(result.log) for result in inner], spawned.log

    assert value(main()) == ([["a0", "a1"], ["b0", "b1"]], [])


def test_table_2_4_handlers_at_the_spawn():
    class Which(EffectBase):
        pass

    def answering(name):
        @do
        def handler(effect, ctx):
            if isinstance(effect, Which):
                return name
            return (yield effect)

        return handler

    @do
    def child():
        yield turns(4)
        return (yield Which())

    @do
    def main():
        task = yield WithHandler(answering("a"), Spawn(child()))
        other = yield Spawn(child())
        left = yield Wait(task)
        return left, (yield Safe(WithHandler(answering("b"), Wait(other)))).is_err()

    assert value(main()) == ("a", True)


def test_table_2_4_a_handlers_spawn_sees_the_handlers_of_the_effect():
    class Which(EffectBase):
        pass

    class Start(EffectBase):
        pass

    @do
    def inner(effect, ctx):
        if isinstance(effect, Which):
            return "inner"
        return (yield effect)

    @do
    def starter(effect, ctx):
        if isinstance(effect, Start):
            return (yield Spawn(Which()))
        return (yield effect)

    @do
    def main():
        task = yield WithHandler(starter, WithHandler(inner, Start()))
        return (yield Wait(task))

    assert value(main()) == "inner"


def test_table_2_4_context_variables():
    variable = contextvars.ContextVar("v", default="none")

    @do
    def child():
        before = variable.get()
        variable.set("child")
        yield turns(3)
        return before, variable.get()

    @do
    def main():
        variable.set("main")
        task = yield Spawn(child())
        member = Gather(child())
        variable.set("later")
        yield turns(3)
        return (yield Wait(task)), (yield member), variable.get()

    def inside():
        return value(main()), variable.get()

    expected = (("main", "child"), [("later", "child")], "later"), "later"
    assert contextvars.copy_context().run(inside) == expected
    assert variable.get() == "none"


def test_each_task_has_the_context_variables_of_its_own_spawn():
    variable = contextvars.ContextVar("v")
    same, log = object(), []

    @do
    def child(i):
        seen = variable.get()
        for given in (same, i):
            token = variable.set(given)
            yield turns(2)
            assert variable.get() is given
            variable.reset(token)
            yield turns(1)
            assert variable.get() is seen
        log.append(seen)

    @do
    def main():
        tasks = []
        for i in range(12):
            variable.set((same, same, i)[i % 3])
            tasks.append((yield Spawn(child(i))))
        variable.set("later")
        yield Gather(*tasks)

    contextvars.copy_context().run(lambda: value(main()))
    assert log == [(same, same, i)[i % 3] for i in range(12)]


@pytest.mark.parametrize("arguments", [0, 1, 4, 5, 9])
@pytest.mark.parametrize("keyword", [0, 1])
def test_a_spawned_call_gets_its_arguments_when_it_runs(arguments, keyword):
    calls = []

    @do
    def generator(*args, **kwargs):
        calls.append("generator")
        return args, kwargs
        yield

    @do
    def plain(*args, **kwargs):
        calls.append("plain")
        return args, kwargs

    given = tuple([i] for i in range(arguments))
    named = {"key": object()} if keyword else {}

    @do
    def main():
        tasks = []
        for kind in (generator, plain):
            tasks.append((yield Spawn(kind(*given, **named))))
        assert calls == []
        return (yield Gather(*tasks))

    results = value(main())
    assert calls == ["generator", "plain"]
    for args, kwargs in results:
        assert all(a is b for a, b in zip(args, given, strict=True))
        assert kwargs == named


def test_wrong_arguments_are_an_error_of_the_task():
    @do
    def main():
        task = yield Spawn(returns(1, 2))
        return (yield Safe(Wait(task)))

    failed = value(main())
    assert "returns() takes 1 positional argument but 2" in str(failed.error)


def test_a_program_among_the_arguments_is_run_by_the_task():
    @do
    def main():
        yield Put("where", "main")
        task = yield Spawn(returns(Put("where", "task")))
        yield Wait(task)
        return (yield Get("where"))

    assert value(main()) == "main"


def test_what_a_new_task_holds_goes_with_it():
    class Thing:
        pass

    @do
    def main():
        thing = Thing()
        known = weakref.ref(thing)
        task = yield Spawn(returns(thing))
        del thing
        gc.collect()
        assert known() is not None
        assert repr(task) == "<Task returns backend='thread' new>"
        yield Cancel(task)
        return known() is None, (yield task.is_done())

    assert value(main()) == (True, True)


def test_a_blocked_task_keeps_handlers_environment_and_locals():
    @do
    def answers(effect, ctx):
        if type(effect).__name__ == "AskEffect":
            return (yield ctx.resume("handled"))
        return (yield effect)

    @do
    def child(promise):
        there = yield Ask("a")
        woken = yield Wait(promise.future)
        return there, woken, (yield Ask("a")), (yield Ask("b"))

    @do
    def inside(promise):
        return (yield Spawn(child(promise)))

    @do
    def main():
        promise = yield CreatePromise()
        plain = yield Spawn(child(promise))
        local = yield Local({"a": "local"}, inside(promise))
        handled = yield WithHandler(answers, inside(promise))
        yield turns(3)
        gc.collect()
        yield CompletePromise(promise, "woken")
        return (yield Gather(plain, local, handled))

    assert value(main(), env={"a": 1, "b": 2}) == [
        (1, "woken", 1, 2),
        ("local", "woken", "local", 2),
        ("handled", "woken", "handled", "handled"),
    ]


def test_table_2_4_the_clock_belongs_to_the_run():
    @do
    def child():
        yield Delay(3600)
        return (yield GetTime())

    @do
    def main():
        task = yield Spawn(child())
        there = yield Wait(task)
        return there == (yield GetTime()), (there - NOON).total_seconds()

    assert value(main(), store={"__current_time__": NOON}) == (True, 3600)


def test_no_scheduler_data_in_the_store():
    @do
    def main():
        task = yield Spawn(parked((yield CreatePromise())))
        yield turns(2)
        yield task.cancel()
        return (yield Get("k"))

    assert list(run(main(), store={"k": 1}).raw_store) == ["k", "turn"]


# ---- 1.7 ----


def test_ca_1_cancel_says_whether_the_task_was_live():
    @do
    def main():
        p = yield CreatePromise()
        task = yield Spawn(parked(p))
        ended = yield Spawn(returns(1))
        yield Wait(ended)
        first = yield Cancel(task)
        yield Safe(Wait(task))
        return first, (yield Cancel(task)), (yield ended.cancel())

    assert value(main()) == (True, False, False)


def test_ca_2_a_new_task_ends_on_the_spot():
    log = []

    @do
    def child():
        log.append("ran")
        yield Pure(None)

    @do
    def main():
        task = yield Spawn(child())
        live = yield task.cancel()
        done = yield task.is_done()
        yield turns(3)
        return live, done, (yield Safe(Wait(task)))

    live, done, outcome = value(main())
    assert (live, done, log) == (True, True, [])
    assert isinstance(outcome.error, TaskCancelledError)


WAITS = {
    "wait": lambda things: Wait(things["promise"].future),
    "gather": lambda things: Gather(things["promise"].future, Pure(1)),
    "race": lambda things: Race(things["promise"].future, things["external"]),
    "external": lambda things: Wait(things["external"]),
    "acquire": lambda things: AcquireSemaphore(things["taken"]),
    "delay": lambda things: Delay(1e9),
    "members": lambda things: Gather(Wait(things["promise"].future), Delay(1e9)),
}


@pytest.mark.parametrize("kind", WAITS)
def test_ca_3_raised_at_the_yield_with_effects_in_cleanup(kind):
    log = []

    @do
    def child(things):
        try:
            yield WAITS[kind](things)
        except TaskCancelledError:
            log.append("caught")
            raise
        finally:
            yield Put("cleanup", 1)
            yield Delay(60)
            log.append((yield Get("cleanup")))

    @do
    def main():
        taken = yield CreateSemaphore(1)
        yield AcquireSemaphore(taken)
        things = {
            "promise": (yield CreatePromise()),
            "external": (yield CreateExternalPromise()),
            "taken": taken,
        }
        task = yield Spawn(child(things))
        yield turns(3)
        return (yield outcome_after_cancel(task))

    live, outcome = value(main(), store={"__current_time__": NOON})
    assert live
    assert isinstance(outcome.error, TaskCancelledError)
    assert log == ["caught", 1]


def test_ca_3_a_turn_that_is_due():
    log = []

    @do
    def child():
        try:
            while True:
                yield Put("k", 1)
        except TaskCancelledError:
            log.append("caught")
            raise

    @do
    def main():
        task = yield Spawn(child())
        yield turns(3)
        return (yield outcome_after_cancel(task))

    assert isinstance(value(main())[1].error, TaskCancelledError)
    assert log == ["caught"]


def test_ca_4_swallowed_and_replaced():
    @do
    def swallows(p):
        try:
            yield Wait(p.future)
        except TaskCancelledError:
            return "late"

    @do
    def replaces(p):
        try:
            yield Wait(p.future)
        finally:
            raise KeyError("cleanup")

    @do
    def main():
        p = yield CreatePromise()
        outcomes = []
        for program in (swallows(p), replaces(p)):
            task = yield Spawn(program)
            yield turns(2)
            outcomes.append((yield outcome_after_cancel(task))[1].error)
        return outcomes

    swallowed, replaced = value(main())
    assert isinstance(swallowed, TaskCancelledError)
    assert isinstance(replaced, KeyError)


def test_ca_4_waiters_wake_when_the_task_has_ended():
    log = []

    @do
    def child(p):
        try:
            yield Wait(p.future)
        finally:
            yield Delay(10)
            log.append("ended")

    @do
    def main():
        task = yield Spawn(child((yield CreatePromise())))
        yield Delay(1)
        yield task.cancel()
        log.append((yield task.is_done()))
        yield Safe(Wait(task))
        log.append((yield task.is_done()))

    run(main(), store={"__current_time__": NOON})
    assert log == [False, "ended", True]


def test_ca_5_each_call_delivers_once():
    log = []

    @do
    def child(p):
        for i in range(3):
            try:
                yield Wait(p.future)
            except TaskCancelledError:
                log.append(i)

    @do
    def main():
        task = yield Spawn(child((yield CreatePromise())))
        yield Delay(1)
        states = []
        for _ in range(3):
            states.append((yield task.cancel()))
            yield Delay(1)
        states.append((yield task.is_done()))
        return states

    assert value(main(), store={"__current_time__": NOON}) == [True, True, True, True]
    assert log == [0, 1, 2]


def test_ca_6_cancelling_oneself():
    log = []

    @do
    def child(box):
        try:
            yield Cancel(box[0])
            log.append("not here")
        finally:
            log.append("cleanup")

    @do
    def main():
        box = []
        box.append((yield Spawn(child(box))))
        return (yield Safe(Wait(box[0])))

    assert isinstance(value(main()).error, TaskCancelledError)
    assert log == ["cleanup"]


def test_ca_7_safe_does_not_catch_ones_own_cancellation():
    log = []

    @do
    def child(p):
        while True:
            log.append((yield Safe(Wait(p.future))))

    @do
    def main():
        p = yield CreatePromise()
        task = yield Spawn(child(p))
        yield Delay(1)
        mine = yield outcome_after_cancel(task)
        other = yield Spawn(parked(p))
        yield Delay(1)
        yield other.cancel()
        return mine[1], (yield Safe(Wait(other)))

    mine, other = value(main(), store={"__current_time__": NOON})
    assert isinstance(mine.error, TaskCancelledError)
    assert isinstance(other.error, TaskCancelledError)
    assert log == []


def test_ca_8_semaphore_place_and_permit_on_its_way():
    log = []

    @do
    def child(s, name):
        yield AcquireSemaphore(s)
        log.append(name)

    @do
    def main():
        s = yield CreateSemaphore(1)
        yield AcquireSemaphore(s)
        a = yield Spawn(child(s, "a"))
        b = yield Spawn(child(s, "b"), priority=PRIORITY_IDLE)
        c = yield Spawn(child(s, "c"))
        yield Delay(1)
        yield a.cancel()  # gives up its place
        yield ReleaseSemaphore(s)  # the permit is on its way to b, which is not urgent
        yield b.cancel()  # and goes to c
        yield Wait(c)

    run(main(), store={"__current_time__": NOON})
    assert log == ["c"]


def test_ca_8_external_promise_loses_its_last_live_waiter():
    log = []

    @do
    def main():
        e = yield CreateExternalPromise()
        e.on_cancel(lambda: log.append("cancelled"))
        a = yield Spawn(Wait(e))
        b = yield Spawn(Race(e, (yield CreatePromise()).future))
        yield turns(3)
        yield a.cancel()
        assert log == []
        yield b.cancel()
        assert log == ["cancelled"]
        e.on_cancel(lambda: log.append("at once"))
        return e.complete(1), (yield Safe(Wait(e)))

    settled, outcome = value(main(), store={"__current_time__": NOON})
    assert settled is False
    assert isinstance(outcome.error, TaskCancelledError)
    assert log == ["cancelled", "at once"]


def test_ca_8_errors_of_callbacks_reach_the_canceller():
    @do
    def main():
        e = yield CreateExternalPromise()
        e.on_cancel(lambda: 1 / 0)
        e.on_cancel(lambda: log.append("second"))
        task = yield Spawn(Wait(e))
        yield turns(3)
        caught = yield Safe(task.cancel())
        return caught.error, (yield Safe(Wait(task))).error

    log = []
    error, outcome = value(main(), store={"__current_time__": NOON})
    assert isinstance(error, ExternalPromiseCancelCallbackError)
    assert [type(e) for e in error.errors] == [ZeroDivisionError]
    assert isinstance(outcome, TaskCancelledError)
    assert log == ["second"]


def test_ca_9_discard_performs_no_cleanup_effect():
    log = []

    @do
    def child(p, s):
        yield AcquireSemaphore(s)
        try:
            yield Wait(p.future)
        finally:
            log.append("closed")
            yield Put("k", 1)
            log.append("performed")

    @do
    def main():
        s = yield CreateSemaphore(1)
        p = yield CreatePromise()
        task = yield Spawn(child(p, s))
        yield Delay(1)
        waiter = yield Spawn(Wait(task))
        yield Delay(1)
        yield Discard(task)
        after = yield Safe(Wait(waiter))
        done = yield task.is_done()
        stuck = yield Spawn(AcquireSemaphore(s))
        yield Delay(1)
        return after.error, done, (yield stuck.is_done()), (yield stuck.cancel())

    error, done, got_permit, _ = value(main(), store={"__current_time__": NOON})
    assert isinstance(error, TaskCancelledError)
    assert (done, got_permit) == (True, False)
    assert log == ["closed"]


def test_ca_9_also_of_what_a_handler_of_it_holds():
    log = []

    @do
    def body():
        try:
            yield Ask("q")
        finally:
            log.append("closed")
            yield Put("k", 1)
            log.append("performed")

    @do
    def holds(effect, ctx):
        promise = yield CreatePromise()
        yield Wait(promise.future)

    @do
    def main():
        task = yield Spawn(WithHandler(holds, body()))
        yield Delay(1)
        yield Discard(task)
        yield turns(3)

    run(main(), store={"__current_time__": NOON})
    assert log == ["closed"]


def test_ca_9_an_error_of_the_closed_generator_is_told(monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", lambda what: told.append(what.exc_value))

    @do
    def child(error):
        try:
            yield Delay(1000)
        finally:
            with contextlib.suppress(GeneratorExit):
                yield Put("k", 1)
            raise error

    @do
    def main(error):
        task = yield Spawn(child(error))
        yield Delay(1)
        yield Discard(task)

    for kind in (RuntimeError, ValueError):
        run(main(kind("late")), store={"__current_time__": NOON})
    assert [repr(error) for error in told] == [
        "RuntimeError('late')",
        "ValueError('late')",
    ]


@pytest.mark.parametrize("deep", [0, 1], ids=["folded", "deeper"])
@pytest.mark.parametrize("end", [Wait, Cancel, Discard])
def test_two_tasks_with_one_generator(deep, end):
    def body():
        for _ in range(3):
            yield Delay(1)
        return "over"

    generator = body()

    @do
    def hands_it_out():
        return generator

    @do
    def around():
        return (yield hands_it_out())

    @do
    def main():
        program = around if deep else hands_it_out
        tasks = [(yield Spawn(program())), (yield Spawn(program()))]
        yield Delay(1.5)
        for task in tasks:
            yield Safe(end(task))
        gc.collect()
        return "whole"

    assert value(main(), store={"__current_time__": NOON}) == "whole"


def test_discarding_oneself_is_refused():
    @do
    def child(box):
        return (yield Safe(Discard(box[0])))

    @do
    def main():
        box = []
        box.append((yield Spawn(child(box))))
        return (yield Wait(box[0]))

    assert isinstance(value(main()).error, RuntimeError)


def test_a_cancelled_gather_of_gathers_unwinds_from_inside_out():
    log = []

    @do
    def nest(n, p):
        try:
            if n == 0:
                yield Wait(p.future)
            else:
                yield Gather(nest(n - 1, p))
        finally:
            yield Put("k", n)
            log.append(n)

    @do
    def main():
        p = yield CreatePromise()
        task = yield Spawn(nest(50, p))
        yield Delay(1)
        return (yield outcome_after_cancel(task))

    assert isinstance(
        value(main(), store={"__current_time__": NOON})[1].error, TaskCancelledError
    )
    assert log == list(range(51))


@pytest.mark.deep
@pytest.mark.parametrize("end", ["cancel", "discard", "drop"])
def test_ro_6_gathers_inside_gathers_100_000_deep(end):
    ready = []

    @do
    def nest(n, p):
        if n == 0:
            ready.append(1)
            yield Wait(p.future)
        return (yield Gather(nest(n - 1, p)))

    @do
    def main():
        p = yield CreatePromise()
        task = yield Spawn(nest(100_000, p), daemon=True)
        while not ready:
            yield task.is_done()
        if end == "cancel":
            yield task.cancel()
        elif end == "discard":
            yield Discard(task)
        else:
            return None
        return (yield Safe(Wait(task))).error

    error = value(main())
    assert error is None or isinstance(error, TaskCancelledError)


def test_a_task_that_catches_everything_ends():
    @do
    def child(box):
        try:
            yield Wait(box[0])
        except SchedulerDeadlockError as error:
            return str(error)

    @do
    def main():
        box = []
        box.append((yield Spawn(child(box))))
        return (yield Wait(box[0]))

    assert value(main()).startswith("Deadlock:")


def test_handles_pin_neither_frames_nor_the_run():
    class Thing:
        pass

    refs = []

    @do
    def child():
        thing = Thing()
        refs.append(weakref.ref(thing))
        yield Wait((yield CreatePromise()).future)

    @do
    def main():
        task = yield Spawn(child())
        yield turns(3)
        yield Discard(task)
        return task

    task = value(main())
    gc.collect()
    assert refs[0]() is None
    assert "cancelled" in repr(task)


def test_a_member_that_discards_its_gathers_owner_is_cancelled():
    """GA-6, CA-9: the running task is in the middle of an effect and cannot be killed."""
    ends = []

    @do
    def member(owner):
        try:
            yield Discard(owner[0])
            ends.append("went on")
        finally:
            yield Put("cleanup", 1)
            ends.append("cleaned up")

    @do
    def owns(owner):
        yield Gather(member(owner), Delay(1))

    @do
    def main():
        owner = []
        owner.append((yield Spawn(owns(owner))))
        outcome = yield Safe(Wait(owner[0]))
        yield Delay(0)
        return outcome

    result = sync_run(main(), sync_handlers_preset)
    assert isinstance(result.value.error, TaskCancelledError)
    assert ends == ["cleaned up"]


def test_ca_7_the_first_of_two_cancellations_is_not_caught_by_safe_either():
    log = []

    @do
    def cleans_up():
        try:
            yield Delay(100)
        except TaskCancelledError:
            try:
                yield Delay(100)
            except TaskCancelledError:
                log.append("hurried")
            raise

    @do
    def body():
        yield Safe(cleans_up())
        log.append("survived")

    @do
    def main():
        task = yield Spawn(body())
        for _ in range(2):
            yield Delay(1)
            yield task.cancel()
        return (yield Safe(Wait(task))).error

    assert isinstance(
        value(main(), store={"__current_time__": NOON}), TaskCancelledError
    )
    assert log == ["hurried"]


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("how", ["ask", "cache"])
def test_who_waits_for_a_killed_tasks_work_does_it_again(wrap, how):
    """Also where a handler that sees every effect is at work on the one that evaluates."""
    evaluations = []

    @do
    def work():
        evaluations.append(1)
        yield Delay(100)
        return 5

    @cache(ttl=1000)
    @do
    def cached():
        return (yield work())

    @do
    def passes_on(effect, ctx):
        return (yield effect)

    @do
    def asks():
        return (yield Ask("lazy") if how == "ask" else cached())

    @do
    def main():
        first = yield Spawn(WithHandler(passes_on, asks()) if wrap else asks())
        yield Delay(1)
        second = yield Spawn(asks())
        yield Delay(1)
        yield Discard(first)
        return (yield Wait(second)), len(evaluations)

    assert value(main(), env={"lazy": work()}, store={"__current_time__": NOON}) == (
        5,
        2,
    )
