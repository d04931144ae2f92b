"""What the effects do, family by family, where a property says too little."""

from __future__ import annotations

import gc
import weakref
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest

import doeff
from doeff import (
    IO,
    Annotate,
    Ask,
    AtomicGet,
    AtomicUpdate,
    CacheDelete,
    CacheExists,
    CacheGet,
    CachePut,
    CaptureGraph,
    EffectBase,
    Err,
    Get,
    GetDebugContext,
    GetTime,
    Intercept,
    Listen,
    ListenResult,
    Local,
    Modify,
    Ok,
    Program,
    ProgramCallFrame,
    ProgramCallStack,
    Pure,
    Put,
    Safe,
    Snapshot,
    Step,
    StructuredLog,
    Tell,
    WithHandler,
    cache,
    cache_key,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program, *inner, **kw):
    return sync_run(program, [*sync_handlers_preset, *inner], **kw)


def seq(*programs):
    return Program.list(*programs)


@dataclass(frozen=True)
class Custom(EffectBase):
    tag: Any = None


@do
def forwarding(effect, ctx):
    return (yield effect)


@do
def fail(error: Exception):
    raise error
    yield


# --- Ask and Local ---------------------------------------------------------------


def test_ask_uses_mapping_equality():
    assert run(Ask(True), env={1: "one"}).value == "one"


def test_plain_bindings_are_returned_as_they_are():
    @do
    def never():
        raise AssertionError
        yield

    for binding in (None, never, lambda: 1, [Pure(1)], int):
        assert run(Ask("k"), env={"k": binding}).value is binding


def test_a_lazy_binding_runs_at_the_ask():
    lazy = Tell("lazy").then(Put("x", 1)).then(Ask("other"))
    result = run(
        seq(Tell("before"), Ask("k"), Tell("after")), env={"k": lazy, "other": 5}
    )
    assert result.value == [None, 5, None]
    assert result.raw_store["__log__"] == ["before", "lazy", "after"]
    assert result.raw_store["x"] == 1


def test_a_lazy_result_that_is_a_program_is_not_run_again():
    inner = Put("x", 1)
    result = run(seq(Ask("k"), Ask("k")), env={"k": Pure(inner)})
    assert result.value[0] is inner
    assert result.value[1] is inner
    assert "x" not in result.raw_store


def test_one_object_under_two_keys_runs_once_for_each():
    lazy = Modify("n", lambda v: (v or 0) + 1)
    result = run(
        seq(Ask("a"), Ask("b"), Ask("a"), Ask("b")), env={"a": lazy, "b": lazy}
    )
    assert result.value == [1, 2, 1, 2]


def test_an_override_replaces_the_remembered_entry():
    """Around a Local with another program the outer one is evaluated twice."""
    count = Modify("n", lambda v: (v or 0) + 1)
    other = Put("m", 1)
    program = seq(Ask("k"), Local({"k": other}, Ask("k")), Ask("k"), Ask("k"))
    assert run(program, env={"k": count}).value == [1, None, 2, 2]


def test_the_memory_belongs_to_one_run():
    count = []

    @do
    def lazy():
        count.append(1)
        return 1
        yield

    env = {"k": lazy()}
    first = run(seq(Ask("k"), Ask("k")), env=env)
    run(Ask("k"), env=env, store=first.raw_store)
    assert len(count) == 2


def test_a_lazy_value_sees_the_env_of_the_asking_site():
    env = {"k": Ask("x"), "x": "outer"}
    assert run(Local({"x": "inner"}, Ask("k")).then(Ask("k")), env=env).value == "inner"


def test_a_lazy_value_sees_the_handlers_of_the_asking_site():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return "handled"
        return (yield effect)

    program = WithHandler(h, WithHandler(forwarding, Ask("k")))
    assert run(program, env={"k": Custom()}).value == "handled"


def test_self_cycle_and_mutual_cycle():
    for env in ({"a": Ask("a")}, {"a": Ask("b"), "b": Ask("a")}):
        error = run(Ask("a"), env=env).error
        assert type(error) is doeff.CircularAskError
        assert error.key in env
    # Inside the evaluation the error can be caught, and it leaves no mark behind.
    env = {"a": Safe(Ask("a")).map(lambda r: type(r.error).__name__)}
    assert run(seq(Ask("a"), Ask("a")), env=env).value == ["CircularAskError"] * 2


