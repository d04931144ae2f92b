"""Depth is bounded by memory only: built, run, failed, printed and freed."""

from __future__ import annotations

import contextlib
import functools
import gc
import weakref
from dataclasses import dataclass

import pytest

from doeff import (
    Ask,
    EffectBase,
    Get,
    Intercept,
    Listen,
    Local,
    Modify,
    Program,
    Pure,
    Put,
    Safe,
    Tell,
    UnhandledEffectError,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)

MILLION = 1_000_000
MANY = 100_000
SOME = 5_000


@dataclass(frozen=True)
class Custom(EffectBase):
    pass


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


@do
def nest(n):
    return (yield nest(n - 1)) + 1 if n else 0


@do
def nest_then(n, bottom: Program):
    return (yield nest_then(n - 1, bottom)) if n else (yield bottom)


@do
def boom():
    raise ValueError("at the bottom")
    yield


# --- nested programs ------------------------------------------------------------


@pytest.mark.deep
def test_a_million_nested_programs_run():
    assert sync_run(nest(MILLION), []).value == MILLION


@pytest.mark.deep
def test_a_million_nested_programs_reach_a_handler():
    program = nest_then(MILLION, Put("x", 1).then(Get("x")))
    assert run(program).value == 1


@pytest.mark.deep
def test_a_million_nested_programs_fail_uncaught():
    result = sync_run(nest_then(MILLION, boom()), [])
    assert str(result.error) == "at the bottom"
    text = result.format() + result.format(verbose=True)
    assert "at the bottom" in text
    assert len(text) < 1_000_000
    assert len(result.k_stack.frames) <= 300
    assert len(result.python_stack.frames) <= 300
    del result
    gc.collect()


@pytest.mark.deep
def test_a_million_nested_programs_fail_caught_at_the_top():
    result = run(Safe(nest_then(MILLION, boom())))
    assert str(result.value.error) == "at the bottom"
    del result
    gc.collect()


@pytest.mark.deep
def test_a_million_nested_programs_end_unhandled():
    with pytest.raises(UnhandledEffectError):
        sync_run(nest_then(MILLION, Custom()), [])


def test_an_error_is_caught_in_the_middle():
    @do
    def level(n):
        if n == MANY // 2:
            try:
                return (yield level(n - 1))
            except ValueError:
                return "caught half way"
        return (yield level(n - 1)) if n else (yield boom())

    assert sync_run(level(MANY), []).value == "caught half way"


def test_every_level_cleans_up_with_an_effect():
    @do
    def level(n):
        try:
            return (yield level(n - 1) if n else boom())
        finally:
            yield Modify("n", lambda v: (v or 0) + 1)

    result = run(level(MANY))
    assert str(result.error) == "at the bottom"
    assert result.raw_store == {"n": MANY + 1}


def test_every_level_chains_a_new_error():
    @do
    def level(n):
        try:
            return (yield level(n - 1) if n else boom())
        except ValueError as error:
            raise ValueError(str(n)) from error

    result = sync_run(level(SOME), [])
    assert str(result.error) == str(SOME)
    result.format(verbose=True)
    del result
    gc.collect()


def test_abandoned_at_the_bottom_of_many():
    cleaned = []

    @do
    def level(n):
        try:
            return (yield level(n - 1) if n else Custom())
        finally:
            cleaned.append(n)

    @do
    def handler(effect, ctx):
        return ctx.abandon("abandoned")
        yield

    assert sync_run(WithHandler(handler, level(MANY)), []).value == "abandoned"
    assert cleaned == list(range(MANY + 1))


def test_a_kept_deep_continuation_is_freed():
    kept = []

    @do
    def handler(effect, ctx):
        kept.append(ctx.delimited_k)
        return ctx.abandon("kept")
        yield

    assert sync_run(WithHandler(handler, nest_then(MANY, Custom())), []).value == "kept"
    kept.clear()
    gc.collect()


# --- chains built in a loop --------------------------------------------------------


CHAINS = {
    "map": lambda p: p.map(lambda v: v + 1),
    "flat_map": lambda p: p.flat_map(lambda v: Pure(v + 1)),
    "argument": lambda p: step(p),
    "then": lambda p: p.flat_map(lambda v: Pure(v)).then(p2).map(lambda v: v),
    "local": lambda p: Local({"a": 1}, p),
    "safe": Safe,
    "listen": Listen,
    "intercept": lambda p: Intercept(p, ignore),
    "projection": lambda p: p.real,
    "builder": lambda p: Program.list(p),
    "lift": lambda p: Program.first_success(p),
}
p2 = Pure(0)


def ignore(effect):
    return None


@do
def step(v):
    return v + 1
    yield


def build(name, length, bottom):
    extend = CHAINS[name]
    p = bottom
    for _ in range(length):
        p = extend(p)
    return p


