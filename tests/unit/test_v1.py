"""The first handler API: a dictionary of plain functions over the same machine."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import pytest

import doeff
from doeff import (
    IO,
    Ask,
    CacheGet,
    CachePut,
    CESKState,
    CompletePromise,
    CreatePromise,
    EffectBase,
    FrozenDict,
    Gather,
    Get,
    GetTime,
    Intercept,
    InterpreterInvariantError,
    Listen,
    Local,
    Modify,
    Program,
    Pure,
    Put,
    Race,
    RuntimeResult,
    Safe,
    Spawn,
    Step,
    Tell,
    UnhandledEffectError,
    Wait,
    WithHandler,
    _engine,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk import AsyncRuntime, SyncRuntime, TaskDone, default_handlers, state
from doeff.cesk.frames import (
    ContinueError,
    ContinueGenerator,
    ContinueProgram,
    ContinueValue,
    FrameResult,
    LocalFrame,
    ReturnFrame,
)
from doeff.cesk.state import (
    AwaitExternal,
    CreateFuture,
    CreateSpawn,
    CreateTask,
    EffectControl,
    PerformEffect,
    PerformIO,
    Ready,
    Request,
    ResolveFuture,
    TaskState,
)
from doeff.cesk.types import FutureHandle, FutureId, SpawnId, TaskHandle, TaskId
from doeff.effects.io import IOPerformEffect
from doeff.effects.pure import PureEffect
from doeff.effects.reader import AskEffect, LocalEffect
from doeff.effects.state import StateGetEffect, StatePutEffect


class E(EffectBase):
    def __init__(self, n=0):
        self.n = n


class Narrower(E):
    pass


def value_of(value, ts, store, k=None, env=None):
    return ContinueValue(
        value=value,
        env=ts.env if env is None else env,
        store=store,
        k=ts.kontinuation if k is None else k,
    )


def add_one(effect, ts, store):
    return value_of(effect.n + 1, ts, store)


def run(program, handlers, env=None, store=None):
    return SyncRuntime(handlers=handlers).run(program, env, store)


@do
def three(effect=E):
    return (yield effect(1)), (yield effect(2)), (yield effect(3))


# ---- answering ------------------------------------------------------------------------------------


def test_a_value():
    result = run(three(), {E: add_one})
    assert isinstance(result, RuntimeResult)
    assert result.value == (2, 3, 4)


def test_partial_and_whole_dictionaries_mean_the_same():
    @do
    def program():
        yield Put("x", (yield E(1)))
        return (yield Get("x")), (yield Ask("a"))

    whole = default_handlers()
    whole[E] = add_one
    for handlers in ({E: add_one}, whole):
        assert run(program(), handlers, env={"a": 5}).value == (2, 5)
    for handlers in (None, {}, default_handlers()):
        assert run(Get("x"), handlers, store={"x": 1}).value == 1
        with pytest.raises(UnhandledEffectError, match="No handler for E"):
            run(E(), handlers)


def test_the_dictionary_is_read_when_the_runtime_is_made():
    handlers = {E: add_one}
    runtime = SyncRuntime(handlers)
    del handlers[E]
    assert runtime.run(E(1)).value == 2
    assert runtime.run(E(2)).value == 3


def test_look_up_is_by_class_then_by_its_bases():
    assert run(three(Narrower), {E: add_one}).value == (2, 3, 4)
    both = {E: add_one, Narrower: lambda e, ts, s: value_of("narrow", ts, s)}
    assert run(Narrower(1), both).value == "narrow"
    assert run(E(1), both).value == 2
    everything = {EffectBase: lambda e, ts, s: value_of("any", ts, s)}
    assert run(Narrower(1), everything).value == "any"
    assert run(Get("x"), everything, store={"x": 1}).value == 1

    class Mixin:
        pass

    class Mixed(Mixin, EffectBase):
        pass

    assert run(Mixed(), {Mixin: lambda e, ts, s: value_of("mixed", ts, s)}).value == (
        "mixed"
    )


def test_built_in_effects_can_be_replaced():
    handlers = default_handlers()
    handlers[StateGetEffect] = lambda e, ts, s: value_of(e.key.upper(), ts, s)

    class MyGet(StateGetEffect):
        pass

    assert run(Get("x"), handlers).value == "X"
    assert run(MyGet("y"), handlers).value == "Y"
    assert run(MyGet("x"), default_handlers(), store={"x": 1}).value == 1


def test_pure_effects_are_dispatched_only_if_the_dictionary_names_them():
    seen = []

    def handle(effect, ts, store):
        seen.append(effect.value)
        return value_of(effect.value * 2, ts, store)

    @do
    def double(x):
        return (yield Pure(x)), (yield Program.pure(x).map(lambda v: v + 1))

    assert run(double(3), {PureEffect: handle}).value == (6, 7)
    assert run(double(Pure(1)), {PureEffect: handle}).value == (4, 5)
    assert seen == [3, 3, 1, 2, 2]
    assert run(double(3), default_handlers()).value == (3, 4)
    assert run(Pure(3), {E: add_one}).value == 3


def test_what_a_handler_is_given():
    seen = {}

    def handle(effect, ts, store):
        seen.update(
            control=ts.control,
            env=ts.env,
            status=ts.status,
            names=[type(f).__name__ for f in ts.kontinuation],
            store=store,
            state=ts,
        )
        assert ts.control is ts.control
        return value_of(None, ts, store)

    @do
    def outer():
        return (yield Local({"b": 2}, E(7).map(str)))

    result = run(outer(), {E: handle}, env={"a": 1}, store={"s": 1})
    assert result.value == "None"
    assert isinstance(seen["control"], EffectControl)
    assert seen["control"].effect.n == 7
    assert seen["env"] == {"a": 1, "b": 2}
    assert isinstance(seen["env"], FrozenDict)
    assert seen["status"] == Ready()
    assert "LocalFrame" in seen["names"]
    assert "ReturnFrame" in seen["names"]
    assert seen["names"].index("LocalFrame") < seen["names"].index("ReturnFrame")
    assert seen["store"] == {"s": 1}
    assert "TaskState(control=EffectControl(" in repr(seen["state"])


def test_the_store():
    def mutate(effect, ts, store):
        store["a"] = effect.n
        return value_of(None, ts, store)

    def copy(effect, ts, store):
        return value_of(None, ts, {**store, "b": effect.n})

    @do
    def program():
        yield E(1)
        yield Narrower(2)
        yield Put("c", 3)
        return (yield Get("a")), (yield Get("b"))

    mine = {}
    result = run(program(), {E: mutate, Narrower: copy}, store=mine)
    assert result.value == (1, 2)
    assert result.raw_store == {"a": 1, "b": 2, "c": 3}
    assert mine == {}


# ---- errors ---------------------------------------------------------------------------------------


@do
def catching(effect: EffectBase | None = None):
    try:
        yield E() if effect is None else effect
    except Exception as error:
        return error


def test_errors_of_handlers_are_raised_at_the_yield():
    def give(effect, ts, store):
        return ContinueError(ValueError("given"), ts.env, store, ts.kontinuation)

    def fail(effect, ts, store):
        raise ValueError("raised")

    for handler, text in ((give, "given"), (fail, "raised")):
        error = run(catching(), {E: handler}).value
        assert type(error) is ValueError
        assert str(error) == text
        result = run(three(), {E: handler})
        assert str(result.error) == text
        assert "-> E(n=1)" in result.format()


def test_other_exceptions_of_handlers():
    def stop(effect, ts, store):
        raise StopIteration(5)

    error = run(catching(), {E: stop}).value
    assert type(error) is RuntimeError
    assert type(error.__cause__) is StopIteration

    def interrupt(effect, ts, store):
        raise KeyboardInterrupt

    cleaned = []

    @do
    def program():
        try:
            yield E()
        finally:
            cleaned.append((yield Get("x")))

    with pytest.raises(KeyboardInterrupt):
        run(program(), {E: interrupt}, store={"x": 1})
    assert cleaned == [1]


async def coroutine_handler(effect, ts, store):
    return None


def generator_handler(effect, ts, store):
    yield 1


@do
def do_handler(effect, ts, store):
    yield effect


@pytest.mark.parametrize(
    ("handler", "text"),
    [
        (lambda e, ts, s: 5, "got int"),
        (lambda e, ts, s: None, "got NoneType: is a return missing"),
        (coroutine_handler, "AwaitExternal"),
        (generator_handler, "plain functions"),
        (do_handler, "ContinueProgram"),
        (lambda e, ts, s: CreateFuture(), "value of a ContinueValue"),
        (
            lambda e, ts, s: CESKState.with_value(1, ts.env, s, ts.kontinuation),
            "sync_run",
        ),
        (lambda e, ts, s: FrameResult, "got type"),
    ],
)
def test_what_is_no_frame_result(handler, text):
    error = run(catching(), {E: handler}).value
    assert type(error) is TypeError
    assert "must return ContinueValue, ContinueProgram" in str(error)
    assert text in str(error)
    assert getattr(handler, "__qualname__", "do_handler") in str(error)
    assert "for E," in str(error)


class Callable:
    def __call__(self, effect, ts, store):
        return 5

    def __repr__(self):
        return "<mine>"


def test_handlers_without_a_name():
    assert "v1 handler <mine>" in str(run(catching(), {E: Callable()}).value)


class OnlyValue:
    def on_value(self, value, env, store, k):
        return CESKState.with_value(value, env, store, k)


class BadProperty:
    @property
    def on_value(self):
        raise ArithmeticError("in a property")


def ended():
    generator = (x for x in ())
    list(generator)
    return generator


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda ts, s: value_of(1, ts, s, env=5), TypeError, "env must be a mapping"),
        (lambda ts, s: value_of(1, ts, 5), TypeError, "store must be a dict, got int"),
        (lambda ts, s: value_of(1, ts, s, k=5), TypeError, "k must be a continuation"),
        (lambda ts, s: value_of(1, ts, s, k=[1]), TypeError, "k must be"),
        (
            lambda ts, s: value_of(1, ts, s, k=[5, *ts.kontinuation]),
            InterpreterInvariantError,
            "int in k is no frame, it has no method on_value",
        ),
        (
            lambda ts, s: value_of(1, ts, s, k=[OnlyValue()] + ts.kontinuation),  # noqa: RUF005
            InterpreterInvariantError,
            "OnlyValue in k is no frame, it has no method on_error",
        ),
        (
            lambda ts, s: ContinueProgram(5, ts.env, s, ts.kontinuation),
            TypeError,
            "must be a Program, got int",
        ),
        (
            lambda ts, s: ContinueProgram(three, ts.env, s, ts.kontinuation),
            TypeError,
            "call the @do function",
        ),
        (
            lambda ts, s: ContinueProgram(
                generator_handler(0, 0, 0), ts.env, s, ts.kontinuation
            ),
            TypeError,
            "ContinueGenerator",
        ),
        (
            lambda ts, s: ContinueError("no", ts.env, s, ts.kontinuation),
            TypeError,
            "must be an exception, got str",
        ),
        (
            lambda ts, s: ContinueError(ValueError, ts.env, s, ts.kontinuation),
            TypeError,
            "make an instance",
        ),
        (
            lambda ts, s: ContinueGenerator(5, None, None, ts.env, s, ts.kontinuation),
            TypeError,
            "must be a generator, got int",
        ),
        (
            lambda ts, s: ContinueGenerator(
                generator_handler(0, 0, 0), None, 5, ts.env, s, ts.kontinuation
            ),
            TypeError,
            "throw_error must be an exception",
        ),
        (
            lambda ts, s: ContinueGenerator(
                ended(), None, None, ts.env, s, ts.kontinuation
            ),
            RuntimeError,
            "has ended already",
        ),
    ],
)
def test_wrong_fields_name_the_handler(make, kind, text):
    def handle_it(effect, ts, store):
        return make(ts, store)

    error = run(catching(), {E: handle_it}).value
    assert type(error) is kind
    assert text in str(error)
    assert "handle_it" in str(error)


def test_errors_of_the_users_own_objects_stay_as_they_are():
    def handle(effect, ts, store):
        return value_of(1, ts, store, k=[BadProperty()] + ts.kontinuation)  # noqa: RUF005

    error = run(catching(), {E: handle}).value
    assert type(error) is ArithmeticError


def test_requests_check_their_arguments():
    for make in (
        lambda: PerformIO(5),
        lambda: CreateTask(three),
        lambda: CreateSpawn(5, "thread"),
        lambda: CreateSpawn(three(), 5),
        lambda: PerformEffect(three()),
    ):
        with pytest.raises(TypeError, match=r"must be (callable|Program|str|Effect)"):
            make()
    with pytest.raises(ValueError, match="backend must be 'thread' or 'process'"):
        CreateSpawn(three(), "cloud")


@pytest.mark.parametrize(
    ("handlers", "text"),
    [
        (5, "must be a dict"),
        ([add_one], "for sync_run"),
        (sync_handlers_preset, "for sync_run"),
        ("handlers", "must be a dict"),
        ({5: add_one}, "keys must be classes of effects, got 5"),
        ({Get: add_one}, "class of its effects is doeff.effects.state.StateGetEffect"),
        ({len: add_one}, "keys must be classes"),
        ({int: add_one}, "int is no class of effects"),
        ({WithHandler: add_one}, "never reaches a handler"),
        ({E: 5}, "must be a handler"),
        ({E: None}, "must be a handler"),
    ],
)
def test_wrong_dictionaries(handlers, text):
    for runtime in (SyncRuntime, AsyncRuntime):
        with pytest.raises(TypeError, match="handlers") as caught:
            runtime(handlers)
        assert text in str(caught.value)


def test_wrong_programs_and_environments():
    runtime = SyncRuntime({E: add_one})
    assert "Cannot convert int to generator" in str(runtime.run(5).error)
    with pytest.raises(TypeError, match="env must be a mapping"):
        runtime.run(E(), env=5)
    with pytest.raises(TypeError, match="store must be a mapping"):
        runtime.run(E(), store=5)


def test_wrong_signatures():
    error = run(catching(), {E: lambda effect: None}).value
    assert type(error) is TypeError
    assert "positional argument" in str(error)


# ---- programs -------------------------------------------------------------------------------------


def test_a_program_runs_where_the_effect_was_performed():
    @do
    def inner():
        told = yield Ask("a")
        return told, (yield E(5)), (yield Narrower())

    def handle(effect, ts, store):
        if effect.n:
            return value_of(effect.n, ts, store)
        return ContinueProgram(
            inner(), ts.env | FrozenDict(a=1), store, ts.kontinuation
        )

    @do
    def narrow(effect: Narrower, ctx):
        return "narrow"

    @do
    def program():
        return (yield E()), (yield Ask("a"))

    whole = WithHandler(handler=narrow, program=program())
    assert run(whole, {E: handle}, env={"a": 0}).value == ((1, 5, "narrow"), 0)


def test_a_program_for_a_forwarded_effect_runs_at_its_origin():
    @do
    def forward(effect, ctx):
        return (yield effect)

    @do
    def answer(effect: Narrower, ctx):
        return "narrow"

    def handle(effect, ts, store):
        return ContinueProgram(
            Narrower().map(str.upper), ts.env, store, ts.kontinuation
        )

    @do
    def program():
        return (yield E())

    inside = WithHandler(handler=answer, program=program())
    for outside in (inside, WithHandler(handler=forward, program=inside)):
        layers = {E: handle, Narrower: add_one}
        assert run(outside, layers).value == "NARROW"


def test_v2_handlers_inside_see_effects_first():
    @do
    def doubled(effect: E, ctx):
        return 2 * (yield effect)

    program = WithHandler(handler=doubled, program=three())
    assert run(program, {E: add_one}).value == (4, 6, 8)


def test_generators():
    log = []

    def steps():
        try:
            log.append((yield Get("x")))
            log.append((yield E(1)))
        except ValueError as error:
            log.append(str(error))
        return "end"

    def fresh(effect, ts, store):
        if effect.n:
            return value_of(effect.n, ts, store)
        return ContinueGenerator(steps(), None, None, ts.env, store, ts.kontinuation)

    assert run(E(), {E: fresh}, store={"x": 5}).value == "end"
    assert log == [5, 1]
    log.clear()

    def suspended(value, error):
        def handle(effect, ts, store):
            generator = steps()
            next(generator)
            return ContinueGenerator(
                generator=generator,
                send_value=value,
                throw_error=error,
                env=ts.env,
                store=store,
                k=ts.kontinuation,
                program_call=three(),
            )

        return handle

    assert run(E(), {E: suspended(7, ValueError("thrown"))}).value == "end"
    assert log == ["thrown"]
    log.clear()

    def once(effect, ts, store):
        if effect.n:
            return ContinueError(ValueError("at E"), ts.env, store, ts.kontinuation)
        return suspended(7, None)(effect, ts, store)

    assert run(E(), {E: once}).value == "end"
    assert log == [7, "at E"]


def test_resuming_the_generator_of_a_frame_by_hand():
    """The generator of k's first frame with the rest of k is k itself."""

    def by_value(effect, ts, store):
        frame, rest = ts.kontinuation[0], ts.kontinuation[1:]
        assert isinstance(frame, ReturnFrame)
        return ContinueGenerator(
            frame.generator, effect.n * 10, None, ts.env, store, rest
        )

    def by_error(effect, ts, store):
        frame, rest = ts.kontinuation[0], ts.kontinuation[1:]
        error = ValueError("thrown")
        return ContinueGenerator(frame.generator, None, error, ts.env, store, rest)

    assert run(three(), {E: by_value}).value == (10, 20, 30)
    assert str(run(catching(), {E: by_error}).value) == "thrown"