def test_local_reads_its_mapping_when_performed():
    update = {"k": 1}
    program = Local(update, Ask("k"))
    update["k"] = 2
    assert run(program).value == 2


def test_local_restores_on_every_way_out():
    @do
    def program():
        got = [(yield Ask("k"))]
        got.append((yield Local({"k": 1}, Local({"k": 2}, Ask("k")))))
        got.append((yield Ask("k")))
        yield Safe(Local({"k": 3}, fail(ValueError())))
        got.append((yield Ask("k")))
        try:
            yield Local({"k": 4}, Get("absent"))
        except KeyError:
            got.append((yield Ask("k")))
        return got

    assert run(program(), env={"k": 0}).value == [0, 2, 0, 0, 0]


# --- state -----------------------------------------------------------------------


def test_put_and_modify_never_run_programs():
    p = Tell("never")
    result = run(seq(Put("a", p), Modify("b", lambda v: p), Get("a")))
    assert result.value[1] is p
    assert result.value[2] is p
    assert "__log__" not in result.raw_store


def test_foreign_store_keys_are_carried_along():
    result = run(Put("x", 1), store={3: "three", None: 0})
    assert result.raw_store == {"x": 1, 3: "three", None: 0}


def test_values_keep_their_identity():
    value = object()
    assert run(Put("x", value).then(Get("x"))).value is value


# --- log -------------------------------------------------------------------------


def test_tell_keeps_the_same_object():
    messages = [object(), {"a": 1}, {1}, None, "text", b"b"]
    log = run(seq(*map(Tell, messages))).raw_store["__log__"]
    assert all(a is b for a, b in zip(log, messages, strict=True))
    generator = (x for x in "ab")
    assert run(Tell(generator)).raw_store["__log__"][0] is generator


def test_tell_prints_nothing(capsys):
    run(Tell("m").then(StructuredLog(a=1)))
    assert capsys.readouterr() == ("", "")


def test_listen_result():
    result = run(Listen(seq(Tell("a"), Tell(["b", "c"]), StructuredLog(d=1)))).value
    assert isinstance(result, ListenResult)
    value, log = result
    assert value == [None] * 3
    assert log == ["a", "b", "c", {"d": 1}]
    assert isinstance(log, list)
    assert isinstance(log, doeff.utils.BoundedLog)
    log.append("mine")
    assert result.log[-1] == "mine"


def test_listen_records_after_transformation():
    def louder(effect):
        if isinstance(effect, type(Tell(""))) and effect.message == "m":
            return Tell("M")
        return None

    assert run(Intercept(Listen(Tell("m")), louder)).value.log == ["M"]

    @do
    def swallow(effect, ctx):
        if isinstance(effect, type(Tell(""))):
            return None
        return (yield effect)

    assert run(Listen(Tell("m")), swallow).value.log == []


def test_listen_survives_an_overwritten_log():
    """What was told is recorded although the store's list was replaced."""
    result = run(
        Listen(seq(Tell("a"), Put("__log__", []), Tell("b"))), store={"__log__": ["0"]}
    )
    assert result.value.log == ["a", "b"]
    assert result.raw_store["__log__"] == ["b"]


# --- Safe ------------------------------------------------------------------------


def test_safe_wraps_any_value():
    assert run(Safe(Pure(Err(ValueError())))).value.is_ok()
    assert run(Safe(Pure(None))).value == Ok(None)
    error = ValueError()
    nested = run(Safe(Safe(fail(error)))).value
    assert nested.value.error is error


def test_safe_and_stop_iteration():
    stop = StopIteration(1)

    def action():
        raise stop

    got = run(Safe(IO(action))).value
    assert got.error is stop
    assert type(run(Safe(fail(StopIteration()))).value.error) is RuntimeError


def test_safe_keeps_no_frame_alive():
    class Big:
        pass

    refs = []

    @do
    def failing():
        local = Big()
        refs.append(weakref.ref(local))
        raise ValueError
        yield

    @do
    def program():
        got = yield Safe(failing())
        got.error.__traceback__ = None
        trace = got.captured_traceback.unwrap()
        gc.collect()
        return refs[0](), trace

    alive, trace = run(program()).value
    assert alive is None
    assert "failing" in trace.format()


# --- IO, time ----------------------------------------------------------------------


def test_io_returns_its_result_untouched():
    effect = Put("x", 1)
    result = run(IO(lambda: effect))
    assert result.value is effect
    assert "x" not in result.raw_store


