"""Tell, StructuredLog and Listen. Contract: effects, part 3.3."""

from __future__ import annotations

import pytest

from doeff import (
    EffectBase,
    Get,
    Listen,
    Log,
    Pure,
    Put,
    ResumeK,
    Safe,
    StructuredLog,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program, *handlers, **kwargs):
    return sync_run(program, [*sync_handlers_preset, *handlers], **kwargs)


class Stop(EffectBase):
    pass


@do
def forwarding(effect, ctx):
    return (yield effect)


@do
def tell_all(*messages):
    for message in messages:
        yield Tell(message)


def test_log_is_tell():
    assert Log is Tell


def test_lists_and_tuples_are_spliced_one_level():
    log = run(tell_all(["a", ["b"]], (), ("c",), "d")).raw_store["__log__"]
    assert log == ["a", ["b"], "c", "d"]


def test_what_get_gave_never_changes():
    @do
    def program():
        yield Tell("a")
        first = yield Get("__log__")
        yield Tell("b")
        second = yield Get("__log__")
        yield Tell("c")
        return first, second

    result = run(program())
    assert result.value == (["a"], ["a", "b"])
    assert result.raw_store["__log__"] == ["a", "b", "c"]


def test_a_log_held_by_the_caller_never_changes():
    mine = ["mine"]
    assert run(tell_all("a", "b"), store={"__log__": mine}).raw_store["__log__"] == [
        "mine",
        "a",
        "b",
    ]
    assert mine == ["mine"]


def test_a_log_told_to_itself():
    @do
    def program():
        yield Tell(["a", "b"])
        yield Tell((yield Get("__log__")))

    assert run(program()).raw_store["__log__"] == ["a", "b", "a", "b"]


def test_a_log_that_is_no_list_is_an_error_at_the_tell():
    @do
    def program():
        yield Put("__log__", 5)
        return (yield Safe(Tell("a")))

    error = run(program()).value.error
    assert type(error) is TypeError
    assert str(error) == "__log__ in the store must be a list, got int"


def test_structured_log_takes_keywords_only():
    assert run(StructuredLog(b=1, a=2)).raw_store["__log__"] == [{"b": 1, "a": 2}]
    assert list(StructuredLog(b=1, a=2).message) == ["b", "a"]
    with pytest.raises(
        TypeError, match=r"^StructuredLog\(\) takes keyword arguments only"
    ):
        StructuredLog(1)


def test_nested_listens():
    @do
    def program():
        yield Tell("1")
        inner = yield Listen(tell_all("2", "3"))
        yield Tell("4")
        return inner.log

    value, log = run(Listen(program())).value
    assert value == ["2", "3"]
    assert log == ["1", "2", "3", "4"]


def test_an_error_passes_and_closes_the_scope():
    @do
    def failing():
        yield Tell("a")
        raise ValueError

    @do
    def program():
        first = yield Safe(Listen(failing()))
        second = yield Listen(Tell("b"))
        return first.is_err(), second.log

    result = run(program())
    assert result.value == (True, ["b"])
    assert result.raw_store["__log__"] == ["a", "b"]


def test_what_handlers_tell_meanwhile_is_recorded():
    @do
    def telling(effect, ctx):
        if isinstance(effect, Stop):
            yield Tell("handler")
            return "value"
        return (yield effect)

    value, log = run(WithHandler(telling, Listen(Stop()))).value
    assert (value, log) == ("value", ["handler"])


def test_listen_behind_forwarding_handlers():
    program = WithHandler(
        forwarding, WithHandler(forwarding, Listen(tell_all("a", "b")))
    )
    assert run(program).value.log == ["a", "b"]


def test_an_abandoned_listen_records_nothing_more():
    @do
    def abandoning(effect, ctx):
        if isinstance(effect, Stop):
            return ctx.abandon("left")
        return (yield effect)

    @do
    def inner():
        yield Tell("in")
        yield Stop()

    @do
    def program():
        left = yield WithHandler(abandoning, Listen(inner()))
        return left, (yield Listen(Tell("own"))).log

    assert run(program()).value == ("left", ["own"])


def test_a_listen_that_was_put_away_goes_on_where_it_is_resumed():
    kept = []

    class Back(EffectBase):
        pass

    @do
    def put_away(effect, ctx):
        if isinstance(effect, Stop):
            kept.append(ctx.k)
            return ResumeK(k=ctx.outer_k, value="away")
        return (yield effect)

    @do
    def bring_back(effect, ctx):
        if isinstance(effect, Back):
            return ResumeK(k=kept.pop(), value="back")
        return (yield effect)

    @do
    def inner():
        yield Tell("1")
        got = yield Stop()
        yield Tell("2")
        return got

    @do
    def program():
        got = yield WithHandler(put_away, Listen(inner()))
        if got != "away":
            return got
        yield Tell("between")
        return (yield Listen(WithHandler(bring_back, Back())))

    result = run(program())
    outer = result.value
    assert outer.log == ["2"]
    assert outer.value.value == "back"
    assert outer.value.log == ["1", "2"]
    assert result.raw_store["__log__"] == ["1", "between", "2"]


def test_a_listen_around_a_resume_records_the_rest():
    @do
    def listening(effect, ctx):
        if isinstance(effect, Stop):
            return (yield Listen(ctx.resume(7)))
        return (yield effect)

    @do
    def inner():
        yield Tell("a")
        got = yield Stop()
        yield Tell("b")
        return got

    result = run(WithHandler(listening, Listen(inner()))).value
    assert (result.log, result.value.log, result.value.value) == (["b"], ["a", "b"], 7)


def test_the_program_of_listen_is_checked():
    with pytest.raises(TypeError, match=r"^sub_program must be Program, got function$"):
        Listen(lambda: Pure(1))