# ---- continuations --------------------------------------------------------------------------------


class Doubling:
    """A frame, its results as the two APIs word them."""

    def __init__(self, v1):
        self.v1 = v1

    def on_value(self, value, env, store, k):
        if self.v1:
            return ContinueValue(value * 2, env, store, k)
        return CESKState.with_value(value * 2, env, store, k)

    def on_error(self, error, env, store, k):
        return ContinueValue(f"no {error}", env, store, k)


@pytest.mark.parametrize("v1", [True, False])
def test_frames_in_front(v1):
    def handle(effect, ts, store):
        return value_of(effect.n, ts, store, k=[Doubling(v1)] + ts.kontinuation)  # noqa: RUF005

    def as_list(effect, ts, store):
        return value_of(effect.n, ts, store, k=[Doubling(v1), *ts.kontinuation])

    def fail(effect, ts, store):
        k = [Doubling(v1)] + ts.kontinuation  # noqa: RUF005
        return ContinueError(ValueError("way"), ts.env, store, k)

    assert run(three(), {E: handle}).value == (2, 4, 6)
    assert run(three(), {E: as_list}).value == (2, 4, 6)
    assert run(three(), {E: fail}).value == ("no way",) * 3


def test_frames_give_every_kind_of_result():
    class Frame:
        def __init__(self, make):
            self.make = make

        def on_value(self, value, env, store, k):
            return self.make(value, env, store, k)

        def on_error(self, error, env, store, k):
            return ContinueError(error, env, store, k)

    def numbers():
        return (yield Get("x")) + 1

    def with_frame(make):
        def handle(effect, ts, store):
            return value_of(effect.n, ts, store, k=[Frame(make)] + ts.kontinuation)  # noqa: RUF005

        return run(catching(E(1).map(str)), {E: handle}, store={"x": 41})

    @do
    def catching(program: Program):
        try:
            return (yield program)
        except Exception as error:
            return error

    assert (
        with_frame(lambda v, e, s, k: ContinueProgram(Get("x"), e, s, k)).value == "41"
    )
    assert (
        with_frame(
            lambda v, e, s, k: ContinueGenerator(numbers(), None, None, e, s, k)
        ).value
        == "42"
    )
    error = with_frame(lambda v, e, s, k: ContinueError(KeyError(1), e, s, k)).value
    assert type(error) is KeyError
    for junk in (5, ContinueProgram(5, {}, {}, []), ContinueValue(1, {}, {}, 7)):
        assert type(with_frame(lambda v, e, s, k, j=junk: j).value) is TypeError
    request = PerformIO(print)  # only a handler's request is performed
    assert with_frame(lambda v, e, s, k: ContinueValue(request, e, s, k)).value == str(
        request
    )


