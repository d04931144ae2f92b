"""The single-task laws of the effects, one property each.

Laws that need tasks, real time or the cache decorator have their own files.
"""

from __future__ import annotations

import copy
import dataclasses
import pickle
from datetime import datetime
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import (
    ENV_KEYS,
    ENVS,
    KEYS,
    MESSAGES,
    METAS,
    OPS,
    PLAIN_ENVS,
    PROGRAMS,
    STORES,
    VALUES,
    Boom,
    Builder,
    Lazy,
    NAsk,
    NCapture,
    NListen,
    NLocal,
    NModify,
    NPut,
    NRaise,
    NSafe,
    NSeq,
    NStep,
    NTell,
    assert_same,
    plain,
    run_real,
    run_tree,
    trees,
)

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
    Get,
    GetTime,
    Intercept,
    Listen,
    Local,
    Modify,
    ProgramCallFrame,
    ProgramCallStack,
    Pure,
    Put,
    Safe,
    Snapshot,
    Step,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.types import EffectBase


def run(program: Any, **kw: Any) -> Any:
    return sync_run(program, sync_handlers_preset, **kw)


@do
def sequence_of(parts: list[Any]) -> Any:
    values = []
    for part in parts:
        values.append((yield part))
    return values


# --- the whole language at once -------------------------------------------


@given(PROGRAMS, ENVS, STORES)
def test_programs_agree_with_the_oracle(tree: Any, env: Any, store: Any) -> None:
    assert_same(tree, env, store)


@given(trees(intercepts=True, custom=True), ENVS, STORES)
def test_programs_with_intercepts_agree(tree: Any, env: Any, store: Any) -> None:
    assert_same(tree, env, store)


@given(PROGRAMS, ENVS, STORES)
def test_a_program_object_runs_again_alike(tree: Any, env: Any, store: Any) -> None:
    builder = Builder()
    program = builder.build(tree)
    bound = builder.env(env)
    first = run_real(program, bound, store, builder=builder)
    assert run_real(program, bound, store, builder=builder) == first


# --- Ask and Local --------------------------------------------------------


@given(ENV_KEYS, st.one_of(st.none(), st.builds(object), st.lists(st.integers())))
def test_ask_returns_binding(key: str, value: Any) -> None:
    assert run(Ask(key), env={key: value}).value is value


@given(st.one_of(ENV_KEYS, st.tuples(st.integers()), st.integers(), st.builds(object)))
def test_ask_missing_names_key(key: Any) -> None:
    error = run(Ask(key), env={"other": 1}).error
    assert type(error) is doeff.MissingEnvKeyError
    assert isinstance(error, KeyError)
    assert error.key == key


@given(ENVS, ENVS, PROGRAMS, PLAIN_ENVS)
def test_local_right_biased(a: Any, b: Any, tree: Any, env: Any) -> None:
    nested = run_tree(NLocal(a, NLocal(b, tree)), env)
    assert nested == run_tree(NLocal(tuple({**dict(a), **dict(b)}.items()), tree), env)


@given(PROGRAMS, ENVS)
def test_local_empty_identity(tree: Any, env: Any) -> None:
    assert run_tree(NLocal((), tree), env) == run_tree(tree, env)


@given(PLAIN_ENVS, PROGRAMS, PLAIN_ENVS)
def test_local_restores(update: Any, tree: Any, env: Any) -> None:
    asks = NSeq(tuple(NSafe(NAsk(k)) for k in ("e1", "e2", "e3")))
    before = run_tree(asks, env).end[1]
    after = run_tree(NSeq((NSafe(NLocal(update, tree)), asks)), env).end[1][1]
    assert after == before


@given(PLAIN_ENVS, PROGRAMS, PLAIN_ENVS, STORES)
def test_local_scopes_only_env(update: Any, tree: Any, env: Any, store: Any) -> None:
    merged = tuple({**dict(env), **dict(update)}.items())
    assert run_tree(NLocal(update, tree), env, store) == run_tree(tree, merged, store)


