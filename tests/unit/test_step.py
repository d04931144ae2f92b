"""step(state): a program driven by hand, one turn of the machine at a time."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

from doeff import (
    Ask,
    EffectBase,
    Get,
    Local,
    Put,
    Safe,
    Spawn,
    Tell,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.result import Done, Failed, PythonAsyncSyntaxEscape
from doeff.cesk.state import CESKState, EffectControl, Error, ProgramControl, Value
from doeff.cesk.step import step


class Choose(EffectBase):
    pass


class Other(EffectBase):
    pass


def under_preset(program):
    for handler in reversed(sync_handlers_preset):
        program = WithHandler(handler, program)
    return program


def drive(program, env=None, store=None):
    state = CESKState.initial(program, env, store)
    while isinstance(state, CESKState):
        state = step(state)
    return state


def same_as_run(program, env=None, store=None):
    """The end of the program by hand, compared with that of a run."""
    end = drive(under_preset(program), env, dict(store or {}))
    result = sync_run(program, sync_handlers_preset, env=env, store=store)
    assert end.store == result.raw_store
    if result.is_ok():
        assert isinstance(end, Done)
        assert end.value == result.value
    else:
        assert isinstance(end, Failed)
        assert type(end.exception) is type(result.error)
        assert end.exception.args == result.error.args
        places = [f.location.function for f in end.captured_traceback.effect_frames]
        ran = [f.location.function for f in result.captured_traceback.effect_frames]
        assert places == ran
    return end


@do
def inner(x):
    yield Put("n", x)
    return (yield Get("n")) + 1


@do
def main():
    a = yield inner(3)
    failed = yield Safe(inner("s"))
    b = yield Local({"k": 8}, Ask("k"))
    yield Tell("done")
    return a, failed.is_err(), b, (yield Ask("k"))


def test_a_program_by_hand_gives_what_a_run_gives():
    assert same_as_run(main(), {"k": 7}).value == (4, True, 8, 7)
    same_as_run(main(), {})
    same_as_run(inner("text"))


def test_the_states_on_the_way():
    state = CESKState.initial(under_preset(inner(1)), {}, {})
    controls = []
    while isinstance(state, CESKState):
        controls.append(state.C)
        state = step(state)
    shown = [c for c in controls if not isinstance(c, ProgramControl)][-9:]
    assert EffectControl(Put("n", 1)) in controls
    assert EffectControl(Get("n")) in controls
    assert shown[-1] == Value(2)
    assert state == Done(2, {"n": 1})


def test_one_step_resumes_one_generator_or_calls_one_handler():
    log = []

    @do
    def handler(effect, ctx):
        log.append("handler")
        return 1
        yield

    @do
    def program():
        log.append("start")
        yield Choose()
        log.append("end")

    state = CESKState.initial(WithHandler(handler, program()))
    most = 0
    while isinstance(state, CESKState):
        before = len(log)
        state = step(state)
        most = max(most, len(log) - before)
    assert log == ["start", "handler", "end"]
    assert most == 1


def test_handlers_tasks_and_unwinding():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            rest = yield ctx.resume(1)
            return [rest]
        return (yield effect)

    @do
    def leaver(effect, ctx):
        if isinstance(effect, Choose):
            return ctx.abandon("left")
        return (yield effect)

    @do
    def program():
        try:
            return (yield Choose()), (yield Safe(Choose()))
        finally:
            yield Put("closed", True)

    @do
    def tasks():
        task = yield Spawn(inner(4))
        return (yield Wait(task))

    assert same_as_run(WithHandler(handler, program())).store == {"closed": True}
    assert same_as_run(WithHandler(leaver, program())).store == {"closed": True}
    assert same_as_run(tasks()).value == 5


def test_first_and_last_states():
    assert step(CESKState(Value(3))) == Done(3, {})
    error = ValueError("no")
    end = step(CESKState(Error(error), S={"a": 1}))
    assert isinstance(end, Failed)
    assert end.exception is error
    assert end.store == {"a": 1}
    assert isinstance(drive(5), Failed)
    assert "Cannot convert int" in str(drive(5).exception)
    assert "No handler" in str(drive(Ask("k")).exception)


def test_a_hand_made_continuation():
    class Frame:
        def on_value(self, value, env, store, k):
            return CESKState.with_value(value + 1, env, store, k)

        def on_error(self, error, env, store, k):
            return CESKState.with_value("caught", env, store, k)

    def finish(state):
        while isinstance(state, CESKState):
            state = step(state)
        return state

    assert finish(CESKState(Value(1), K=[Frame(), Frame()])).value == 3
    assert finish(CESKState(Error(ValueError()), K=[Frame()])).value == "caught"
    junk = finish(CESKState(Value(1), K=[object()]))
    assert "on_value and on_error" in str(junk.exception)
    state = step(CESKState.initial(WithHandler(lambda e, c: None, Choose())))
    pushed = CESKState(Value(1), state.E, state.S, [Frame(), *state.K])
    assert finish(pushed).value == 2


def test_a_control_can_be_replaced():
    @do
    def program():
        return (yield Choose())

    state = step(CESKState.initial(program()))
    assert state.C.effect.__class__ is Choose
    answered = CESKState(Value("mine"), state.E, state.S, state.K)
    last = step(answered)
    assert step(last) == Done("mine", {})


def test_a_stale_state_is_an_error():
    first = CESKState.initial(under_preset(inner(1)))
    second = step(first)
    third = step(second)
    with pytest.raises(RuntimeError, match=r"already resumed.*after step 1"):
        step(second)
    # nothing has begun in the first: a run of its own
    assert isinstance(step(first), CESKState)
    while isinstance(third, CESKState):
        last, third = third, step(third)
    with pytest.raises(RuntimeError, match="the last one"):
        step(last)


def test_wrong_states():
    with pytest.raises(TypeError, match=r"takes a CESKState, got int"):
        step(5)
    with pytest.raises(TypeError, match="has ended"):
        step(Done(1, {}))
    with pytest.raises(TypeError, match="C must be Value"):
        step(CESKState(C=5))
    with pytest.raises(TypeError, match="S must be a dict"):
        step(CESKState(Value(1), S=[]))
    with pytest.raises(TypeError, match="ex of Error"):
        step(CESKState(Error(5)))
    with pytest.raises(TypeError, match="k must be"):
        step(CESKState(Value(1), K=5))


def test_a_continuation_of_a_run_is_not_for_step():
    kept = []

    @do
    def handler(effect, ctx):
        kept.append(ctx.k)
        return 1
        yield

    sync_run(WithHandler(handler, Choose()), [])
    with pytest.raises(RuntimeError, match="belongs to a handler"):
        step(CESKState(Value(1), K=kept[0]))


def test_stepping_from_inside_a_step():
    states = []

    @do
    def program():
        try:
            step(states[0])
        except RuntimeError as error:
            return str(error)
        yield Choose()

    states.append(step(CESKState.initial(WithHandler(lambda e, c: None, program()))))
    state = step(states[0])
    assert "being stepped at this moment" in state.C.v


def test_other_threads_may_go_on():
    state = CESKState.initial(under_preset(main()), {"k": 7})
    ends = []

    def go_on(state):
        for _ in range(5):
            if not isinstance(state, CESKState):
                break
            state = step(state)
        ends.append(state)

    while isinstance(state, CESKState):
        thread = threading.Thread(target=go_on, args=(state,))
        thread.start()
        thread.join()
        state = ends.pop()
    assert state.value == (4, True, 8, 7)


def test_an_abandoned_program_is_closed():
    class Marker:
        pass

    log = []

    @do
    def program(marker):
        try:
            yield Choose()
        finally:
            log.append("closed")

    @do
    def handler(effect, ctx):
        yield Get("x")

    marker = Marker()
    gone = weakref.ref(marker)
    for steps in range(1, 6):
        state = CESKState.initial(WithHandler(handler, program(marker)))
        for _ in range(steps):
            state = step(state)
        del state
    del marker
    gc.collect()
    assert gone() is None
    assert log == ["closed"] * 4


def test_a_state_kept_by_its_own_program_is_collected():
    class Marker:
        pass

    @do
    def program(box):
        yield Choose()

    box = Marker()
    gone = weakref.ref(box)
    box.state = step(CESKState.initial(program(box)))
    del box
    gc.collect()
    assert gone() is None


# ---- escapes: the loop of the specification ----------------------------------------


async def async_loop(program, env=None, store=None):
    state = CESKState.initial(program, env, store)
    while True:
        result = step(state)
        if isinstance(result, PythonAsyncSyntaxEscape):
            state = await result.action()
            continue
        if isinstance(result, Done):
            return result.value
        if isinstance(result, Failed):
            raise result.exception
        await asyncio.sleep(0)
        state = result


def test_the_loop_of_the_specification():
    assert asyncio.run(async_loop(under_preset(main()), {"k": 7})) == (4, True, 8, 7)
    with pytest.raises(KeyError):
        asyncio.run(async_loop(under_preset(main())))


def test_what_an_escape_answers():
    async def four():
        await asyncio.sleep(0)
        return 4

    @do
    def program():
        awaited = yield PythonAsyncSyntaxEscape(four)
        task = yield PythonAsyncSyntaxEscape(lambda: asyncio.create_task(four()))
        plain = yield PythonAsyncSyntaxEscape(lambda: "plain")
        try:
            yield PythonAsyncSyntaxEscape(lambda: 1 // 0)
        except ZeroDivisionError:
            return awaited, isinstance(task, asyncio.Task), plain

    assert asyncio.run(async_loop(program())) == (4, True, "plain")


def test_the_state_of_an_escape():
    @do
    def program():
        return (yield PythonAsyncSyntaxEscape(lambda: 3))

    escape = step(step(CESKState.initial(program(), {"e": 1}, {"s": 2})))
    assert isinstance(escape, PythonAsyncSyntaxEscape)
    state = asyncio.run(escape.action())
    found = (state.C, state.E, state.S)
    assert found == (Value(3), {"e": 1}, {"s": 2})
    assert len(state.K) == 1
    assert step(step(state)) == Done(3, {"s": 2})
    assert isinstance(
        step(CESKState(EffectControl(PythonAsyncSyntaxEscape(lambda: 1)))),
        PythonAsyncSyntaxEscape,
    )


def test_an_escape_as_a_value_is_a_value():
    escape = PythonAsyncSyntaxEscape(lambda: 1)
    assert step(CESKState(Value(escape))) == Done(escape, {})


# ---- one-shot continuations name both places ----------------------------------------


def test_a_second_resume_names_both_handlers():
    kept = []

    @do
    def first(effect, ctx):
        if isinstance(effect, Choose):
            kept.append(ctx)
            return 1
        return (yield effect)

    @do
    def second(effect, ctx):
        if isinstance(effect, Other):
            return CESKState.with_value(2, ctx.env, ctx.store, kept[0].k)
        return (yield effect)

    @do
    def program():
        yield Choose()
        return (yield Other())

    result = sync_run(WithHandler(second, WithHandler(first, program())), [])
    text = str(result.error)
    assert text.startswith("continuation already resumed")
    assert "Choose" in text
    assert f"first ({__file__}:" in text
    assert f"second ({__file__}:" in text


def test_a_task_left_half_way_leaves_its_context():
    variable = contextvars.ContextVar("variable")

    @do
    def child():
        yield Get("s")
        yield Get("s")

    @do
    def program():
        yield Wait((yield Spawn(child())))

    for steps in range(1, 20):
        variable.set("before")
        state = CESKState.initial(under_preset(program()), {}, {"s": 0})
        for _ in range(steps):
            state = step(state)
        variable.set("mine")
        del state
        assert variable.get() == "mine", steps
