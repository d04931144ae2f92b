"""ctx.resume, ctx.throw and ctx.abandon: the middle of a handler's body (contract S13)."""

from __future__ import annotations

import gc
import weakref
from contextlib import suppress

import pytest

from doeff import (
    Ask,
    EffectBase,
    Get,
    Local,
    Put,
    Safe,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Choose(EffectBase):
    class Refused(Exception):
        pass

    def __init__(self, *options):
        self.options = options


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


@do
def first(effect, ctx):
    if isinstance(effect, Choose):
        rest = yield ctx.resume(effect.options[0])
        return [rest]
    return (yield effect)


def test_the_rest_runs_up_to_the_handler_and_its_value_comes_back():
    @do
    def program():
        a = yield Choose("a", "b")
        b = yield Choose("c", "d")
        return a + b

    assert run(WithHandler(first, program())).value == [["ac"]]


def test_the_rest_behind_a_forwarded_scope_belongs_to_the_program():
    @do
    def program():
        a = yield Choose(1)
        b = yield Local({"k": 9}, Choose(3))
        return a, b, (yield Ask("k"))

    assert run(WithHandler(first, program()), env={"k": 1}).value == [[(1, 3, 1)]]


def test_the_body_keeps_its_environment_across_a_resume():
    seen = []

    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            seen.append((yield Ask("k")))
            rest = yield ctx.resume(None)
            seen.append((yield Ask("k")))
            return rest
        return (yield effect)

    @do
    def program():
        yield Local({"k": "inner"}, Choose())
        return (yield Ask("k"))

    @do
    def main():
        inside = yield WithHandler(handler, program())
        return inside, (yield Ask("k"))

    assert run(main(), env={"k": "outer"}).value == ("outer", "outer")
    assert seen == ["inner", "inner"]


def test_throw_raises_at_the_origin_and_what_escapes_comes_back():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            try:
                return "value", (yield ctx.throw(ValueError("no")))
            except ValueError as error:
                return "error", str(error)
        return (yield effect)

    @do
    def catches():
        try:
            yield Choose()
        except ValueError:
            return "caught"

    assert run(WithHandler(handler, catches())).value == ("value", "caught")
    assert run(WithHandler(handler, Choose())).value == ("error", "no")


def test_abandon_unwinds_the_program_with_effects_in_its_finally():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            return ctx.abandon("left")
        return (yield effect)

    @do
    def program():
        try:
            yield Choose()
        finally:
            yield Put("closed", True)

    @do
    def main():
        value = yield WithHandler(handler, program())
        return value, (yield Get("closed"))

    assert run(main()).value == ("left", True)


def test_a_second_resume_is_an_error_in_the_body():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            yield ctx.resume(1)
            again = yield Safe(ctx.resume(2))
            return type(again.error), str(again.error)
        return (yield effect)

    kind, text = run(WithHandler(handler, Choose())).value
    assert kind is RuntimeError
    assert text.startswith("continuation already resumed")


def test_resume_outside_the_body_is_an_error():
    kept = []

    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            kept.append(ctx)
            return 1
        return (yield effect)

    @do
    def program():
        yield Choose()
        try:
            yield kept[0].resume(2)
        except RuntimeError as error:
            return str(error)

    assert "body of the handler" in run(WithHandler(handler, program())).value
    kept.clear()


def test_an_error_of_the_rest_can_be_caught_in_the_body():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            try:
                return (yield ctx.resume(0))
            except ZeroDivisionError:
                return "divided"
        return (yield effect)

    @do
    def program():
        return 1 // (yield Choose())

    assert run(WithHandler(handler, program())).value == "divided"


def test_a_hundred_thousand_bodies_wait_for_the_rest():
    @do
    def count(effect, ctx):
        if isinstance(effect, Choose):
            return 1 + (yield ctx.resume(None))
        return (yield effect)

    @do
    def program():
        for _ in range(100_000):
            yield Choose()
        return 0

    assert run(WithHandler(count, program())).value == 100_000


def test_a_kept_context_is_collected_with_its_cycle():
    class Marker:
        pass

    import weakref

    marker = Marker()
    gone = weakref.ref(marker)
    kept = []

    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            effect.options[
                0
            ].ctx = ctx  # the continuation holds what holds the continuation
            return ctx.abandon(None)
        return (yield effect)

    @do
    def program(held):
        yield Choose(held)

    kept.append(run(WithHandler(handler, program(marker))).value)
    del marker
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("wrong", [None, 1, "x", ValueError])
def test_throw_wants_an_exception(wrong):
    @do
    def handler(effect, ctx):
        if isinstance(effect, Choose):
            ctx.throw(wrong)
        return (yield effect)

    result = run(WithHandler(handler, Choose()))
    assert isinstance(result.error, TypeError)
    assert "error must be an exception" in str(result.error)


class Box(list):
    __slots__ = ("__weakref__",)


def circles():
    """Handlers' bodies that leave a cycle through a context or a resumption behind them."""

    @do
    def context_in_the_effect(effect: Choose, ctx):
        effect.options = (effect, ctx, boxed(Box()))
        return (yield ctx.resume(1))

    @do
    def resumption_in_its_value(effect: Choose, ctx):
        box = boxed(Box())
        resumption = ctx.resume(box)
        box.append(resumption)
        return (yield resumption)

    @do
    def resumption_that_is_not_performed(effect: Choose, ctx):
        box = boxed(Box())
        box.append(ctx.resume(box))
        return (yield ctx.resume(1))

    @do
    def resumption_in_the_effect(effect: Choose, ctx):
        resumption = ctx.resume(1)
        effect.options = (resumption, boxed(Box()))
        return (yield resumption)

    @do
    def context_of_a_body_that_is_dropped(effect: Choose, ctx):
        effect.options = (effect, ctx, boxed(Box()))
        yield ctx.resume(1)
        raise Choose.Refused

    boxes = []

    def boxed(box):
        boxes.append(weakref.ref(box))
        return box

    return boxes, [
        context_in_the_effect,
        resumption_in_its_value,
        resumption_that_is_not_performed,
        resumption_in_the_effect,
        context_of_a_body_that_is_dropped,
    ]


@pytest.mark.parametrize("which", range(5))
def test_the_collector_finds_what_a_body_leaves_behind(which):
    boxes, handlers = circles()

    @do
    def program():
        for _ in range(3):
            yield Choose()

    with suppress(Choose.Refused):
        run(WithHandler(handlers[which], program()))
    assert len(boxes) == 3
    gc.collect()
    assert [box() for box in boxes] == [None, None, None]


def test_a_thousand_bodies_wait_for_the_rest():
    @do
    def counting(effect: Choose, ctx):
        return 1 + (yield ctx.resume(None))

    @do
    def program():
        for _ in range(3000):
            yield Choose()
        return 0

    for _ in range(2):
        assert run(WithHandler(counting, program())).value == 3000