@given(st.integers(0, 5), VALUES)
def test_lazy_once(asks: int, value: Any) -> None:
    calls = []

    @do
    def lazy() -> Any:
        calls.append(1)
        return value
        yield

    shared = lazy()
    inner = Local({"other": 1}, Safe(Ask("k")))
    got = run(
        sequence_of([Ask("k"), inner, Listen(Ask("k"))] * asks), env={"k": shared}
    )
    assert len(calls) == min(asks, 1)
    assert [plain(v) for v in got.value] == [
        value,
        ("Ok", value),
        ("Listen", value, []),
    ] * asks


@given(PROGRAMS)
def test_lazy_unused_never_runs(tree: Any) -> None:
    outcome = run_tree(NSeq((NPut("x", 1),)), (("e1", Lazy(tree)),))
    assert outcome.end == ("ok", [None])
    assert outcome.effects == ({"x": 1}, [], [])


@given(st.integers(1, 4))
def test_lazy_failure_retries(failures: int) -> None:
    left = [failures]

    @do
    def lazy() -> Any:
        yield Tell("try")
        if left[0]:
            left[0] -= 1
            raise Boom("lazy")
        return "value"

    result = run(sequence_of([Safe(Ask("k"))] * (failures + 2)), env={"k": lazy()})
    assert (
        plain(result.value)
        == [("Err", ("Boom", ("lazy",)))] * failures + [("Ok", "value")] * 2
    )
    assert result.raw_store["__log__"] == ["try"] * (failures + 1)


@given(PROGRAMS, PROGRAMS)
def test_lazy_override_correct(outer: Any, inner: Any) -> None:
    tree = NSeq(
        (
            NSafe(NAsk("e1")),
            NSafe(NLocal((("e1", Lazy(inner)),), NAsk("e1"))),
            NSafe(NAsk("e1")),
        )
    )
    assert_same(tree, (("e1", Lazy(outer)),))


@given(st.dictionaries(st.integers(0, 5), st.lists(st.integers(0, 5), max_size=3)))
def test_lazy_cycle_reported(graph: dict[int, list[int]]) -> None:
    def reaches_cycle(node: int, path: tuple[int, ...]) -> bool:
        if node in path:
            return True
        return any(reaches_cycle(n, (*path, node)) for n in graph.get(node, []))

    @do
    def evaluate(node: int) -> Any:
        for other in graph.get(node, []):
            yield Ask(other)
        return node

    env = {node: evaluate(node) for node in range(6)}
    for start in range(6):
        result = run(Ask(start), env=env)
        if reaches_cycle(start, ()):
            assert type(result.error) is doeff.CircularAskError
            assert result.error.key in env
        else:
            assert result.value == start


@given(st.integers(1, 5), VALUES)
def test_lazy_no_false_cycle(depth: int, value: Any) -> None:
    """Another program bound to the key inside its evaluation is no cycle."""

    @do
    def level(n: int) -> Any:
        if n == 0:
            return value
        return (yield Local({"k": level(n - 1)}, Ask("k")))

    assert run(Ask("k"), env={"k": level(depth)}).value == value


# --- state ----------------------------------------------------------------


@given(KEYS, VALUES, STORES)
def test_put_get(key: str, value: Any, store: Any) -> None:
    assert run(sequence_of([Put(key, value), Get(key)]), store=store).value == [
        None,
        value,
    ]


@given(KEYS, VALUES, VALUES, STORES)
def test_put_put(key: str, a: Any, b: Any, store: Any) -> None:
    twice = run(sequence_of([Put(key, a), Put(key, b)]), store=store)
    once = run(Put(key, b), store=store)
    assert twice.raw_store == once.raw_store == {**store, key: b}


@given(KEYS, STORES)
def test_get_put(key: str, store: Any) -> None:
    assume(key in store)
    result = run(Get(key).flat_map(lambda v: Put(key, v)), store=store)
    assert result.raw_store == store


@given(st.lists(st.tuples(KEYS, VALUES), max_size=6), st.randoms(use_true_random=False))
def test_puts_on_different_keys_commute(puts: Any, random: Any) -> None:
    last = list(dict(puts).items())
    other = list(last)
    random.shuffle(other)
    stores = [
        run(sequence_of([Put(k, v) for k, v in order])).raw_store
        for order in (last, other)
    ]
    assert stores[0] == stores[1] == dict(puts)


