"""AtomicGet and AtomicUpdate. Contract: effects, part 3.9."""

from __future__ import annotations

import pytest

from doeff import AtomicGet, AtomicUpdate, Safe, sync_handlers_preset, sync_run
from doeff.effects import AtomicGetEffect, AtomicUpdateEffect


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


def fail(*_):
    raise ValueError


def test_get():
    made = []
    got = run(AtomicGet("k", default_factory=lambda: made.append(1)), store={"k": None})
    assert (got.value, got.raw_store, made) == (None, {"k": None}, [])
    got = run(AtomicGet("k", default_factory=list))
    assert got.value == []
    assert got.raw_store["k"] is got.value
    got = run(AtomicGet("k"))
    assert (got.value, got.raw_store) == (None, {})


def test_update():
    assert run(AtomicUpdate("k", lambda v: v + 1), store={"k": 1}).raw_store == {"k": 2}
    got = run(AtomicUpdate("k", lambda v: [*v, 1], default_factory=list))
    assert (got.value, got.raw_store) == ([1], {"k": [1]})
    assert run(AtomicUpdate("k", lambda v: v)).raw_store == {"k": None}


def test_errors_leave_the_store_as_it_was():
    for effect in (
        AtomicGet("k", default_factory=fail),
        AtomicUpdate("k", fail, default_factory=list),
        AtomicUpdate("k", list, default_factory=fail),
    ):
        got = run(Safe(effect))
        assert type(got.value.error) is ValueError
        assert got.raw_store == {}
    assert run(Safe(AtomicUpdate("k", fail)), store={"k": 1}).raw_store == {"k": 1}


def test_the_factory_goes_by_keyword():
    with pytest.raises(
        TypeError, match=r"^AtomicGet\(\) takes 1 positional argument but 2 were given$"
    ):
        AtomicGet("k", list)
    with pytest.raises(
        TypeError,
        match=r"^AtomicUpdate\(\) takes 2 positional arguments but 3 were given$",
    ):
        AtomicUpdate("k", list, list)
    assert AtomicGetEffect("k", list) == AtomicGet("k", default_factory=list)
    assert AtomicUpdateEffect("k", list, list) == AtomicUpdate(
        "k", list, default_factory=list
    )


def test_validation():
    with pytest.raises(TypeError, match=r"^key must be str, got int$"):
        AtomicGet(5)
    with pytest.raises(TypeError, match=r"^updater must be callable, got NoneType$"):
        AtomicUpdate("k", None)
    with pytest.raises(TypeError, match=r"^default_factory must be callable, got int$"):
        AtomicGet("k", default_factory=5)