@pytest.mark.deep
@pytest.mark.parametrize("name", ["map", "flat_map", "argument"])
def test_long_chains_run(name):
    p = build(name, MANY, Pure(0))
    assert sync_run(p, []).value == MANY
    repr(p)
    del p
    gc.collect()


@pytest.mark.deep
@pytest.mark.parametrize("name", ["map", "flat_map", "argument"])
def test_long_chains_fail(name):
    p = build(name, MANY, boom())
    result = run(Safe(p))
    assert str(result.value.error) == "at the bottom"
    result = run(p)
    assert str(result.error) == "at the bottom"
    result.format(verbose=True)


@pytest.mark.deep
@pytest.mark.parametrize("name", CHAINS)
def test_long_chains_are_dropped_unrun(name):
    p = build(name, MANY, Pure(0))
    # The repr of an effect shows its fields, as that of a dataclass does.
    with contextlib.suppress(RecursionError):
        repr(p)
    del p
    gc.collect()


@pytest.mark.parametrize(
    "name", ["local", "listen", "intercept", "projection", "builder", "safe"]
)
def test_long_chains_of_scopes_run(name):
    result = run(build(name, SOME, Pure(7)))
    assert result.is_ok()
    failed = run(build(name, SOME, boom()))
    if name == "safe":
        assert failed.is_ok()
    else:
        assert str(failed.error) == "at the bottom"
    failed.format(verbose=True)


@pytest.mark.deep
@pytest.mark.parametrize("name", ["map", "flat_map", "argument", "safe", "local"])
def test_long_chains_are_collected_in_a_cycle(name):
    class Cell:
        pass

    def make():
        cell = Cell()
        cell.program = build(name, MANY, Pure(0).map(lambda v: cell))
        return weakref.ref(cell)

    ref = make()
    # The newest calls are shown to the collector only when younger ones were made.
    for _ in range(1000):
        step(0)
    gc.collect()
    assert ref() is None


def test_right_nested_binds_run_in_constant_space():
    def loop(n):
        return Pure(n - 1).flat_map(loop) if n else Pure("done")

    assert sync_run(Pure(MANY).flat_map(loop), []).value == "done"

    def then_loop(n):
        return Get("x").flat_map(lambda _: then_loop(n - 1)) if n else Pure("done")

    assert run(then_loop(MANY), store={"x": 1}).value == "done"


def test_a_deep_chain_of_lazy_asks():
    env = {i: Ask(i + 1) for i in range(SOME)}
    env[SOME] = "bottom"
    assert run(Ask(0), env=env).value == "bottom"


# --- handlers -----------------------------------------------------------------------


@do
def forwarding(effect, ctx):
    return (yield effect)


def narrow(effect: Custom, ctx):
    return Pure("custom")


@pytest.mark.parametrize("handler", [forwarding, narrow], ids=["forwarding", "narrow"])
def test_thousands_of_nested_handlers(handler):
    p = functools.reduce(lambda p, _: WithHandler(handler, p), range(SOME), Put("x", 1))
    assert run(p).raw_store == {"x": 1}
    p = functools.reduce(lambda p, _: WithHandler(handler, p), range(SOME), boom())
    assert str(run(p).error) == "at the bottom"
    p = functools.reduce(
        lambda p, _: WithHandler(handler, p), range(SOME), Get("absent")
    )
    assert type(run(Safe(p)).value.error) is KeyError
    del p
    gc.collect()


def test_a_hundred_thousand_handlers_are_built_and_dropped():
    p = functools.reduce(lambda p, _: WithHandler(narrow, p), range(MANY), Put("x", 1))
    assert run(p).raw_store == {"x": 1}
    del p
    gc.collect()


def test_thousands_of_forwarders_around_a_scope():
    p = Safe(Custom().then(Tell("m")))
    p = functools.reduce(lambda p, _: WithHandler(forwarding, p), range(500), p)
    assert run(WithHandler(narrow, p)).value.is_ok()


def test_thousands_of_handlers_in_the_run_list():
    handlers = [*sync_handlers_preset, *[forwarding] * 1000]
    assert sync_run(Put("x", 1), handlers).raw_store == {"x": 1}


def test_deeply_nested_handler_bodies():
    """Each handler's own effect is answered by the next one outside."""

    @do
    def handler(effect, ctx):
        if isinstance(effect, Custom):
            return (yield Custom()) + 1
        return (yield effect)

    @do
    def last(effect, ctx):
        return 0
        yield

    p = functools.reduce(lambda p, _: WithHandler(handler, p), range(SOME), Custom())
    assert sync_run(WithHandler(last, p), []).value == SOME


def test_deep_resume_in_the_middle():
    @do
    def handler(effect, ctx):
        return (yield ctx.resume(0)) + 1

    @do
    def program():
        for _ in range(MANY):
            yield Custom()
        return 0

    assert sync_run(WithHandler(handler, program()), []).value == MANY