@given(KEYS, STORES)
def test_get_missing_keyerror(key: str, store: Any) -> None:
    store = {k: v for k, v in store.items() if k != key}
    result = run(Get(key), store=store)
    assert type(result.error) is KeyError
    assert result.error.args == (key,)
    assert result.raw_store == store


@given(KEYS, st.sampled_from(sorted(OPS)), STORES)
def test_modify_model(key: str, op: str, store: Any) -> None:
    outcome = assert_same(NModify(key, op), (), store)
    if op == "boom":
        assert outcome.store == store
    else:
        expected = OPS[op](store.get(key))
        assert outcome.end == ("ok", expected)
        assert outcome.store == {**store, key: expected}


@given(KEYS, STORES)
def test_modify_atomic(key: str, store: Any) -> None:
    """The function sees the stored object, and its error changes nothing."""
    seen = []

    def fail(value: Any) -> Any:
        seen.append(value)
        raise Boom("f")

    result = run(Safe(Modify(key, fail)), store=store)
    assert result.value.is_err()
    assert seen == [store.get(key)]
    assert result.raw_store == store


@given(PROGRAMS, ENVS, STORES)
def test_caller_data_untouched(tree: Any, env: Any, store: Any) -> None:
    log, graph, cache = ["old"], [{"value": 0, "meta": {"m": 1}}], {"c": 1}
    given_store = {
        **store,
        "__log__": log,
        "__graph__": graph,
        "__cache_storage__": cache,
    }
    before = copy.deepcopy(given_store)
    builder = Builder()
    given_env = builder.env(env)
    env_before = dict(given_env)
    program = builder.build(
        NSeq((NSafe(tree), NTell("new"), NStep(1, ()), NCapture(tree)))
    )
    caching = (
        CachePut("c", 2).then(CachePut("d", 3)).then(Annotate({"m": 2})).then(program)
    )
    run(caching, env=given_env, store=given_store)
    assert given_store == before
    assert given_store["__log__"] is log
    assert given_env == env_before


# --- log ------------------------------------------------------------------


@given(st.lists(MESSAGES, max_size=6))
def test_tell_concatenates(messages: list[Any]) -> None:
    expected: list[Any] = []
    for message in messages:
        expected.extend(message if isinstance(message, (list, tuple)) else [message])
    result = run(sequence_of([Tell(m) for m in messages]))
    assert result.raw_store.get("__log__", []) == expected
    assert ("__log__" in result.raw_store) == bool(messages)


@given(PROGRAMS, ENVS, STORES)
def test_listen_transparent(tree: Any, env: Any, store: Any) -> None:
    plain_run, listened = (
        run_tree(tree, env, store),
        run_tree(NListen(tree), env, store),
    )
    assert listened.effects == plain_run.effects
    if plain_run.end[0] == "ok":
        assert listened.end[1][1] == plain_run.end[1]
    else:
        assert listened.end == plain_run.end


@given(PROGRAMS, ENVS, STORES, st.lists(st.just("before"), max_size=2))
def test_listen_exact(tree: Any, env: Any, store: Any, before: list[str]) -> None:
    alone = run_tree(tree, env, store)
    assume(alone.end[0] == "ok")
    outcome = run_tree(NSeq((NTell(before), NListen(tree), NTell("after"))), env, store)
    assert outcome.end[1][1][2] == alone.log
    assert outcome.log == [*before, *alone.log, "after"]


@given(PROGRAMS, PROGRAMS, PROGRAMS)
def test_listen_nested(a: Any, b: Any, c: Any) -> None:
    tree = NListen(NSeq((NSafe(a), NListen(NSafe(b)), NSafe(c))))
    outcome = assert_same(tree)
    _, values, outer = outcome.end[1]
    inner = values[1][2]
    assert any(outer[i : i + len(inner)] == inner for i in range(len(outer) + 1))


