"""Stacks of Python handlers over generated programs, against the oracle."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    ENVS,
    HANDLERS,
    STORES,
    TRANSFORMS,
    Builder,
    NHandle,
    NIntercept,
    assert_same,
    run_oracle,
    run_real,
    trees,
)

from doeff import WithHandler, do, sync_handlers_preset
from doeff.types import EffectBase

SMALL = trees(custom=True, max_leaves=8)
MIXED = trees(handlers=True, intercepts=True, max_leaves=10)
STACKS = st.lists(HANDLERS, min_size=1, max_size=4)


def stack(tree: Any, specs: list[Any]) -> Any:
    for spec in specs:
        tree = NHandle(tree, spec)
    return tree


@given(SMALL, STACKS, ENVS, STORES)
def test_with_handler_stacks(tree: Any, specs: Any, env: Any, store: Any) -> None:
    assert_same(stack(tree, specs), env, store)


@given(SMALL, STACKS, ENVS, STORES)
def test_handler_lists_are_nested_with_handlers(
    tree: Any, specs: Any, env: Any, store: Any
) -> None:
    """The list of a run is outermost first; it means nested WithHandlers."""
    builder = Builder()
    program = builder.build(tree)
    listed = [builder.handler(s) for s in reversed(specs)]
    real = run_real(
        program,
        builder.env(env),
        store,
        handlers=[*sync_handlers_preset, *listed],
        builder=builder,
    )
    assert real == run_oracle(stack(tree, specs), env, store)


@given(MIXED, ENVS, STORES)
def test_handlers_and_intercepts_anywhere(tree: Any, env: Any, store: Any) -> None:
    assert_same(tree, env, store)


@given(SMALL, STACKS, st.lists(TRANSFORMS, min_size=1, max_size=2), ENVS, STORES)
def test_an_intercept_inside_and_outside_a_stack(
    tree: Any, specs: Any, transforms: Any, env: Any, store: Any
) -> None:
    inner = stack(NIntercept(tree, tuple(transforms)), specs)
    assert_same(NIntercept(inner, tuple(transforms)), env, store)


@given(trees(max_leaves=10), ENVS, STORES, st.integers(1, 5))
def test_forwarding_handlers_change_nothing(
    tree: Any, env: Any, store: Any, count: int
) -> None:
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)

    @do
    def forward(effect: EffectBase, ctx: Any) -> Any:
        return (yield effect)

    alone = run_real(program, bound, store, builder=builder)
    wrapped = program
    for _ in range(count):
        wrapped = WithHandler(forward, wrapped)
    assert run_real(wrapped, bound, store, builder=builder) == alone


@given(trees(max_leaves=10), ENVS, STORES)
def test_a_handler_that_resumes_with_the_context_state_is_a_plain_answer(
    tree: Any, env: Any, store: Any
) -> None:
    """``CESKState.with_value(v, ctx.env, ctx.store, ctx.k)`` equals ``return v``."""
    from doeff import CESKState

    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)

    def handler(full: bool) -> Any:
        @do
        def handle(effect: EffectBase, ctx: Any) -> Any:
            value = yield effect
            k = ctx.k if full else ctx.delimited_k
            return CESKState.with_value(value, ctx.env, ctx.store, k)

        return handle

    alone = run_real(program, bound, store, builder=builder)
    for full in (True, False):
        wrapped = WithHandler(handler(full), program)
        assert run_real(wrapped, bound, store, builder=builder) == alone


@given(trees(max_leaves=10), ENVS, STORES)
def test_a_handler_that_resumes_and_returns_is_a_plain_answer(
    tree: Any, env: Any, store: Any
) -> None:
    """``return (yield ctx.resume(v))`` equals ``return v``, errors included."""
    builder = Builder()
    program, bound = builder.build(tree), builder.env(env)

    @do
    def handle(effect: EffectBase, ctx: Any) -> Any:
        try:
            value = yield effect
        except Exception as error:
            return (yield ctx.throw(error))
        return (yield ctx.resume(value))

    alone = run_real(program, bound, store, builder=builder)
    assert (
        run_real(WithHandler(handle, program), bound, store, builder=builder) == alone
    )
