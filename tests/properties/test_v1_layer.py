"""A v1 dictionary that changes nothing changes nothing, whatever the program."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from oracle import ENVS, PROGRAMS, STORES, Builder, Outcome, run_real, trees

from doeff import _engine, sync_handlers_preset
from doeff.cesk import default_handlers
from doeff.cesk.frames import ContinueProgram, ContinueValue
from doeff.cesk.state import PerformEffect
from doeff.effects.pure import PureEffect


def outcome(tree: Any, env: Any, store: Any, handlers: dict[Any, Any]) -> Outcome:
    builder = Builder()
    program = builder.build(tree)
    layered = [*sync_handlers_preset, _engine._v1_layer(handlers)]
    return run_real(program, builder.env(env), store, handlers=layered, builder=builder)


def called(default: Any) -> Any:
    return lambda effect, task, store: default(effect, task, store)


def performed(_default: Any) -> Any:
    def handler(effect: Any, task: Any, store: Any) -> Any:
        return ContinueValue(PerformEffect(effect), task.env, store, task.kontinuation)

    return handler


def performed_as_program(_default: Any) -> Any:
    """The effect is performed at its origin once more, and comes back."""
    again: list[Any] = []

    def handler(effect: Any, task: Any, store: Any) -> Any:
        if again and again[-1] is effect:
            again.pop()
            return performed(None)(effect, task, store)
        again.append(effect)
        return ContinueProgram(effect, task.env, store, list(task.kontinuation))

    return handler


IN_PLACE = [called, performed]


def wrapped(wrap: Any) -> dict[Any, Any]:
    return {
        cls: wrap(default)
        for cls, default in default_handlers().items()
        if cls is not PureEffect or wrap is called
    }


@pytest.mark.parametrize("wrap", [*IN_PLACE, performed_as_program])
@given(PROGRAMS, ENVS, STORES)
def test_wrapping_the_defaults_changes_nothing(
    wrap: Any, tree: Any, env: Any, store: Any
) -> None:
    alone = outcome(tree, env, store, {})
    assert outcome(tree, env, store, wrapped(wrap)) == alone


@pytest.mark.parametrize("wrap", IN_PLACE)
@given(trees(intercepts=True, custom=True), ENVS, STORES)
def test_below_intercepts_and_handlers_too(
    wrap: Any, tree: Any, env: Any, store: Any
) -> None:
    alone = outcome(tree, env, store, {})
    assert outcome(tree, env, store, wrapped(wrap)) == alone