@given(st.lists(MESSAGES, max_size=4))
def test_listen_error_plain(messages: list[Any]) -> None:
    boom = Boom("same object")

    @do
    def failing() -> Any:
        for message in messages:
            yield Tell(message)
        raise boom

    result = run(Listen(failing()))
    assert result.error is boom
    assert result.raw_store.get("__log__", []) == run(failing()).raw_store.get(
        "__log__", []
    )


@given(st.lists(MESSAGES, max_size=4))
def test_listen_of_safe(messages: list[Any]) -> None:
    tree = NSeq((*[NTell(m) for m in messages], NRaise("end")))
    outcome = assert_same(NListen(NSafe(tree)))
    assert outcome.end[1][1] == ("Err", ("Boom", ("end",)))
    assert outcome.end[1][2] == outcome.log


@given(PROGRAMS, PROGRAMS)
def test_log_snapshot_stable(before: Any, after: Any) -> None:
    taken: list[Any] = []

    @do
    def program(first: Any, then: Any) -> Any:
        yield Tell("m")
        yield Step(0, {"a": 0})
        yield first
        log, graph = (yield Get("__log__")), (yield Snapshot())
        raw = yield Get("__graph__")
        _, captured = yield CaptureGraph(Step(1, {"a": 1}))
        taken.append((log, graph, raw, captured))
        taken.append(copy.deepcopy([list(log), graph, list(raw), captured]))
        yield then
        yield Annotate({"late": 1})
        yield Tell("late")
        yield Step("late")

    builder = Builder()
    # A program inside Pure is unwrapped once: the argument is the program itself.
    first, then = builder.build(NSafe(before)), builder.build(NSafe(after))
    assert run(program(Pure(first), Pure(then))).is_ok()
    now, copied = taken
    assert [list(now[0]), now[1], list(now[2]), now[3]] == copied


# --- Safe -----------------------------------------------------------------


@given(PROGRAMS, ENVS, STORES)
def test_safe_value(tree: Any, env: Any, store: Any) -> None:
    alone, safe = run_tree(tree, env, store), run_tree(NSafe(tree), env, store)
    expected = ("Ok" if alone.end[0] == "ok" else "Err", alone.end[1])
    assert safe.end == ("ok", expected)


@given(st.sampled_from([Boom, ValueError, KeyError, StopAsyncIteration, MemoryError]))
def test_safe_error(kind: type[Exception]) -> None:
    error = kind("e")

    @do
    def failing() -> Any:
        yield Put("x", 1)
        raise error

    got = run(Safe(failing())).value
    assert got.is_err()
    assert got.error is error


@given(PROGRAMS, ENVS, STORES)
def test_safe_nested(tree: Any, env: Any, store: Any) -> None:
    once, twice = (
        run_tree(NSafe(tree), env, store),
        run_tree(NSafe(NSafe(tree)), env, store),
    )
    assert twice.end == ("ok", ("Ok", once.end[1]))


@given(PROGRAMS, ENVS, STORES)
def test_safe_no_rollback(tree: Any, env: Any, store: Any) -> None:
    alone, safe = run_tree(tree, env, store), run_tree(NSafe(tree), env, store)
    assert safe.effects == alone.effects


@given(PLAIN_ENVS, PROGRAMS, PLAIN_ENVS)
def test_safe_env_restored(update: Any, tree: Any, env: Any) -> None:
    asks = NSeq(tuple(NSafe(NAsk(k)) for k in ("e1", "e2", "e3")))
    scoped = NSafe(NLocal(update, NSeq((tree, NRaise("out")))))
    assert run_tree(NSeq((scoped, asks)), env).end[1][1] == run_tree(asks, env).end[1]


class OwnBase(BaseException):
    pass


@given(
    st.sampled_from([KeyboardInterrupt, SystemExit, GeneratorExit, OwnBase]),
    st.integers(0, 4),
)
def test_safe_not_for_base(kind: type[BaseException], depth: int) -> None:
    error = kind("stop")
    cleaned: list[Any] = []

    @do
    def level(n: int) -> Any:
        try:
            if n == 0:
                raise error
            yield Safe(level(n - 1))
        finally:
            yield Put("x", n)
            cleaned.append((n, (yield Get("x"))))

    with pytest.raises(kind) as caught:
        run(Safe(level(depth)))
    assert caught.value is error
    assert cleaned == [(n, n) for n in range(depth + 1)]


