"""IO and GetTime. Contract: effects, parts 3.6 and 3.7."""

from __future__ import annotations

from datetime import datetime

import pytest

from doeff import IO, GetTime, Put, Safe, do, perform, sync_handlers_preset, sync_run


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


def test_the_action_runs_once_for_each_performance():
    calls = []
    effect = IO(lambda: calls.append(1))
    assert calls == []

    @do
    def program():
        yield effect
        yield effect

    run(program())
    assert calls == [1, 1]


def test_perform_is_io():
    assert perform is IO


def test_a_run_inside_an_action_is_independent():
    inner = run(IO(lambda: run(Put("x", 2)).raw_store), store={"x": 1})
    assert inner.value == {"x": 2}
    assert inner.raw_store == {"x": 1}


def test_a_stop_iteration_of_an_action():
    stop = StopIteration("s")

    def action():
        raise stop

    assert run(Safe(IO(action))).value.error is stop
    assert run(IO(action)).error is stop

    @do
    def program():
        try:
            yield IO(action)
        except StopIteration as caught:
            return caught

    assert run(program()).value is stop


@pytest.mark.parametrize("wrong", [5, None, "f"], ids=repr)
def test_the_action_is_checked(wrong):
    with pytest.raises(
        TypeError, match=f"^action must be callable, got {type(wrong).__name__}$"
    ):
        IO(wrong)


def test_the_clock():
    now = datetime(2024, 1, 1)
    assert run(GetTime(), store={"__current_time__": now}).value is now

    @do
    def program():
        yield Put("__current_time__", now)
        return (yield GetTime())

    assert run(program()).value is now
    assert run(GetTime()).value.tzinfo is None
