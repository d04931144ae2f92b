"""Programs: what they are, what may be yielded, @do, arguments, combinators."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import functools
import gc
import inspect
import pickle
import re
import threading
import traceback
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Optional, TypeVar, Union

import pytest

import doeff
from doeff import (
    NOTHING,
    Ask,
    Effect,
    EffectBase,
    EffectGenerator,
    Get,
    InterpreterInvariantError,
    KleisliProgram,
    Listen,
    Local,
    Modify,
    Program,
    Pure,
    Put,
    Safe,
    Some,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.program import GeneratorProgram, KleisliProgramCall, ProgramBase

T = TypeVar("T")


def run(program: Any, **kw: Any) -> Any:
    return sync_run(program, sync_handlers_preset, **kw)


@do
def identity(value):
    return value
    yield


@do
def add(a, b):
    yield Tell(("add",))
    return a + b


# --- 2.1 what a program is --------------------------------------------------


def test_effects_and_calls_are_programs():
    assert Program is ProgramBase
    for p in (Ask("k"), identity(1), Pure(1), Program.pure(1), identity(1).map(str)):
        assert isinstance(p, Program)
    assert isinstance(identity(1), KleisliProgramCall)
    assert not isinstance(identity, Program)
    assert isinstance(identity, KleisliProgram)


def test_isinstance_effect_means_effect_base():
    assert isinstance(Ask("k"), Effect)
    assert isinstance(Ask("k"), EffectBase)
    assert not isinstance(identity(1), Effect)
    assert not isinstance(5, Effect)


def test_building_runs_nothing():
    ran = []

    @do
    def body():
        ran.append(1)
        yield Put("x", 1)

    p = body().map(lambda v: ran.append(2)).flat_map(lambda v: Pure(v))
    assert ran == []
    run(p)
    assert ran == [1, 2]


def test_a_program_object_runs_any_number_of_times():
    p = add(Modify("n", lambda v: (v or 0) + 1), 10)
    assert [run(p).value for _ in range(3)] == [11, 11, 11]

    @do
    def twice():
        return [(yield p), (yield p)]

    assert run(twice()).value == [11, 12]


def test_a_program_object_runs_in_many_threads_at_once():
    p = add(identity(1), identity(2)).map(lambda v: v * 2)
    results = []
    start = threading.Barrier(4)

    def work():
        start.wait()
        results.append([run(p).value for _ in range(50)])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == [[6] * 50] * 4


def test_annotations_are_legal():
    assert Program[int] is not None
    assert EffectGenerator[int] is not None

    def f(p: Program[int]) -> EffectGenerator[int]: ...

    assert f is not None


def test_program_without_a_factory_is_an_error():
    with pytest.raises(TypeError):
        Program()


def test_program_of_a_generator_factory():
    def factory():
        return (yield Get("x"))

    p = Program(factory)
    assert isinstance(p, GeneratorProgram)
    assert run(p, store={"x": 3}).value == 3
    assert run(p, store={"x": 4}).value == 4


def test_generator_program_is_constructible():
    def factory():
        return (yield Get("x"))

    assert run(GeneratorProgram(factory), store={"x": 3}).value == 3


def test_a_user_subclass_with_to_generator():
    class Mine(ProgramBase):
        def __init__(self, key):
            self.key = key

        def to_generator(self):
            first = yield Get(self.key)
            return first, (yield Get(self.key))

    assert run(Mine("x"), store={"x": 3}).value == (3, 3)
    assert run(identity(Mine("x")), store={"x": 3}).value == (3, 3)
    assert run(Mine("x").map(len), store={"x": 3}).value == 2


def test_a_subclass_without_to_generator_names_the_class():
    class Hollow(ProgramBase):
        pass

    assert "Hollow" in str(run(Hollow()).error)
    assert type(run(Hollow()).error) is TypeError

    @do
    def inner():
        yield Hollow()

    assert type(run(Safe(inner())).value.error) is TypeError


# --- 2.1 effects ------------------------------------------------------------


@dataclass(frozen=True)
class Frozen(EffectBase):
    key: str
    n: int = 3


@dataclass
class Thawed(EffectBase):
    key: str


class Bare(EffectBase):
    def __init__(self, key):
        self.key = key  # never calls super().__init__


@dataclass(frozen=True)
class Typed(EffectBase, Generic[T]):
    item: T


@dataclass(frozen=True)
class Derived(Frozen):
    more: int = 0


@pytest.mark.parametrize(
    "effect",
    [
        Frozen("k"),
        Frozen(key="k", n=4),
        Thawed("k"),
        Bare("k"),
        Typed([1]),
        Derived("k", 1, 2),
    ],
    ids=repr,
)
def test_every_style_of_effect_class_works(effect):
    seen = []

    def handler(e, ctx):
        seen.append(e)
        return Pure("answer")

    assert sync_run(effect, [handler]).value == "answer"
    assert seen == [effect]
    assert seen[0] is effect
    assert effect.created_at is None


def test_user_dataclass_effects_keep_the_dataclass_protocol():
    e = Frozen("k", 4)
    assert dataclasses.replace(e, n=5) == Frozen("k", 5)
    assert [f.name for f in dataclasses.fields(e)] == ["key", "n"]
    assert copy.copy(e) == copy.deepcopy(e) == e
    assert pickle.loads(pickle.dumps(e)) == e
    assert repr(e).endswith("Frozen(key='k', n=4)")
    assert hash(e) == hash(Frozen("k", 4))
    match e:
        case Frozen("k", n):
            assert n == 4
        case _:
            pytest.fail("no match")
    with pytest.raises(dataclasses.FrozenInstanceError):
        e.key = "other"
    assert Typed[int](3) == Typed(3)


@pytest.mark.parametrize(
    "effect", [Frozen("k"), Thawed("k"), Bare("k"), Get("k")], ids=repr
)
def test_with_created_at_is_a_copy(effect):
    marked = effect.with_created_at("here")
    assert marked is not effect
    assert type(marked) is type(effect)
    assert (marked.created_at, effect.created_at) == ("here", None)
    assert marked.key == "k"
    assert "here" not in repr(marked)


def test_created_at_takes_no_part_in_equality():
    assert Get("k").with_created_at("here") == Get("k")
    assert hash(Get("k").with_created_at("here")) == hash(Get("k"))
    made = doeff.effects.StateGetEffect("k", created_at="here")
    assert made == Get("k")
    assert made.created_at == "here"
    assert Frozen("k").with_created_at("here") == Frozen("k")


# --- 2.2 what may be yielded ------------------------------------------------


class Plain:
    pass


async def coroutine_function():
    return 1


def generator_function():
    yield Get("x")


WRONG = {
    "int": (lambda: 5, "int", ""),
    "none": (lambda: None, "NoneType", ""),
    "list": (lambda: [Get("x")], "list", ""),
    "string": (lambda: "x", "str", ""),
    "class": (lambda: Plain, "type", "(?i)call"),
    "function": (lambda: generator_function, "function", "(?i)call"),
    "kleisli": (lambda: identity, "KleisliProgram", "(?i)call"),
    "generator": (lambda: generator_function(), "generator", "yield from"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_yield_is_raised_at_the_yield(name):
    make, kind, hint = WRONG[name]
    seen = []

    @do
    def guilty():
        try:
            yield make()  # the guilty line
        except InterpreterInvariantError as error:
            seen.append(error)
            yield Put("cleaned", 1)
            return "survived"

    result = run(guilty())
    assert result.value == "survived"
    assert result.raw_store["cleaned"] == 1
    (error,) = seen
    message = str(error)
    assert message.startswith(
        f"Program yielded unexpected type: {kind}. "
        "Programs must yield Effect or Program instances only."
    )
    assert re.search(hint, message)
    assert isinstance(error, TypeError)
    lines = [f.line for f in traceback.extract_tb(error.__traceback__)]
    assert any("the guilty line" in line for line in lines)


def test_a_yielded_coroutine_hints_at_await():
    made = []

    @do
    def guilty():
        coroutine = coroutine_function()
        made.append(coroutine)
        yield coroutine

    error = run(guilty()).error
    made[0].close()
    assert type(error) is InterpreterInvariantError
    assert "Await(" in str(error)


def test_a_wrong_yield_travels_like_any_error():
    log = []

    @do
    def guilty():
        try:
            yield 5
        finally:
            log.append("inner finally")

    @do
    def outer():
        try:
            yield guilty()
        except InterpreterInvariantError:
            log.append("outer except")
            raise

    result = run(outer())
    assert type(result.error) is InterpreterInvariantError
    assert log == ["inner finally", "outer except"]
    assert type(run(Safe(outer())).value.error) is InterpreterInvariantError


def test_try_except_finally_around_yields():
    @do
    def body():
        log = []
        try:
            yield Get("absent")
        except KeyError as error:
            log.append(error.args)
        else:
            log.append("else")
        finally:
            log.append((yield Modify("n", lambda v: 1)))
        return log

    assert run(body()).value == [("absent",), 1]


def test_finally_performs_effects_while_an_error_passes():
    boom = ValueError("boom")

    @do
    def body():
        try:
            raise boom
        finally:
            yield Put("x", 1)
            yield Tell("cleaned")

    result = run(body())
    assert result.error is boom
    assert result.raw_store["x"] == 1
    assert result.raw_store["__log__"] == ["cleaned"]


def test_an_error_in_finally_replaces_the_first_with_context():
    @do
    def body():
        try:
            raise ValueError("first")
        finally:
            yield Get("absent")

    error = run(body()).error
    assert type(error) is KeyError
    assert type(error.__context__) is ValueError


def test_yield_from_a_helper_generator():
    def helper(n):
        total = 0
        for _ in range(n):
            total += yield Modify("n", lambda v: (v or 0) + 1)
        return total

    @do
    def body():
        return (yield from helper(3))

    assert run(body()).value == 6


def test_the_same_effect_object_may_be_performed_twice():
    effect = Modify("n", lambda v: (v or 0) + 1)

    @do
    def body():
        return [(yield effect), (yield effect)]

    assert run(body()).value == [1, 2]


def test_a_returned_program_is_a_plain_value():
    p = Put("x", 1)

    @do
    def generator():
        return p
        yield

    @do
    def function():
        return p

    for made in (generator(), function(), Pure(p)):
        result = run(made)
        assert result.value is p
        assert "x" not in result.raw_store


def test_bare_return_gives_none():
    @do
    def body():
        yield Put("x", 1)

    assert run(body()).value is None


def test_stop_iteration_in_a_generator_body_is_a_runtime_error():
    @do
    def body():
        yield Put("x", 1)
        raise StopIteration(3)

    error = run(body()).error
    assert type(error) is RuntimeError
    assert type(error.__cause__) is StopIteration


def test_a_generator_that_catches_the_error_and_goes_on():
    @do
    def body():
        total = 0
        for key in ("a", "b", "c"):
            try:
                total += yield Get(key)
            except KeyError:
                total += 100
        return total

    assert run(body(), store={"b": 1}).value == 201


# --- 2.3 @do ------------------------------------------------------------------


def test_calling_does_not_call_the_function():
    called = []

    @do
    def f(x):
        called.append(x)
        return x

    p = f(1)
    assert called == []
    assert run(p).value == 1
    assert called == [1]


class Adder:
    def __call__(self, a, b):
        return a + b


@pytest.mark.parametrize(
    ("f", "args", "value"),
    [
        (lambda a, b: a + b, (1, 2), 3),
        (len, ([1, 2],), 2),
        (Adder(), (1, 2), 3),
        (functools.partial(Adder(), 1), (2,), 3),
        (max, (1, 2), 2),
        (int, ("3",), 3),
    ],
    ids=["lambda", "builtin", "object", "partial", "builtin2", "class"],
)
def test_ordinary_callables(f, args, value):
    assert run(do(f)(*args)).value == value


def test_a_returned_generator_object_is_driven():
    def helper(key):
        return (yield Get(key))

    assert run(do(lambda k: helper(k))("x"), store={"x": 3}).value == 3
    assert run(do(functools.partial(helper, "x"))(), store={"x": 3}).value == 3


def test_stop_iteration_from_a_plain_function():
    stop = StopIteration(1)

    def f():
        raise stop

    error = run(do(f)()).error
    assert type(error) is RuntimeError
    assert str(error) == "generator raised StopIteration"
    assert error.__cause__ is stop


def test_an_existing_kleisli_is_returned_unchanged():
    assert do(identity) is identity


@pytest.mark.parametrize("thing", [5, None, "f", [identity]], ids=repr)
def test_not_callable_is_a_type_error_at_decoration(thing):
    with pytest.raises(TypeError):
        do(thing)


def test_wrong_arguments_are_reported_when_the_call_runs():
    p = add(1)
    q = add(1, 2, 3)
    r = add(1, c=2)
    for wrong in (p, q, r):
        assert type(run(wrong).error) is TypeError
        assert type(run(Safe(wrong)).value.error) is TypeError


class Service:
    base = 10

    def __init__(self, n):
        self.n = n

    @do
    def total(self, extra):
        got = yield Get("x")
        return self.n + extra + got

    @property
    @do
    def prop(self):
        return self.n
        yield

    @do
    def __call__(self, x):
        return self.n * x
        yield

    @staticmethod
    @do
    def static_below(x):
        return x + 1
        yield

    @do
    @staticmethod
    def static_above(x):
        return x + 1
        yield

    @classmethod
    @do
    def cls_below(cls, x):
        return cls.base + x
        yield

    @do
    @classmethod
    def cls_above(cls, x):
        return cls.base + x
        yield


class Child(Service):
    base = 20


def test_methods():
    s = Service(1)
    assert run(s.total(2), store={"x": 3}).value == 6
    assert run(Service.total(s, 2), store={"x": 3}).value == 6
    assert isinstance(Service.total, KleisliProgram)
    assert run(s.prop).value == 1
    assert run(s(5)).value == 5
    assert run(Child(2).total(0), store={"x": 0}).value == 2


@pytest.mark.parametrize("name", ["static_below", "static_above"])
def test_static_methods_in_either_order(name):
    assert run(getattr(Service(1), name)(1)).value == 2
    assert run(getattr(Service, name)(1)).value == 2


@pytest.mark.parametrize("name", ["cls_below", "cls_above"])
def test_class_methods_in_either_order(name):
    assert run(getattr(Service(1), name)(1)).value == 11
    assert run(getattr(Service, name)(1)).value == 11
    assert run(getattr(Child, name)(1)).value == 21


def test_a_bound_method_keeps_its_combinators():
    s = Service(1)
    store = {"x": 0}
    assert run(s.total.partial(2)(), store=store).value == 3
    assert run((s.total >> identity)(2), store=store).value == 3
    assert run(s.total.fmap(str)(2), store=store).value == "3"
    assert run((s.total << str)(2), store=store).value == "3"
    assert run(s.total.and_then_k(lambda v: Pure(-v))(2), store=store).value == -3
    with_program = s.total.partial(Get("y"))
    assert run(with_program(), store={"x": 0, "y": 5}).value == 6


def test_a_bound_instance_that_is_a_program_is_not_run():
    @dataclass(frozen=True)
    class WithMethod(EffectBase):
        n: int

        @do
        def doubled(self, extra):
            return self.n * 2 + extra
            yield

    assert run(WithMethod(4).doubled(Pure(1))).value == 9


def test_metadata_is_kept():
    def original(a: int, b: str = "x") -> EffectGenerator[int]:
        """Doc."""
        yield Get("x")

    k = do(original)
    assert k.__name__ == "original"
    assert k.__qualname__ == original.__qualname__
    assert k.__doc__ == "Doc."
    assert k.__module__ == original.__module__
    assert k.__annotations__ == original.__annotations__
    assert k.__wrapped__ is original
    assert k.original_func is original
    assert k.original_generator is original
    assert callable(k.func)
    assert inspect.signature(k) == inspect.signature(original)
    assert list(inspect.signature(Service(1).total).parameters) == ["extra"]
    assert list(inspect.signature(k.partial(1)).parameters) == ["b"]


def test_kleisli_objects_are_ordinary_objects():
    k = do(lambda: 1)
    k.extra = 5
    assert k.extra == 5
    assert {k: 1}[k] == 1
    assert pickle.loads(pickle.dumps(identity)) is identity


def test_direct_kleisli_program():
    assert run(KleisliProgram(lambda x: Get(x))("k"), store={"k": 3}).value == 3
    assert run(KleisliProgram(lambda x: x + 1)(2)).value == 3
    assert run(KleisliProgram(lambda x: identity(x))(2)).value == 2

    def generator(x):
        return (yield Get(x))

    assert run(KleisliProgram(generator)("k"), store={"k": 3}).value == 3


def test_call_fields():
    call = add(1, b=2)
    assert call.kleisli_source is add
    assert call.args == (1,)
    assert dict(call.kwargs) == {"b": 2}
    assert call.function_name == "add"
    assert call.created_at is None
    assert hash(call) == hash(call)
    assert call == call
    assert call != add(1, b=2)
    with pytest.raises(AttributeError):
        call.args = ()


def test_call_repr_is_short_and_does_not_recurse():
    p = Pure(1)
    for _ in range(5000):
        p = identity(p)
    assert len(repr(p)) < 300
    assert "identity" in repr(p)


def test_map_on_a_call_keeps_its_identity():
    call = add(1, b=2)
    for derived in (call.map(str), call.flat_map(Pure)):
        assert derived.function_name == "add"
        assert derived.args == (1,)
        assert dict(derived.kwargs) == {"b": 2}


def test_partial():
    @do
    def f(a, b, c=0, d=0):
        return (a, b, c, d)
        yield

    k = f.partial(1, d=4)
    assert k.__name__ == "f"
    assert run(k(2)).value == (1, 2, 0, 4)
    assert run(k(2, d=5)).value == (1, 2, 0, 5)
    assert run(k.partial(2)(3)).value == (1, 2, 3, 4)
    assert run(f.partial(Get("x"))(2), store={"x": 9}).value == (9, 2, 0, 0)


def test_composition():
    inc = do(lambda v: v + 1)
    assert run((add >> inc)(1, 2)).value == 4
    assert run((add >> (lambda v: Put("x", v)))(1, 2)).raw_store["x"] == 3
    assert run(add.and_then_k(inc)(1, 2)).value == 4
    assert run(add.fmap(str)(1, 2)).value == "3"
    assert run((add << str)(1, 2)).value == "3"
    with pytest.raises(TypeError):
        add >> 5
    with pytest.raises(TypeError):
        add.and_then_k(5)


# --- S15: async programs ----------------------------------------------------


def test_an_async_def_awaits_effects_and_programs():
    @do
    async def body(n):
        got = await Get("x")
        await Put("y", n)
        return (got, await identity(5))

    result = run(body(Pure(2)), store={"x": 1})
    assert result.value == (1, 5)
    assert result.raw_store["y"] == 2


def test_an_async_body_catches_errors_at_the_await():
    @do
    async def body():
        try:
            await Get("absent")
        except KeyError:
            return "caught"
        finally:
            await Put("x", 1)

    result = run(body())
    assert result.value == "caught"
    assert result.raw_store["x"] == 1


def test_a_bare_asyncio_awaitable_in_an_async_body_names_await():
    @do
    async def body():
        await asyncio.sleep(0.0)

    error = run(body()).error
    assert "Await(" in str(error)


# --- 2.4 unwrapping of arguments ---------------------------------------------


class MyProgram(ProgramBase):
    def to_generator(self):
        return "never"
        yield


def takes_none(x): ...
def takes_int(x: int): ...
def takes_object(x: object): ...
def takes_any(x: Any): ...
def takes_var(x: T): ...
def takes_list(x: list[Program]): ...
def takes_unresolvable(x: NoSuchName): ...  # noqa: F821
def takes_optional_int(x: Optional[int]): ...  # noqa: UP045
def takes_annotated_int(x: Annotated[int, Program]): ...
def takes_program(x: Program): ...
def takes_program_of(x: Program[int]): ...
def takes_program_base(x: ProgramBase): ...
def takes_subclass(x: MyProgram): ...
def takes_effect(x: Effect): ...
def takes_effect_base(x: EffectBase): ...
def takes_effect_subclass(x: Frozen): ...
def takes_optional(x: Optional[Program]): ...  # noqa: UP045
def takes_union(x: Union[int, Program[int]]): ...  # noqa: UP007
def takes_bar(x: int | Program): ...
def takes_bar_none(x: Program | None): ...
def takes_annotated(x: Annotated[Program, "doc"]): ...
def takes_annotated_optional(x: Annotated[Optional[Program[int]], 1]): ...  # noqa: UP045
def takes_star(*x: Program): ...
def takes_kwonly(*, x: Program): ...
def takes_kwargs(**x: Program): ...


EVALUATED = [
    takes_none,
    takes_int,
    takes_object,
    takes_any,
    takes_var,
    takes_list,
    takes_unresolvable,
    takes_optional_int,
    takes_annotated_int,
]
AS_IS = [
    takes_program,
    takes_program_of,
    takes_program_base,
    takes_subclass,
    takes_effect,
    takes_effect_base,
    takes_effect_subclass,
    takes_optional,
    takes_union,
    takes_bar,
    takes_bar_none,
    takes_annotated,
    takes_annotated_optional,
    takes_star,
    takes_kwonly,
    takes_kwargs,
]


def with_annotations_of(shape, *, as_strings):
    """A @do function with the signature of ``shape`` that returns its argument."""
    signature = inspect.signature(shape, eval_str=False)
    if not as_strings:
        with contextlib.suppress(NameError):
            signature = inspect.signature(shape, eval_str=True)
    (parameter,) = signature.parameters.values()
    if parameter.kind is inspect.Parameter.VAR_POSITIONAL:

        def f(*x):
            return x[0]

    elif parameter.kind is inspect.Parameter.VAR_KEYWORD:

        def f(**x):
            return x["x"]

    elif parameter.kind is inspect.Parameter.KEYWORD_ONLY:

        def f(*, x):
            return x

    else:

        def f(x):
            return x

    f.__annotations__ = {"x": parameter.annotation}
    if parameter.annotation is inspect.Parameter.empty:
        f.__annotations__ = {}
    return do(f)


def pass_one(kleisli, shape, value):
    (parameter,) = inspect.signature(shape).parameters.values()
    if parameter.kind in (
        inspect.Parameter.VAR_KEYWORD,
        inspect.Parameter.KEYWORD_ONLY,
    ):
        return kleisli(x=value)
    return kleisli(value)


@pytest.mark.parametrize("as_strings", [True, False], ids=["strings", "objects"])
@pytest.mark.parametrize("shape", EVALUATED, ids=lambda f: f.__name__)
def test_annotations_that_evaluate(shape, as_strings):
    k = with_annotations_of(shape, as_strings=as_strings)
    assert run(pass_one(k, shape, Get("x")), store={"x": 3}).value == 3


@pytest.mark.parametrize("as_strings", [True, False], ids=["strings", "objects"])
@pytest.mark.parametrize("shape", AS_IS, ids=lambda f: f.__name__)
def test_annotations_that_pass_programs_on(shape, as_strings):
    k = with_annotations_of(shape, as_strings=as_strings)
    effect = Get("x")
    assert run(pass_one(k, shape, effect), store={"x": 3}).value is effect
    assert run(pass_one(k, shape, 5)).value == 5


def test_every_extra_argument_of_a_star_parameter():
    @do
    def f(first, *rest: Program, **named: Program):
        return first, rest, named
        yield

    a, b = Get("a"), Get("b")
    value = run(f(a, a, b, n=b), store={"a": 1, "b": 2}).value
    assert value[0] == 1
    assert value[1][0] is a
    assert value[1][1] is b
    assert value[2]["n"] is b


def test_order_of_evaluation_and_shared_state():
    order = []

    @do
    def arg(name):
        order.append(name)
        return (name, (yield Modify("n", lambda v: (v or 0) + 1)))

    @do
    def f(x, y, z=None, w=None):
        order.append("f")
        return (x, y, z, w)
        yield

    value = run(f(arg("x"), arg("y"), w=arg("w"), z=arg("z"))).value
    assert value == (("x", 1), ("y", 2), ("z", 4), ("w", 3))
    assert order == ["x", "y", "w", "z", "f"]


def test_the_first_error_stops():
    ran = []

    @do
    def arg(name, fail=False):
        ran.append(name)
        if fail:
            raise ValueError(name)
        yield Put(name, 1)

    @do
    def f(a, b, c):
        ran.append("f")
        yield

    result = run(f(arg("a"), arg("b", fail=True), arg("c")))
    assert str(result.error) == "b"
    assert ran == ["a", "b"]
    assert result.raw_store == {"a": 1}


def test_only_top_level_passed_arguments_count():
    p = Get("x")

    @do
    def f(a, b=p):
        return a, b
        yield

    value = run(f([p]), store={"x": 1}).value
    assert value[0] == [p]
    assert value[0][0] is p
    assert value[1] is p
    assert run(f({"k": p}), store={"x": 1}).value[0] == {"k": p}
    assert run(f(1, b=p), store={"x": 1}).value == (1, 1)
    assert run(f(identity), store={}).value[0] is identity


def test_arguments_need_no_handler():
    @do
    def plus(a, b):
        return a + b
        yield

    assert sync_run(plus(Pure(1), identity(Pure(2))), []).value == 3


def test_no_gather_is_performed_for_arguments():
    seen = []
    program = add(Get("x"), Get("y")).intercept(lambda e: seen.append(type(e).__name__))
    assert run(program, store={"x": 1, "y": 2}).value == 3
    assert seen == ["StateGetEffect", "StateGetEffect", "WriterTellEffect"]


def test_arguments_see_the_callers_environment_and_handlers():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Frozen):
            return "handled " + (yield Ask("e"))
        return (yield effect)

    @do
    def caller():
        return (yield Local({"e": "inner"}, identity(Frozen("k"))))

    assert (
        run(WithHandler(handler, caller()), env={"e": "outer"}).value == "handled inner"
    )


def test_a_local_effect_class_is_recognised_under_postponed_evaluation():
    @dataclass(frozen=True)
    class OnlyHere(EffectBase):
        n: int

    @do
    def f(e: OnlyHere, other: int):
        return e, other
        yield

    e = OnlyHere(1)
    value = run(f(e, Pure(2))).value
    assert value[0] is e
    assert value[1] == 2


def test_one_unresolvable_name_does_not_spoil_the_others():
    @do
    def f(a: NoSuchName, b: Program, c: int) -> AlsoMissing:  # noqa: F821
        return a, b, c
        yield

    p = Pure(2)
    value = run(f(Pure(1), p, Pure(3))).value
    assert (value[0], value[2]) == (1, 3)
    assert value[1] is p


def test_a_handler_receives_the_effect_annotated_or_not():
    got = []

    @do
    def bare(effect, ctx):
        got.append(effect)
        return (yield effect)

    @do
    def as_int(effect: int, ctx: int):
        got.append(effect)
        return (yield effect)

    put = Put("x", 1)
    result = run(WithHandler(bare, WithHandler(as_int, put)))
    assert result.raw_store == {"x": 1}
    assert got[0] is put
    assert got[1] is put


def test_methods_unwrap_every_argument_but_self():
    assert run(Service(1).total(Get("x")), store={"x": 3}).value == 7


# --- 2.5 combinators ------------------------------------------------------------


def test_pure_of_lift():
    assert sync_run(Program.pure(1), []).value == 1
    assert sync_run(Program.of(1), []).value == 1
    assert sync_run(Program.lift(1), []).value == 1
    p = Get("x")
    assert Program.lift(p) is p
    assert sync_run(Program.pure(p), []).value is p


@pytest.fixture(params=["effect", "call", "generator", "map", "subclass"])
def any_program(request):
    class Sub(ProgramBase):
        def to_generator(self):
            return (yield Get("x"))

    def factory():
        return (yield Get("x"))

    return {
        "effect": lambda: Get("x"),
        "call": lambda: identity(Get("x")),
        "generator": lambda: GeneratorProgram(factory),
        "map": lambda: Get("x").map(lambda v: v),
        "subclass": Sub,
    }[request.param]()


def test_map(any_program):
    assert run(any_program.map(lambda v: v + 1), store={"x": 1}).value == 2
    p = Put("y", 1)
    result = run(any_program.map(lambda v: p), store={"x": 1})
    assert result.value is p
    assert "y" not in result.raw_store
    with pytest.raises(TypeError):
        any_program.map(5)


def test_flat_map(any_program):
    for method in ("flat_map", "and_then_k"):
        bind = getattr(any_program, method)
        result = run(bind(lambda v: Put("y", v)), store={"x": 1})
        assert result.raw_store == {"x": 1, "y": 1}
        with pytest.raises(TypeError):
            bind(5)
        error = run(bind(lambda v: 5), store={"x": 1}).error
        assert type(error) is TypeError
        assert str(error).startswith("binder must return a Program; got int")


def test_errors_of_the_function_surface_when_it_runs(any_program):
    boom = ValueError("boom")

    def fail(_):
        raise boom

    for p in (any_program.map(fail), any_program.flat_map(fail)):
        assert run(p, store={"x": 1}).error is boom


def test_then(any_program):
    assert run(any_program.then(Pure("q")), store={"x": 1}).value == "q"
    assert run(any_program.then(any_program), store={"x": 1}).value == 1


def test_intercept_exists_on_every_program(any_program):
    p = any_program.intercept(lambda e: Pure("replaced"))
    assert run(p).value == "replaced"
    with pytest.raises(ValueError):
        any_program.intercept()


def test_sequence_and_traverse():
    ps = [Get("x"), identity(2), Pure(3)]
    assert run(Program.sequence(ps), store={"x": 1}).value == [1, 2, 3]
    assert run(Program.sequence([])).value == []
    once = Program.sequence(p for p in ps)
    assert [run(once, store={"x": 1}).value for _ in range(2)] == [[1, 2, 3]] * 2
    over = Program.traverse(iter([1, 2]), lambda v: Pure(v * 10))
    assert [run(over).value for _ in range(2)] == [[10, 20]] * 2


def test_collection_builders():
    assert run(Program.list(1, Pure(2), Get("x")), store={"x": 3}).value == [1, 2, 3]
    assert run(Program.tuple(1, Pure(2))).value == (1, 2)
    assert run(Program.set(1, Pure(2), Pure(1))).value == {1, 2}
    assert run(Program.list()).value == []
    d = run(Program.dict({"a": Pure(1), "b": 2}, c=Pure(3))).value
    assert list(d.items()) == [("a", 1), ("b", 2), ("c", 3)]
    assert run(Program.dict([("a", Pure(1))])).value == {"a": 1}
    assert run(Program.dict()).value == {}


def test_builders_stop_at_the_first_error_and_share_state():
    n = Modify("n", lambda v: (v or 0) + 1)
    result = run(Program.list(n, n, Get("absent"), n))
    assert type(result.error) is KeyError
    assert result.raw_store == {"n": 2}


def test_first_some():
    assert run(
        Program.first_some(Pure(None), Pure(NOTHING), Pure(0), Put("x", 1))
    ).value == Some(0)
    assert run(Program.first_some(Pure(Some(3)))).value == Some(3)
    assert run(Program.first_some(Pure(""))).value == Some("")
    assert run(Program.first_some(Pure(None))).value is NOTHING
    with pytest.raises(ValueError):
        Program.first_some()
    with pytest.raises(TypeError):
        Program.first_some(5)


def test_first_success():
    assert (
        run(
            Program.first_success(Get("a"), Get("b"), Put("z", 1)), store={"b": 2}
        ).value
        == 2
    )
    result = run(Program.first_success(Get("a"), Get("b")))
    assert type(result.error) is KeyError
    assert result.error.args == ("b",)
    assert any("'a'" in note for note in result.error.__notes__)
    with pytest.raises(ValueError):
        Program.first_success()
    with pytest.raises(TypeError):
        Program.first_success(5)


class Thing:
    name = "thing"
    items = (1, 2)

    def add(self, a, b=0):
        return a + b

    def make(self):
        return Put("made", 1)


def test_projections():
    thing = Pure(Thing())
    assert run(thing.name).value == "thing"
    assert run(thing.items[1]).value == 2
    assert run(thing.add(1, b=Get("x")), store={"x": 5}).value == 6
    assert run(Pure({"k": [1]})["k"][0]).value == 1
    result = run(thing.make())
    assert result.raw_store == {"made": 1}


def test_projection_errors_come_at_run_time():
    error = run(Pure(5).nothing).error
    assert type(error) is AttributeError
    assert str(error) == "int object has no attribute 'nothing'"
    error = run(Pure(5)(1)).error
    assert type(error) is TypeError
    assert str(error).startswith("Program result ")
    assert str(error).endswith(" is not callable")
    assert type(run(Pure(5)["k"]).error) is TypeError
    assert type(run(Pure({})["k"]).error) is KeyError


@pytest.mark.parametrize(
    "p", [Get("x"), identity(1), Pure(1), Pure(1).map(str)], ids=repr
)
def test_probes_are_honest(p):
    assert not hasattr(p, "_handle")
    assert not hasattr(p, "__len__")
    assert not hasattr(p, "_repr_html_")
    with pytest.raises(AttributeError):
        p._private


@pytest.mark.parametrize(
    "p", [Get("x"), identity(1), Pure(1), Pure(1).map(str)], ids=repr
)
def test_iteration_truth_and_membership_are_errors(p):
    with pytest.raises(TypeError, match="yield"):
        iter(p)
    with pytest.raises(TypeError, match="yield"):
        _, _ = p
    with pytest.raises(TypeError, match="yield"):
        1 in p  # noqa: B015
    with pytest.raises(TypeError, match=r"(?s)yield.*None|None.*yield"):
        bool(p)
    with pytest.raises(TypeError):
        if p:
            pass


def test_argument_is_evaluated_once_under_stacked_maps():
    count = []

    @do
    def side():
        count.append(1)
        return 1
        yield

    p = identity(side()).map(lambda v: v + 1).flat_map(Pure).map(str)
    assert run(p).value == "2"
    assert count == [1]


def test_programs_do_not_leak_when_never_run():
    class Tracked:
        alive = 0

        def __init__(self):
            Tracked.alive += 1

        def __del__(self):
            Tracked.alive -= 1

    p = identity(Tracked()).map(Tracked).flat_map(lambda v: Pure(v))
    assert Tracked.alive == 1
    del p
    gc.collect()
    assert Tracked.alive == 0


def test_constructors_are_the_lower_case_twins():
    assert doeff.get("k") == Get("k")
    assert doeff.put("k", 1) == Put("k", 1)
    assert doeff.ask("k") == Ask("k")
    assert doeff.tell("m") == Tell("m")
    assert doeff.Log is doeff.Tell
    assert type(doeff.safe(Pure(1))) is type(Safe(Pure(1)))
    assert type(doeff.effects.listen(Pure(1))) is type(Listen(Pure(1)))