@given(st.sampled_from([lambda: Get(1), lambda: Local(1, Pure(1)), lambda: Safe(3)]))
def test_safe_sees_validation(make: Any) -> None:
    @do
    def program() -> Any:
        yield make()

    assert type(run(Safe(program())).value.error) is TypeError


@given(PROGRAMS, ENVS, STORES)
def test_error_keeps_writes(tree: Any, env: Any, store: Any) -> None:
    failing = assert_same(NSeq((NSafe(tree), NRaise("end"))), env, store)
    assert failing.effects == run_tree(NSafe(tree), env, store).effects


# --- Intercept ------------------------------------------------------------


@given(PROGRAMS, ENVS, STORES, st.booleans())
def test_intercept_identity(tree: Any, env: Any, store: Any, same: bool) -> None:
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)
    wrapped = Intercept(program, (lambda e: e) if same else (lambda e: None))
    alone = run_real(program, bound, store, builder=builder)
    assert run_real(wrapped, bound, store, builder=builder) == alone


@given(st.lists(st.integers(0, 3), max_size=6))
def test_intercept_each_once(keys: list[int]) -> None:
    offered: list[Any] = []
    effects = [Put(f"k{k}", k) for k in keys]
    run(Intercept(sequence_of(effects), lambda e: offered.append(e)))
    assert len(offered) == len(effects)
    assert all(a is b for a, b in zip(offered, effects, strict=True))


@given(st.lists(st.booleans(), min_size=1, max_size=5))
def test_intercept_first_wins(answers: list[bool]) -> None:
    asked: list[int] = []

    def transform(i: int, answers_here: bool) -> Any:
        def t(effect: Any) -> Any:
            asked.append(i)
            return Pure(i) if answers_here else None

        return t

    program = Intercept(Get("x"), *[transform(i, a) for i, a in enumerate(answers)])
    result = run(program, store={"x": "stored"})
    if any(answers):
        first = answers.index(True)
        assert result.value == first
        assert asked == list(range(first + 1))
    else:
        assert result.value == "stored"
        assert asked == list(range(len(answers)))


@given(st.integers(1, 4), st.integers(1, 4))
def test_intercept_nesting(value: int, other: int) -> None:
    order: list[Any] = []

    def f(effect: Any) -> Any:
        order.append(("f", effect))
        return Put("x", value)

    def g(effect: Any) -> Any:
        order.append(("g", effect))
        return None

    p = Put("y", other)
    result = run(Intercept(Intercept(p, f), g))
    # g sees the inner Intercept's own effect, then what f substituted.
    kinds = [(who, type(e).__name__) for who, e in order]
    assert kinds == [
        ("g", "InterceptEffect"),
        ("f", "StatePutEffect"),
        ("g", "StatePutEffect"),
    ]
    assert order[1][1] is p
    assert order[2][1] == Put("x", value)
    assert result.raw_store == {"x": value}


@given(PROGRAMS, ENVS, STORES)
def test_intercept_no_reentry(tree: Any, env: Any, store: Any) -> None:
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)

    @do
    def again(effect: EffectBase) -> Any:
        return (yield effect)

    alone = run_real(program, bound, store, builder=builder)
    assert run_real(Intercept(program, again), bound, store, builder=builder) == alone


CONTAINERS = {
    "local": lambda p: Local({"unrelated": 1}, p),
    "safe": Safe,
    "listen": Listen,
    "capture": CaptureGraph,
    "intercept": lambda p: Intercept(p, lambda e: None),
    "lazy": lambda p: Local({"lazy": p}, Ask("lazy")),
    "handler": lambda p: WithHandler(_forward, p),
    "map": lambda p: p.map(lambda v: v),
    "argument": lambda p: _take(p),
}


@do
def _forward(effect: EffectBase, ctx: Any) -> Any:
    return (yield effect)


@do
def _take(value: Any) -> Any:
    return value
    yield


