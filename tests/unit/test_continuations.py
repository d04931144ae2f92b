"""Continuations as values: what their parts are, where they lead, and what is said of slips (contract 4.3 to 4.5)."""

from __future__ import annotations

import pytest

from doeff import (
    Ask,
    EffectBase,
    Intercept,
    InterpreterInvariantError,
    Local,
    Pure,
    Put,
    ResumeK,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.state import CESKState


class Ping(EffectBase):
    pass


class Pong(EffectBase):
    pass


def run(program, **given):
    return sync_run(program, sync_handlers_preset, **given)


@do
def ping():
    return (yield Ping())


@do
def pong():
    return ((yield Pong()), (yield Ask("where")))


@do
def scoped():
    """Ping, inside a Local of its own and something to clean up."""
    try:
        return (yield Local({"where": "inside"}, ping()))
    finally:
        yield Tell("closed")


def jumper(k_of, log=None):
    """A handler that goes from Ping to pong() at a continuation, and answers Pong."""

    @do
    def handler(effect, ctx):
        if isinstance(effect, Ping):
            env = {**ctx.env, "where": "given"}
            return CESKState.with_program(pong(), env, ctx.store, k_of(ctx))
        if isinstance(effect, Pong):
            return "pong"
        return (yield effect)

    return handler


@pytest.mark.parametrize(
    "k_of",
    [
        lambda ctx: ctx.outer_k,
        lambda ctx: ctx.outer_k[:],
        lambda ctx: ctx.k[len(ctx.delimited_k) :],
    ],
    ids=["view", "list", "part of k"],
)
def test_a_program_started_at_outer_k_runs_under_the_handler(k_of):
    @do
    def main():
        inner = yield WithHandler(jumper(k_of), scoped())
        return inner, (yield Ask("where"))

    result = run(main(), env={"where": "outside"})
    assert result.value == (("pong", "given"), "outside")
    assert result.raw_store["__log__"] == ["closed"]


def test_without_the_frame_of_the_handler_it_runs_outside():
    @do
    def main():
        inner = yield WithHandler(jumper(lambda ctx: ctx.outer_k[1:]), scoped())
        return inner, (yield Ask("where"))

    @do
    def outer(effect: Pong, ctx):
        return "outer pong"

    result = run(WithHandler(outer, main()), env={"where": "outside"})
    assert result.value == (("outer pong", "given"), "outside")
    assert result.raw_store["__log__"] == ["closed"]


def test_frames_in_front_of_outer_k_run_under_the_handler():
    class Asks:
        def on_value(self, value, env, store, k):
            return CESKState.with_program(pong(), {**env, "where": value}, store, k)

        def on_error(self, error, env, store, k):
            return CESKState.with_error(error, env, store, k)

    @do
    def handler(effect, ctx):
        if isinstance(effect, Ping):
            return ResumeK(k=[Asks()] + ctx.outer_k, value="frame")  # noqa: RUF005
        if isinstance(effect, Pong):
            return "pong"
        return (yield effect)

    result = run(WithHandler(handler, scoped()), env={"where": "outside"})
    assert result.value == ("pong", "frame")
    assert result.raw_store["__log__"] == ["closed"]


def test_effects_of_a_cleanup_do_not_come_to_the_handler_that_dropped_it():
    seen = []

    @do
    def handler(effect, ctx):
        seen.append(type(effect).__name__)
        if isinstance(effect, Ping):
            return CESKState.with_program(Pure(1), ctx.env, ctx.store, ctx.outer_k)
        return (yield effect)

    @do
    def cleans():
        try:
            yield Ping()
        finally:
            yield Tell("closed")

    result = run(WithHandler(handler, cleans()))
    assert (result.value, seen, result.raw_store["__log__"]) == (
        1,
        ["Ping"],
        ["closed"],
    )


def test_delimited_k_of_a_forwarded_effect_begins_at_its_origin():
    rows = []

    @do
    def forwards(effect, ctx):
        rows.append([frame.__class__.__name__ for frame in ctx.delimited_k])
        return (yield effect)

    @do
    def answers(effect: Ping, ctx):
        rows.append([frame.__class__.__name__ for frame in ctx.delimited_k])
        return "answer"

    @do
    def outer():
        return (yield ping())

    result = run(WithHandler(answers, WithHandler(forwards, outer())))
    assert result.value == "answer"
    inner = ["ReturnFrame", "ReturnFrame"]
    assert rows == [
        inner,
        [*inner, "HandlerFrame", "ReturnFrame", "HandlerResultFrame"],
    ]


def test_parts_of_the_continuation_of_a_forwarded_effect():
    @do
    def forwards(effect, ctx):
        answer = yield effect
        return f"forwarded {answer}"

    def at(index):
        @do
        def answers(effect: Ping, ctx):
            return ResumeK(k=ctx.k[index:], value="answer")
            yield

        return WithHandler(answers, WithHandler(forwards, ping()))

    assert run(at(0)).value == "forwarded answer"
    assert run(at(2)).value == "forwarded answer"  # the body is what gets the answer
    assert run(at(3)).value == "answer"  # given in its place
    assert isinstance(run(at(1)).error, TypeError)


def test_an_intercept_is_described_by_its_transforms():
    found = []

    @do
    def handler(effect: Ping, ctx):
        found.extend(ctx.delimited_k)
        return 1

    nothing = lambda effect: None  # noqa: E731
    run(WithHandler(handler, Intercept(ping(), nothing, nothing)))
    texts = [repr(frame) for frame in found if type(frame).__name__ == "InterceptFrame"]
    assert len(texts) == 1


# ---- what is said of slips -----------------------------------------------------------------------


def test_returning_a_resumption():
    @do
    def handler(effect: Ping, ctx):
        return ctx.resume(1)

    error = run(WithHandler(handler, ping())).error
    assert isinstance(error, InterpreterInvariantError)
    assert "return (yield ctx.resume(...))" in str(error)

    @do
    def throws(effect: Ping, ctx):
        return ctx.throw(ValueError())

    @do
    def catches():
        try:
            yield Ping()
        except InterpreterInvariantError as error:
            return str(error)

    text = run(WithHandler(throws, catches())).value
    assert "ctx.throw(...)" in text
    assert "raise the error" in text


def test_a_plain_function_may_return_a_resumption_for_its_body():
    def handler(effect, ctx):
        return ctx.resume(3) if isinstance(effect, Ping) else effect

    assert run(WithHandler(handler, ping())).value == 3


def test_the_repr_of_a_resumption():
    texts = []

    @do
    def handler(effect: Ping, ctx):
        value = []
        resumption = ctx.resume(value)
        value.append(resumption)
        texts.extend(
            [repr(ctx.resume(5)), repr(ctx.throw(KeyError(1))), repr(resumption)]
        )
        return (yield ctx.resume(0))

    run(WithHandler(handler, ping()))
    name = "test_the_repr_of_a_resumption.<locals>.handler"
    shown = texts[0].replace(name, "handler")
    assert shown == "<ctx.resume(5) of handler handler, to be yielded>"
    assert "ctx.throw(KeyError(1))" in texts[1]
    assert "ctx.resume([...])" in texts[2]


def test_with_handler_with_its_arguments_swapped():
    @do
    def handler(effect, ctx):
        return (yield effect)

    for wrong in (
        lambda: WithHandler(ping(), handler),
        lambda: WithHandler(handler=Ping(), program=lambda effect, ctx: None),
    ):
        with pytest.raises(
            TypeError, match=r"swapped: write WithHandler\(handler, program\)"
        ):
            wrong()
    with pytest.raises(TypeError, match="call it"):
        WithHandler(handler, ping)


@pytest.mark.parametrize("decorate", [do, lambda function: function])
def test_a_handler_with_the_wrong_parameters(decorate):
    def narrow(effect):
        return effect

    handler = decorate(narrow)
    error = run(WithHandler(handler, ping())).error
    assert isinstance(error, TypeError)
    line = narrow.__code__.co_firstlineno
    assert f"narrow ({__file__}:{line})" in str(error)
    assert "handler(effect, ctx)" in str(error)


def test_a_type_error_of_the_body_is_left_alone():
    @do
    def handler(effect: Ping, ctx):
        return len(5)

    error = run(WithHandler(handler, ping())).error
    assert str(error) == "object of type 'int' has no len()"

    def plain(effect, ctx):
        return int([])

    error = run(WithHandler(plain, ping())).error
    assert "handler(effect, ctx)" not in str(error)


def test_the_second_resume_names_both_places():
    @do
    def handler(effect: Ping, ctx):
        yield ctx.resume(1)
        yield ctx.resume(2)

    error = run(WithHandler(handler, ping())).error
    first = handler.original_func.__code__.co_firstlineno
    text = str(error)
    assert text.startswith("continuation already resumed")
    assert f"{__file__}:{first})" in text
    assert f"at {__file__}:{first + 3} in handler" in text


def test_puts_before_a_jump_stay():
    @do
    def handler(effect: Ping, ctx):
        yield Put("n", 1)
        return CESKState.with_program(Pure(2), ctx.env, ctx.store, ctx.outer_k)

    result = run(WithHandler(handler, ping()))
    assert (result.value, result.raw_store) == (2, {"n": 1})


def test_a_state_put_together_again_at_every_step_comes_to_an_end():
    from doeff.cesk.result import Done
    from doeff.cesk.step import step

    @do
    def program():
        return (yield Local({"where": "inside"}, Pure(1))), (yield Pure(2))

    whole = program()
    for handler in reversed(sync_handlers_preset):
        whole = WithHandler(handler, whole)
    state = CESKState.initial(whole, {"where": "outside"})
    for _ in range(100):
        if isinstance(state, Done):
            break
        state = step(CESKState(state.C, dict(state.E), state.S, list(state.K)))
    assert state.value == (1, 2)
