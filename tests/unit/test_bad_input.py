"""Wrong kinds and hostile objects: an ordinary error in the right place, never a crash."""

from __future__ import annotations

import contextlib
import gc
import os
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import doeff
from doeff import (
    IO,
    Ask,
    CaptureGraph,
    CESKState,
    EffectBase,
    FrozenDict,
    Get,
    HandlerContext,
    Intercept,
    InterpreterInvariantError,
    Listen,
    Local,
    Modify,
    Program,
    Pure,
    Put,
    ResumeK,
    Safe,
    Step,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.program import ProgramBase

# Child processes test the same doeff.
PACKAGES = str(Path(doeff.__file__).parent.parent)


def run(program, *inner, **kw):
    return sync_run(program, [*sync_handlers_preset, *inner], **kw)


@dataclass(frozen=True)
class Custom(EffectBase):
    tag: Any = None


@do
def forwarding(effect, ctx):
    return (yield effect)


def machine_works():
    """The machine still gives right answers after what happened."""
    p = Put("x", 1).then(Safe(Get("absent"))).then(Local({"k": 2}, Ask("k")))
    result = run(WithHandler(forwarding, p))
    return result.value == 2 and result.raw_store == {"x": 1}


@pytest.fixture(autouse=True)
def _still_works():
    yield
    gc.collect()
    assert machine_works()


@do
def kleisli():
    yield


NOT_PROGRAMS = [
    0,
    None,
    "p",
    b"",
    1.5,
    [Pure(1)],
    (Pure(1),),
    {},
    kleisli,
    lambda: 1,
    Get,
    object(),
]


# --- not a program --------------------------------------------------------------


@pytest.mark.parametrize("wrong", NOT_PROGRAMS, ids=lambda w: type(w).__name__)
def test_not_a_program(wrong):
    name = type(wrong).__name__
    calls = {
        "Safe": lambda: Safe(wrong),
        "Listen": lambda: Listen(wrong),
        "Local": lambda: Local({}, wrong),
        "CaptureGraph": lambda: CaptureGraph(wrong),
        "Intercept": lambda: Intercept(wrong, lambda e: None),
        "WithHandler": lambda: WithHandler(forwarding, wrong),
        "then": lambda: Pure(1).then(wrong),
        "sequence": lambda: run(Program.sequence([wrong])).value,
        "first_some": lambda: Program.first_some(wrong),
        "first_success": lambda: Program.first_success(wrong),
        "run": lambda: run(wrong).value,
        "traverse": lambda: run(Program.traverse([1], lambda _: wrong)).value,
    }
    for where, call in calls.items():
        with pytest.raises(TypeError) as raised:
            call()
        assert name in str(raised.value), where


@pytest.mark.parametrize("wrong", [0, None, "f", Ellipsis, [len]], ids=repr)
def test_not_callable(wrong):
    calls = [
        lambda: Pure(1).map(wrong),
        lambda: Pure(1).flat_map(wrong),
        lambda: kleisli >> wrong,
        lambda: kleisli << wrong,
        lambda: kleisli.fmap(wrong),
        lambda: kleisli.and_then_k(wrong),
        lambda: do(wrong),
        lambda: Modify("k", wrong),
        lambda: IO(wrong),
        lambda: Intercept(Pure(1), wrong),
        lambda: WithHandler(wrong, Pure(1)),
        lambda: sync_run(Pure(1), [wrong]),
        lambda: Program.traverse([1], wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError) as raised:
            call()
        assert len(str(raised.value)) > 10


@pytest.mark.parametrize("wrong", [0, "m", [1], {1}], ids=repr)
def test_not_a_mapping(wrong):
    calls = [
        lambda: Local(wrong, Pure(1)),
        lambda: run(Pure(1), env=wrong),
        lambda: run(Pure(1), store=wrong),
        lambda: Step(1, wrong),
    ]
    for call in calls:
        with pytest.raises(TypeError) as raised:
            call()
        assert type(wrong).__name__ in str(raised.value)


def test_not_iterables():
    for call in (
        lambda: Program.sequence(5),
        lambda: Program.traverse(5, Pure),
        lambda: Program.dict(5),
        lambda: sync_run(Pure(1), 5),
    ):
        with pytest.raises(TypeError):
            call()


def test_unhashable_environment_keys_cannot_exist_but_bad_hashes_can():
    class Once:
        """Hashable while the dict is made, then no more."""

        broken = False

        def __hash__(self):
            if self.broken:
                raise ValueError("broken hash")
            return 1

    key = Once()
    env = {key: 1}
    Once.broken = True
    # Whether the copy needs the hash is free; a crash or a lost error is not.
    with contextlib.suppress(ValueError):
        run(Pure(1), env=env)


# --- hostile hashes and comparisons ---------------------------------------------------


class BadHash:
    def __hash__(self):
        raise ZeroDivisionError("hash")


class BadEq:
    def __hash__(self):
        return 1

    def __eq__(self, other):
        raise ZeroDivisionError("eq")


class ReentrantEq:
    """Runs the machine while two effects or keys are compared."""

    calls = 0

    def __hash__(self):
        return 1

    def __eq__(self, other):
        type(self).calls += 1
        assert machine_works()
        return True


class BadRepr:
    def __repr__(self):
        raise ZeroDivisionError("repr")


class ReentrantRepr:
    def __repr__(self):
        assert machine_works()
        return "<reentrant>"


class HugeRepr:
    def __repr__(self):
        return "x" * 10_000_000


class RecursiveRepr:
    def __repr__(self):
        return repr(self)


def test_a_key_that_cannot_be_hashed():
    with pytest.raises((TypeError, ZeroDivisionError)):
        Ask(BadHash())


def test_keys_that_fail_to_compare():
    result = run(Ask(BadEq()), env={BadEq(): 1})
    assert type(result.error) is ZeroDivisionError
    caught = run(Safe(Ask(BadEq())), env={BadEq(): 1}).value
    assert type(caught.error) is ZeroDivisionError
    lazy = run(Safe(Ask(BadEq())), env={BadEq(): Pure(1)}).value
    assert type(lazy.error) is ZeroDivisionError
    missing = run(Ask(BadEq()), env={}).error
    assert type(missing) is doeff.MissingEnvKeyError


def test_local_over_keys_that_fail_to_compare():
    kind = run(Safe(Local({BadEq(): 2}, Pure(1))), env={BadEq(): 1}).value
    assert type(kind.error) is ZeroDivisionError


def test_keys_that_reenter_the_machine():
    env = {ReentrantEq(): "value"}
    assert run(Ask(ReentrantEq()), env=env).value == "value"
    assert run(Ask(ReentrantEq()), env={ReentrantEq(): Pure("lazy")}).value == "lazy"
    assert ReentrantEq.calls > 0


def test_effects_that_fail_to_compare():
    bad, other = Put("k", BadEq()), Put("k", BadEq())
    with pytest.raises(ZeroDivisionError):
        assert bad == other
    assert bad.key == "k"
    with pytest.raises((TypeError, ZeroDivisionError)):
        hash(Put("k", BadHash()))
    assert Put("k", ReentrantEq()) == Put("k", ReentrantEq())


def test_store_values_that_fail_to_compare_are_never_compared():
    bad = BadEq()
    result = run(Put("k", bad).then(Modify("k", lambda v: v)).then(Get("k")))
    assert result.value is bad


def test_forwarding_compares_by_identity():
    """An effect whose equality lies is forwarded or not by being the same object."""

    @dataclass(frozen=True, eq=False)
    class Liar(EffectBase):
        def __eq__(self, other):
            raise ZeroDivisionError("eq")

        __hash__ = None

    seen = []

    @do
    def last(effect, ctx):
        seen.append(effect)
        return "answer"
        yield

    @do
    def other_object(effect, ctx):
        return (yield Liar())

    liar = Liar()
    assert sync_run(liar, [last, forwarding]).value == "answer"
    assert seen[0] is liar
    assert sync_run(liar, [last, other_object]).value == "answer"
    assert seen[1] is not liar
    assert sync_run(Intercept(liar, lambda e: e), [last, *sync_handlers_preset]).is_ok()


@pytest.mark.parametrize(
    "hostile",
    [BadRepr(), ReentrantRepr(), HugeRepr(), RecursiveRepr()],
    ids=lambda h: type(h).__name__,
)
def test_hostile_reprs_in_results(hostile):
    @do
    def failing(arg):
        yield Put("stored", hostile)
        yield Step(hostile)
        yield Get("absent")

    @do
    def unhandled(arg):
        yield Custom(hostile)

    result = run(Local({"k": hostile}, failing(hostile)), env={"e": hostile})
    for r in (result, run(Pure(hostile)), run(Safe(failing(hostile)))):
        for text in (r.format(), r.format(verbose=True), repr(r)):
            assert isinstance(text, str)
            assert len(text) < 100_000
        r.k_stack.format()
        r.effect_stack.format()
        r.python_stack.format()
    repr(failing(hostile))
    with pytest.raises(doeff.UnhandledEffectError) as raised:
        run(unhandled(hostile))
    assert str(raised.value).startswith("No handler for Custom")


def test_a_missing_key_with_a_failing_repr():
    error = run(Ask(BadReprKey())).error
    assert type(error) is doeff.MissingEnvKeyError
    assert isinstance(str(error), str)
    assert run(Ask(BadReprKey())).format()


class BadReprKey(BadRepr):
    pass


# --- hostile generators -----------------------------------------------------------------


@do
def abandon_all(effect, ctx):
    if isinstance(effect, Custom):
        return ResumeK(k=ctx.outer_k, value="abandoned")
    return (yield effect)


def test_a_generator_that_ignores_generator_exit():
    turns = []

    @do
    def stubborn():
        while len(turns) < 50:
            turns.append(1)
            with contextlib.suppress(GeneratorExit):
                yield Custom()
        return "gave up"

    # The next Custom is performed outside the handler, where nobody takes it.
    with pytest.raises(doeff.UnhandledEffectError):
        run(WithHandler(abandon_all, stubborn()))
    assert len(turns) == 2


def test_a_generator_that_ignores_generator_exit_after_the_run():
    @do
    def stubborn():
        try:
            yield Custom()
        except GeneratorExit:
            yield Custom()

    kept = []

    @do
    def keep(effect, ctx):
        kept.append(ctx.k)
        return ResumeK(k=ctx.outer_k, value="kept")
        yield

    assert sync_run(WithHandler(keep, stubborn()), []).value == "kept"
    unraisable = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        kept.clear()
        gc.collect()
    finally:
        sys.unraisablehook = hook
    assert all("GeneratorExit" in str(u.exc_value) for u in unraisable)


def test_a_program_that_yields_itself():
    p: list[Any] = []
    depth = []

    @do
    def own():
        depth.append(1)
        if len(depth) < 1000:
            return (yield p[0]) + 1
        return 0

    p.append(own())
    assert run(p[0]).value == 999
    p.clear()


def test_a_generator_that_yields_its_own_generator_object():
    cell = []

    def generator():
        yield cell[0]

    cell.append(generator())

    @do
    def program():
        return (yield from cell[0])

    assert type(run(program()).error) is InterpreterInvariantError
    cell.clear()


def test_one_generator_object_for_every_run():
    shared = (x for x in [Put("x", 1)])

    class Reused(ProgramBase):
        def to_generator(self):
            return shared

    p = Reused()
    assert run(p).raw_store == {"x": 1}
    again = run(p)
    assert again.is_ok() or isinstance(again.error, Exception)


def test_a_generator_that_is_already_running():
    cell = []

    class Loop(ProgramBase):
        def to_generator(self):
            if not cell:
                cell.append(self.body())
            return cell[0]

        def body(self):
            return (yield self)

    outcome = run(Loop())
    assert outcome.is_ok() or isinstance(outcome.error, Exception)
    cell.clear()


def test_a_body_that_sends_into_its_own_generator():
    cell = []

    @do
    def program():
        def inner():
            cell.append(1)
            try:
                g.send(None)
            except ValueError as error:
                return "refused: " + str(error)
            yield Get("x")

        g = inner()
        return (yield from g)

    assert run(program()).value.startswith("refused")


@pytest.mark.parametrize("result", [5, None, "gen", [Put("x", 1)], object()], ids=repr)
def test_to_generator_that_returns_junk(result):
    class Junk(ProgramBase):
        def to_generator(self):
            return result

    assert isinstance(run(Junk()).error, TypeError)
    assert isinstance(run(Safe(Junk())).value.error, TypeError)


def test_to_generator_that_raises_or_reenters():
    class Raises(ProgramBase):
        def to_generator(self):
            raise ZeroDivisionError

    class Reenters(ProgramBase):
        def to_generator(self):
            assert machine_works()
            return (yield Get("x"))

    assert type(run(Raises()).error) is ZeroDivisionError
    assert run(Reenters(), store={"x": 1}).value == 1


class FakeGenerator:
    """The protocol of a generator without being one."""

    def __init__(self, script):
        self.script = iter(script)

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        step = next(self.script)
        if isinstance(step, BaseException):
            raise step
        return step

    def throw(self, *error):
        raise ZeroDivisionError("throw")

    def close(self):
        raise ZeroDivisionError("close")


def test_an_iterator_posing_as_a_generator():
    class Posing(ProgramBase):
        def __init__(self, *script):
            self.script = script

        def to_generator(self):
            return FakeGenerator(self.script)

    for program in (
        Posing(Put("x", 1)),
        Posing(StopIteration(3)),
        Posing(Get("absent")),
        Posing(5),
        Posing(KeyError("k")),
        Posing(),
    ):
        got = run(Safe(program)).value
        assert got.is_ok() or isinstance(got.error, Exception)


def test_a_generator_whose_del_reenters():
    class Guard:
        def __del__(self):
            assert machine_works()

    @do
    def program():
        guard = Guard()
        yield Custom()
        return guard

    assert run(WithHandler(abandon_all, program())).value == "abandoned"
    assert type(run(Safe(program())).value.error) is doeff.UnhandledEffectError


def test_an_error_instance_raised_twice():
    error = ValueError("same")

    @do
    def once():
        raise error
        yield

    @do
    def program():
        first = yield Safe(once())
        second = yield Safe(once())
        return first.error is error and second.error is error

    assert run(program()).value is True
    assert run(once()).error is error


# --- hostile handlers --------------------------------------------------------------------


@do
def attempt(program: Program):
    try:
        return ("value", (yield program))
    except Exception as error:
        return (type(error).__name__, error)


def test_a_handler_that_raises_before_and_after_forwarding():
    @do
    def before(effect, ctx):
        raise ZeroDivisionError
        yield

    @do
    def after(effect, ctx):
        yield effect
        raise ZeroDivisionError

    for h in (before, after):
        assert run(WithHandler(h, attempt(Put("x", 1)))).value[0] == "ZeroDivisionError"


def test_a_handler_that_yields_junk():
    @do
    def h(effect, ctx):
        try:
            yield 5
        except InterpreterInvariantError:
            return "the handler saw it"

    assert run(WithHandler(h, Get("x"))).value == "the handler saw it"

    @do
    def careless(effect, ctx):
        yield 5

    assert (
        run(WithHandler(careless, attempt(Get("x")))).value[0]
        == "InterpreterInvariantError"
    )


@pytest.mark.parametrize(
    "handler",
    [lambda: None, lambda e: None, lambda e, c, x: None, Get],
    ids=["none", "one", "three", "other"],
)
def test_handlers_of_a_wrong_shape(handler):
    assert run(WithHandler(handler, attempt(Get("x")))).value[0] == "TypeError"


def test_a_handler_that_runs_the_machine_and_itself():
    depth = []

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            depth.append(1)
            if len(depth) < 20:
                return sync_run(WithHandler(h, Custom()), []).value + 1
            return 0
        return (yield effect)

    assert run(WithHandler(h, Custom())).value == 19


def test_a_handler_that_drops_its_own_handler():
    cell = []

    class SelfDropping:
        def __call__(self, effect, ctx):
            cell.clear()
            gc.collect()
            return Pure("answered")

    cell.append(SelfDropping())
    program = WithHandler(cell[0], Custom())
    assert run(program).value == "answered"


def test_contexts_used_after_their_time():
    kept = []

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            kept.append(ctx)
            return 1
        return (yield effect)

    result = run(WithHandler(h, Custom().then(Put("x", 1))))
    (ctx,) = kept
    del result
    gc.collect()
    len(list(ctx.k))
    len(list(ctx.delimited_k))
    repr(ctx)
    repr(ctx.k)
    assert ctx.handler_depth >= 0
    assert isinstance(dict(ctx.env), dict)

    @do
    def late():
        yield ctx.resume(5)

    assert isinstance(run(Safe(late())).value.error, Exception)


@pytest.mark.parametrize(
    "result",
    [
        lambda c: ResumeK(k=[5], value=1),
        lambda c: ResumeK(k=[object(), *c.k], value=1),
        lambda c: CESKState.with_value(1, c.env, c.store, [None]),
        lambda c: CESKState.with_value(1, c.env, c.store, [*c.k, *c.k]),
        lambda c: CESKState.with_value(1, c.env, c.store, list(reversed(c.k))),
    ],
    ids=["int", "object", "none", "twice", "reversed"],
)
def test_junk_in_a_continuation(result):
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return result(ctx)
        return (yield effect)

    @do
    def program():
        try:
            return ("value", (yield Custom()))
        except Exception as error:
            return ("error", error)

    try:
        outcome = run(WithHandler(h, program()))
    except (TypeError, RuntimeError):
        return
    assert outcome.is_ok() or isinstance(outcome.error, Exception)


@pytest.mark.parametrize("k", [5, "k", None, {}], ids=repr)
def test_continuations_of_a_wrong_type(k):
    @do
    def h(effect, ctx):
        return ResumeK(k=k, value=1)
        yield

    assert run(WithHandler(h, attempt(Custom()))).value[0] in (
        "TypeError",
        "AttributeError",
    )


@pytest.mark.parametrize("store", [5, "s", [1]], ids=repr)
def test_stores_of_a_wrong_type(store):
    @do
    def h(effect, ctx):
        return CESKState.with_value(1, ctx.env, store, ctx.k)
        yield

    assert run(WithHandler(h, attempt(Custom()))).value[0] == "TypeError"


class HostileFrame:
    def __init__(self, action):
        self.action = action

    def on_value(self, value, env, store, k_rest):
        return self.action(value, env, store, k_rest)

    def on_error(self, error, env, store, k_rest):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    "action",
    [
        lambda v, e, s, k: 1 / 0,
        lambda v, e, s, k: 5,
        lambda v, e, s, k: None,
        lambda v, e, s, k: CESKState.with_value(v, e, s, [*k, *k]),
        lambda v, e, s: v,
    ],
    ids=["raises", "int", "none", "twice", "arity"],
)
def test_hostile_frames(action):
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            k = [HostileFrame(action), *ctx.k]
            return CESKState.with_value(1, ctx.env, ctx.store, k)
        return (yield effect)

    try:
        outcome = run(WithHandler(h, attempt(Custom())))
    except (TypeError, RuntimeError, InterpreterInvariantError):
        return
    assert outcome.is_ok() or isinstance(outcome.error, Exception)


# --- hostile callbacks -----------------------------------------------------------------------


def test_a_modify_function_that_changes_the_store():
    """The function reenters, mutates through the context and then answers."""

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):

            def hostile(value):
                ctx.store.clear()
                gc.collect()
                return "new"

            yield Modify("k", hostile)
            return dict(ctx.store)
        return (yield effect)

    assert run(WithHandler(h, Custom()), store={"k": 1, "j": 2}).value == {"k": "new"}


