"""Safe and Intercept. Contract: effects, parts 3.4 and 3.5; programs, part 4.6."""

from __future__ import annotations

import pytest

from doeff import (
    IO,
    Ask,
    EffectBase,
    Err,
    Get,
    Intercept,
    Listen,
    Local,
    Modify,
    Ok,
    Pure,
    Put,
    Safe,
    Tell,
    WithHandler,
    do,
    intercept_program_effect,
    sync_handlers_preset,
    sync_run,
)


def run(program, *handlers, **kwargs):
    return sync_run(program, [*sync_handlers_preset, *handlers], **kwargs)


class Custom(EffectBase):
    pass


class Boom(Exception):
    pass


@do
def forwarding(effect, ctx):
    return (yield effect)


@do
def answering(effect, ctx):
    if isinstance(effect, Custom):
        return "answer"
    return (yield effect)


@do
def fail(error):
    raise error
    yield


def name(effect):
    return type(effect).__name__


def logging_transform(seen):
    """Answers every effect by a program that notes it and performs it after all."""

    def transform(effect):
        @do
        def noted():
            yield Modify("noted", lambda n: (n or 0) + 1)
            return (yield effect)

        seen.append(name(effect))
        return noted()

    return transform


# --- Safe -----------------------------------------------------------------------------------


def test_safe_gives_the_outcome():
    error = Boom()
    assert run(Safe(Pure(1))).value == Ok(1)
    got = run(Safe(fail(error))).value
    assert isinstance(got, Err)
    assert got.error is error
    assert got.captured_traceback.is_some()


def test_safe_behind_forwarding_handlers():
    program = WithHandler(answering, WithHandler(forwarding, Safe(Custom())))
    assert run(program).value == Ok("answer")


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_others_than_exceptions_pass(kind):
    def action():
        raise kind

    with pytest.raises(kind):
        run(Safe(IO(action)))


def test_the_program_of_safe_is_checked():
    with pytest.raises(
        TypeError, match=r"^sub_program must be Program, got KleisliProgram \("
    ):
        Safe(fail)


# --- Intercept ------------------------------------------------------------------------------


def test_intercept_validates():
    with pytest.raises(ValueError, match="at least one transform"):
        Intercept(Pure(1))
    with pytest.raises(TypeError, match=r"^program must be Program, got int$"):
        Intercept(5)
    with pytest.raises(TypeError, match=r"^transforms\[1\] must be callable, got int$"):
        Intercept(Pure(1), len, 5)
    with pytest.raises(TypeError, match="unexpected keyword argument 'extra'"):
        Intercept(Pure(1), len, extra=1)


def test_no_transform_changes_nothing():
    for none in ((), []):
        assert run(intercept_program_effect(Get("x"), none), store={"x": 1}).value == 1


def test_a_substitute_that_carries_a_program_runs_it_outside():
    seen = []

    def transform(effect):
        seen.append(name(effect))
        return Safe(Ask("k")) if name(effect) == "StateGetEffect" else None

    assert run(Intercept(Get("x"), transform), env={"k": 1}).value == Ok(1)
    assert seen == ["StateGetEffect"]


def test_a_substitute_of_the_same_class_is_not_offered_again():
    seen = []

    def transform(effect):
        seen.append(effect.key)
        return Get(effect.key + "!")

    assert run(Intercept(Get("x"), transform), store={"x!": 1}).value == 1
    assert seen == ["x"]


def test_yielding_the_effect_again_keeps_its_origin():
    """Handlers inside the scope still answer what the effect's program performs."""
    seen = []
    program = WithHandler(answering, Safe(Local({"k": 1}, Custom())))
    result = run(Intercept(program, logging_transform(seen)))
    assert result.value == Ok("answer")
    assert seen == ["ResultSafeEffect", "LocalEffect"]
    assert result.raw_store["noted"] == 2


def test_what_a_reyielded_effect_carries_is_offered():
    seen = []
    result = run(Intercept(Safe(Put("x", 1)), logging_transform(seen)))
    assert seen == ["ResultSafeEffect", "StatePutEffect"]
    assert result.raw_store == {"x": 1, "noted": 2}


