"""doeff.h from outside: every function through the table, and what the machine says of broken promises."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path

import pytest

import doeff
from doeff import (
    Ask,
    Get,
    Local,
    Put,
    Safe,
    Spawn,
    Tell,
    Wait,
    WithHandler,
    _engine,
    do,
    sync_handlers_preset,
    sync_run,
)


@pytest.fixture
def run(stranger):
    def run(program, *handlers, **kwargs):
        preset = [*sync_handlers_preset, stranger.do_handler, *handlers]
        return sync_run(program, preset, **kwargs)

    return run


def failure(result):
    assert result.is_err()
    return result.error


# ---- the header ---------------------------------------------------------------------------------
@pytest.mark.skipif(
    "-packages" not in Path(doeff.__file__).parents[1].name,
    reason="doeff is a bare copy, not an installed package",
)
def test_the_header_is_where_get_include_says():
    assert os.listdir(doeff.get_include()) == ["doeff.h"]


def test_a_header_of_another_abi(load_past):
    with pytest.raises(ImportError) as caught:
        load_past()
    assert str(caught.value) == (
        "past was compiled for ABI 999 of doeff, and the doeff that is installed has"
        " ABI 1: build past again with this doeff"
    )


def test_the_capsule():
    assert '"doeff._engine.C_API"' in repr(_engine.C_API)


# ---- broken promises ----------------------------------------------------------------------------
@pytest.mark.parametrize("what", ["value", "program", "outside"])
def test_no_object_where_one_is_due(run, stranger, what):
    error = failure(run(stranger.Do(f"{what} nothing")))
    assert type(error) is SystemError
    assert str(error) == (
        f"handler do_handler answered DoEffect(what='{what} nothing', arg=None)"
        " without giving an object"
    )


def test_failing_without_an_exception(run, stranger):
    error = failure(run(stranger.Do("raise nothing")))
    assert type(error) is SystemError
    assert str(error) == (
        "handler do_handler failed on DoEffect(what='raise nothing', arg=None)"
        " without setting an exception"
    )


def test_a_step_that_does_not_exist(run, stranger):
    error = failure(run(stranger.Do("unknown step")))
    assert type(error) is SystemError
    assert "handler do_handler" in str(error)


def test_an_exception_and_no_value(run, stranger):
    assert repr(failure(run(stranger.Do("value with error")))) == "ValueError('mine')"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("raising frame", "frame RaiseFrame failed without setting an exception"),
        ("giving frame", "frame GiveFrame answered without giving an object"),
    ],
)
@pytest.mark.parametrize("program", [Get("there"), Get("missing")])
def test_frames_that_break_promises(run, stranger, what, message, program):
    error = failure(run(stranger.Do(what, program), store={"there": 1}))
    assert type(error) is SystemError
    assert str(error) == message


def test_it_is_raised_at_the_yield(run, stranger):
    @do
    def program():
        try:
            yield stranger.Do("raise nothing")
        except SystemError:
            return "caught"

    assert run(program()).value == "caught"


def test_promises_broken_when_a_body_calls_the_handler(run, stranger):
    @do
    def calls(effect: stranger.DoEffect, ctx):
        return (yield stranger.do_handler(effect, ctx))

    error = failure(run(stranger.Do("raise nothing"), calls))
    assert "handler do_handler failed on" in str(error)
    error = failure(run(stranger.Do("value nothing"), calls))
    assert "handler do_handler answered" in str(error)
    error = failure(run(stranger.Do("replace", Get("n")), calls, store={"n": 1}))
    assert "do_handler takes the continuation of" in str(error)
    with pytest.raises(doeff.UnhandledEffectError):
        sync_run(stranger.Do("pass"), [*sync_handlers_preset, calls])
    assert run(stranger.Do("outside", Get("n")), calls, store={"n": 1}).value == 1


# ---- what functions do --------------------------------------------------------------------------
def test_passing_outward(run, stranger):
    with pytest.raises(doeff.UnhandledEffectError):
        run(stranger.Do("pass"))


def test_a_handler_of_everything(run, stranger):
    seen = []

    @do
    def program():
        yield Tell("a")
        yield Put("n", 1)
        return (yield Get("n"))

    assert run(program(), stranger.watcher(seen)).value == 1
    assert seen == ["WriterTellEffect", "StatePutEffect", "StateGetEffect"]


def test_outside(run, stranger):
    @do
    def inside(effect: doeff.Effect, ctx):
        if type(effect).__name__ == "StateGetEffect":
            return "inside"
        return (yield effect)

    scoped = WithHandler(inside, stranger.Do("outside", Get("n")))
    assert run(scoped, store={"n": "outside"}).value == "outside"


def test_replace_forwards_with_the_origin(run, stranger):
    @do
    def replacement():
        return (yield Ask("who"))

    @do
    def program():
        return (yield Local({"who": "x"}, stranger.Do("replace", replacement())))

    assert run(program(), env={"who": "y"}).value == "x"


def test_catch(run, stranger):
    ok = run(stranger.Do("catch", Get("n")), store={"n": 1}).value
    assert ok.value == 1
    err = run(stranger.Do("catch", Get("n"))).value
    assert isinstance(err.error, KeyError)
    assert err.captured_traceback.value is not None


def test_scopes(run, stranger):
    note = stranger.Do

    @do
    def inner():
        yield note("note", 2)
        return "in"

    @do
    def program():
        yield note("note", 1)
        value, notes = yield note("notes", inner())
        yield note("note", 3)
        return value, list(notes)

    @do
    def outermost():
        yield note("note", 0)
        return (yield note("notes", program()))

    (value, inside), notes = run(outermost()).value
    assert (value, inside) == ("in", [2])
    assert list(notes) == [1, 2, 3]


def test_a_scope_that_ends_with_an_error(run, stranger):
    @do
    def program():
        failed = yield Safe(stranger.Do("notes", Get("nothing")))
        yield stranger.Do("note", 1)
        return failed.is_err()

    assert run(program()).value is True


def test_data_of_the_run(run, stranger):
    @do
    def program():
        yield stranger.Do("count")
        yield stranger.Do("count privately")
        return (yield stranger.Do("count"))

    result = run(program())
    assert result.value == 2
    assert result.raw_store == {"count": {1: True, 2: True}}


def test_env_and_store(run, stranger):
    result = run(stranger.Do("store", 7), env={"a": 1}, store={"n": 1})
    assert dict(result.value) == {"a": 1}
    assert result.raw_store == {"n": 1, "value": 7}


def test_looking_for_a_frame(run, stranger):
    @do
    def inner(mark):
        return (yield stranger.Do("marked?", mark[0]))

    mark = []
    program = inner(mark)
    mark.append(program)
    assert run(stranger.Do("mark", program)).value is True
    assert run(program).value is False


def test_pending(run, stranger):
    @do
    def outer():
        return (yield stranger.Do("mark", inner()))

    @do
    def inner():
        return (yield stranger.Do("pending"))

    kinds = [row[0] for row in run(outer()).value]
    assert kinds[:3] == ["ReturnFrame", "PlainFrame", "ReturnFrame"]


def test_installing_a_handler(run, stranger):
    seen = []
    arg = (stranger.watcher(seen), Get("n"))
    assert run(stranger.Do("install", arg), store={"n": 1}).value == 1
    assert seen == ["StateGetEffect"]


def test_keep_and_go_on_at_once(run, stranger):
    @do
    def program():
        first = yield stranger.Do("keep and go on", 1)
        second = yield stranger.Do("keep and go on", 2)
        return first, second, (yield Get("n"))

    assert run(program(), store={"n": 3}).value == (1, 2, 3)


def test_keep_and_resume_with_an_error(run, stranger):
    @do
    def program():
        try:
            yield stranger.Do("keep and fail")
        except LookupError as error:
            return str(error)

    assert run(program()).value == "resumed with an error"


def test_keep_and_run_a_program_in_the_place_of_the_scope(run, stranger):
    ended = []

    @do
    def waiting():
        try:
            yield stranger.Do("keep and run", Get("n"))
        finally:
            ended.append(True)

    @do
    def program():
        value = yield WithHandler(stranger.do_handler, waiting())
        return value, list(ended)

    assert run(program(), store={"n": "instead"}).value == ("instead", [True])


def test_keep_across_a_forwarding_handler(run, stranger):
    @do
    def forwards(effect, ctx):
        return ((yield effect), "forwarded")

    @do
    def program():
        return (yield stranger.Do("keep and go on", 1))

    assert run(WithHandler(forwards, program())).value == (1, "forwarded")


def test_resuming_what_is_no_continuation(run, stranger):
    error = failure(run(stranger.Do("resume", 7)))
    assert str(error) == "k must be a continuation that Doeff_Keep gave, got int"


# ---- completions --------------------------------------------------------------------------------
def completed(stranger, *outcome):
    @do
    def program():
        completion = yield stranger.Do("completion")
        thread = threading.Thread(
            target=lambda: answers.append(stranger.complete(completion, *outcome))
        )
        thread.start()
        try:
            return (yield stranger.Do("wait for", completion)), answers
        finally:
            thread.join()
            answers.append(stranger.complete(completion, "late"))

    answers = []
    return program()


def test_completed_by_another_thread(run, stranger):
    assert run(completed(stranger, 7)).value == (7, [True, False])


def test_failed_by_another_thread(run, stranger):
    error = failure(run(completed(stranger, None, LookupError("there"))))
    assert repr(error) == "LookupError('there')"


def test_a_frame_gets_what_was_completed(run, stranger):
    @do
    def program():
        first = yield stranger.Do("completion")
        stranger.complete(first, 1)
        ok = yield stranger.Do("catch a wait for", first)
        second = yield stranger.Do("completion")
        stranger.complete(second, None, KeyError("k"))
        err = yield stranger.Do("catch a wait for", second)
        return ok.value, repr(err.error)

    assert run(program()).value == (1, "KeyError('k')")


def test_other_tasks_run_meanwhile(run, stranger):
    @do
    def completes(completion, seen):
        seen.append("other task")
        yield Get("n")
        stranger.complete(completion, "done")

    @do
    def program():
        seen = []
        completion = yield stranger.Do("completion")
        yield Spawn(completes(completion, seen))
        seen.append("waits")
        seen.append((yield stranger.Do("wait for", completion)))
        return seen

    assert run(program(), store={"n": 1}).value == ["waits", "other task", "done"]


def test_waiting_at_the_origin_of_a_forwarded_effect(run, stranger):
    @do
    def forwards(effect: stranger.DoEffect, ctx):
        return ((yield effect), "forwarded")

    @do
    def program():
        completion, _ = yield stranger.Do("completion")
        stranger.complete(completion, 1)
        return (yield stranger.Do("wait for", completion))

    assert run(WithHandler(forwards, program())).value == (1, "forwarded")


def test_what_is_no_completion(run, stranger):
    error = failure(run(stranger.Do("wait for", 7)))
    assert str(error) == "completion must be ExternalPromise, got int"
    with pytest.raises(TypeError, match="completion must be ExternalPromise, got int"):
        stranger.complete(7, 1)
    promise = run(stranger.Do("completion")).value
    with pytest.raises(TypeError, match="error must be an exception, got str"):
        stranger.complete(promise, None, "no")
    assert stranger.complete(promise, "its run is over") is False


def test_blocking_is_not_for_strangers(stranger):
    result = sync_run(stranger.Do("block"), [stranger.do_handler])
    assert isinstance(result.error, SystemError)
    assert "do_handler" in str(result.error)


def test_a_wait_through_a_body_that_calls_the_scheduler(run, stranger):
    @do
    def waits():
        yield Get("n")
        return "waited"

    @do
    def through(effect, ctx):
        if type(effect).__name__ == "WaitEffect":
            return (yield _engine.task_scheduler_handler(effect, ctx))
        return (yield effect)

    @do
    def program():
        task = yield Spawn(waits())
        return (yield WithHandler(through, Wait(task)))

    assert run(program(), store={"n": 1}).value == "waited"


# ---- classes ------------------------------------------------------------------------------------
def test_names(stranger):
    assert stranger.Alias is stranger.Do
    assert stranger.Do.__module__ == "stranger"
    assert stranger.DoEffect.__module__ == "stranger"
    assert pickle.loads(pickle.dumps(stranger.Do("x"))) == stranger.Do("x")


@pytest.mark.once
def test_as_many_classes_as_one_likes(stranger, run):
    last = stranger.more_classes(1000)
    effect = last("note")
    assert effect == last(what="note")
    assert effect != stranger.Do("note")
    assert run(Get("n"), store={"n": 1}).value == 1
