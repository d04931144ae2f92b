"""A kept continuation whose last holder goes away is closed there and then (contract 4.5)."""

from __future__ import annotations

from doeff import (
    EffectBase,
    InterpreterInvariantError,
    Listen,
    ResumeK,
    Safe,
    Tell,
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
