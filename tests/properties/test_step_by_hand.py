"""Programs driven by hand with step(), compared with a run of the same program."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from oracle import (
    ENVS,
    RESERVED,
    STORES,
    Builder,
    Outcome,
    describe_error,
    plain,
    run_real,
    trees,
)

import doeff
from doeff import WithHandler, sync_handlers_preset
from doeff.cesk.result import Done, Failed
from doeff.cesk.state import CESKState, Error, Value
from doeff.cesk.step import step

MIXED = trees(handlers=True, intercepts=True, custom=True, max_leaves=10)


def by_hand(
    program: Any, env: Any, store: Any, builder: Builder, rebuild: int
) -> Outcome:
    """Every state is taken apart and put together again at each `rebuild`-th step."""
    del builder.seen[:]
    builder.io_calls = 0
    for handler in reversed(sync_handlers_preset):
        program = WithHandler(handler, program)
    state = CESKState.initial(program, env, store)
    count = 0
    while isinstance(state, CESKState):
        count += 1
        if rebuild and count % rebuild == 0:
            state = CESKState(C=state.C, E=dict(state.E), S=state.S, K=list(state.K))
        assert isinstance(state.C, (Value, Error)) or type(state.C).__name__.endswith(
            "Control"
        )
        state = step(state)
    seen = list(builder.seen)
    if isinstance(state, Failed) and isinstance(
        state.exception, doeff.UnhandledEffectError
    ):
        return Outcome(("err", describe_error(state.exception)), {}, [], [], seen)
    assert isinstance(state, (Done, Failed))
    if isinstance(state, Done):
        end = ("ok", plain(state.value))
    else:
        end = ("err", describe_error(state.exception))
        assert state.captured_traceback.exception is state.exception
    return Outcome(
        end,
        {k: plain(v) for k, v in state.store.items() if k not in RESERVED},
        plain(list(state.store.get("__log__", []))),
        plain(list(state.store.get("__graph__", []))),
        seen,
        builder.io_calls,
    )


@given(MIXED, ENVS, STORES, st.integers(0, 3))
def test_by_hand_and_in_a_run(tree: Any, env: Any, store: Any, rebuild: int) -> None:
    builder = Builder()
    program = builder.build(tree)
    ran = run_real(program, builder.env(env), dict(store), builder=builder)
    builder = Builder()
    program = builder.build(tree)
    stepped = by_hand(program, builder.env(env), dict(store), builder, rebuild)
    assert stepped == ran
