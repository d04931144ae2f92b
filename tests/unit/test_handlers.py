"""Handlers, version 2: dispatch, context, results, continuations, intercept, presets."""

from __future__ import annotations

import functools
import gc
import weakref
from dataclasses import dataclass
from typing import Any

import pytest

from doeff import (
    Ask,
    CaptureGraph,
    CESKState,
    Effect,
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
    UnhandledEffectError,
    WithHandler,
    async_handlers_preset,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import (
    core_handler,
    scheduler_state_handler,
    task_scheduler_handler,
)


@dataclass(frozen=True)
class Custom(EffectBase):
    tag: Any = None


@dataclass(frozen=True)
class Other(EffectBase):
    tag: Any = None


@dataclass(frozen=True)
class SubCustom(Custom):
    pass


def run(program, *inner, **kw):
    return sync_run(program, [*sync_handlers_preset, *inner], **kw)


def answering(cls, value, log=None, name=None):
    @do
    def handler(effect, ctx):
        if log is not None:
            log.append((name, effect))
        if isinstance(effect, cls):
            return value
        return (yield effect)

    return handler


@do
def forwarding(effect, ctx):
    return (yield effect)


@do
def perform(effect: EffectBase):
    return (yield effect)


@do
def catch(program: Program):
    try:
        return ("value", (yield program))
    except Exception as error:
        return ("error", error)


# --- 4.1 shape ------------------------------------------------------------------


class CallableHandler:
    def __call__(self, effect, ctx):
        return Pure(("object", effect.tag))

    def method(self, effect, ctx):
        return Pure(("method", effect.tag))

    @do
    def do_method(self, effect, ctx):
        return ("do method", effect.tag)
        yield


def plain_function(effect, ctx):
    return Pure(("function", effect.tag))


def generator_handler(effect, ctx):
    return ("generator", effect.tag)
    yield


def with_prefix(prefix, effect, ctx):
    return Pure((prefix, effect.tag))


@pytest.mark.parametrize(
    ("handler", "name"),
    [
        (CallableHandler(), "object"),
        (CallableHandler().method, "method"),
        (CallableHandler().do_method, "do method"),
        (functools.partial(with_prefix, "partial"), "partial"),
        (plain_function, "function"),
        (generator_handler, "generator"),
        (lambda e, c: Pure(("lambda", e.tag)), "lambda"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_every_kind_of_callable_is_a_handler(handler, name):
    assert sync_run(Custom(1), [handler]).value == (name, 1)
    assert sync_run(WithHandler(handler, Custom(1)), []).value == (name, 1)


def test_with_handler_positional_and_keyword():
    h = answering(Custom, "v")
    assert run(WithHandler(handler=h, program=Custom())).value == "v"
    assert run(WithHandler(h, Custom())).value == "v"


@pytest.mark.parametrize("handler", [5, None, "h", Ellipsis])
def test_a_non_callable_handler_is_an_error_at_construction(handler):
    with pytest.raises(TypeError):
        WithHandler(handler, Pure(1))


@pytest.mark.parametrize("program", [5, None, perform, lambda: 1, [Pure(1)]])
def test_a_non_program_body_is_an_error_at_construction(program):
    with pytest.raises(TypeError):
        WithHandler(forwarding, program)


def test_the_last_of_the_list_sees_effects_first():
    log = []
    a, b = (answering(Other, None, log, n) for n in "ab")
    c = answering(Custom, "outermost", log, "c")
    assert sync_run(Custom(), [c, a, b]).value == "outermost"
    assert [name for name, _ in log] == ["b", "a", "c"]


def test_with_handler_gives_the_value_and_ends_its_scope():
    h = answering(Custom, "v")

    @do
    def program():
        inside = yield WithHandler(h, Custom().map(lambda v: [v]))
        return inside, (yield Safe(Custom()))

    inside, outside = run(program()).value
    assert inside == ["v"]
    assert type(outside.error) is UnhandledEffectError


# --- 4.1 narrowing by annotation --------------------------------------------------


def narrowed(annotation, seen):
    @do
    def handler(effect, ctx):
        seen.append(type(effect).__name__)
        return "narrow"
        yield

    def plain(effect, ctx):
        seen.append(type(effect).__name__)
        return Pure("narrow")

    for f in (handler.original_func, plain):
        f.__annotations__ = {} if annotation is None else {"effect": annotation}
    return [do(handler.original_func), plain]


@do
def three():
    return [(yield Custom()), (yield SubCustom()), (yield Safe(Other()))]


@pytest.mark.parametrize(
    ("annotation", "kinds"),
    [
        (Custom, ["Custom", "SubCustom"]),
        ("Custom", ["Custom", "SubCustom"]),
        (Custom | Other, ["Custom", "SubCustom"]),
        ("SubCustom", ["SubCustom"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [0, 1], ids=["do", "plain"])
def test_a_narrow_annotation_is_offered_only_its_classes(annotation, kinds, kind):
    seen = []
    handler = narrowed(annotation, seen)[kind]
    fallback = answering((Custom, SubCustom, Other), "fallback")
    result = run(three(), fallback, handler)
    assert result.is_ok()
    expected = ["narrow" if k in kinds else "fallback" for k in ("Custom", "SubCustom")]
    assert result.value[:2] == expected
    other = "narrow" if annotation == Custom | Other else "fallback"
    assert result.value[2].value == other
    assert [s for s in seen if s != "Other"] == kinds


@pytest.mark.parametrize(
    "annotation", [None, EffectBase, Effect, Any, "NoSuchName", "EffectBase"], ids=str
)
@pytest.mark.parametrize("kind", [0, 1], ids=["do", "plain"])
def test_a_wide_annotation_means_all_effects(annotation, kind):
    seen = []
    assert run(three(), narrowed(annotation, seen)[kind]).value == ["narrow"] * 3
    assert seen == ["Custom", "SubCustom", "ResultSafeEffect"]


# --- 4.2 dispatch -------------------------------------------------------------------


def test_r1_innermost_first_and_machine_effects_never():
    seen = []

    @do
    def outer(effect, ctx):
        seen.append(("outer", effect))
        return (yield effect)

    @do
    def inner(effect, ctx):
        seen.append(("inner", effect))
        return (yield effect)

    @do
    def program():
        yield Pure(1)
        yield WithHandler(forwarding, Pure(2))
        yield Put("x", 1)

    run(program(), outer, inner)
    assert seen == [("inner", Put("x", 1)), ("outer", Put("x", 1))]


def test_r2_a_handler_never_gets_effects_of_its_own_body():
    calls = []

    @do
    def h(effect, ctx):
        calls.append(effect)
        assert len(calls) < 10
        if isinstance(effect, Custom):
            direct = yield Safe(Custom("own"))
            in_program = yield Safe(perform(Custom("in program")))
            nested = yield Safe(WithHandler(forwarding, Custom("nested")))
            own = yield WithHandler(
                answering(Custom, "nested answer"), Custom("answered")
            )
            return [direct.is_err(), in_program.is_err(), nested.is_err(), own]
        return (yield effect)

    assert run(Custom("program"), h).value == [True, True, True, "nested answer"]
    assert calls == [Custom("program")]


def test_r2_own_effects_go_to_the_handlers_outside():
    outer = answering(Custom, "outer")

    @do
    def inner(effect, ctx):
        if isinstance(effect, Custom):
            return ["inner", (yield Custom()), (yield Safe(Custom())).value]
        return (yield effect)

    assert run(Custom(), outer, inner).value == ["inner", "outer", "outer"]


def test_r3_the_value_comes_back_to_the_forwarding_handler_first():
    order = []

    @do
    def h(effect, ctx):
        try:
            value = yield effect
            order.append(("handler value", value))
            return value * 2
        except KeyError as error:
            order.append(("handler error", error.args))
            raise

    @do
    def program():
        order.append(("program", (yield Get("x"))))
        try:
            yield Get("absent")
        except KeyError:
            order.append("program error")

    run(program(), h, store={"x": 2})
    assert order == [
        ("handler value", 2),
        ("program", 4),
        ("handler error", ("absent",)),
        "program error",
    ]


def test_r3_a_different_object_of_the_same_class_is_an_own_effect():
    log = []

    @do
    def outer(effect, ctx):
        if isinstance(effect, Custom):
            log.append((effect.tag, len(ctx.inherited_handlers)))
            return effect.tag
        return (yield effect)

    @do
    def inner(effect, ctx):
        if isinstance(effect, Custom):
            forwarded = yield effect
            return (forwarded, (yield Custom("twin")))
        return (yield effect)

    assert sync_run(Custom("first"), [outer, inner]).value == ("first", "twin")
    # The forwarded effect keeps its origin, below both handlers; the twin is outside inner.
    assert log == [("first", 2), ("twin", 1)]


def test_r3_forwarding_twice():
    @do
    def h(effect, ctx):
        return [(yield effect), (yield effect)]

    assert run(Modify("n", lambda v: (v or 0) + 1), h).value == [1, 2]


def test_r4_handlers_are_deep():
    @do
    def resuming(effect, ctx):
        if isinstance(effect, Custom):
            return CESKState.with_value("state", ctx.env, ctx.store, ctx.k)
        return (yield effect)

    @do
    def program():
        return [(yield Custom()), (yield Custom()), (yield perform(Custom()))]

    assert run(program(), resuming).value == ["state"] * 3
    assert run(program(), answering(Custom, "v")).value == ["v"] * 3


CARRIERS = {
    "local": lambda p: Local({"a": 1}, p),
    "safe": lambda p: Safe(p).map(lambda r: r.unwrap()),
    "listen": lambda p: Listen(p).map(lambda r: r.value),
    "intercept": lambda p: Intercept(p, lambda e: None),
    "capture": lambda p: CaptureGraph(p).map(lambda r: r[0]),
    "lazy ask": lambda p: Local({"lazy": p}, Ask("lazy")),
    "argument": lambda p: perform(Pure(0)).then(keep(p)),
}


@do
def keep(value):
    return value
    yield


@pytest.mark.parametrize("name", CARRIERS)
@pytest.mark.parametrize("forwarders", [0, 1, 3])
def test_r5_a_carried_program_runs_at_the_origin(name, forwarders):
    """A custom effect inside any scope reaches the handler of the scope's yield."""
    program = CARRIERS[name](perform(Custom()))
    inner = [forwarding] * forwarders
    assert run(program, answering(Custom, "v"), *inner).value == "v"
    assert run(program, *inner, answering(Custom, "v")).value == "v"
    # With the scopes doubled and the handler between preset and forwarders.
    nested = CARRIERS[name](CARRIERS[name](perform(Custom())))
    assert run(nested, forwarding, answering(Custom, "v"), *inner).value == "v"


def test_r5_with_program_runs_at_the_origin():
    @do
    def h(effect, ctx):
        if isinstance(effect, Other):
            program = perform(Custom("from program"))
            return CESKState.with_program(program, ctx.env, ctx.store, ctx.k)
        return (yield effect)

    inner = answering(Custom, "inner answer")
    assert run(WithHandler(inner, perform(Other())), h).value == "inner answer"

    @do
    def again(effect, ctx):
        if isinstance(effect, Other):
            return CESKState.resume_program(perform(Custom()), ctx)
        return (yield effect)

    assert run(WithHandler(inner, perform(Other())), again).value == "inner answer"


@pytest.mark.parametrize("handlers", [[], [forwarding], [forwarding, forwarding]])
@pytest.mark.parametrize("preset", [[], sync_handlers_preset], ids=["bare", "preset"])
def test_r7_nobody_left(handlers, preset):
    tried = []

    @do
    def watcher(effect, ctx):
        try:
            return (yield effect)
        except UnhandledEffectError:
            tried.append("watcher")
            raise

    @do
    def program():
        try:
            yield Custom("lost")
        except UnhandledEffectError as error:
            return error

    stack = [*preset, *handlers, watcher]
    error = sync_run(program(), stack).value
    assert str(error).startswith("No handler for Custom")
    assert error.effect == Custom("lost")
    assert tried == ["watcher"]
    with pytest.raises(UnhandledEffectError, match="No handler for Custom"):
        sync_run(perform(Custom()), stack)


def test_r7_safe_sees_it():
    got = run(Safe(perform(Custom()))).value
    assert type(got.error) is UnhandledEffectError


def test_r7_a_handler_before_the_preset_is_reached():
    handlers = [answering(Custom, "v"), *sync_handlers_preset]

    @do
    def program():
        yield Put("x", 1)
        return (yield Custom()), (yield Safe(Custom())).unwrap()

    assert sync_run(program(), handlers).value == ("v", "v")


def test_r8_a_handlers_body_runs_in_the_environment_of_the_effect():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return (yield Ask("k")), ctx.env["k"], (yield Local({"k": "own"}, Ask("k")))
        return (yield effect)

    @do
    def program():
        inner = yield Local({"k": "inner"}, perform(Custom()))
        return inner, (yield Custom()), (yield Ask("k"))

    assert run(program(), h, env={"k": "outer"}).value == (
        ("inner", "inner", "own"),
        ("outer", "outer", "own"),
        "outer",
    )


# --- 4.3 context --------------------------------------------------------------------


def test_a_context_is_constructible():
    ctx = HandlerContext({"x": 1}, FrozenDict({"e": 1}), [], 2)
    assert ctx.store == {"x": 1}
    assert ctx.env == {"e": 1}
    assert list(ctx.delimited_k) == list(ctx.outer_k) == list(ctx.k) == []
    assert ctx.handler_depth == 2
    assert list(ctx.inherited_handlers) == []
    named = HandlerContext(
        store={},
        env={},
        delimited_k=[1],
        handler_depth=0,
        outer_k=[2],
        inherited_handlers=[3],
    )
    assert list(named.k) == [1, 2]
    assert list(named.inherited_handlers) == [3]


def test_the_context_of_nested_handlers():
    seen = []

    def handler(name):
        @do
        def h(effect, ctx):
            k, d, o = list(ctx.k), list(ctx.delimited_k), list(ctx.outer_k)
            assert k == d + o
            assert len(ctx.k) == len(k)
            assert ctx.k[0] == k[0]
            seen.append((name, ctx.handler_depth, len(ctx.inherited_handlers)))
            assert type(o[0]).__name__ == "HandlerFrame"
            return (yield effect)

        return h

    with pytest.raises(UnhandledEffectError):
        sync_run(perform(Custom()), [handler("a"), handler("b"), handler("c")])
    assert seen == [("c", 2, 3), ("b", 1, 3), ("a", 0, 3)]


def test_inherited_handlers_are_innermost_first():
    seen = []

    @do
    def outer(effect, ctx):
        seen.extend(f.handler for f in ctx.inherited_handlers)
        return None
        yield

    inner = answering(Other, 1)
    sync_run(WithHandler(inner, Custom()), [outer])
    assert seen == [inner, outer]


def test_the_context_store_is_current():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            yield Put("x", 1)
            assert ctx.store["x"] == 1
            value = yield Get("x")
            return CESKState.with_value(value, ctx.env, ctx.store, ctx.k)
        value = yield effect
        return CESKState.with_value(value, ctx.env, ctx.store, ctx.k)

    @do
    def program():
        yield Put("y", 2)
        return (yield Custom())

    result = run(program(), h)
    assert result.value == 1
    assert result.raw_store == {"x": 1, "y": 2}


def test_the_store_may_be_mutated_or_replaced():
    @do
    def h(effect, ctx):
        if effect == Custom("mutate"):
            ctx.store["m"] = 1
            return None
        if effect == Custom("replace"):
            return CESKState.with_value(None, ctx.env, {**ctx.store, "r": 2}, ctx.k)
        if effect == Custom("delete"):
            return CESKState.with_value(None, ctx.env, {"only": 1}, ctx.k)
        return (yield effect)

    @do
    def program(last):
        yield Put("p", 0)
        yield Custom("mutate")
        yield Custom("replace")
        got = [(yield Get("m")), (yield Get("r"))]
        if last:
            yield Custom("delete")
        return got

    result = run(program(False), h)
    assert result.value == [1, 2]
    assert result.raw_store == {"p": 0, "m": 1, "r": 2}
    assert run(program(True), h).raw_store == {"only": 1}


# --- 4.4 results --------------------------------------------------------------------


def resulting(make):
    """A handler whose result for Custom is ``make(ctx)``."""

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return make(ctx)
        return (yield effect)

    return h


@do
def one_custom():
    try:
        got = yield Custom()
    except ValueError as error:
        return ("error", str(error))
    yield Put("after", 1)
    return ("program", got, (yield Safe(Ask("k"))).unwrap_or(None))


@pytest.mark.parametrize(
    "value", [None, 5, [], "", (1, 2), ValueError("a value")], ids=repr
)
def test_a_plain_value_resumes(value):
    assert run(one_custom(), resulting(lambda c: value)).value == (
        "program",
        value,
        None,
    )


def test_a_returned_program_is_a_plain_value():
    p = Put("x", 1)
    result = run(one_custom(), resulting(lambda c: p))
    assert result.value[1] is p
    assert "x" not in result.raw_store


@pytest.mark.parametrize(
    "k", [lambda c: c.k, lambda c: c.delimited_k, lambda c: [], lambda c: list(c.k)]
)
def test_a_state_with_the_own_continuation_resumes_at_the_origin(k):
    with_value = resulting(lambda c: CESKState.with_value(7, c.env, c.store, k(c)))
    assert run(one_custom(), with_value).value == ("program", 7, None)
    with_error = resulting(
        lambda c: CESKState.with_error(ValueError("thrown"), c.env, c.store, k(c))
    )
    assert run(one_custom(), with_error).value == ("error", "thrown")
    with_program = resulting(
        lambda c: CESKState.with_program(Pure(8), c.env, c.store, k(c))
    )
    assert run(one_custom(), with_program).value == ("program", 8, None)


def test_the_short_state_constructors():
    assert (
        run(one_custom(), resulting(lambda c: CESKState.resume_value(7, c))).value[1]
        == 7
    )
    error = resulting(lambda c: CESKState.resume_error(ValueError("thrown"), c))
    assert run(one_custom(), error).value == ("error", "thrown")
    program = resulting(lambda c: CESKState.resume_program(Pure(8), c))
    assert run(one_custom(), program).value[1] == 8


def test_resume_with_another_environment_reaches_a_started_program():
    h = resulting(
        lambda c: CESKState.with_program(Ask("k"), {"k": "given"}, c.store, c.k)
    )
    # The program it starts sees it; the resumed generator has its own again.
    assert run(one_custom(), h, env={"k": "own"}).value == ("program", "given", "own")


def test_a_jump_to_outer_k_abandons_the_program():
    for make in (
        lambda c: ResumeK(k=c.outer_k, value="jumped"),
        lambda c: CESKState.with_value("jumped", c.env, c.store, c.outer_k),
        lambda c: c.abandon("jumped"),
    ):

        @do
        def program():
            got = yield WithHandler(resulting(make), one_custom())  # noqa: B023
            return ["outside", got]

        result = run(program())
        assert result.value == ["outside", "jumped"]
        assert "after" not in result.raw_store


def test_a_jump_with_an_error():
    @do
    def program():
        h = resulting(lambda c: ResumeK(k=c.outer_k, error=ValueError("jumped")))
        try:
            return (yield WithHandler(h, one_custom()))
        except ValueError as error:
            return "caught outside: " + str(error)

    assert run(program()).value == "caught outside: jumped"


def test_a_jump_may_change_the_store():
    h = resulting(lambda c: ResumeK(k=c.outer_k, value=1, store={"new": 1}))
    assert run(WithHandler(h, one_custom())).raw_store == {"new": 1}


def test_an_empty_continuation_ends_the_task():
    @do
    def program():
        yield WithHandler(
            resulting(lambda c: ResumeK(k=[], value="the end")), one_custom()
        )
        yield Put("not reached", 1)

    result = run(program())
    assert result.value == "the end"
    assert "not reached" not in result.raw_store


def test_resume_k_of_the_full_continuation_resumes():
    h = resulting(lambda c: ResumeK(k=c.k, value=3))
    assert run(one_custom(), h).value == ("program", 3, None)


class Doubler:
    """A user frame."""

    def on_value(self, value, env, store, k_rest):
        return CESKState.with_value(["doubled", value], env, store, k_rest)

    def on_error(self, error, env, store, k_rest):
        return CESKState.with_value(["rescued", str(error)], env, store, k_rest)


def test_a_frame_pushed_on_the_continuation_is_kept():
    pushed = resulting(
        lambda c: CESKState.with_value(1, c.env, c.store, [Doubler(), *c.k])
    )
    assert run(one_custom(), pushed).value == ("program", ["doubled", 1], None)
    added = resulting(
        lambda c: CESKState.with_value(1, c.env, c.store, [Doubler()] + c.k)  # noqa: RUF005
    )
    assert run(one_custom(), added).value == ("program", ["doubled", 1], None)
    rescued = resulting(
        lambda c: CESKState.with_error(
            ValueError("e"),
            c.env,
            c.store,
            [Doubler()] + c.k,  # noqa: RUF005
        )
    )
    assert run(one_custom(), rescued).value == ("program", ["rescued", "e"], None)
    outside = resulting(lambda c: ResumeK(k=[Doubler()] + c.outer_k, value="v"))  # noqa: RUF005
    assert run(WithHandler(outside, one_custom())).value == ["doubled", "v"]


def test_a_raising_handler_throws_at_the_origin():
    def fail(ctx):
        raise ValueError("from handler")

    assert run(one_custom(), resulting(fail)).value == ("error", "from handler")

    def plain(effect, ctx):
        raise ValueError("from plain")

    assert sync_run(catch(Custom()), [plain]).value[0] == "error"


def test_an_error_passes_through_forwarding_handlers():
    order = []

    @do
    def inner(effect, ctx):
        try:
            return (yield effect)
        except ValueError:
            order.append("inner")
            raise

    def fail(effect, ctx):
        raise ValueError("outer")

    assert sync_run(catch(Custom()), [fail, inner]).value[0] == "error"
    assert order == ["inner"]


def test_plain_functions_may_return_machine_results():
    def direct(make):
        return lambda effect, ctx: make(ctx)

    state = direct(lambda c: CESKState.with_value(7, c.env, c.store, c.k))
    assert sync_run(Custom(), [state]).value == 7
    jump = direct(lambda c: ResumeK(k=c.outer_k, value="jumped"))
    assert (
        sync_run(WithHandler(jump, Custom().map(lambda v: [v])), []).value == "jumped"
    )


async def _coroutine():
    return 1


@pytest.mark.parametrize(
    "value", [5, None, "x", [1], object()], ids=lambda v: type(v).__name__
)
def test_a_plain_function_that_returns_junk_is_named(value):
    def forgetful_handler(effect, ctx):
        return value

    kind, error = sync_run(catch(Custom()), [forgetful_handler]).value
    assert (kind, type(error)) == ("error", TypeError)
    assert "forgetful_handler" in str(error)


def test_a_plain_function_that_returns_a_coroutine_is_named():
    made = []

    def coroutine_handler(effect, ctx):
        made.append(_coroutine())
        return made[0]

    kind, error = sync_run(catch(Custom()), [coroutine_handler]).value
    made[0].close()
    assert (kind, type(error)) == ("error", TypeError)
    assert "coroutine_handler" in str(error)


def test_a_built_in_handler_can_be_called_from_a_handler():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return (yield core_handler(Get("x"), ctx))
        return (yield core_handler(effect, ctx))

    @do
    def program():
        yield Put("x", 4)
        return (yield Custom())

    assert sync_run(program(), [h]).value == 4


# --- S13: resuming in the middle ------------------------------------------------------


def test_resume_in_the_middle_gives_the_rest_of_the_program():
    order = []

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            order.append("before")
            rest = yield ctx.resume("answer")
            order.append("after")
            return ["whole", rest]
        return (yield effect)

    @do
    def program():
        got = yield Custom()
        order.append("program")
        return ("rest", got)

    assert run(WithHandler(h, program()).map(lambda v: (v,))).value == (
        ["whole", ("rest", "answer")],
    )
    assert order == ["before", "program", "after"]


def test_resume_nests_for_each_effect():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            rest = yield ctx.resume(effect.tag)
            return [effect.tag, *rest]
        return (yield effect)

    @do
    def program():
        yield Custom(1)
        yield Custom(2)
        yield perform(Custom(3))
        return []

    assert run(WithHandler(h, program())).value == [1, 2, 3]


def test_throw_in_the_middle():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            rest = yield ctx.throw(ValueError("thrown"))
            return ["whole", rest]
        return (yield effect)

    assert run(WithHandler(h, one_custom())).value == ["whole", ("error", "thrown")]


def test_an_error_of_the_rest_arrives_in_the_handler():
    @do
    def h(effect, ctx):
        try:
            return (yield ctx.resume(1))
        except ValueError as error:
            return "handler caught " + str(error)

    @do
    def program():
        yield Custom()
        raise ValueError("rest")

    assert run(WithHandler(h, program())).value == "handler caught rest"


# --- 4.5 continuations ------------------------------------------------------------------


def test_a_stored_continuation_resumes_from_a_later_effect():
    stored = []

    @do
    def h(effect, ctx):
        if effect == Custom("store"):
            stored.append(ctx.delimited_k)
            return ResumeK(k=ctx.outer_k, value="parked")
        return (yield effect)

    @do
    def outer(effect, ctx):
        if effect == Other("go on"):
            return ResumeK(k=stored.pop(), value="resumed")
        return (yield effect)

    @do
    def inner():
        got = yield Custom("store")
        return ["inner went on", got]

    @do
    def program():
        first = yield WithHandler(h, inner())
        if first == "parked":
            yield Other("go on")
        return first

    # Exactly that continuation: what it returns is the end of the task.
    assert run(program(), outer).value == ["inner went on", "resumed"]


def test_a_second_resume_is_an_error_in_the_handlers_place():
    stored = []
    errors = []

    @do
    def h(effect, ctx):
        if effect == Custom("first"):
            stored.append(ctx.k)
            return ResumeK(k=ctx.k, value="one")
        if effect == Custom("second"):
            return ResumeK(k=stored[0], value="two")
        return (yield effect)

    @do
    def program():
        got = yield Custom("first")
        try:
            yield Custom("second")
        except RuntimeError as error:
            errors.append(str(error))
        return got

    assert run(program(), h).value == "one"
    assert len(errors) == 1
    assert errors[0].startswith("continuation already resumed")


def test_resuming_twice_in_the_middle_is_an_error():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            yield ctx.resume(1)
            try:
                yield ctx.resume(2)
            except RuntimeError as error:
                return str(error)
        return (yield effect)

    got = run(WithHandler(h, one_custom())).value
    assert got.startswith("continuation already resumed")


def abandoning(value="abandoned"):
    return resulting(lambda c: ResumeK(k=c.outer_k, value=value))


def test_an_abandoned_program_is_unwound_before_the_jump():
    order = []

    @do
    def level(n):
        try:
            if n:
                yield level(n - 1)
            else:
                yield Custom()
        except BaseException as error:
            order.append((n, type(error).__name__))
            raise
        finally:
            yield Tell(f"cleanup {n}")
            order.append((n, "finally"))

    @do
    def program():
        got = yield WithHandler(abandoning(), level(2))
        order.append("outside")
        return got

    result = run(program())
    assert result.value == "abandoned"
    assert order == [
        (0, "GeneratorExit"),
        (0, "finally"),
        (1, "GeneratorExit"),
        (1, "finally"),
        (2, "GeneratorExit"),
        (2, "finally"),
        "outside",
    ]
    assert result.raw_store["__log__"] == ["cleanup 0", "cleanup 1", "cleanup 2"]


def test_cleanup_effects_go_to_the_handlers_outside_the_jump():
    seen = []

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return ResumeK(k=ctx.outer_k, value="abandoned")
        seen.append("inner")
        return (yield effect)

    @do
    def body():
        try:
            yield Custom()
        finally:
            seen.append((yield Other("cleanup")))

    outer = answering(Other, "outer answered")
    assert run(WithHandler(h, body()), outer).value == "abandoned"
    assert seen == ["outer answered"]


def test_cleanup_effects_pass_by_the_handlers_inside_the_jump():
    """A handler between the program and the one that jumps is abandoned with it."""
    log = []
    inner = answering(Other, "inner", log, "inner")

    @do
    def body():
        try:
            yield Custom()
        finally:
            yield Tell("cleanup")

    result = run(WithHandler(abandoning(), WithHandler(inner, body())))
    assert result.value == "abandoned"
    assert result.raw_store["__log__"] == ["cleanup"]
    assert [effect for _, effect in log] == [Custom()]


def test_an_error_of_the_cleanup_replaces_the_value():
    @do
    def body():
        try:
            yield Custom()
        finally:
            yield Get("absent")

    @do
    def program():
        try:
            return (yield WithHandler(abandoning(), body()))
        except KeyError as error:
            return error.args

    assert run(program()).value == ("absent",)


def test_a_swallowed_generator_exit_does_not_revive_the_program():
    order = []

    @do
    def body():
        try:
            yield Custom()
        except GeneratorExit:
            order.append("swallowed")
        order.append("went on")
        yield Tell("still")
        return "not used"

    result = run(WithHandler(abandoning(), body()))
    assert result.value == "abandoned"
    assert order == ["swallowed", "went on"]


def test_an_abandoned_program_frees_its_locals():
    class Local_:
        pass

    refs = []

    @do
    def body():
        local = Local_()
        refs.append(weakref.ref(local))
        yield Custom()

    @do
    def program():
        yield WithHandler(abandoning(), body())
        gc.collect()
        return refs[0]()

    assert run(program()).value is None


def test_a_forwarding_handler_between_is_unwound_too():
    order = []

    @do
    def between(effect, ctx):
        try:
            return (yield effect)
        finally:
            order.append("between")

    @do
    def body():
        try:
            yield Custom()
        finally:
            order.append("body")

    program = WithHandler(abandoning(), WithHandler(between, body()))
    assert run(program).value == "abandoned"
    assert sorted(order) == ["between", "body"]


def test_a_continuation_kept_after_the_run_closes_its_generators():
    kept = []
    order = []

    @do
    def h(effect, ctx):
        kept.append(ctx.k)
        return ResumeK(k=ctx.outer_k, value="left")
        yield

    @do
    def body():
        try:
            yield Custom()
        finally:
            order.append("closed")

    assert sync_run(WithHandler(h, body()), []).value == "left"
    kept.clear()
    gc.collect()
    assert order == ["closed"]


def test_a_kept_continuation_belongs_to_its_run():
    kept = []

    @do
    def h(effect, ctx):
        kept.append(ctx.k)
        return ResumeK(k=ctx.outer_k, value="left")
        yield

    @do
    def thief(effect, ctx):
        return ResumeK(k=kept[0], value="stolen")
        yield

    sync_run(WithHandler(h, one_custom()), [])
    kind, error = sync_run(catch(Custom()), [thief]).value
    assert (kind, type(error)) == ("error", RuntimeError)


# --- 4.6 intercept ------------------------------------------------------------------------


def test_intercept_validates():
    with pytest.raises(ValueError):
        Intercept(Pure(1))
    with pytest.raises(TypeError):
        Intercept(5, lambda e: None)
    with pytest.raises(TypeError):
        Intercept(Pure(1), 5)


@pytest.mark.parametrize("answer", [lambda e: None, lambda e: e])
def test_not_interested(answer):
    assert run(Intercept(Get("x"), answer), store={"x": 1}).value == 1


def test_substitutes_run_outside():
    seen = []

    def f(effect):
        seen.append(effect)
        if isinstance(effect, Custom):
            return Get("x")
        return None

    def g(effect):
        seen.append(effect)
        if isinstance(effect, Custom):
            return perform(Other()).then(Get("y"))
        return None

    other = answering(Other, None)
    assert run(Intercept(Custom(), f), store={"x": 1}).value == 1
    assert seen == [Custom()]
    seen.clear()
    assert run(Intercept(Custom(), g), other, store={"y": 2}).value == 2
    assert seen == [Custom()]


@pytest.mark.parametrize(
    "answer", [5, "x", [Get("x")], perform, Get, object()], ids=repr
)
def test_a_wrong_answer_is_an_error_at_the_effect(answer):
    kind, error = run(Intercept(catch(Get("x")), lambda e: answer)).value
    assert kind == "error"
    assert type(error) is InterpreterInvariantError
    assert isinstance(error, TypeError)


def test_intercept_sees_scoped_effects_and_what_they_carry():
    seen = []

    @do
    def body():
        yield Safe(Put("x", 1))
        yield Local({"k": 1}, Ask("k"))
        yield Listen(Tell("m"))
        yield CaptureGraph(Step(1))
        yield Pure(1)
        yield WithHandler(forwarding, Get("x"))
        yield Intercept(Get("x"), lambda e: None)

    assert run(Intercept(body(), lambda e: seen.append(type(e).__name__))).is_ok()
    assert seen == [
        "ResultSafeEffect",
        "StatePutEffect",
        "LocalEffect",
        "AskEffect",
        "WriterListenEffect",
        "WriterTellEffect",
        "GraphCaptureEffect",
        "GraphStepEffect",
        "StateGetEffect",
        "InterceptEffect",
        "StateGetEffect",
    ]


def test_a_transform_may_be_installed_around_handlers():
    """A handler inside the scope answers first; its own effects are seen."""
    seen = []

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return (yield Get("x"))
        return (yield effect)

    program = Intercept(WithHandler(h, Custom()), lambda e: seen.append(e))
    assert run(program, store={"x": 1}).value == 1
    assert seen == [Get("x")]


# --- 4.7 presets ----------------------------------------------------------------------------


def test_presets_are_ordinary_lists():
    assert type(sync_handlers_preset) is list
    assert type(async_handlers_preset) is list
    assert len(sync_handlers_preset) == len(async_handlers_preset) == 5
    for preset in (sync_handlers_preset, async_handlers_preset):
        assert preset[0] is scheduler_state_handler
        assert preset[2] is task_scheduler_handler
        assert preset[4] is core_handler
        assert all(callable(h) for h in preset)


def test_the_core_handler_alone_serves_its_effects():
    @do
    def program():
        yield Put("x", 1)
        yield Tell("m")
        got = yield Safe(Local({"k": 1}, Ask("k")))
        return got.value, (yield Get("x"))

    assert sync_run(program(), [core_handler]).value == (1, 1)


def test_a_replaced_entry_is_asked():
    @do
    def my_core(effect, ctx):
        if isinstance(effect, type(Get("x"))):
            return "mine"
        return (yield core_handler(effect, ctx))

    handlers = [*sync_handlers_preset[:-1], my_core]
    assert sync_run(Put("x", 1).then(Get("x")), handlers).value == "mine"


def test_an_appended_handler_overrides_a_built_in():
    get = type(Get("x"))
    assert run(Get("x"), answering(get, "mocked")).value == "mocked"
    prepended = [answering(get, "mocked"), *sync_handlers_preset]
    assert sync_run(Get("x"), prepended, store={"x": 1}).value == 1


def test_serving_without_handlers_between_is_not_observable():
    """The same program with and without a forwarding handler in every gap."""

    @do
    def program():
        yield Put("x", 1)
        yield Tell("m")
        got = yield Listen(Safe(Local({"k": 1}, perform(Ask("k")))))
        yield Step("s", {"a": 1})
        return got.value.value, got.log, (yield Modify("x", lambda v: v + 1))

    spread = []
    for h in sync_handlers_preset:
        spread += [forwarding, h]
    a, b = run(program()), sync_run(program(), [*spread, forwarding])
    assert a.value == b.value == (1, [], 2)
    assert a.raw_store == b.raw_store


# --- caches of the dispatch must not show ---------------------------------------------------


def test_the_same_handler_object_twice():
    calls = []

    @do
    def h(effect, ctx):
        calls.append(ctx.handler_depth)
        if isinstance(effect, Custom) and effect.tag:
            return (yield Custom(effect.tag - 1)) + 1
        return (yield effect)

    bottom = answering(Custom, 0)
    assert sync_run(WithHandler(h, WithHandler(h, Custom(5))), [bottom]).value == 2
    assert calls == [2, 1]


def test_many_effect_classes_in_one_run():
    classes = [type(f"E{i}", (EffectBase,), {}) for i in range(300)]
    inner, outer = [], []

    @do
    def odd(effect, ctx):
        name = type(effect).__name__
        if int(name[1:]) % 2:
            inner.append(name)
            return name
        return (yield effect)

    @do
    def rest(effect, ctx):
        outer.append(type(effect).__name__)
        return type(effect).__name__
        yield

    @do
    def program():
        names = []
        for _ in range(2):
            for cls in classes:
                names.append((yield cls()))
        return names

    names = [cls.__name__ for cls in classes]
    assert sync_run(program(), [rest, odd]).value == names * 2
    assert inner == names[1::2] * 2
    assert outer == names[::2] * 2


def test_effect_classes_are_freed_after_the_run():
    h = answering(Other, None)

    def once():
        cls = type("Dynamic", (EffectBase,), {})
        assert type(run(Safe(cls()), h).value.error) is UnhandledEffectError
        return weakref.ref(cls)

    refs = [once() for _ in range(5)]
    gc.collect()
    assert [ref() for ref in refs] == [None] * 5


def test_a_class_at_a_reused_address_is_not_taken_for_the_old_one():
    handler = answering(Other, "other")
    for i in range(200):
        base = Other if i % 2 else Custom
        cls = type("Dynamic", (base,), {})
        got = sync_run(Safe(cls()), [*sync_handlers_preset, handler]).value
        assert got.is_ok() == bool(i % 2)
        del cls
        gc.collect(0)


def test_a_run_inside_a_handler_uses_the_same_list():
    handlers = [*sync_handlers_preset]

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            if effect.tag:
                return sync_run(
                    Custom(effect.tag - 1).map(lambda v: v + 1), handlers
                ).value
            return 0
        return (yield effect)

    handlers.append(h)
    assert sync_run(Custom(10), handlers).value == 10


def test_the_list_may_change_during_and_between_runs():
    handlers = [*sync_handlers_preset, answering(Custom, "first")]

    @do
    def program():
        first = yield Custom()
        handlers[-1] = answering(Custom, "second")
        return first, (yield Custom())

    assert sync_run(program(), handlers).value == ("first", "first")
    assert sync_run(Custom(), handlers).value == "second"


def test_a_narrow_handler_and_a_subclass_hook():
    """A hook of the class decides about isinstance, and may raise."""

    class Meta(type):
        def __instancecheck__(cls, instance):
            raise ZeroDivisionError("instancecheck")

    class Hooked(EffectBase, metaclass=Meta):
        pass

    def narrow(effect, ctx):
        return Pure("narrow")

    narrow.__annotations__ = {"effect": Hooked}
    outcome = run(catch(Hooked()), narrow).value
    assert outcome == ("value", "narrow") or outcome[0] == "error"
    assert run(Get("x"), store={"x": 1}).value == 1


def test_a_handler_installed_by_a_handler_around_the_forwarded_effect():
    """R2 and R3: what the handler installs sees the forwarded effect first."""
    seen = []

    @do
    def inner(effect, ctx):
        seen.append("installed")
        return (yield effect)

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return (yield WithHandler(inner, effect))
        return (yield effect)

    assert run(Custom(), answering(Custom, "v"), h).value == "v"
    assert seen == ["installed"]