def test_a_replacement_runs_in_the_environment_of_the_yield():
    @do
    def asking():
        return (yield Ask("k"))

    def transform(effect):
        return asking() if isinstance(effect, Custom) else None

    @do
    def program():
        return (yield Local({"k": "in"}, Custom())), (yield Ask("k"))

    assert run(Intercept(program(), transform), env={"k": "out"}).value == ("in", "out")


def test_the_value_of_a_replacement_is_just_a_value():
    from doeff import ResumeK

    jump = ResumeK(k=None, value=1)
    assert run(Intercept(Get("x"), lambda e: Pure(jump))).value is jump

    @do
    def giving():
        return jump
        yield

    assert run(Intercept(Get("x"), lambda e: giving())).value is jump


def test_an_error_of_a_replacement_is_caught_at_the_yield():
    error = Boom()

    def transform(effect):
        return fail(error) if isinstance(effect, Custom) else None

    @do
    def program():
        try:
            yield Custom()
        except Boom as caught:
            return caught, (yield Get("x"))

    assert run(Intercept(program(), transform), store={"x": 1}).value == (error, 1)


def test_the_program_stays_intercepted_after_a_failing_transform():
    seen = []

    def transform(effect):
        seen.append(name(effect))
        if isinstance(effect, Custom):
            raise Boom

    @do
    def program():
        got = yield Safe(Custom())
        return type(got.error), (yield Get("x"))

    assert run(Intercept(program(), transform), store={"x": 1}).value == (Boom, 1)
    assert seen == ["ResultSafeEffect", "Custom", "StateGetEffect"]


def test_the_inner_scope_is_asked_first():
    order = []

    def watch(label):
        return lambda effect: order.append((label, name(effect)))

    def substitute(effect):
        return Get("x") if isinstance(effect, Custom) else None

    program = Intercept(Intercept(Custom(), watch("inner"), substitute), watch("outer"))
    assert run(program, store={"x": 1}).value == 1
    assert order == [
        ("outer", "InterceptEffect"),
        ("inner", "Custom"),
        ("outer", "StateGetEffect"),
    ]


def test_forwarded_effects_are_offered_with_their_origin():
    seen = []
    inside = WithHandler(answering, WithHandler(forwarding, Safe(Custom())))
    assert run(Intercept(inside, lambda e: seen.append(name(e)))).value == Ok("answer")
    assert seen == ["ResultSafeEffect"]


def test_an_outer_handler_resumes_into_a_replacement():
    @do
    def both():
        return (yield Custom()), (yield Custom())

    def transform(effect):
        return both() if name(effect) == "StateGetEffect" else None

    @do
    def resuming(effect, ctx):
        if isinstance(effect, Custom):
            return [(yield ctx.resume(1))]
        return (yield effect)

    assert run(WithHandler(resuming, Intercept(Get("x"), transform))).value == [
        [(1, 1)]
    ]
    assert run(
        WithHandler(resuming, Safe(Intercept(Get("x"), lambda e: Safe(Custom()))))
    ).value == [Ok(Ok(1))]


def test_an_outer_handler_abandons_a_replacement():
    ended = []

    @do
    def closing():
        try:
            yield Custom()
        finally:
            ended.append((yield Get("x")))

    @do
    def abandoning(effect, ctx):
        if isinstance(effect, Custom):
            return ctx.abandon("left")
        return (yield effect)

    def transform(effect):
        return closing() if name(effect) == "WriterTellEffect" else None

    program = WithHandler(abandoning, Intercept(Tell("m"), transform))
    assert run(program, store={"x": 1}).value == "left"
    assert ended == [1]


def test_scopes_under_other_scopes():
    seen = []
    watch = logging_transform(seen)
    program = Safe(Local({"k": 1}, Listen(Intercept(Listen(Tell("m")), watch))))
    value, log = run(program).value.value
    assert log == ["m"]
    assert value.log == ["m"]
    assert seen == ["WriterListenEffect", "WriterTellEffect"]


def test_a_do_function_answers_every_effect():
    @do
    def transform(effect: EffectBase):
        return "replaced"
        yield

    assert run(Intercept(Get("x"), transform)).value == "replaced"
