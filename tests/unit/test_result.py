"""RuntimeResult: its members, its three stacks and its texts."""

from __future__ import annotations

import asyncio
import pickle
import traceback

import pytest

from doeff import (
    Ask,
    EffectBase,
    Err,
    Get,
    Local,
    Ok,
    Pure,
    Put,
    RuntimeResult,
    Safe,
    Some,
    Tell,
    UnhandledEffectError,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.runtime_result import (
    EffectCallNode,
    EffectStackTrace,
    KFrame,
    KStackTrace,
    PythonFrame,
    PythonStackTrace,
    SourceLocation,
)
from doeff.cesk_traceback import (
    CapturedTraceback,
    format_traceback,
    format_traceback_short,
    to_dict,
)
from doeff.traceback import EffectTraceback


class Lost(EffectBase):
    pass


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


@do
def price(cart):
    return (yield Ask("tax_table"))


@do
def checkout(cart):
    return (yield Local({"currency": "EUR"}, price(cart)))


@do
def raising(error):
    yield Put("reached", True)
    raise error


# --- members --------------------------------------------------------------------------------


def test_the_result_of_a_failure():
    error = ValueError("boom")
    result = run(raising(error))
    assert result.result == Err(error)
    assert result.result.captured_traceback == Some(result.captured_traceback)
    assert type(result.captured_traceback) is CapturedTraceback
    assert isinstance(result.captured_traceback, EffectTraceback)
    assert result.raw_store == {"reached": True}


def test_the_result_of_a_success():
    result = run(Pure([1]))
    assert result.result == Ok([1])
    assert result.captured_traceback is None
    assert result.k_stack == KStackTrace(())
    assert result.effect_stack == EffectStackTrace()
    assert result.python_stack == PythonStackTrace(())
    assert result.effect_stack.get_effect_path() == ""
    assert (result.log, result.state, result.graph) == ([], {}, [])


def test_the_value_of_a_failure_raises_the_same_object_with_its_own_traceback():
    error = ValueError("boom")
    result = run(raising(error))
    before = traceback.extract_tb(error.__traceback__)
    for _ in range(3):
        with pytest.raises(ValueError) as raised:
            result.value
        assert raised.value is error
        names = [f.name for f in traceback.extract_tb(error.__traceback__)]
        assert names[-len(before) :] == [f.name for f in before]
        assert len(names) == len(before) + 1


def test_the_value_raises_also_when_the_traceback_was_taken_away():
    result = run(raising(ValueError("boom")))
    result.error.__traceback__ = None
    with pytest.raises(ValueError, match="boom"):
        result.value
    assert "raising" in [
        f.name for f in traceback.extract_tb(result.error.__traceback__)
    ]


def test_copies_are_new_each_time():
    result = run(Tell("a"), env={"e": 1}, store={"s": 1})
    for member in ("raw_store", "env", "state"):
        assert getattr(result, member) == getattr(result, member)
        assert getattr(result, member) is not getattr(result, member)


def test_the_state_keeps_the_users_own_dunder_keys():
    result = run(Put("__mine__", 1), store={"__current_time__": None, "a": 2})
    assert result.state == {"__mine__": 1, "a": 2}


def test_a_result_cannot_be_made_by_hand():
    with pytest.raises(TypeError):
        RuntimeResult()


def test_the_class_takes_a_parameter():
    assert RuntimeResult[int].__origin__ is RuntimeResult


# --- which errors a run keeps ------------------------------------------------------------------


class Unusual(BaseException):
    pass


@pytest.mark.parametrize(
    "kind", [KeyboardInterrupt, SystemExit, GeneratorExit, Unusual]
)
def test_what_is_no_exception_is_raised_after_everything_has_unwound(kind):
    cleaned = []

    @do
    def outer():
        try:
            yield Safe(raising(kind("out")))
        finally:
            yield Put("x", 1)
            cleaned.append((yield Get("x")))

    with pytest.raises(kind):
        run(outer())
    assert cleaned == [1]


def test_a_cancellation_is_kept():
    error = asyncio.CancelledError("gone")
    assert run(raising(error)).error is error


def test_an_unhandled_effect_is_raised():
    @do
    def main():
        yield Lost()

    with pytest.raises(UnhandledEffectError):
        run(main())


# --- where an effect went unhandled --------------------------------------------------------------


def message_of(program, handlers=sync_handlers_preset):
    with pytest.raises(UnhandledEffectError) as raised:
        sync_run(program, handlers)
    assert type(raised.value.effect) is Lost
    return str(raised.value)


def test_the_message_names_the_innermost_yield():
    def sub():
        return (yield Lost())

    @do
    def main():
        return (yield from sub())

    line = sub.__code__.co_firstlineno + 1
    assert f"{__file__}:{line} in sub" in message_of(main())


def test_the_message_names_the_first_yield_of_a_forwarded_effect():
    @do
    def forwarding(effect, ctx):
        return (yield effect)

    @do
    def main():
        return (yield Lost())

    message = message_of(WithHandler(forwarding, WithHandler(forwarding, main())), [])
    assert " in main. " in message
    assert "innermost first: forwarding, forwarding. " in message


def test_the_message_of_an_effect_without_a_program():
    message = message_of(Lost(), [])
    assert message.startswith("No handler for Lost: ")
    assert "performed at" not in message
    assert "innermost first: none." in message


def test_the_message_of_an_effect_in_a_scope():
    @do
    def main():
        return (yield Local({"a": 1}, Lost()))

    assert " in main. " in message_of(main())


def test_the_message_does_not_list_a_thousand_handlers():
    @do
    def narrow(effect: Put, ctx):
        return (yield effect)

    message = message_of(Lost(), [narrow] * 1000)
    assert "and 980 more" in message
    assert len(message) < 1000


# --- texts ----------------------------------------------------------------------------------------


def test_the_condensed_text():
    result = run(checkout("cart"))
    line = price.__wrapped__.__code__.co_firstlineno + 2
    outer = checkout.__wrapped__.__code__.co_firstlineno + 2
    assert (
        result.format()
        == f"""\
Err(MissingEnvKeyError: Environment key not found: 'tax_table')

Root Cause: MissingEnvKeyError: Environment key not found: 'tax_table'
Hint: pass env={{'tax_table': ...}} to the run, or wrap the program in Local({{'tax_table': ...}}, ...)

  File "{__file__}", line {outer}, in checkout
    return (yield Local({{"currency": "EUR"}}, price(cart)))
  File "{__file__}", line {line}, in price
    return (yield Ask("tax_table"))

Effect path: checkout('cart') -> price('cart') -> Ask('tax_table')

K: [ReturnFrame, LocalFrame, ReturnFrame, HandlerFrame x5]"""
    )


def test_the_verbose_text():
    lines = run(checkout("cart")).format(verbose=True).splitlines()
    double, single = (
        "\N{BOX DRAWINGS DOUBLE HORIZONTAL}" * 79,
        "\N{BOX DRAWINGS LIGHT HORIZONTAL}" * 79,
    )
    assert lines[0] == lines[2] == lines[-1] == double
    assert lines[1].strip() == "RUNTIME RESULT"
    assert (
        lines[3]
        == "Status: Err(MissingEnvKeyError: Environment key not found: 'tax_table')"
    )
    titles = [
        lines[i + 1].strip()
        for i in range(len(lines) - 2)
        if lines[i] == lines[i + 2] == single
    ]
    assert titles == [
        "ROOT CAUSE",
        "PYTHON STACK",
        "EFFECT CALL TREE",
        "CONTINUATION STACK (K)",
        "STORE",
    ]
    tree = lines.index("Effect Call Tree:")
    assert lines[tree + 1 : tree + 4] == [
        "  └─ checkout('cart')",
        "     └─ price('cart')",
        "        └─ Ask('tax_table')  <-- ERROR",
    ]
    assert lines[tree - 2] == "                           EFFECT CALL TREE"
    k = lines.index("Continuation Stack (K):")
    assert lines[k - 2] == "                         CONTINUATION STACK (K)"
    assert lines[k + 1 : k + 4] == [
        "  [0] ReturnFrame        - resume price",
        "  [1] LocalFrame         - env={'currency'}",
        "  [2] ReturnFrame        - resume checkout",
    ]
    assert lines[k + 4].startswith("  [3] HandlerFrame       - ")
    assert lines[-2] == "  <empty>"


def test_a_success_in_full():
    lines = run(Put("a", 1).then(Pure("done"))).format(verbose=True).splitlines()
    assert lines[3] == "Status: Ok('done')"
    assert "Python Stack: <not captured>" in lines
    assert "Effect Call Tree: <not captured>" in lines
    assert "Continuation Stack (K): <empty>" in lines
    assert lines[-2] == "  a: 1"


def test_the_status_has_the_first_line_and_the_cause_all_of_them():
    text = run(raising(ValueError("first\nsecond\nthird"))).format()
    assert text.startswith(
        "Err(ValueError: first)\n\nRoot Cause: ValueError: first\nsecond\nthird\n\n"
    )


def test_an_error_without_a_message():
    assert (
        run(raising(ValueError()))
        .format()
        .startswith("Err(ValueError)\n\nRoot Cause: ValueError\n\n")
    )


def test_only_the_last_frames_are_in_the_condensed_text():
    @do
    def nested(n):
        return (yield nested(n - 1) if n else Get("absent"))

    text = run(nested(9)).format()
    assert text.count('  File "') == 3


@pytest.mark.parametrize(
    ("env", "length"),
    [
        ({}, 1000),
        ({"__repr_limit__": 50}, 50),
        ({"__repr_limit__": -5}, 1000),
        ({"__repr_limit__": "x"}, 1000),
    ],
)
def test_values_are_cut(env, length):
    result = run(Pure("x" * 5000), env=env, store={"long": "y" * 5000})
    assert result.format() == "Ok('" + "x" * (length - 4) + "...)"
    assert (
        f"  long: '{'y' * (length - 4)}..." in result.format(verbose=True).splitlines()
    )


@pytest.mark.parametrize("limit", [None, 10**30])
def test_values_are_not_cut(limit):
    result = run(Pure("x" * 5000), env={"__repr_limit__": limit})
    assert result.format() == f"Ok({'x' * 5000!r})"


class Multiline:
    def __repr__(self):
        return "one\ntwo"


def test_repr_is_one_short_line():
    assert repr(run(Pure(1))) == "RuntimeResult(Ok(1))"
    assert repr(run(Pure(Multiline()))) == "RuntimeResult(Ok(one))"
    assert repr(run(raising(ValueError("a\nb")))) == "RuntimeResult(Err(ValueError: a))"
    assert len(repr(run(raising(ValueError("a" * 10_000))))) < 120
    assert len(repr(run(Pure("a" * 10_000)))) < 120


class NoWords(Exception):
    def __str__(self):
        raise RuntimeError("no str")


class NotText:
    def __repr__(self):
        return 5


def test_texts_never_raise():
    for program in (
        raising(NoWords()),
        Pure(NotText()),
        raising(ValueError(NotText())),
    ):
        result = run(program, store={"odd": NotText()})
        for text in (result.format(), result.format(verbose=True), repr(result)):
            assert isinstance(text, str)
    assert (
        run(raising(NoWords()))
        .format()
        .startswith("Err(NoWords: <unprintable NoWords>)")
    )
    assert "odd: <unprintable NotText>" in run(
        Pure(1), store={"odd": NotText()}
    ).format(verbose=True)


def test_format_takes_only_verbose():
    result = run(Pure(1))
    with pytest.raises(TypeError):
        result.format(True)
    with pytest.raises(TypeError):
        result.format(short=True)


# --- the parts of the stacks --------------------------------------------------------------------


def test_the_parts_are_values():
    location = SourceLocation("f.py", 3, "f")
    assert location == SourceLocation("f.py", 3, "f", None)
    assert location.format() == '  File "f.py", line 3, in f'
    assert PythonFrame("f.py", 3, "f", "x = 1").format().splitlines()[1] == "    x = 1"
    k = KStackTrace((KFrame("LocalFrame", "env={'a'}"), KFrame("Other", "")))
    assert k.format().splitlines()[1:] == [
        "  [0] LocalFrame         - env={'a'}",
        "  [1] Other",
    ]
    leaf = EffectCallNode("Ask", True, "'k'", 1, (), None, True)
    other = EffectCallNode("g", False, "", 2, (), None, False)
    root = EffectStackTrace(
        EffectCallNode("f", False, "x=1", 1, (leaf, other), location, False)
    )
    assert root.get_effect_path() == "f(x=1) -> Ask('k')"
    assert root.format().splitlines() == [
        "Effect Call Tree:",
        "  └─ f(x=1)",
        "     └─ Ask('k')  <-- ERROR",
        "     └─ g() x2",
    ]
    for value in (location, k, root):
        assert pickle.loads(pickle.dumps(value)) == value


@pytest.mark.parametrize(
    "stack",
    [KStackTrace((1,)), PythonStackTrace((None,)), EffectStackTrace("root")],
    ids=lambda s: type(s).__name__,
)
def test_parts_of_a_wrong_kind(stack):
    with pytest.raises(TypeError):
        stack.format()
    with pytest.raises(TypeError):
        type(stack)(5).format()


def test_the_functions_of_the_module():
    trace = run(raising(ValueError("boom"))).captured_traceback
    assert format_traceback(trace) == trace.format()
    assert (
        format_traceback_short(trace)
        == trace.format_short()
        == "raising: ValueError: boom"
    )
    assert to_dict(trace) == trace.to_dict()
