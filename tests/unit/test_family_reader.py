"""Ask and Local: lazy values, cycles, validation. Contract: effects, part 3.1."""

from __future__ import annotations

from types import MappingProxyType

import pytest

import doeff
from doeff import (
    Ask,
    CircularAskError,
    EffectBase,
    Get,
    Local,
    MissingEnvKeyError,
    Modify,
    Pure,
    ResumeK,
    Safe,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program, *handlers, **kwargs):
    return sync_run(program, [*sync_handlers_preset, *handlers], **kwargs)


class Custom(EffectBase):
    pass


@do
def counted():
    return (yield Modify("count", lambda n: (n or 0) + 1))


@do
def twice(key):
    return (yield Ask(key)), (yield Ask(key))


@pytest.mark.parametrize(
    "key", [("a", 1), None, 5, ValueError("k"), frozenset()], ids=repr
)
def test_any_key_is_named_by_the_error(key):
    error = run(Ask(key)).error
    assert type(error) is MissingEnvKeyError
    assert error.key is key
    assert error.args == (key,)


def test_a_lazy_value_is_computed_once():
    result = run(twice("k"), env={"k": counted()})
    assert result.value == (1, 1)
    assert result.raw_store["count"] == 1


def test_an_effect_is_a_lazy_value():
    assert run(twice("k"), env={"k": Get("x")}, store={"x": 3}).value == (3, 3)


def test_a_failure_is_not_remembered():
    @do
    def fails_once():
        if (yield counted()) == 1:
            raise ValueError
        return "fine"

    @do
    def program():
        first = yield Safe(Ask("k"))
        return first.is_err(), (yield Ask("k")), (yield Ask("k"))

    assert run(program(), env={"k": fails_once()}).value == (True, "fine", "fine")


@pytest.mark.parametrize("key", ["k", ("k", 1), None], ids=repr)
def test_a_cycle_names_its_key(key):
    error = run(Ask(key), env={key: Ask(key)}).error
    assert type(error) is CircularAskError
    assert error.key == key


def test_a_cycle_through_local_and_safe_is_found():
    env = {"a": Local({"x": 1}, Safe(Ask("b"))), "b": Local({"y": 1}, Ask("a"))}
    assert type(run(Ask("a"), env=env).value.error) is CircularAskError


def test_an_override_inside_the_evaluation_is_no_cycle():
    assert (
        run(Ask("k"), env={"k": Local({"k": Pure("inner")}, Ask("k"))}).value == "inner"
    )


def test_the_same_program_under_another_key_is_no_cycle():
    shared = Ask("plain")
    env = {"a": Local({"b": shared}, Ask("b")), "plain": 1}
    assert run(Ask("a"), env=env).value == 1


def test_a_handler_that_asks_for_what_is_being_evaluated_finds_the_cycle():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Custom):
            return (yield Ask("k"))
        return (yield effect)

    error = run(WithHandler(handler, Ask("k")), env={"k": Custom()}).error
    assert type(error) is CircularAskError


def test_a_cycle_behind_forwarding_handlers_is_found():
    @do
    def forwarding(effect, ctx):
        return (yield effect)

    program = WithHandler(forwarding, WithHandler(forwarding, Ask("k")))
    assert (
        type(run(program, env={"k": Safe(Ask("k")).map(lambda r: r.error)}).value)
        is CircularAskError
    )


def test_an_evaluation_that_was_put_away_is_no_cycle():
    kept = []

    @do
    def put_away(effect, ctx):
        if isinstance(effect, Custom):
            kept.append(ctx.k)
            return ResumeK(k=ctx.outer_k, value="away")
        return (yield effect)

    @do
    def lazy():
        if (yield counted()) == 1:
            yield Custom()
        return "done"

    @do
    def program():
        return (yield WithHandler(put_away, Ask("k"))), (yield Ask("k"))

    assert run(program(), env={"k": lazy()}).value == ("away", "done")


def test_deep_chains_of_lazy_values():
    @do
    def link(n):
        return 0 if n == 0 else (yield Ask(n - 1)) + 1

    n = 5000
    assert run(Ask(n), env={i: link(i) for i in range(n + 1)}).value == n


def test_the_memory_shows_in_the_raw_store():
    lazy = counted()
    assert run(Ask("k"), env={"k": lazy}).raw_store["__ask_lazy_cache__"] == {
        "k": (lazy, 1)
    }


def test_handlers_between_see_a_lazy_value():
    seen = []

    @do
    def watching(effect, ctx):
        seen.append(type(effect).__name__)
        return (yield effect)

    run(WithHandler(watching, Ask("k")), env={"k": Tell("m")})
    assert seen == ["AskEffect", "WriterTellEffect"]


# --- Local ----------------------------------------------------------------------------------


def test_any_mapping_is_an_update():
    assert run(Local(MappingProxyType({"k": 1}), Ask("k"))).value == 1


class Lying(dict):
    pass


class OddMapping(doeff.FrozenDict):
    pass


def test_subclasses_of_dict_are_mappings():
    assert run(Local(Lying(k=1), Ask("k"))).value == 1
    assert run(Local(OddMapping(k=1), Ask("k"))).value == 1


@pytest.mark.parametrize("wrong", [5, None, [("a", 1)], "env", {1}], ids=repr)
def test_other_updates_are_refused(wrong):
    with pytest.raises(
        TypeError, match=f"^env_update must be Mapping, got {type(wrong).__name__}$"
    ):
        Local(wrong, Pure(1))


def test_keys_must_be_hashable():
    from collections.abc import Mapping

    class Unhashable(Mapping):
        def __getitem__(self, key):
            return 1

        def __len__(self):
            return 1

        def __iter__(self):
            return iter([[]])

    with pytest.raises(TypeError, match="unhashable"):
        Local(Unhashable(), Pure(1))


@pytest.mark.parametrize(
    "wrong", [5, None, counted, lambda: Pure(1)], ids=lambda w: type(w).__name__
)
def test_the_program_of_local_is_checked(wrong):
    with pytest.raises(
        TypeError, match=f"^sub_program must be Program, got {type(wrong).__name__}"
    ):
        Local({}, wrong)