def test_an_empty_continuation_ends_the_run():
    log = []

    @do
    def inner():
        try:
            yield E(1)
            log.append("went on")
        finally:
            log.append((yield Get("x")))

    @do
    def outer():
        yield inner()
        log.append("outer went on")

    def end(effect, ts, store):
        return value_of("ended", ts, store, k=[])

    assert run(outer(), {E: end}, store={"x": "cleaned"}).value == "ended"
    assert log == ["cleaned"]

    def fail(effect, ts, store):
        return ContinueError(ValueError("ended"), ts.env, store, [])

    assert str(run(outer(), {E: fail}, store={"x": 1}).error) == "ended"


def test_leaving_frames_out():
    log = []

    @do
    def inner():
        try:
            yield E()
            log.append("went on")
        finally:
            log.append((yield Get("x")))

    @do
    def outer():
        return "outer", (yield inner())

    def handle(effect, ts, store):
        assert isinstance(ts.kontinuation[0], ReturnFrame)
        return value_of("instead", ts, store, k=ts.kontinuation[1:])

    result = run(outer(), {E: handle}, store={"x": "cleaned"})
    assert result.value == ("outer", "instead")
    assert log == ["cleaned"]


def test_a_continuation_is_resumed_once():
    kept = []

    def keep(effect, ts, store):
        if effect.n == 1:
            kept.append(ts.kontinuation)
            return value_of("first", ts, store)
        return value_of("again", ts, store, k=kept[0])

    @do
    def program():
        first = yield E(1)
        try:
            return first, (yield E(2))
        except RuntimeError as error:
            return first, str(error)

    first, text = run(program(), {E: keep}).value
    assert first == "first"
    assert text.startswith("continuation already resumed")