def test_a_transform_that_runs_the_machine():
    def transform(effect):
        assert machine_works()
        return None

    p = Intercept(Safe(Put("x", 1)), transform)
    assert run(p).raw_store == {"x": 1}


def test_a_mapping_that_lies():
    class Lying(dict):
        def __iter__(self):
            raise ZeroDivisionError("iter")

        def keys(self):
            raise ZeroDivisionError("keys")

        def items(self):
            raise ZeroDivisionError("items")

    for call in (
        lambda: run(Pure(1), env=Lying(a=1)),
        lambda: run(Pure(1), store=Lying(a=1)),
        lambda: run(Local(Lying(a=1), Pure(1))).value,
        lambda: FrozenDict(Lying(a=1)),
    ):
        with contextlib.suppress(ZeroDivisionError):
            call()


def test_an_annotation_that_is_hostile():
    class Hostile:
        def __eq__(self, other):
            raise ZeroDivisionError

        def __hash__(self):
            raise ZeroDivisionError

        def __getattr__(self, name):
            raise ZeroDivisionError(name)

    def f(x):
        return x

    f.__annotations__ = {"x": Hostile()}
    # An ordinary error, where the annotation is looked at.
    with contextlib.suppress(ZeroDivisionError):
        assert run(do(f)(Pure(1))).value == 1