@given(PROGRAMS, ENVS, st.sampled_from(sorted(CONTAINERS)))
def test_intercept_reaches_children(tree: Any, env: Any, name: str) -> None:
    offered: list[Any] = []
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)
    watch = lambda e: offered.append(id(e))  # noqa: E731
    run(Intercept(program, watch), env=bound)
    alone = list(offered)
    del offered[:]
    run(Intercept(CONTAINERS[name](program), watch), env=bound)
    for effect in alone:
        assert effect in offered
        offered.remove(effect)


@given(PROGRAMS, ENVS, st.sampled_from(sorted(CONTAINERS)))
def test_handlers_follow_scopes(tree: Any, env: Any, name: str) -> None:
    """A forwarding handler sees what an intercept sees, at any depth."""
    offered: list[int] = []
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)

    @do
    def watch(effect: EffectBase, ctx: Any) -> Any:
        offered.append(id(effect))
        return (yield effect)

    contained = CONTAINERS[name](program)
    run(Intercept(contained, lambda e: offered.append(id(e))), env=bound)
    expected = list(offered)
    del offered[:]
    run(WithHandler(watch, contained), env=bound)
    assert offered == expected


@given(PROGRAMS, PROGRAMS)
def test_intercept_scope_ends(inside: Any, after: Any) -> None:
    offered: list[Any] = []
    builder = Builder()
    p, q = builder.build(NSafe(inside)), builder.build(NSafe(after))
    run(Intercept(p, lambda e: offered.append(id(e))))
    alone = list(offered)
    del offered[:]
    run(sequence_of([Intercept(p, lambda e: offered.append(id(e))), q]))
    assert offered == alone


@given(PROGRAMS)
def test_intercept_error_local(tree: Any) -> None:
    seen: list[Any] = []
    boom = Boom("transform")

    def transform(effect: Any) -> Any:
        if (
            isinstance(effect, doeff.effects.WriterTellEffect)
            and effect.message == "now"
        ):
            raise boom
        return None

    @do
    def program(body: Any) -> Any:
        yield body
        yield Put("before", 1)
        try:
            yield Tell("now")
        except Boom as error:
            seen.append(error)
        yield Put("after", 1)

    builder = Builder()
    result = run(Intercept(program(Pure(builder.build(NSafe(tree)))), transform))
    assert result.is_ok()
    assert seen == [boom]
    assert result.raw_store["before"] == result.raw_store["after"] == 1


@given(trees(handlers=True), ENVS)
def test_intercept_hides_machinery(tree: Any, env: Any) -> None:
    offered: list[Any] = []
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)
    run_real(Intercept(program, lambda e: offered.append(type(e))), bound)
    for kind in offered:
        assert issubclass(kind, EffectBase)
        assert not kind.__name__.startswith("_")
        assert kind.__name__ not in ("PureEffect", "WithHandler")


# --- pure, io, time, cache, atomic, graph, call stack ----------------------


@given(VALUES)
def test_pure_needs_no_handler(value: Any) -> None:
    assert sync_run(Pure(value), []).value == value


@given(st.lists(st.booleans(), max_size=6))
def test_io_once(fails: list[bool]) -> None:
    calls: list[int] = []

    def action(i: int, fail: bool) -> Any:
        def act() -> Any:
            calls.append(i)
            if fail:
                raise Boom(i)
            return i

        return act

    @do
    def program() -> Any:
        got = []
        for i, fail in enumerate(fails):
            try:
                got.append((yield IO(action(i, fail))))
            except Boom as error:
                got.append(error.args)
        return got

    assert run(program()).value == [(i,) if f else i for i, f in enumerate(fails)]
    assert calls == list(range(len(fails)))


@given(st.lists(st.datetimes(), min_size=1, max_size=4))
def test_clock_reads_store(times: list[datetime]) -> None:
    first, *others = times

    @do
    def program() -> Any:
        got = [(yield GetTime())]
        for t in others:
            yield Put("__current_time__", t)
            got.append((yield GetTime()))
            got.append((yield GetTime()))
        return got

    got = run(program(), store={"__current_time__": first}).value
    assert got == [first, *[t for t in others for _ in range(2)]]


