"""The algebra of programs: equal value, equal effects, equal error."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    ENVS,
    PROGRAMS,
    STORES,
    VALUES,
    Boom,
    Builder,
    Outcome,
    describe_error,
    plain,
    run_real,
)

import doeff
from doeff import NOTHING, Program, Pure, Safe, Some, Tell, do


def outcome(program: Any, builder: Builder, env: Any, store: Any) -> Outcome:
    return run_real(program, builder.env(env), dict(store), builder=builder)


def double(value: Any) -> Any:
    return ("double", value)


def fails_on_none(value: Any) -> Any:
    if value is None:
        raise Boom("none")
    return ("given", value)


FUNCTIONS = st.sampled_from([double, fails_on_none, plain])


@do
def told(value: Any) -> Any:
    yield Tell("told")
    return ("told", value)


@do
def refuses(value: Any) -> Any:
    yield Tell("refuses")
    raise Boom("refused")


BINDERS = st.sampled_from([told, refuses, Pure, lambda v: told(v).map(double)])


@given(PROGRAMS, ENVS, STORES)
def test_map_identity(tree: Any, env: Any, store: Any) -> None:
    b = Builder()
    p = b.build(tree)
    assert outcome(p.map(lambda v: v), b, env, store) == outcome(p, b, env, store)


@given(PROGRAMS, ENVS, STORES, FUNCTIONS, FUNCTIONS)
def test_map_composition(tree: Any, env: Any, store: Any, f: Any, g: Any) -> None:
    b = Builder()
    p = b.build(tree)
    stacked = outcome(p.map(f).map(g), b, env, store)
    assert stacked == outcome(p.map(lambda v: g(f(v))), b, env, store)


@given(VALUES, BINDERS)
def test_left_identity(value: Any, f: Any) -> None:
    b = Builder()
    assert outcome(Pure(value).flat_map(f), b, (), {}) == outcome(f(value), b, (), {})


@given(PROGRAMS, ENVS, STORES)
def test_right_identity(tree: Any, env: Any, store: Any) -> None:
    b = Builder()
    p = b.build(tree)
    assert outcome(p.flat_map(Program.pure), b, env, store) == outcome(p, b, env, store)


@given(PROGRAMS, ENVS, STORES, BINDERS, BINDERS)
def test_associativity(tree: Any, env: Any, store: Any, f: Any, g: Any) -> None:
    b = Builder()
    p = b.build(tree)
    left = outcome(p.flat_map(f).flat_map(g), b, env, store)
    assert left == outcome(p.flat_map(lambda v: f(v).flat_map(g)), b, env, store)


@given(PROGRAMS, PROGRAMS, ENVS, STORES)
def test_then_is_flat_map_without_the_value(
    p: Any, q: Any, env: Any, store: Any
) -> None:
    b = Builder()
    first, second = b.build(p), b.build(q)
    then = outcome(first.then(second), b, env, store)
    assert then == outcome(first.flat_map(lambda _: second), b, env, store)


@given(PROGRAMS)
def test_lift_of_a_program_is_the_program(tree: Any) -> None:
    p = Builder().build(tree)
    assert Program.lift(p) is p


@given(PROGRAMS, ENVS, STORES, st.integers(0, 3))
def test_an_argument_is_evaluated_once_under_any_stack_of_maps(
    tree: Any, env: Any, store: Any, maps: int
) -> None:
    @do
    def take(value: Any) -> Any:
        return value
        yield

    b = Builder()
    call = take(b.build(tree))
    alone = outcome(b.build(tree), b, env, store)
    for _ in range(maps):
        call = call.map(lambda v: v).flat_map(Pure)
    # The trees are built twice, so lazies differ in identity but not in count.
    stacked = outcome(call, b, env, store)
    assert stacked == alone


@given(st.lists(PROGRAMS, max_size=4), ENVS, STORES)
def test_builders_agree_with_a_loop(trees: Any, env: Any, store: Any) -> None:
    b = Builder()
    ps = [b.build(t) for t in trees]

    @do
    def loop() -> Any:
        values = []
        for p in ps:
            values.append((yield p))
        return values

    expected = outcome(loop(), b, env, store)
    assert outcome(Program.sequence(ps), b, env, store) == expected
    assert outcome(Program.sequence(iter(ps)), b, env, store) == expected
    assert outcome(Program.list(*ps), b, env, store) == expected
    assert outcome(Program.tuple(*ps).map(list), b, env, store) == expected
    assert outcome(Program.traverse(ps, lambda p: p), b, env, store) == expected
    named = {f"k{i}": p for i, p in enumerate(ps)}
    as_dict = Program.dict(named).map(lambda d: list(d.values()))
    assert outcome(as_dict, b, env, store) == expected


@given(st.lists(st.one_of(VALUES, VALUES.map(Some), st.just(NOTHING)), min_size=1))
def test_first_some_model(values: list[Any]) -> None:
    b = Builder()

    @do
    def candidate(i: int) -> Any:
        yield Tell(i)
        return values[i]

    program = Program.first_some(*[candidate(i) for i in range(len(values))])
    wins = [
        i
        for i, v in enumerate(values)
        if isinstance(v, Some) or (v is not None and v is not NOTHING)
    ]
    got = outcome(program, b, (), {})
    if wins:
        value = values[wins[0]]
        expected = value if isinstance(value, Some) else Some(value)
        assert got.log == list(range(wins[0] + 1))
    else:
        expected = NOTHING
        assert got.log == list(range(len(values)))
    assert got.end == ("ok", expected)


@given(st.lists(PROGRAMS, min_size=1, max_size=4), ENVS, STORES)
def test_first_success_model(trees: Any, env: Any, store: Any) -> None:
    b = Builder()
    ps = [b.build(t) for t in trees]

    @do
    def loop() -> Any:
        for p in ps:
            got = yield Safe(p)
            if got.is_ok():
                return got.value
        raise got.error

    assert outcome(Program.first_success(*ps), b, env, store) == outcome(
        loop(), b, env, store
    )


@given(PROGRAMS, ENVS, STORES, BINDERS)
def test_kleisli_composition(tree: Any, env: Any, store: Any, f: Any) -> None:
    b = Builder()
    p = b.build(tree)

    @do
    def start() -> Any:
        return (yield p)

    expected = outcome(start().flat_map(f), b, env, store)
    assert outcome((start >> f)(), b, env, store) == expected
    assert outcome(start.and_then_k(f)(), b, env, store) == expected
    mapped = outcome(start().map(double), b, env, store)
    assert outcome(start.fmap(double)(), b, env, store) == mapped
    assert outcome((start << double)(), b, env, store) == mapped


@given(PROGRAMS, ENVS, STORES)
def test_intercept_method_is_the_effect(tree: Any, env: Any, store: Any) -> None:
    b = Builder()
    p = b.build(tree)
    seen: list[int] = []
    watch = lambda e: seen.append(id(e))  # noqa: E731
    by_method = outcome(p.intercept(watch), b, env, store)
    method_seen, seen[:] = list(seen), []
    assert outcome(doeff.Intercept(p, watch), b, env, store) == by_method
    assert seen == method_seen


@given(PROGRAMS, ENVS, STORES)
def test_results_convert_to_the_value_or_the_error(
    tree: Any, env: Any, store: Any
) -> None:
    b = Builder()
    p = b.build(tree)
    safe = doeff.sync_run(
        Safe(p), doeff.sync_handlers_preset, env=b.env(env), store=store
    ).value
    got = outcome(p, b, env, store).end
    if safe.is_ok():
        assert got == ("ok", plain(safe.unwrap()))
    else:
        assert got == ("err", describe_error(safe.unwrap_err()))