def test_a_class_that_lies_about_its_type():
    class Pretends:
        @property
        def __class__(self):
            return ProgramBase

    thing = Pretends()
    with pytest.raises(TypeError):
        Safe(thing)

    @do
    def program():
        yield thing

    assert type(run(program()).error) is InterpreterInvariantError


def test_effects_without_initialised_fields():
    """``cls.__new__`` alone gives an effect that must not crash."""
    from doeff import effects as fx

    names = [
        n for n in dir(fx) if n.endswith("Effect") and isinstance(getattr(fx, n), type)
    ]
    assert len(names) > 10
    for name in names:
        cls = getattr(fx, name)
        try:
            effect = cls.__new__(cls)
        except TypeError:
            continue
        for use in (repr, hash, lambda e: e == e, lambda e: e.created_at, run):
            with contextlib.suppress(Exception):
                use(effect)


def test_machine_objects_without_initialised_fields():
    for cls in (
        CESKState,
        ResumeK,
        HandlerContext,
        WithHandler,
        FrozenDict,
        doeff.RuntimeResult,
        doeff.Ok,
        doeff.Err,
        doeff.Some,
        doeff.KleisliProgram,
        ProgramBase,
    ):
        try:
            thing = cls.__new__(cls)
        except TypeError:
            continue
        for use in (repr, hash, lambda e: e == e, run):
            with contextlib.suppress(Exception):
                use(thing)
        for name in dir(thing):
            try:
                value = getattr(thing, name)
                if name in ("is_ok", "format", "unwrap"):
                    value()
            except Exception:
                pass