CACHE_OPS = st.lists(
    st.tuples(
        st.sampled_from(["put", "get", "exists", "delete"]),
        st.sampled_from(["k", ("k", 1), 3]),
        VALUES,
    ),
    max_size=10,
)


@given(CACHE_OPS)
def test_cache_model(ops: list[Any]) -> None:
    model: dict[Any, Any] = {}

    @do
    def program() -> Any:
        got: list[Any] = []
        expected: list[Any] = []
        for op, key, value in ops:
            if op == "put":
                got.append((yield CachePut(key, value)))
                model[key] = value
                expected.append(None)
            elif op == "get":
                try:
                    got.append((yield CacheGet(key)))
                except KeyError as error:
                    got.append(type(error))
                expected.append(model.get(key, KeyError))
            elif op == "exists":
                got.append((yield CacheExists(key)))
                expected.append(key in model)
            else:
                got.append((yield CacheDelete(key)))
                expected.append(model.pop(key, KeyError) is not KeyError)
        return got, expected

    got, expected = run(program()).value
    assert got == expected


@given(st.lists(st.tuples(st.sampled_from("gGuU"), KEYS, VALUES), max_size=8), STORES)
def test_atomic_model(ops: list[Any], store: Any) -> None:
    model = dict(store)
    factories: list[str] = []
    expected_factories: list[str] = []

    @do
    def program() -> Any:
        got: list[Any] = []
        for op, key, value in ops:
            factory = None
            if op in "GU":
                factory = lambda k=key, v=value: (factories.append(k), v)[1]  # noqa: E731
            if op in "gG":
                got.append((yield AtomicGet(key, default_factory=factory)))
            else:
                got.append(
                    (
                        yield AtomicUpdate(
                            key, lambda v: ("u", v), default_factory=factory
                        )
                    )
                )
        return got

    expected: list[Any] = []
    for op, key, value in ops:
        if op in "GU" and key not in model:
            expected_factories.append(key)
            old = value
            if op == "G":
                model[key] = value
        else:
            old = model.get(key)
        if op in "uU":
            old = model[key] = ("u", old)
        expected.append(old)
    result = run(program(), store=store)
    assert result.value == expected
    assert result.raw_store == model
    assert factories == expected_factories


@given(KEYS, STORES, st.booleans())
def test_atomic_error_atomic(key: str, store: Any, in_factory: bool) -> None:
    def boom(*_: Any) -> Any:
        raise Boom("u")

    factory = boom if in_factory else None
    result = run(Safe(AtomicUpdate(key, boom, default_factory=factory)), store=store)
    assert plain(result.value) == ("Err", ("Boom", ("u",)))
    assert result.raw_store == store


GRAPH_OPS = st.lists(
    st.one_of(
        st.tuples(st.just("step"), VALUES, METAS),
        st.tuples(st.just("annotate"), st.none(), METAS),
    ),
    max_size=8,
)


@given(GRAPH_OPS)
def test_graph_model(ops: list[Any]) -> None:
    model: list[dict[str, Any]] = []
    parts: list[Any] = []
    for op, value, meta in ops:
        if op == "step":
            parts.append(Step(value, dict(meta)))
            model.append({"value": value, "meta": dict(meta)})
        else:
            parts.append(Annotate(dict(meta)))
            if model:
                model[-1]["meta"].update(dict(meta))
    result = run(sequence_of([*parts, Snapshot()]))
    assert result.value[-1] == model
    assert result.raw_store.get("__graph__", []) == model


@given(PROGRAMS, ENVS, STORES)
def test_capture_transparent(tree: Any, env: Any, store: Any) -> None:
    alone, captured = run_tree(tree, env, store), run_tree(NCapture(tree), env, store)
    assert captured.effects == alone.effects
    if alone.end[0] == "ok":
        assert captured.end[1][0] == alone.end[1]
        assert captured.end[1][1] == alone.graph
    else:
        assert captured.end == alone.end