def test_io_errors_arrive_at_the_yield():
    @do
    def program():
        try:
            yield IO(lambda: 1 / 0)
        except ZeroDivisionError:
            return "caught"

    assert run(program()).value == "caught"
    assert type(run(IO(len)).error) is TypeError


def test_get_time_reads_the_store():
    t = datetime(2024, 1, 1)
    assert run(GetTime(), store={"__current_time__": t}).value is t
    assert (
        run(GetTime(), store={"__current_time__": "any object"}).value == "any object"
    )
    before = datetime.now()
    now = run(GetTime(), store={"__current_time__": None}).value
    assert now.tzinfo is None
    assert before <= now <= datetime.now()


# --- cache ---------------------------------------------------------------------------


def test_cache_round_trip():
    result = run(
        seq(
            CacheExists("k"),
            CachePut("k", None),
            CacheExists("k"),
            CacheGet("k"),
            CacheDelete("k"),
            CacheDelete("k"),
        )
    )
    assert result.value == [False, None, True, None, True, False]
    error = run(CacheGet("absent")).error
    assert type(error) is KeyError
    assert error.args[0].startswith("Cache key not found: ")


def test_cache_keys_may_be_unhashable():
    key = {"a": [1, 2]}
    program = seq(CachePut(key, 1), CacheGet({"a": [1, 2]}), CacheExists({"a": [1]}))
    assert run(program).value == [None, 1, False]


def test_cache_ttl_follows_the_clock_of_the_store():
    def at(second):
        return Put("__current_time__", datetime(2024, 1, 1, 0, 0, second))

    program = seq(
        at(0),
        CachePut("k", 1, ttl=10),
        at(9),
        CacheExists("k"),
        at(11),
        CacheExists("k"),
        CachePut("k", 2, ttl=0),
        at(59),
        CacheGet("k"),
    )
    values = run(program).value
    assert (values[3], values[5], values[8]) == (True, False, 2)
    expired = run(seq(at(0), CachePut("k", 1, 1), at(5), Safe(CacheGet("k")))).value[-1]
    assert type(expired.error) is KeyError


def test_the_cache_is_given_on_by_the_raw_store():
    first = run(CachePut("k", 1))
    assert first.raw_store["__cache_storage__"] == {"k": 1}
    assert run(CacheGet("k"), store=first.raw_store).value == 1


def test_cached_function_runs_once_for_each_argument():
    calls = []

    @cache()
    @do
    def square(x, *, offset=0):
        """Doc."""
        calls.append((x, offset))
        yield Tell("computing")
        return x * x + offset

    assert square.__name__ == "square"
    assert square.__doc__ == "Doc."
    program = seq(
        square(3), square(x=3), square(Pure(3)), square(3, offset=0), square(4)
    )
    assert run(program).value == [9, 9, 9, 9, 16]
    assert calls == [(3, 0), (4, 0)]


def test_cached_values_are_the_functions_own():
    error = Err(ValueError("a value"))
    calls = []

    @cache()
    @do
    def f(key):
        calls.append(key)
        return {"none": None, "err": error, "ok": Ok(1)}[key]
        yield

    names = ["none", "err", "ok"] * 2
    assert run(seq(*map(f, names))).value == [None, error, Ok(1)] * 2
    assert calls == ["none", "err", "ok"]


def test_failures_are_not_cached():
    calls = []
    boom = ValueError("boom")

    @cache()
    @do
    def f(x):
        calls.append(x)
        if len(calls) == 1:
            raise boom
        return x
        yield

    first, second = run(seq(Safe(f(1)), f(1))).value
    assert type(first.error).__name__ == "CacheComputationError"
    assert first.error.__cause__ is boom
    assert isinstance(first.error, RuntimeError)
    assert second == 1


def test_cache_key_selects_by_name():
    calls = []

    @cache(key_func=cache_key("b"))
    @do
    def f(a, b):
        calls.append((a, b))
        return a
        yield

    assert run(seq(f(1, 2), f(3, 2), f(1, 4))).value == [1, 1, 1]
    assert calls == [(1, 2), (1, 4)]


# --- atomic ----------------------------------------------------------------------------


