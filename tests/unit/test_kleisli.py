"""@do functions: what they keep, how they bind, compose and read annotations."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import pickle
import typing
import weakref
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, Union

import pytest

from doeff import (
    Ask,
    EffectBase,
    Get,
    Program,
    Pure,
    Put,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.kleisli import KleisliProgram, PartiallyAppliedKleisliProgram

if typing.TYPE_CHECKING:
    from nowhere import Missing

T = TypeVar("T")


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


@do
def three(a, b, c=0):
    """Three things."""
    return (a, b, c)
    yield


@do
def increment(value):
    return value + 1
    yield


@dataclass(frozen=True)
class Ping(EffectBase):
    n: int = 0


@dataclass(frozen=True)
class Pong(EffectBase):
    n: int = 0


@dataclass(frozen=True)
class Typed(EffectBase, Generic[T]):
    item: T


class Service:
    def __init__(self, n=1):
        self.n = n

    @do
    def total(self, extra, more=0):
        """Adds."""
        return self.n + extra + more
        yield

    twice = total << (lambda v: v * 2)
    with_five = total.partial(more=5)

    @do
    @classmethod
    def above(cls, n):
        return cls.__name__, n
        yield

    @classmethod
    @do
    def below(cls, n):
        return cls.__name__, n
        yield


# --- metadata and signatures ------------------------------------------------------------


def test_bound_methods_show_the_metadata_of_the_function():
    bound = Service().total
    assert bound.__name__ == "total"
    assert bound.__qualname__ == "Service.total"
    assert bound.__doc__ == "Adds."
    assert bound.__module__ == __name__
    assert bound.__annotations__ == {}
    assert bound.__self__.n == 1
    assert bound.__func__ is Service.total
    assert bound == bound.__self__.total
    assert hash(bound) == hash(bound.__self__.total)
    assert bound != Service().total


def test_signatures():
    def parameters(thing):
        return str(inspect.signature(thing))

    def f(a, b: int, *rest, c=0, **named) -> str: ...

    k = do(f)
    assert inspect.signature(k) == inspect.signature(f)
    assert k.__signature__ == inspect.signature(f)
    assert parameters(Service().total) == "(extra, more=0)"
    assert parameters(Service.above) == "(n)"
    assert parameters(Service.below) == "(n)"
    assert parameters(k.partial(1)) == "(b: 'int', *rest, c=0, **named) -> 'str'"
    assert parameters(k.partial(1, 2, 3)) == "(*rest, c=0, **named) -> 'str'"
    assert parameters(k.partial(c=1)) == "(a, b: 'int', *rest, **named) -> 'str'"
    assert parameters(three.partial(a=1)) == "(*, b, c=0)"
    assert parameters(Service().total.partial(1)) == "(more=0)"
    assert parameters(three >> increment) == "(a, b, c=0)"
    assert parameters(three << str) == "(a, b, c=0)"


def test_a_signature_is_worked_out_when_asked_for():
    @do
    def f(x: Missing, y: NoSuchName): ...  # noqa: F821

    assert list(inspect.signature(f).parameters) == ["x", "y"]
    assert "__signature__" not in f.__dict__


def test_what_has_no_signature_has_none():
    k = do(dict)
    assert not hasattr(k, "__signature__")
    with pytest.raises(ValueError):
        inspect.signature(k)


def test_attributes_of_the_function_are_kept():
    def f():
        return 1

    f.tag = "tagged"
    f.partial = "not this"
    k = do(f)
    assert k.tag == "tagged"
    assert callable(k.partial)
    k.tag = "changed"
    assert f.tag == "tagged"


def test_do_of_what_do_made_is_the_same_object():
    for thing in (three, three.partial(1), three >> increment, Service().total):
        assert do(thing) is thing


def test_kleisli_programs_are_not_a_base_class():
    with pytest.raises(TypeError):

        class Mine(KleisliProgram):
            pass


# --- binding -----------------------------------------------------------------------------


def test_composed_functions_bind_like_functions():
    assert run(Service(2).twice(1)).value == 6
    assert run(Service.twice(Service(2), 1)).value == 6
    assert run(Service.with_five(Service(2), 1)).value == 8


@pytest.mark.parametrize("name", ["above", "below"])
def test_class_methods_bind_the_class(name):
    class Child(Service):
        pass

    for owner in (Child, Child()):
        assert run(getattr(owner, name)(1)).value == ("Child", 1)


def test_class_methods_keep_their_combinators_with_do_on_top():
    assert run(Service.above.partial(1)()).value == ("Service", 1)
    assert run((Service.above >> (lambda v: Pure(v[0])))(1)).value == "Service"
    assert run(Service().above.fmap(len)(1)).value == 2


def test_a_bound_program_is_never_run_but_other_arguments_are():
    class Walk(EffectBase):
        @do
        def steps(self, n):
            return self, n
            yield

        doubled = steps << (lambda pair: (pair[0], pair[1] * 2))

    walk = Walk()
    assert run(walk.steps(Pure(1))).value[0] is walk
    value = run(walk.doubled(Pure(1))).value
    assert value[0] is walk
    assert value[1] == 2
    assert run(walk.steps.partial(Pure(3))()).value == (walk, 3)


# --- partial and composition ----------------------------------------------------------------


def test_partial():
    k = three.partial(1)
    assert isinstance(k, PartiallyAppliedKleisliProgram)
    assert isinstance(k, KleisliProgram)
    assert k.__name__ == "three"
    assert k.__doc__ == "Three things."
    assert k.args == (1,)
    assert run(k.partial(2).partial(c=3)()).value == (1, 2, 3)
    assert run(three.partial(c=1).partial(c=2)(0, 0)).value == (0, 0, 2)
    assert run(three.partial(c=1)(0, 0, c=3)).value == (0, 0, 3)
    assert k(2).kleisli_source is three
    assert k(2).args == (1, 2)
    k.keywords["c"] = 5
    assert k.keywords == {}


def test_partial_arguments_that_are_programs_follow_the_plan():
    @do
    def f(p: Program, value):
        return p, value
        yield

    effect = Get("x")
    value = run(f.partial(effect, value=effect)(), store={"x": 1}).value
    assert value[0] is effect
    assert value[1] == 1
    many = f.partial(effect)
    assert run(many(value=effect), store={"x": 2}).value[1] == 2


def test_too_many_arguments_are_reported_when_the_call_runs():
    for call in (
        three.partial(1, 2, 3)(4),
        three.partial(z=1)(1, 2),
        (three >> increment)(),
    ):
        assert type(run(call).error) is TypeError


def test_composition_keeps_what_the_first_function_wants_unevaluated():
    @do
    def keeps(p: Program):
        return p
        yield

    effect = Get("x")
    assert run((keeps >> Pure)(effect)).value is effect
    assert run((keeps << (lambda p: p.key))(effect)).value == "x"


def test_composition_with_anything_that_gives_a_program():
    assert run((increment >> (lambda v: Put("x", v)))(1)).raw_store == {"x": 2}
    assert run((increment >> increment.partial() >> increment << str)(1)).value == "4"
    assert type(run((increment >> str)(1)).error) is TypeError
    composed = increment >> increment
    assert composed.__name__ == "increment"
    assert isinstance(composed, KleisliProgram)
    assert (increment >> increment)(1).function_name == "increment"
    with pytest.raises(TypeError):
        increment >> 5
    with pytest.raises(TypeError):
        5 >> increment


def test_a_composed_handler_gets_the_effect_itself():
    @do
    def handler(effect, ctx):
        return effect if isinstance(effect, Ping) else (yield effect)

    program = WithHandler(handler << (lambda e: e.n + 1), Ping(4))
    assert run(program).value == 5
    assert (
        run(WithHandler((handler << (lambda e: e.n)) >> increment, Ping(4))).value == 5
    )


def test_long_compositions():
    k = increment
    for _ in range(50_000):
        k = k >> increment
    assert run(k(0)).value == 50_001
    repr(k)
    del k
    k = increment
    for _ in range(50_000):
        k = k.partial()
    assert run(k(0)).value == 1


# --- pickling -----------------------------------------------------------------------------


@do
def module_level(a, b=0):
    return a + b
    yield


def test_pickling_by_qualified_name():
    for thing in (module_level, Service.total):
        assert pickle.loads(pickle.dumps(thing)) is thing
        assert copy.deepcopy(thing) is thing
    bound = pickle.loads(pickle.dumps(Service(3).total))
    assert run(bound(1)).value == 4
    partial = pickle.loads(pickle.dumps(module_level.partial(1, b=2)))
    assert run(partial()).value == 3
    composed = pickle.loads(pickle.dumps(module_level >> module_level))
    assert run(composed(1)).value == 1
    assert run(pickle.loads(pickle.dumps(Service(3).total(1)))).value == 4


def test_local_functions_do_not_pickle():
    @do
    def local():
        return 1
        yield

    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(local)


# --- annotations ------------------------------------------------------------------------------


def as_is(kleisli, value, *args, **kw):
    """Whether value comes back unevaluated."""
    return run(kleisli(value, *args, **kw), store={"x": 1}).value is value


EFFECT = Get("x")


def test_annotations_of_callables_that_are_no_functions():
    class Object:
        def __call__(self, p: Program, v=None):
            return p

    def function(first, p: Program):
        return p

    class Made:
        def __new__(cls, p):
            return p

        def __init__(self, p: Program): ...

    assert as_is(do(Object()), EFFECT)
    assert as_is(do(functools.partial(function, 1)), EFFECT)
    assert as_is(do(Object().__call__), EFFECT)
    assert as_is(do(Made), EFFECT)
    assert not as_is(do(lambda p: p), EFFECT)


def test_annotations_behind_a_wrapper():
    def tracing(f):
        @functools.wraps(f)
        def wrapper(*args, **kwargs):
            return f(*args, **kwargs)

        return wrapper

    @do
    @tracing
    def f(p: Program, v):
        return p, v

    value = run(f(EFFECT, EFFECT), store={"x": 1}).value
    assert value[0] is EFFECT
    assert value[1] == 1


def test_positional_only_and_keyword_only():
    @do
    def f(p: Program, /, q, *, r: Program, **rest: Program):
        return p, q, r, rest
        yield

    p, q, r, rest = run(f(EFFECT, EFFECT, r=EFFECT, p=EFFECT), store={"x": 1}).value
    assert (p is EFFECT, q, r is EFFECT) == (True, 1, True)
    assert rest["p"] is EFFECT


def test_forward_references_and_aliases():
    for annotation in (
        Union[int, "Program[int]"],
        typing.Optional["Ping"],
        "typing.Annotated[Program, 'note']",
        "Missing | Program",
        "typing.Optional[Missing[int] | Program]",
        Typed[int],
        "Typed[int]",
        typing.NewType("Special", Ping),
        Pong,
    ):

        def f(x):
            return x

        f.__annotations__ = {"x": annotation}
        assert as_is(do(f), EFFECT), annotation
    for annotation in (
        "Missing",
        "list[Missing]",
        "not an expression (",
        list["Program"],
        typing.Callable[[], Program],
        T,
        type[Ping],
        5,
    ):

        def f(x):
            return x

        f.__annotations__ = {"x": annotation}
        assert not as_is(do(f), EFFECT), annotation


def test_names_that_only_type_checkers_import():
    namespace = {"do": do}
    source = (
        "from __future__ import annotations\n"
        "@do\n"
        "def f(p: Program[int], e: Effect | None = None):\n"
        "    return p, e\n"
    )
    exec(source, namespace)
    value = run(namespace["f"](EFFECT, EFFECT)).value
    assert value[0] is EFFECT
    assert value[1] is EFFECT


def test_names_around_a_class_and_through_another_decorator():
    class Here(EffectBase):
        pass

    def my_do(f):
        return do(f)

    class Inside:
        class Deeper(EffectBase):
            pass

        @do
        def method(self, e: Here, d: Deeper, v):
            return e, d, v
            yield

    @my_do
    def f(e: Here):
        return e
        yield

    e, d, v = run(Inside().method(EFFECT, EFFECT, EFFECT), store={"x": 1}).value
    assert (e is EFFECT, d is EFFECT, v) == (True, True, 1)
    assert as_is(f, EFFECT)


def test_no_frame_is_kept_by_decorating():
    class Marker:
        pass

    def make():
        class Local(EffectBase):
            pass

        marker = Marker()
        gone = weakref.ref(marker)

        @do
        def f(e: Local, n: int):
            return e
            yield

        return f, gone, weakref.ref(Local)

    f, marker, local = make()
    gc.collect()
    assert marker() is None
    assert as_is(f, EFFECT, 1)
    del f
    gc.collect()
    assert local() is None


def test_the_table_is_worked_out_once():
    evaluated = []

    class Watching(dict):
        def items(self):
            evaluated.append(1)
            return super().items()

    def f(p):
        return p

    f.__annotations__ = Watching(p=Program)
    k = do(f)
    for _ in range(3):
        assert as_is(k, EFFECT)
    assert len(evaluated) == 1


# --- handlers narrowed by their annotation ---------------------------------------------------


def offered(handler):
    """Which of the three effects the handler is offered."""
    seen = []

    @do
    def last(effect, ctx):
        return "last"
        yield

    handler = handler(seen)
    for effect in (Ping(), Pong(), Typed(1)):
        sync_run(WithHandler(handler, effect), [last])
    return [type(effect).__name__ for effect in seen]


def noting(annotation):
    def make(seen):
        def handler(effect, ctx):
            seen.append(effect)
            return (yield effect)

        handler.__annotations__ = {"effect": annotation}
        return do(handler)

    return make


@pytest.mark.parametrize(
    ("annotation", "names"),
    [
        (Ping, ["Ping"]),
        ("Ping", ["Ping"]),
        (Ping | Pong, ["Ping", "Pong"]),
        ("Ping | None", ["Ping"]),
        (Union[Ping, "Typed[int]"], ["Ping", "Typed"]),
        ("typing.Annotated[Pong, 1]", ["Pong"]),
        (EffectBase, ["Ping", "Pong", "Typed"]),
        (Ping | EffectBase, ["Ping", "Pong", "Typed"]),
        (Any, ["Ping", "Pong", "Typed"]),
        ("Missing", ["Ping", "Pong", "Typed"]),
        ("Ping | Missing", ["Ping", "Pong", "Typed"]),
        (int, ["Ping", "Pong", "Typed"]),
        (None, ["Ping", "Pong", "Typed"]),
    ],
    ids=str,
)
def test_a_handler_is_offered_what_it_is_annotated_with(annotation, names):
    assert offered(noting(annotation)) == names


def test_narrowing_of_every_kind_of_handler():
    def methods(seen):
        class Handler:
            @do
            def handle(self, effect: Ping, ctx):
                seen.append(effect)
                return (yield effect)

        return Handler().handle

    def plain_method(seen):
        class Handler:
            def handle(self, effect: Ping, ctx):
                seen.append(effect)
                return Pure(1)

        return Handler().handle

    def callable_object(seen):
        class Handler:
            def __call__(self, effect: Ping, ctx):
                seen.append(effect)
                return Pure(1)

        return Handler()

    def partial(seen):
        def handler(tag, effect: Ping, ctx):
            seen.append(effect)
            return Pure(tag)

        return functools.partial(handler, "tag")

    def kleisli_partial(seen):
        @do
        def handler(tag, effect: Ping, ctx):
            seen.append(effect)
            return tag
            yield

        return handler.partial("tag")

    def composed(seen):
        return noting(Ping)(seen) << (lambda v: v)

    for kind in (
        methods,
        plain_method,
        callable_object,
        partial,
        kleisli_partial,
        composed,
    ):
        assert offered(kind) == ["Ping"], kind


def test_a_handler_for_a_class_local_to_the_test():
    class Here(EffectBase):
        pass

    @do
    def handler(effect: Here, ctx):
        return "here"
        yield

    assert sync_run(WithHandler(handler, Here()), []).value == "here"
    assert run(WithHandler(handler, Get("x")), store={"x": 1}).value == 1


def test_narrowing_keeps_no_class_alive():
    class Here(EffectBase):
        @do
        def handle(self, effect: Here, ctx):  # noqa: F821
            return "here"
            yield

    assert sync_run(WithHandler(Here().handle, Here()), []).value == "here"
    gone = weakref.ref(Here)
    del Here
    gc.collect()
    assert gone() is None


# --- kleisli programs made directly ------------------------------------------------------------


def test_kleisli_programs_made_directly():
    assert run(KleisliProgram(lambda key: Ask(key))("k"), env={"k": 1}).value == 1
    assert run(KleisliProgram(lambda: increment)()).value is increment
    with pytest.raises(TypeError, match="func must be callable, got int"):
        KleisliProgram(5)


def test_kleisli_programs_in_cycles_are_collected():
    class Cell:
        pass

    def make():
        cell = Cell()

        @do
        def f(x=cell):
            return x
            yield

        cell.all = [
            f,
            f.partial(cell),
            f >> (lambda v: cell),
            f(cell),
            f(cell).map(lambda v: cell),
        ]
        return weakref.ref(cell)

    gone = make()
    _ = [
        three(1, 2) for _ in range(50)
    ]  # the collector gets to know the youngest calls late
    gc.collect()
    assert gone() is None