@given(PROGRAMS, ENVS, st.integers(0, 2))
def test_capture_exact(tree: Any, env: Any, before: int) -> None:
    steps = tuple(NStep(f"before{i}", ()) for i in range(before))
    outcome = assert_same(NSeq((*steps, NCapture(NSafe(tree)))), env)
    assert outcome.end[1][-1][1] == outcome.graph[before:]


STACK_SCOPES = st.lists(
    st.sampled_from(
        ["plain", "safe", "local", "listen", "intercept", "handler", "capture"]
    ),
    max_size=6,
)


@given(STACK_SCOPES)
def test_callstack_model(scopes: list[str]) -> None:
    stack, _ = _stack_of(scopes)
    n = len(scopes) + 1
    assert [f.function_name for f in stack] == ["level"] * n
    assert [f.args for f in stack] == [(i,) for i in range(n)]
    assert [f.depth for f in stack] == list(range(n))


@given(STACK_SCOPES)
def test_callframe_index(scopes: list[str]) -> None:
    stack, frames = _stack_of(scopes)
    for i, frame in enumerate(frames[:-1]):
        assert (frame.function_name, frame.args, frame.depth) == ("level", (i,), i)
    assert len(frames) == len(stack) + 1
    assert isinstance(frames[-1], IndexError)


def _stack_of(scopes: list[str]) -> Any:
    @do
    def level(left: int) -> Any:
        if left:
            inner = level(left - 1)
            scope = scopes[left - 1]
            if scope == "plain":
                return (yield inner)
            if scope == "safe":
                return (yield Safe(inner)).unwrap()
            if scope == "listen":
                return (yield Listen(inner)).value
            if scope == "capture":
                return (yield CaptureGraph(inner))[0]
            if scope == "intercept":
                return (yield Intercept(inner, lambda e: None))
            if scope == "local":
                return (yield Local({"a": 1}, inner))
            return (yield WithHandler(_forward, inner))
        stack = yield ProgramCallStack()
        frames: list[Any] = []
        for i in range(len(scopes) + 1):
            frames.append((yield ProgramCallFrame(i)))
        try:
            frames.append((yield ProgramCallFrame(len(scopes) + 1)))
        except IndexError as error:
            frames.append(error)
        return stack, frames

    return run(level(len(scopes))).value


def _all_effects(value: Any) -> list[Any]:
    from doeff import effects as fx

    made = [
        fx.AskEffect(value),
        fx.StateGetEffect("k"),
        fx.StatePutEffect("k", value),
        fx.WriterTellEffect(value),
        fx.LocalEffect(doeff.FrozenDict({"k": value}), Pure(value)),
        fx.ResultSafeEffect(Pure(value)),
        fx.WriterListenEffect(Pure(value)),
        fx.PureEffect(value),
        fx.StateModifyEffect("k", len),
        fx.IOPerformEffect(dict),
        fx.InterceptEffect(Pure(value), (len,)),
        fx.AtomicGetEffect("k", None),
        fx.AtomicUpdateEffect("k", len, None),
        fx.CacheGetEffect(value),
        fx.CacheExistsEffect(value),
        fx.CacheDeleteEffect(value),
        fx.GraphSnapshotEffect(),
        fx.GraphCaptureEffect(Pure(value)),
        fx.ProgramCallStackEffect(),
        fx.ProgramCallFrameEffect(2),
        fx.GetTimeEffect(),
    ]
    return made


@given(VALUES, st.integers(100, 200))
def test_effect_value_semantics(value: Any, other: int) -> None:
    for one, two in zip(_all_effects(value), _all_effects(value), strict=True):
        assert one == two
        assert hash(one) == hash(two)
        assert one is not two
        names = [f.name for f in dataclasses.fields(one)]
        assert tuple(names) == type(one).__match_args__
        again = pickle.loads(pickle.dumps(one))
        assert again == one
        assert type(again) is type(one)
        assert copy.copy(one) == one
        assert copy.deepcopy(one) == one
        assert dataclasses.replace(one) == one
        for name in names:
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(one, name, other)
            with pytest.raises(dataclasses.FrozenInstanceError):
                delattr(one, name)
        if names and names[0] == "key":
            changed = dataclasses.replace(one, key=str(other))
            assert changed != one
            assert changed.key == str(other)