def test_atomic_rows():
    program = seq(
        AtomicGet("absent"),
        AtomicGet("a", default_factory=lambda: 5),
        Get("a"),
        AtomicUpdate("a", lambda v: v + 1),
        AtomicUpdate("b", lambda v: [v]),
        AtomicUpdate("c", lambda v: v + 1, default_factory=lambda: 10),
        AtomicGet("c", default_factory=lambda: 1 / 0),
    )
    result = run(program)
    assert result.value == [None, 5, 5, 6, [None], 11, 11]
    assert result.raw_store == {"a": 6, "b": [None], "c": 11}


# --- graph -----------------------------------------------------------------------------


def test_graph_rows():
    result = run(
        seq(
            Annotate({"lost": 1}),
            Snapshot(),
            Step(1, {"a": 1}),
            Annotate({"a": 2, "b": 3}),
            Step(2),
            Snapshot(),
        )
    )
    nodes = [{"value": 1, "meta": {"a": 2, "b": 3}}, {"value": 2, "meta": {}}]
    assert result.value == [None, [], 1, None, 2, nodes]
    assert result.raw_store["__graph__"] == nodes


def test_capture_sees_nested_scopes_and_annotations():
    inner = Safe(Local({"k": 1}, seq(Step("a"), Annotate({"x": 1}))))
    result = run(seq(Step("before"), CaptureGraph(seq(inner, CaptureGraph(Step("b"))))))
    (values, nodes) = result.value[1]
    assert nodes == [{"value": "a", "meta": {"x": 1}}, {"value": "b", "meta": {}}]
    assert values[1] == ("b", [{"value": "b", "meta": {}}])
    assert [n["value"] for n in result.raw_store["__graph__"]] == ["before", "a", "b"]


def test_capture_passes_errors_and_keeps_nodes():
    result = run(CaptureGraph(Step("a").then(fail(ValueError("e")))))
    assert str(result.error) == "e"
    assert result.raw_store["__graph__"] == [{"value": "a", "meta": {}}]


# --- call stack and debug ----------------------------------------------------------------


def test_call_stack_rows():
    @do
    def inner(a, b=2):
        return (yield ProgramCallStack())

    @do
    def outer(x):
        return (yield Local({"k": 1}, Safe(inner(x, b=3)))).value

    stack = run(outer(1)).value
    assert isinstance(stack, tuple)
    frames = [(f.function_name, f.args, dict(f.kwargs), f.depth) for f in stack]
    assert frames == [("inner", (1,), {"b": 3}, 0), ("outer", (1,), {}, 1)]
    assert stack[0].kleisli is inner
    assert run(ProgramCallStack()).value == ()
    assert type(run(ProgramCallFrame()).error) is IndexError


def test_debug_context():
    @do
    def inner():
        return (yield GetDebugContext())

    @do
    def outer():
        return (yield Safe(inner())).value

    context = run(outer()).value
    assert [e.function_name for e in context.kleisli_stack] == ["inner", "outer"]
    assert context.kleisli_stack[0].filename == __file__
    assert "inner" in context.format_kleisli_stack()
    assert "SafeFrame" in [f.frame_type for f in context.k_frames]
    assert "SafeFrame" in context.format_k_frames()
    text = context.format_all()
    assert "inner" in text
    assert "outer" in context.format_effect_tree()


# --- the scopes as thin functions -----------------------------------------------------------


def test_patterns():
    from doeff.cesk.handlers.patterns import (
        with_graph_capture,
        with_intercept,
        with_listen,
        with_local,
        with_safe,
    )

    assert run(with_local({"k": 1}, Ask("k"))).value == 1
    assert run(with_safe(Pure(1))).value == Ok(1)
    assert run(with_listen(Tell("m"))).value.log == ["m"]
    assert run(with_intercept(Get("x"), lambda e: Pure(2))).value == 2
    assert run(with_graph_capture(Step(1))).value == (1, [{"value": 1, "meta": {}}])


@pytest.mark.parametrize(
    "program",
    [
        lambda: Modify("x", lambda v: 1 / 0),
        lambda: IO(lambda: 1 / 0),
        lambda: Intercept(Get("x"), lambda e: 1 / 0),
        lambda: AtomicGet("k", default_factory=lambda: 1 / 0),
        lambda: AtomicUpdate("k", lambda v: 1 / 0),
    ],
    ids=["modify", "io", "transform", "factory", "updater"],
)
def test_callback_errors_arrive_at_the_yield(program):
    @do
    def body():
        try:
            yield program()
        except ZeroDivisionError:
            return "here"

    result = run(body())
    assert result.value == "here"
    assert result.raw_store == {}
