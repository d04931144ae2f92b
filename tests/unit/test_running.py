"""sync_run: arguments, results, which exceptions are captured, errors by table."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import threading
import traceback
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest

import doeff
from doeff import (
    IO,
    NOTHING,
    Ask,
    EffectBase,
    Err,
    FrozenDict,
    Gather,
    Get,
    InterpreterInvariantError,
    Listen,
    Local,
    MissingEnvKeyError,
    Modify,
    Ok,
    Program,
    Pure,
    Put,
    RuntimeResult,
    Safe,
    Some,
    Step,
    Tell,
    UnhandledEffectError,
    WithHandler,
    do,
    scheduled,
    sync_handlers_preset,
    sync_run,
)


@dataclass(frozen=True)
class Custom(EffectBase):
    tag: Any = None


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


@do
def failing(error):
    yield Put("x", 1)
    raise error


# --- 6.1 arguments -------------------------------------------------------------


def test_signature():
    parameters = list(inspect.signature(sync_run).parameters.values())
    assert [p.name for p in parameters[:4]] == ["program", "handlers", "env", "store"]
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters[4:])
    p = Ask("e").flat_map(lambda e: Get("s").map(lambda s: (e, s)))
    assert sync_run(p, sync_handlers_preset, {"e": 1}, {"s": 2}).value == (1, 2)
    named = sync_run(
        program=p, handlers=sync_handlers_preset, env={"e": 1}, store={"s": 2}
    )
    assert named.value == (1, 2)


def test_handlers_are_required():
    with pytest.raises(TypeError):
        sync_run(Pure(1))


@pytest.mark.parametrize(
    "handlers", [[], (), iter(())], ids=["list", "tuple", "iterator"]
)
def test_no_handlers_is_legal(handlers):
    assert sync_run(Pure(1), handlers).value == 1


def test_handlers_may_be_any_iterable():
    assert sync_run(Get("x"), iter(sync_handlers_preset), store={"x": 1}).value == 1
    assert sync_run(Get("x"), tuple(sync_handlers_preset), store={"x": 1}).value == 1


@pytest.mark.parametrize("handlers", [[5], [None], ["h"], 5, None])
def test_wrong_handlers_are_a_type_error_from_the_call(handlers):
    with pytest.raises(TypeError):
        sync_run(Pure(1), handlers)


@pytest.mark.parametrize(
    "thing", [5, None, "p", [Pure(1)], failing, lambda: Pure(1)], ids=repr
)
def test_a_non_program_is_a_failed_result(thing):
    result = run(thing)
    assert type(result.error) is TypeError
    expected = f"Cannot convert {type(thing).__name__} to generator"
    assert str(result.error).startswith(expected)


@pytest.mark.parametrize("wrong", [5, [1], "env", [("a", 1)]], ids=repr)
def test_non_mappings_are_a_type_error_from_the_call(wrong):
    with pytest.raises(TypeError):
        run(Pure(1), env=wrong)
    with pytest.raises(TypeError):
        run(Pure(1), store=wrong)


@pytest.mark.parametrize("kind", [dict, FrozenDict, MappingProxyType])
def test_any_mapping_is_an_environment_and_a_store(kind):
    p = Ask("e").flat_map(lambda e: Put("x", e)).then(Get("s"))
    env, store = kind({"e": 1}), kind({"s": 2})
    result = run(p, env=env, store=store)
    assert result.value == 2
    assert result.raw_store == {"s": 2, "x": 1}
    assert dict(store) == {"s": 2}
    assert dict(env) == {"e": 1}


def test_environment_keys_may_be_any_hashable():
    key = object()
    assert run(Ask(key), env={key: 1, (1, 2): 2, 3: 3}).value == 1
    assert run(Ask(int), env={int: 3}).value == 3


def test_runs_nest_in_programs_actions_and_callbacks():
    inner = Put("x", "inner").then(Get("x"))

    @do
    def program():
        yield Put("x", "outer")
        direct = run(inner).value
        in_io = yield IO(lambda: run(inner).value)
        in_modify = yield Modify("n", lambda v: run(inner).value)
        return direct, in_io, in_modify, (yield Get("x"))

    assert run(program()).value == ("inner", "inner", "inner", "outer")


def test_a_run_inside_a_handler():
    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            return sync_run(Get("x"), sync_handlers_preset, store={"x": 7}).value
        return (yield effect)

    assert sync_run(WithHandler(h, Custom()), []).value == 7


def test_a_run_inside_an_event_loop():
    async def main():
        return run(Put("x", 1).then(Get("x"))).value

    assert asyncio.run(main()) == 1


def test_runs_in_threads_are_independent():
    results = {}

    def work(i):
        p = Put("x", i)
        for _ in range(100):
            p = p.then(Modify("x", lambda v: v + 1))
        results[i] = run(p.then(Get("x"))).value

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert results == {i: i + 100 for i in range(4)}


def test_a_run_starts_no_thread():
    before = threading.active_count()
    seen = []
    p = Put("x", 1).then(Safe(Listen(Tell("m")))).then(IO(lambda: None))
    run(p.then(IO(lambda: seen.append(threading.active_count()))))
    assert seen == [before]


# --- 6.1 exceptions at the top ----------------------------------------------------


class Own(Exception):
    pass


class OwnBase(BaseException):
    pass


@pytest.mark.parametrize(
    "kind", [Own, ValueError, KeyError, StopAsyncIteration, RecursionError, MemoryError]
)
def test_exceptions_are_captured(kind):
    error = kind("e")
    result = run(failing(error))
    assert result.is_err()
    assert result.error is error
    assert result.raw_store == {"x": 1}


@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, OwnBase]
)
@pytest.mark.parametrize("source", ["body", "handler", "callback", "argument"])
def test_other_exceptions_are_raised_after_unwinding(kind, source):
    error = kind("e")
    order = []

    def action():
        raise error

    @do
    def h(effect, ctx):
        if isinstance(effect, Custom):
            raise error
        return (yield effect)

    @do
    def wants(value):
        return value
        yield

    source_program = {
        "body": failing(error),
        "handler": Custom(),
        "callback": IO(action),
        "argument": wants(failing(error)),
    }[source]

    @do
    def level(n):
        try:
            return (yield level(n - 1) if n else source_program)
        except Exception:
            order.append("except Exception")
        except BaseException as caught:
            order.append(type(caught))
            raise
        finally:
            yield Tell(n)
            got = yield Get("__log__")
            order.append(len(got))

    with pytest.raises(kind) as raised:
        sync_run(Safe(level(2)), [*sync_handlers_preset, h])
    assert raised.value is error
    assert order == [kind, 1, kind, 2, kind, 3]


def test_a_keyboard_interrupt_can_be_caught_in_the_program():
    @do
    def program():
        try:
            yield failing(KeyboardInterrupt())
        except KeyboardInterrupt:
            return "caught"

    assert run(program()).value == "caught"


def test_unhandled_effects_are_raised_by_the_run():
    order = []

    @do
    def program():
        try:
            yield Custom(1)
        finally:
            yield Put("x", 1)
            order.append("finally")

    with pytest.raises(UnhandledEffectError) as raised:
        run(program())
    assert raised.value.effect == Custom(1)
    assert order == ["finally"]


def test_a_cancelled_error_inside_the_program_is_captured_by_sync_run():
    error = asyncio.CancelledError()
    assert run(failing(error)).error is error
    # It is no Exception, so Safe lets it pass.
    assert run(Safe(failing(error))).error is error


# --- 6.2 the result -----------------------------------------------------------------


def test_a_successful_result():
    result = run(Put("x", 1).then(Tell("m")).then(Step(1)).then(Pure(9)), env={"e": 1})
    assert isinstance(result, RuntimeResult)
    assert result.result == Ok(9)
    assert result.value == 9
    assert result.is_ok() is True
    assert result.is_err() is False
    with pytest.raises(ValueError, match=r"^Result is Ok, no error$"):
        result.error
    assert result.env == {"e": 1}
    assert type(result.env) is dict
    assert result.log == ["m"]
    assert result.state == {"x": 1}
    assert result.graph == [{"value": 1, "meta": {}}]
    assert result.captured_traceback is None
    assert result.k_stack.format() == "Continuation Stack (K): <empty>"
    assert result.effect_stack.format() == "Effect Call Tree: <not captured>"
    assert result.python_stack.format() == "Python Stack: <not captured>"
    assert result.format() == "Ok(9)"
    assert "\n" not in repr(result)


def test_a_failed_result():
    error = ValueError("boom")
    result = run(failing(error))
    assert isinstance(result, RuntimeResult)
    assert type(result.result) is Err
    assert result.result.error is error
    assert isinstance(result.result.captured_traceback, Some)
    assert result.error is error
    assert result.is_err() is True
    with pytest.raises(ValueError, match="boom") as raised:
        result.value
    assert raised.value is error
    assert result.captured_traceback.exception_type == "ValueError" or (
        result.captured_traceback.exception_type is ValueError
    )
    assert "\n" not in repr(result)


def test_reading_the_value_does_not_lengthen_the_traceback():
    result = run(failing(ValueError("boom")))

    def length():
        try:
            result.value
        except ValueError as error:
            return len(traceback.extract_tb(error.__traceback__))

    assert length() == length() == length()


def test_the_raw_store_is_a_fresh_copy():
    result = run(Put("x", [1]))
    first = result.raw_store
    first["y"] = 1
    assert result.raw_store == {"x": [1]}
    assert not any(k.startswith("__scheduler") for k in result.raw_store)


def test_the_final_environment():
    result = run(Local({"e": 2}, Ask("e")), env={"e": 1, "f": 2})
    assert result.env == {"e": 1, "f": 2}


def test_the_python_stack_shows_user_frames_only():
    @do
    def inner():
        yield Get("absent")  # the failing yield

    @do
    def outer():
        return (yield inner())

    result = run(outer())
    frames = result.python_stack.frames
    assert [f.function for f in frames] == ["outer", "inner"]
    assert all(f.filename == __file__ for f in frames)
    assert "the failing yield" in frames[-1].code_context
    path = result.effect_stack.get_effect_path()
    assert path == "outer() -> inner() -> Get('absent')"


def test_the_exceptions_own_traceback_shows_user_frames():
    @do
    def inner():
        raise ValueError("deep")
        yield

    @do
    def outer():
        return (yield inner())

    names = [f.name for f in traceback.extract_tb(run(outer()).error.__traceback__)]
    assert [n for n in names if n in ("outer", "inner")] == ["outer", "inner"]


# --- 6.4 format -------------------------------------------------------------------------


def test_condensed_format():
    @do
    def price(cart):
        return (yield Ask("tax_table"))

    @do
    def checkout(cart):
        return (yield Local({"currency": "EUR"}, price(cart)))

    text = run(checkout("cart")).format()
    lines = text.splitlines()
    status = "MissingEnvKeyError: Environment key not found: 'tax_table'"
    assert lines[0] == f"Err({status})"
    assert f"Root Cause: {status}" in lines
    assert "Hint: " in text
    assert "env=" in text
    assert "Effect path: checkout('cart') -> price('cart') -> Ask('tax_table')" in lines
    (k_line,) = [line for line in lines if line.startswith("K: [")]
    assert k_line.startswith("K: [ReturnFrame, LocalFrame, ReturnFrame, HandlerFrame")


def test_verbose_format():
    @do
    def program():
        for i in range(12):
            yield Put(f"key{i:02}", i)
        raise ValueError("boom")

    text = run(program()).format(verbose=True)
    order = [
        "RUNTIME RESULT",
        "Status: ",
        "ROOT CAUSE",
        "PYTHON STACK",
        "EFFECT CALL TREE",
    ]
    order += ["CONTINUATION STACK (K)", "STORE"]
    positions = [text.index(part) for part in order]
    assert positions == sorted(positions)
    assert "key00: 0" in text
    assert "... and 2 more" in text
    assert "key11" not in text
    ok = run(Pure(1)).format(verbose=True)
    assert "ROOT CAUSE" not in ok
    assert "<empty>" in ok


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


def test_format_never_raises():
    @do
    def program(arg):
        yield Put("x", arg)
        raise ValueError(arg)

    result = run(program(Unprintable()))
    for text in (result.format(), result.format(verbose=True), repr(result)):
        assert isinstance(text, str)
    assert "<unprintable Unprintable>" in result.format(verbose=True)
    ok = run(Pure(Unprintable()))
    assert isinstance(ok.format(), str)
    assert isinstance(repr(ok), str)


class BadStr(Exception):
    def __str__(self):
        raise RuntimeError("no str")


def test_format_of_an_exception_without_str():
    result = run(failing(BadStr()))
    assert "BadStr" in result.format()
    assert "BadStr" in result.format(verbose=True)


# --- 6.7 errors ----------------------------------------------------------------------------


def test_missing_env_key_error():
    error = MissingEnvKeyError("k")
    assert isinstance(error, KeyError)
    assert error.key == "k"
    assert str(error).startswith("Environment key not found: 'k'")
    assert "env=" in str(error)
    assert "Local" in str(error)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is MissingEnvKeyError
    assert again.key == "k"
    assert str(again) == str(error)


def test_circular_ask_error():
    error = doeff.CircularAskError("k")
    assert isinstance(error, Exception)
    assert error.key == "k"
    assert str(error) == "Circular dependency detected for Ask('k')"
    assert str(doeff.CircularAskError("k", "message")) == "message"
    assert doeff.CircularAskError("k", message="m").key == "k"


def test_invariant_error_is_a_type_error():
    assert issubclass(InterpreterInvariantError, TypeError)
    assert issubclass(UnhandledEffectError, Exception)


def test_unhandled_effect_error_tells_place_and_handlers():
    @do
    def my_named_handler(effect, ctx):
        return (yield effect)

    @do
    def program():
        yield Custom("lost")

    with pytest.raises(UnhandledEffectError) as raised:
        sync_run(program(), [my_named_handler])
    message = str(raised.value)
    assert message.startswith("No handler for Custom")
    assert "my_named_handler" in message
    assert "test_running.py" in message


def test_safe_gives_the_trace_too():
    got = run(Safe(failing(ValueError("boom")))).value
    trace = got.captured_traceback.unwrap()
    assert type(trace) is type(run(failing(ValueError("b"))).captured_traceback)
    assert "failing" in trace.format()
    assert trace.exception is got.error
    assert trace.to_dict()["version"] == "1.0"
    assert Err(ValueError("x")).captured_traceback is NOTHING


@do
def takes(thing):
    yield thing


@do
def takes_a_program(thing: Program):
    return (yield thing)


def test_hints_for_what_is_yielded():
    with pytest.raises(InterpreterInvariantError, match=r"yield Gather\(\*programs\)"):
        _ = sync_run(takes([Pure(1)]), sync_handlers_preset).value
    with pytest.raises(InterpreterInvariantError, match="annotate the parameter"):
        _ = sync_run(takes(Pure(1)), sync_handlers_preset).value
    assert sync_run(takes_a_program(Pure(1)), sync_handlers_preset).value == 1


def test_a_list_given_to_gather_is_to_be_spread():
    with pytest.raises(TypeError, match=r"got list \(spread it: Gather\(\*items\)\)"):
        Gather([Pure(1)])


def test_scheduled_is_the_program():
    program = Pure(1)
    assert scheduled(program) is program
