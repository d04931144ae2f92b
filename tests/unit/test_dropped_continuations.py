"""A kept continuation whose last holder goes away is closed there and then (contract 4.5)."""

from __future__ import annotations

from doeff import (
    EffectBase,
    Get,
    InterpreterInvariantError,
    Listen,
    Put,
    ResumeK,
    Safe,
    Spawn,
    Tell,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Keep(EffectBase):
    pass


@do
def kept():
    try:
        yield Keep()
    finally:
        yield Tell("closed")


@do
def hand_out(effect: Keep, ctx):
    return ResumeK(k=ctx.outer_k, value=ctx.delimited_k)


@do
def holder(fail=False):
    k = yield WithHandler(hand_out, kept())
    if fail:
        k = None
        raise ValueError("x")
    return k is not None


def run(program):
    return sync_run(program, sync_handlers_preset)


def test_by_the_return_of_the_program():
    result = run(holder())
    assert (result.value, result.raw_store["__log__"]) == (True, ["closed"])


def test_inside_the_scope_of_the_program_that_held_it():
    @do
    def outer():
        found = yield Listen(holder())
        yield Tell("after")
        return found.log

    result = run(outer())
    assert result.value == ["closed"]
    assert result.raw_store["__log__"] == ["closed", "after"]


def test_by_an_error_that_ends_the_run():
    result = run(holder(fail=True))
    assert str(result.error) == "x"
    assert result.raw_store["__log__"] == ["closed"]
    assert result.python_stack.frames[-1].function == "holder"
    plain = run(do(_fails)())
    summary = "ReturnFrame, HandlerFrame"
    assert summary in plain.format()
    assert result.format().splitlines()[-1] == plain.format().splitlines()[-1]


def _fails():
    raise ValueError("x")
    yield


def test_by_an_error_that_is_caught_outside():
    result = run(Safe(holder(fail=True)))
    assert str(result.value.error) == "x"
    assert result.raw_store["__log__"] == ["closed"]


def test_several_at_once():
    @do
    def many():
        found = []
        for _ in range(5):
            found.append((yield WithHandler(hand_out, kept())))
        return len(found)

    result = run(many())
    assert (result.value, result.raw_store["__log__"]) == (5, ["closed"] * 5)


def test_one_that_fails_when_closed_fails_the_run():
    @do
    def stubborn():
        try:
            yield Keep()
        finally:
            raise KeyError("in finally")

    @do
    def main():
        k = yield WithHandler(hand_out, stubborn())
        return k is not None

    assert isinstance(run(main()).error, KeyError)


def test_a_jump_that_is_yielded_says_return():
    @do
    def handler(effect: Keep, ctx):
        yield ctx.abandon(1)

    error = run(WithHandler(handler, kept())).error
    assert isinstance(error, InterpreterInvariantError)
    assert "Hint: return it" in str(error)


class Stop(EffectBase):
    pass


@do
def stop(effect: Stop, ctx):
    return ctx.abandon("stopped")


@do
def counts():
    try:
        yield Keep()
    finally:
        yield Put("n", (yield Get("n")) + 1)


def test_two_dropped_together_are_closed_one_after_the_other():
    @do
    def main():
        kept = []
        for _ in range(3):
            kept.append((yield WithHandler(hand_out, counts())))
        return len(kept)

    assert sync_run(main(), sync_handlers_preset, store={"n": 0}).raw_store["n"] == 3


def test_the_next_effect_sees_the_cleanup_done():
    @do
    def main():
        k = yield WithHandler(hand_out, counts())
        seen = [(yield Get("n"))]
        del k
        seen.append((yield Get("n")))
        k = yield WithHandler(hand_out, counts())
        k = None
        seen.append((yield Safe(Get("n"))).unwrap())
        return seen, k

    assert sync_run(main(), sync_handlers_preset, store={"n": 0}).value == (
        [0, 1, 2],
        None,
    )


def test_a_handler_that_drops_and_forwards_still_forwards():
    box = []
    outside = []

    @do
    def drops(effect, ctx):
        if isinstance(effect, Keep):
            box.append(ctx.delimited_k)
            return ResumeK(k=ctx.outer_k, value=None)
        if isinstance(effect, Stop):
            box.clear()
        return (yield effect)

    @do
    def watches(effect: Stop, ctx):
        outside.append((yield Get("n")))
        return len(ctx.inherited_handlers)

    @do
    def main():
        yield WithHandler(drops, counts())
        return (yield WithHandler(drops, Stop()))

    result = sync_run(
        WithHandler(watches, main()), sync_handlers_preset, store={"n": 0}
    )
    assert result.value == len(sync_handlers_preset) + 2
    assert (outside, result.raw_store["n"]) == ([1], 1)


def test_something_wrong_that_is_yielded_after_a_drop_is_an_error_at_the_yield():
    @do
    def main():
        k = yield WithHandler(hand_out, counts())
        del k
        try:
            yield 5
        except InterpreterInvariantError:
            return (yield Get("n"))

    assert sync_run(main(), sync_handlers_preset, store={"n": 0}).value == 1


def test_one_that_fails_leaves_the_others_to_be_closed():
    @do
    def fails(name):
        try:
            yield Keep()
        finally:
            yield Tell(name)
            if name:
                raise KeyError(name)

    @do
    def main():
        kept = []
        for name in ("a", "", "b", ""):
            kept.append((yield WithHandler(hand_out, fails(name))))
        return len(kept)

    result = run(main())
    assert isinstance(result.error, KeyError)
    assert sorted(result.raw_store["__log__"]) == ["", "", "a", "b"]


def test_by_a_task_that_is_over():
    @do
    def child():
        k = yield WithHandler(hand_out, counts())
        return k is not None

    @do
    def main():
        task = yield Spawn(child())
        other = yield Spawn(child())
        return (yield Wait(task)), (yield Wait(other))

    assert sync_run(main(), sync_handlers_preset, store={"n": 0}).value == (True, True)


def test_effects_in_the_finally_of_a_helper_generator():
    def innermost():
        try:
            yield Stop()
        finally:
            yield Tell("innermost")

    def helper():
        try:
            yield from innermost()
        finally:
            yield Tell("helper")

    @do
    def uses():
        try:
            yield from helper()
        finally:
            yield Tell("program")

    result = run(WithHandler(stop, uses()))
    assert (result.value, result.raw_store["__log__"]) == (
        "stopped",
        ["innermost", "helper", "program"],
    )


def test_effects_in_the_finally_of_an_awaited_helper():
    async def helper():
        try:
            await Stop()
        finally:
            await Tell("helper")

    @do
    async def uses():
        try:
            await helper()
        finally:
            await Tell("program")

    result = run(WithHandler(stop, uses()))
    assert (result.value, result.raw_store["__log__"]) == (
        "stopped",
        ["helper", "program"],
    )


def test_catching_generator_exit_does_not_bring_a_program_back():
    @do
    def at_once():
        try:
            yield Stop()
        except BaseException:
            return 1

    @do
    def after_an_effect():
        try:
            yield at_once()
        except GeneratorExit:
            yield Tell("busy")
            yield Tell("still busy")
            return 2

    def delegates():
        try:
            yield after_an_effect()
        except GeneratorExit:
            return 3

    @do
    def outer():
        try:
            yield from delegates()
            yield Tell("never")
        finally:
            yield Tell("closed")

    result = run(WithHandler(stop, outer()))
    assert (result.value, result.raw_store["__log__"]) == (
        "stopped",
        ["busy", "still busy", "closed"],
    )


def test_an_unwinding_that_is_abandoned_takes_its_program_along():
    class Late(EffectBase):
        pass

    @do
    def late(effect: Late, ctx):
        return ctx.abandon("late")

    @do
    def inner():
        try:
            yield Stop()
        finally:
            yield Late()

    @do
    def outer():
        try:
            found = yield WithHandler(stop, inner())
            yield Tell(f"never: {found}")
        finally:
            yield Tell("closed")

    result = run(WithHandler(late, outer()))
    assert (result.value, result.raw_store["__log__"]) == ("late", ["closed"])


def test_a_cleanup_that_drops_another_continuation():
    @do
    def nested(k):
        try:
            yield Keep()
        finally:
            del k
            yield Tell((yield Get("n")))

    @do
    def main():
        k = yield WithHandler(hand_out, counts())
        k = yield WithHandler(hand_out, nested(k))
        return k is not None

    result = sync_run(main(), sync_handlers_preset, store={"n": 0})
    assert (result.value, result.raw_store["__log__"]) == (True, [1])