def test_subclasses_of_machine_types():
    class MyGet(type(Get("x"))):
        pass

    assert run(MyGet("x"), store={"x": 1}).value == 1

    class MyDict(FrozenDict):
        pass

    assert run(Ask("k"), env=MyDict(k=1)).value == 1


def test_cycles_through_everything_are_collected():
    import weakref

    class Cell:
        pass

    def make():
        cell = Cell()

        @do
        def body(x, y=None):
            yield Put("x", cell)
            return cell

        def transform(effect):
            return cell if effect is None else None

        p = body(cell, y=cell).map(lambda v: cell).flat_map(lambda v: Pure(cell))
        p = Intercept(Safe(Local({"k": cell}, p)), transform)
        p = WithHandler(lambda e, c: cell, Listen(CaptureGraph(p)))
        cell.p = [
            p,
            Put("x", cell),
            Tell(cell),
            Step(cell),
            Pure(cell),
            Modify("k", transform),
        ]
        cell.p.append(Program.list(cell.p[0], cell).then(p))
        cell.p.append(body.partial(cell))
        cell.p.append(FrozenDict(k=cell))
        cell.p.append(Custom(cell).map(transform))
        cell.p.append(doeff.Ok(cell))
        cell.p.append(doeff.Err(ValueError(cell)))
        cell.p.append(doeff.Some(cell))
        cell.p.append(p.projected)
        cell.p.append(p["item"](cell, k=cell))
        cell.result = run(Pure(cell))
        cell.failed = run(body(cell).then(Get("absent")))
        cell.failed.format(verbose=True)
        cell.contexts = HandlerContext({"x": cell}, FrozenDict(c=cell), [cell], 0)
        cell.state = CESKState.with_value(cell, FrozenDict(), {"x": cell}, [cell])
        cell.resume = ResumeK(k=[cell], value=cell)
        return weakref.ref(cell)

    ref = make()
    # The newest calls are shown to the collector only when younger ones were made.
    for _ in range(1000):
        kleisli()
    gc.collect()
    gc.collect()
    assert ref() is None