def test_continuations_can_be_kept_and_exchanged():
    """Two programs that hand values to each other, each in the other's place."""
    waiting = []
    log = []

    class Swap(EffectBase):
        def __init__(self, value):
            self.value = value

    @do
    def other():
        got = yield Swap("from other 1")
        log.append(got)
        got = yield Swap("from other 2")
        log.append(got)

    @do
    def main():
        log.append((yield Swap("from main 1")))
        log.append((yield Swap("from main 2")))
        return "done"

    def handle(effect, ts, store):
        if not waiting:
            waiting.append(ts.kontinuation)
            return ContinueProgram(other(), ts.env, store, [])
        k = waiting.pop()
        waiting.append(ts.kontinuation)
        return value_of(effect.value, ts, store, k=k)

    assert run(main(), {Swap: handle}).value == "done"
    assert log == ["from other 1", "from main 2", "from other 2"]
    waiting.clear()


def test_the_environment_of_a_value_matters_for_frames_only():
    class Reader:
        def on_value(self, value, env, store, k):
            return ContinueValue(env["a"], env, store, k)

        def on_error(self, error, env, store, k):
            return ContinueError(error, env, store, k)

    def handle(effect, ts, store):
        env = {**ts.env, "a": "changed"}
        return value_of(None, ts, store, env=env, k=[Reader()] + ts.kontinuation)  # noqa: RUF005

    @do
    def program():
        return (yield E()), (yield Ask("a"))

    assert run(program(), {E: handle}, env={"a": "old"}).value == ("changed", "old")