# --- crash cases in a process of their own ------------------------------------------------------


SCRIPTS = {
    "exit with a suspended program": """
        kept = []
        @do
        def keep(effect, ctx):
            kept.append(ctx.k)
            return ResumeK(k=ctx.outer_k, value=1)
            yield
        @do
        def body():
            try:
                yield Get("x")
            finally:
                yield Get("y")
        assert sync_run(WithHandler(keep, body()), []).value == 1
        print("done")
    """,
    "exit inside a program": """
        @do
        def body():
            try:
                yield Put("x", 1)
                sys.exit(0)
            finally:
                yield Put("x", 2)
                print("done")
        sync_run(body(), sync_handlers_preset)
    """,
    "low recursion limit": """
        sys.setrecursionlimit(60)
        @do
        def nest(n):
            return (yield nest(n - 1)) if n else 0
        assert sync_run(nest(10000), []).value == 0
        print("done")
    """,
    "runs in a thread with a small stack": """
        import threading
        threading.stack_size(128 * 1024)
        @do
        def nest(n):
            return (yield nest(n - 1)) if n else 0
        out = []
        t = threading.Thread(target=lambda: out.append(sync_run(nest(100000), []).value))
        t.start(); t.join()
        assert out == [0]
        print("done")
    """,
    "drop deep chains in a thread with a small stack": """
        import threading
        from doeff import CESKState, FrozenDict, KleisliProgram, Ok, Err, Some, Program
        from doeff.effects import StatePutEffect
        from doeff.program import GeneratorProgram
        from doeff.utils import BoundedLog
        threading.stack_size(128 * 1024)
        def chain(*links, n=20_000):
            thing = Pure(0)
            for i in range(n):
                thing = links[i % len(links)](thing)
            return thing
        def closed(thing):
            return do(lambda: thing)
        class Box:
            def __init__(self, thing):
                self.thing = thing
        class Mine(StatePutEffect):
            pass
        def failed(thing):
            error = ValueError(thing)
            return Err(error)
        def result(thing):
            return sync_run(Program.pure(thing), [])
        def generator(thing):
            def body():
                yield thing
            g = body()
            next(g)
            return g
        @do
        def call(x, y=0):
            yield
        link = dict(
            safe=Safe,
            safe_of_map=lambda p: Safe(Program.pure(p).map(str)),
            map=lambda p: Program.pure(p).map(str),
            maps=lambda p: p.map(str),
            flat_map=lambda p: Pure(0).flat_map(call.partial(p)),
            then=lambda p: Pure(p).then(Pure(0)),
            ok=Ok,
            err=failed,
            some=Some,
            pure=lambda p: Program.pure([p]),
            listed=lambda p: Program.list(p),
            call=call,
            keyword=lambda p: call(1, y=p),
            bound=call.__get__,
            partial=call.partial,
            method=lambda p: call.__get__(Box(p)),
            composed=lambda p: call >> closed(p),
            closure=closed,
            program=lambda p: KleisliProgram(call.partial(p)),
            factory=lambda p: GeneratorProgram(call.partial(p)),
            item=lambda p: Program.pure(p)[p],
            effect=lambda p: Put("x", p),
            subclass=lambda p: Mine("x", p),
            tell=lambda p: Tell((p,)),
            local=lambda p: Local({"x": p}, Pure(0)),
            intercept=lambda p: Intercept(Pure(p), str),
            frozen=lambda p: FrozenDict(x=p),
            log=lambda p: BoundedLog([p]),
            result=result,
            state=lambda p: CESKState.with_value(p, FrozenDict(), {}, []),
            handled=lambda p: sync_handlers_preset[0](Put("x", p), None),
            awaited=lambda p: Put("x", p).__await__(),
            generator=lambda p: Pure(generator(p)),
        )
        for one in link.values():
            cell = [chain(one)]
            t = threading.Thread(target=cell.clear)
            t.start(); t.join()
        cell = [chain(*link.values(), n=100_000)]
        t = threading.Thread(target=cell.clear)
        t.start(); t.join()
        print("done")
    """,
    "drop deep chains of tasks in a thread with a small stack": """
        import threading
        from doeff import CompletePromise, CreateExternalPromise, CreatePromise, Spawn, Wait
        threading.stack_size(128 * 1024)
        N = 20_000
        @do
        def same(x):
            return x
            yield
        @do
        def tasks():
            task = None
            for _ in range(N):
                task = yield Spawn(same([task]))
                yield Wait(task)
            return task
        @do
        def promises():
            promise = None
            for _ in range(N):
                outer = yield CreatePromise()
                yield CompletePromise(outer, [promise])
                promise = outer
            return promise
        @do
        def futures():
            future = None
            for _ in range(N):
                promise = yield CreatePromise()
                yield CompletePromise(promise, future)
                future = promise.future
            return future
        @do
        def external():
            promise = None
            for _ in range(N):
                outer = yield CreateExternalPromise()
                outer.complete((promise,))
                yield Wait(outer.future)
                promise = outer
            return promise
        for chain in tasks, promises, futures, external:
            cell = [sync_run(chain(), sync_handlers_preset).value]
            t = threading.Thread(target=cell.clear)
            t.start(); t.join()
        print("done")
    """,
    "what a deep chain ends in is told": """
        # finally blocks and __del__ run, in order, with runs and other threads in between
        import threading
        threading.stack_size(128 * 1024)
        died = []
        class Last:
            def __init__(self, n, inside):
                self.n, self.inside = n, inside
            def __del__(self):
                died.append(self.n)
                if self.n % 1000 == 0:
                    t = threading.Thread(target=chain(100).clear)
                    t.start(); t.join()
                    sync_run(Safe(Put("x", chain(100))), sync_handlers_preset)
        def chain(n):
            thing = Pure(0)
            for i in range(n):
                thing = Safe(Pure([thing]).map(str))
            return [thing]
        thing = Pure(0)
        for i in range(20000):
            thing = Safe(Pure(Last(i, thing)))
        cell = [thing]
        del thing
        t = threading.Thread(target=cell.clear)
        t.start(); t.join()
        assert died == list(range(20000))[::-1], died[:50]
        print("done")
    """,
    "deep re-entrancy": """
        @do
        def again(n):
            if n == 0:
                return 0
            yield Put("x", n)
            return sync_run(again(n - 1), sync_handlers_preset).value + 1
        result = sync_run(again(10**6), sync_handlers_preset)
        assert isinstance(result.error, RecursionError), result
        assert sync_run(again(50), sync_handlers_preset).value == 50
        print("done")
    """,
    "a finalizer at exit": """
        class Late:
            def __del__(self):
                try:
                    sync_run(Pure(1), [])
                except BaseException:
                    pass
        late = Late()
        late.me = late
        print("done")
    """,
    "deep results are freed": """
        p = Pure(0)
        for _ in range(200000):
            p = Safe(p)
        result = sync_run(p, sync_handlers_preset)
        repr(result); result.format(verbose=True)
        del result, p
        print("done")
    """,
    "deep effects are copied, hashed and compared or refused": """
        def chain():
            p = Pure(0)
            for _ in range(200000):
                p = Safe(p)
            return p
        a, b = chain(), chain()
        for use in (hash, repr, lambda p: p == b):
            try:
                use(a)
            except RecursionError:
                pass
        print("done")
    """,
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_in_a_process_of_its_own(name):
    script = "import sys, gc\nfrom doeff import *\nfrom doeff import ResumeK, WithHandler, Pure\n"
    script += textwrap.dedent(SCRIPTS[name])
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", script],
        env={**os.environ, "PYTHONPATH": PACKAGES},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr[-2000:]