def test_kept_task_states_are_collected():
    class Box:
        pass

    kept = []

    def handle(effect, ts, store):
        box = Box()
        box.state, box.k = ts, ts.kontinuation
        ts.status = box
        kept.append(weakref.ref(box))
        return value_of(None, ts, store)

    run(three(), {E: handle})
    gc.collect()
    assert [box() for box in kept] == [None] * 3


# ---- requests -------------------------------------------------------------------------------------


def asking(request):
    def handle(effect, ts, store):
        return value_of(request, ts, store)

    return handle


def test_perform_io():
    assert run(E(), {E: asking(PerformIO(lambda: 5))}).value == 5
    error = run(catching(), {E: asking(PerformIO(lambda: 1 // 0))}).value
    assert type(error) is ZeroDivisionError
    error = run(catching(), {E: asking(PerformIO(lambda: next(iter(()))))}).value
    assert type(error) is RuntimeError

    def in_front(effect, ts, store):
        k = [Doubling(True)] + ts.kontinuation  # noqa: RUF005
        return value_of(PerformIO(lambda: 5), ts, store, k=k)

    assert run(E(), {E: in_front}).value == 10


def test_perform_effect_is_performed_outside_the_layer():
    handlers = default_handlers()
    seen = []

    def watched(effect, ts, store):
        seen.append(effect.key)
        return value_of(PerformEffect(effect), ts, store)

    handlers[StateGetEffect] = watched
    assert run(Get("x"), handlers, store={"x": 3}).value == 3
    error = run(catching(Get("y")), handlers).value
    assert type(error) is KeyError
    assert seen == ["x", "y"]

    def local(effect, ts, store):  # what the effect carries runs at its origin
        return value_of(PerformEffect(effect), ts, store)

    handlers[LocalEffect] = local
    handlers[E] = add_one
    assert run(Local({"a": 1}, E(1)), handlers).value == 2

    def other(effect, ts, store):
        k = [Doubling(True)] + ts.kontinuation  # noqa: RUF005
        return value_of(PerformEffect(Get("x")), ts, {**store, "x": 4}, k=k)

    assert run(E(), {E: other}).value == 8
    assert run(E(), {E: asking(PerformEffect(Get("absent")))}).is_err()

    def ends(effect, ts, store):
        return value_of(PerformEffect(Get("x")), ts, store, k=[])

    assert run(three(), {E: ends}, store={"x": 3}).value == 3


def test_requests_are_values_elsewhere():
    @do
    def answer(effect: E, ctx):
        return PerformIO(print)

    request = sync_run(WithHandler(answer, E()), sync_handlers_preset).value
    assert isinstance(request, Request)


def test_results_of_machines_are_values_for_a_request():
    """What an action or an effect gives is never taken for a handler's result."""
    state = CESKState.with_value(1, {}, {}, [])
    for request in (PerformIO(lambda: state), PerformEffect(Pure(state))):
        assert run(E(), {E: asking(request)}).value is state


def test_ids_and_handles():
    assert TaskId.new() != TaskId.new()
    assert SpawnId.new() != SpawnId.new()
    assert len({FutureId.new(), FutureId.new()}) == 2

    class Waitable:
        _handle = 7

    task = TaskHandle(TaskId.new(), Waitable())
    assert task._handle == 7
    assert FutureHandle(FutureId(1), Waitable()) == FutureHandle(FutureId(1), None)


def test_resolving_what_nobody_made():
    unknown = FutureId.new()
    error = run(catching(), {E: asking(ResolveFuture(unknown, 1))}).value
    assert type(error) is KeyError
    error = run(catching(), {E: asking(ResolveFuture(5, 1))}).value
    assert type(error) is TypeError
    assert "future_id of a FutureHandle" in str(error)


def test_awaiting_what_is_not_awaitable():
    error = run(catching(), {E: asking(AwaitExternal(object()))}).value
    assert type(error) is TypeError
    assert "awaitable" in str(error)


async def soon(value):
    await asyncio.sleep(0)
    return value


def answers_soon(effect, ts, store):
    return ContinueValue(
        AwaitExternal(soon(effect.n + 1)), ts.env, store, ts.kontinuation
    )


async def fails_soon():
    await asyncio.sleep(0)
    raise ValueError("late")


def test_awaiting_in_either_runtime():
    def fails(effect, ts, store):
        return ContinueValue(
            AwaitExternal(fails_soon()), ts.env, store, ts.kontinuation
        )

    def in_the_loop(program, handlers):
        return asyncio.run(AsyncRuntime(handlers).run(program))

    for runs in (run, in_the_loop):
        assert runs(three(), {E: answers_soon}).value == (2, 3, 4)
        error = runs(catching(), {E: fails}).value
        assert (type(error), error.args) == (ValueError, ("late",))


def test_the_asynchronous_runtime_runs_with_async_run():
    runtime = AsyncRuntime(handlers={E: add_one})
    result = asyncio.run(runtime.run(three(), env={"a": 1}, store={"s": 1}))
    assert result.value == (2, 3, 4)
    assert (result.env, result.raw_store) == ({"a": 1}, {"s": 1})


# ---- the default entries --------------------------------------------------------------------------


def test_default_handlers_are_a_new_dict_each_time():
    first, second = default_handlers(), default_handlers()
    assert first is not second
    assert set(first) == set(second)
    assert {StateGetEffect, StatePutEffect, AskEffect, PureEffect} <= set(first)
    assert all(isinstance(cls, type) and callable(h) for cls, h in first.items())
    assert "StateGetEffect" in repr(first[StateGetEffect])
    assert first[StateGetEffect].__name__ == "StateGetEffect"


def effects():
    return [
        (Get("x"), 1),
        (Put("x", 2), None),
        (Modify("x", lambda v: v + 1), None),
        (Tell("m"), None),
        (Ask("a"), 5),
        (Ask("lazy"), 1),
        (IO(lambda: 3), 3),
        (CachePut("k", 1), None),
        (Step(1), None),
        (Pure(4), 4),
        (Local({"a": 6}, Ask("a")), 6),
        (Listen(Tell("n")), None),
        (Safe(Get("absent")), None),
        (Intercept(Get("x"), lambda e: None), 1),
    ]


@pytest.mark.parametrize("index", range(len(effects())))
def test_wrapping_a_default_changes_nothing(index):
    effect = effects()[index][0]
    seen = []

    def wrap(default):
        def handler(effect, ts, store):
            seen.append(effect)
            return default(effect, ts, store)

        return handler

    @do
    def program():
        try:
            value = yield effect
        except Exception as error:
            value = error
        return repr(value), (yield CacheGet("k")) if index == 7 else None

    wrapped = {cls: wrap(default) for cls, default in default_handlers().items()}
    start = {"env": {"a": 5, "lazy": Get("x")}, "store": {"x": 1}}
    expected = sync_run(program(), sync_handlers_preset, **start)
    found = run(program(), wrapped, **start)
    assert found.value == expected.value
    assert found.raw_store == expected.raw_store
    assert seen[0] is effect


def test_wrapped_defaults_keep_open_scopes():
    handlers = default_handlers()
    tell = handlers[type(Tell("m"))]
    handlers[type(Tell("m"))] = lambda e, ts, s: tell(e, ts, s)
    _value, log = run(Listen(Tell("m").then(Tell("n"))), handlers).value
    assert list(log) == ["m", "n"]


def test_defaults_can_be_called_without_a_run():
    defaults = default_handlers()
    task = TaskState.initial(three(), env={"a": 5})
    store = {"x": 1}
    assert defaults[StateGetEffect](Get("x"), task, store) == ContinueValue(
        1, task.env, store, task.kontinuation
    )
    result = defaults[StatePutEffect](Put("x", 2), task, store)
    assert isinstance(result, ContinueValue)
    assert result.store["x"] == 2
    result = defaults[StateGetEffect](Get("absent"), task, store)
    assert isinstance(result, ContinueError)
    assert isinstance(result.error, KeyError)
    assert defaults[AskEffect](Ask("a"), task, store).value == 5
    assert defaults[IOPerformEffect](IO(lambda: 7), task, store).value == 7
    assert defaults[PureEffect](Pure(8), task, store).value == 8
    assert defaults[type(CachePut("k", 1))](CachePut("k", 1), task, store)
    assert defaults[type(CacheGet("k"))](CacheGet("k"), task, store).value == 1
    assert defaults[type(GetTime())](GetTime(), task, store).value is not None
    local = defaults[LocalEffect](Local({"a": 1}, Ask("a")), task, store)
    assert isinstance(local, ContinueProgram)


def test_defaults_check_their_arguments():
    default = default_handlers()[StateGetEffect]
    task = TaskState.initial(three())
    with pytest.raises(TypeError, match=r"effect must be .*StateGetEffect, got"):
        default(Put("x", 1), task, {})
    with pytest.raises(TypeError):
        default(Get("x"), task, 5)
    with pytest.raises(AttributeError):
        default(Get("x"), 5, {})


def test_defaults_under_another_class():
    class MyGet(StateGetEffect):
        pass

    handlers = {MyGet: default_handlers()[StateGetEffect]}
    assert run(MyGet("x"), handlers, store={"x": 1}).value == 1


def test_the_layer_is_no_handler_to_call():
    def layer_of(effect, ts, store):
        frames = [f for f in ts.kontinuation if type(f).__name__ == "HandlerFrame"]
        return value_of(frames[0].handler, ts, store)

    class Outer(EffectBase):
        pass

    @do
    def program(layer):
        @do
        def handler(effect: Outer, ctx):
            return (yield layer(E(), ctx))

        try:
            return (yield WithHandler(handler, Outer()))
        except RuntimeError as error:
            return str(error)

    layer = run(E(), {E: layer_of}).value
    assert "in the place where" in run(program(layer), {E: layer_of}).value


# ---- task states ----------------------------------------------------------------------------------


def test_task_states():
    task = TaskState.initial(three(), env={"a": 1})
    assert isinstance(task.control, state.ProgramControl)
    assert (task.env, task.kontinuation, task.status) == ({"a": 1}, [], Ready())
    assert task == TaskState(
        control=task.control, env={"a": 1}, kontinuation=[], status=Ready()
    )
    assert task != task.with_status(TaskDone.ok(1))
    assert task.with_control(state.Value(1)).control == state.Value(1)
    assert task.with_env({"b": 2}).env == {"b": 2}
    assert task.with_kontinuation([LocalFrame(None)]).kontinuation == [LocalFrame(None)]
    resumed = task.resume_with(5)
    assert (resumed.control, resumed.status) == (state.Value(5), Ready(5))
    assert task.resume_with((1, 2)).status == Ready((1, 2))
    error = ValueError()
    assert task.fail_with(error).control == state.Error(error)
    assert task.fail_with(error, tb="tb").control.captured_traceback == "tb"
    assert task.control == state.ProgramControl(task.control.program)
    task.status = state.Blocked(state.TimeCondition(1.0))
    assert task.status.condition.wake_time == 1.0
    assert TaskDone.err(error).result.error is error
    with pytest.raises(TypeError, match="error must be an exception"):
        task.fail_with(5)
    with pytest.raises(TypeError, match="env must be a mapping"):
        TaskState.initial(three(), env=5)
    with pytest.raises(TypeError):
        hash(task)
    with pytest.raises(AttributeError):
        del task.status
    del task.env
    with pytest.raises(AttributeError):
        task.env
    with pytest.raises(AttributeError):
        repr(task)
    assert issubclass(state.Requesting, state.TaskStatus)


def test_live_task_states_can_be_copied():
    kept = []

    def handle(effect, ts, store):
        kept.extend([ts, ts.with_env({"a": 2}), ts.resume_with(1)])
        return value_of(None, kept[1], store)

    run(E(3), {E: handle}, env={"a": 1})
    live, changed, resumed = kept
    assert live.control.effect.n == changed.control.effect.n == 3
    assert (live.env["a"], changed.env["a"]) == (1, 2)
    assert resumed.control == state.Value(1)
    assert live.kontinuation is not None


def test_deep_programs():
    @do
    def down(n):
        if n == 0:
            return (yield E(1))
        return (yield down(n - 1))

    assert run(down(20_000), {E: add_one}).value == 2


def test_handlers_may_run_other_programs():
    def handle(effect, ts, store):
        inner = SyncRuntime({E: add_one}).run(three()).value
        return value_of(inner, ts, store)

    assert run(E(), {E: handle}).value == (2, 3, 4)


def test_runs_do_not_keep_the_users_handlers():
    class Handler:
        def __call__(self, effect, ts, store):
            return value_of(1, ts, store)

    handler = Handler()
    gone = weakref.ref(handler)
    run(three(), {E: handler})
    del handler
    gc.collect()
    assert gone() is None
    _engine._drain()


# ---- requests that need tasks -----------------------------------------------------------------------


class Make(EffectBase):
    def __init__(self, request):
        self.request = request


def make(effect, ts, store):
    return value_of(effect.request, ts, store)


@do
def adding(n):
    for _ in range(3):
        yield Modify("n", lambda v: v + 1)
    return n, (yield Get("n"))


def test_created_tasks_share_the_store():
    @do
    def program():
        shared = yield Make(CreateTask(adding("shared")))
        isolated = yield Spawn(adding("isolated"))
        assert isinstance(shared.task_id, TaskId)
        return (yield Gather(shared, isolated)), (yield Get("n"))

    result = run(program(), {Make: make}, store={"n": 0})
    assert result.value == ([("shared", 3), ("isolated", 3)], 3)
    assert result.raw_store == {"n": 3}


def test_created_tasks_have_the_handlers_of_the_origin():
    @do
    def inner(effect: Narrower, ctx):
        return "inner"

    @do
    def child():
        return (yield E(1)), (yield Narrower()), (yield Ask("a"))

    @do
    def program():
        task = yield Make(CreateTask(child()))
        return (yield Wait(task))

    whole = WithHandler(inner, Local({"a": 2}, program()))
    assert run(whole, {Make: make, E: add_one}, env={"a": 1}).value == (2, "inner", 2)


def test_a_store_that_a_handler_replaces_reaches_the_whole_group():
    def replace(effect, ts, store):
        return value_of(None, ts, {**store, "n": effect.n})

    @do
    def child():
        yield E(5)

    @do
    def program():
        task = yield Make(CreateTask(child()))
        yield Wait(task)
        return (yield Get("n"))

    assert run(program(), {Make: make, E: replace}, store={"n": 0}).value == 5


def test_futures():
    @do
    def resolver(future_id):
        return (yield Make(ResolveFuture(future_id, "value")))

    @do
    def program():
        future = yield Make(CreateFuture())
        task = yield Spawn(resolver(future.future_id))
        value = yield Wait(future)
        again = yield Safe(Make(ResolveFuture(future.future_id, 1)))
        first = yield Race(future, task)
        return value, (yield Wait(task)), again, first.value

    value, gave, again, first = run(program(), {Make: make}).value
    assert (value, gave, first) == ("value", None, "value")
    assert isinstance(again.error, RuntimeError)
    assert "resolved before" in str(again.error)


def test_a_program_on_a_thread():
    @do
    def elsewhere():
        thread = yield E()
        yield Put("n", 5)
        return thread.name, (yield Ask("a")), (yield Get("m"))

    @do
    def program():
        handle = yield Make(CreateSpawn(elsewhere(), "thread"))
        failing = yield Make(CreateSpawn(Get("absent"), "thread"))
        assert isinstance(handle.spawn_id, SpawnId)
        yield Put("m", "later")
        return (yield Wait(handle)), (yield Safe(Wait(failing))), (yield Get("n"))

    handlers = {Make: make, E: asking(PerformIO(threading.current_thread))}
    value, failed, n = run(
        program(), handlers, env={"a": 1}, store={"n": 0, "m": "before"}
    ).value
    assert value == ("doeff-spawn", 1, "before")
    assert isinstance(failed.error, KeyError)
    assert n == 0


PROCESS = """
import os
from doeff import EffectBase, Get, Pure, Safe, Spawn, Wait, do
from doeff.cesk import SyncRuntime
from doeff.cesk.frames import ContinueValue
from doeff.cesk.state import CreateSpawn, PerformIO

class Make(EffectBase):
    def __init__(self, request):
        self.request = request

def make(effect, task_state, store):
    k = task_state.kontinuation
    return ContinueValue(effect.request, task_state.env, store, k)

@do
def elsewhere(n):
    pid = yield Make(PerformIO(os.getpid))
    return pid, n + (yield Get("n"))

@do
def exits():
    yield Make(PerformIO(lambda: 0))
    os._exit(3)

@do
def program():
    handles = []
    for each in (elsewhere(1), Get("absent"), Pure(lambda: 0), exits()):
        handles.append((yield Make(CreateSpawn(each, "process"))))
    outcomes = []
    for handle in handles:
        outcomes.append((yield Safe(Wait(handle))))
    return outcomes

if __name__ == "__main__":
    done, *failed = SyncRuntime({Make: make}).run(program(), store={"n": 1}).value
    pid, n = done.value
    assert pid != os.getpid() and n == 2, done
    print(*(type(each.error).__name__ for each in failed), failed[-1].error)
"""


def test_a_program_in_a_process(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(PROCESS)
    path = str(Path(doeff.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    assert done.stdout.split() == [
        "KeyError",
        "AttributeError" if sys.version_info < (3, 14) else "PicklingError",
        "RuntimeError",
        *["the", "process", "ended", "without", "an", "answer,", "exit", "code", "3"],
    ]


def test_requests_of_a_kept_continuation():
    """A request is performed before its outcome goes to k, wherever k leads."""

    def handle(effect, ts, store):
        k = [Doubling(True)] + ts.kontinuation  # noqa: RUF005
        return value_of(PerformEffect(Pure(4)), ts, store, k=k)

    assert run(E(), {E: handle}).value == 8


def test_waiting_defaults_can_be_wrapped():
    seen = []

    def wrap(default):
        def handler(effect, ts, store):
            seen.append(type(effect).__name__)
            return default(effect, ts, store)

        return handler

    @do
    def program():
        task = yield Spawn(adding("a"))
        promise = yield CreatePromise()
        yield CompletePromise(promise, 7)
        both = yield Gather(task, promise.future)
        return both, (yield Gather(Get("n"), Get("n"))), (yield Get("n"))

    wrapped = {cls: wrap(default) for cls, default in default_handlers().items()}
    expected = sync_run(program(), sync_handlers_preset, store={"n": 0}).value
    assert run(program(), wrapped, store={"n": 0}).value == expected
    assert {"SpawnEffect", "GatherEffect", "CompletePromiseEffect"} <= set(seen)


def test_handles_of_the_users_own():
    """Anything with a _handle can be waited for, also one that makes it anew each time."""

    class Mine:
        def __init__(self, task):
            self.task = task

        @property
        def _handle(self):
            return self.task._handle

    @do
    def program():
        mine = Mine((yield Spawn(Pure(3))))
        return (yield Wait(mine)), (yield Gather(mine, mine))

    assert sync_run(program(), sync_handlers_preset).value == (3, [3, 3])
