"""What an error is seen to have crossed, and the trace that Safe gives."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import weakref

import pytest

from doeff import (
    IO,
    Ask,
    EffectBase,
    Get,
    Local,
    Modify,
    Program,
    Put,
    Safe,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Ping(EffectBase):
    def __init__(self, number):
        self.number = number


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


def path(result):
    return result.effect_stack.get_effect_path()


def functions(result):
    return [frame.function for frame in result.python_stack.frames]


def kinds(result):
    """Frames of the continuation below the run's own handlers."""
    return [frame.frame_type for frame in result.k_stack.frames][
        : -len(sync_handlers_preset)
    ]


@do
def boom(text="boom"):
    yield Put("reached", True)
    raise ValueError(text)


@do
def calls(program: Program):
    return (yield program)


# --- where errors come from ---------------------------------------------------------------


def test_a_program_that_raises():
    result = run(calls(boom()))
    assert functions(result) == ["calls", "boom"]
    assert kinds(result) == ["ReturnFrame", "ReturnFrame"]
    assert result.k_stack.frames[0].description == "resume boom"
    assert path(result).startswith("calls(")
    assert path(result).endswith("-> boom('boom')")


def test_a_plain_function_that_raises():
    @do
    def plain(x, y=2):
        raise ValueError(x)

    result = run(calls(plain(1, y=3)))
    assert functions(result) == ["calls", "plain"]
    assert path(result).endswith(" -> plain(1, y=3)")
    node = result.effect_stack.root.children[0]
    assert node.name == "plain"
    assert node.is_error_site is True
    assert node.is_effect is False
    assert node.source_location.function == "plain"


def test_an_effect_that_fails():
    @do
    def reads(name):
        return (yield Get(name))

    result = run(calls(reads("absent")))
    assert path(result).endswith("reads('absent') -> Get('absent')")
    calling = result.effect_stack.root
    reading = calling.children[0]
    effect = reading.children[0]
    assert [n.is_error_site for n in (calling, reading, effect)] == [False, False, True]
    assert [n.is_effect for n in (calling, reading, effect)] == [False, False, True]
    assert (effect.name, effect.args_repr, effect.count, effect.children) == (
        "Get",
        "'absent'",
        1,
        (),
    )
    assert effect.source_location == reading.source_location


@pytest.mark.parametrize(
    ("effect", "name"),
    [(Modify("n", lambda n: n / 0), "Modify"), (IO(lambda: 1 / 0), "IO")],
    ids=["Modify", "IO"],
)
def test_a_callback_that_raises(effect, name):
    @do
    def performs():
        return (yield effect)

    result = run(performs(), store={"n": 1})
    assert type(result.error) is ZeroDivisionError
    assert functions(result) == ["performs", "<lambda>"]
    assert name in path(result)
    assert kinds(result) == ["ReturnFrame"]


def test_a_custom_effect_shows_its_fields():
    @do
    def refusing(effect: Ping, ctx):
        raise ValueError(effect.number)

    def refusing_at_once(effect, ctx):
        if isinstance(effect, Ping):
            raise ValueError(effect.number)
        return effect

    for handler in (refusing, refusing_at_once):
        result = run(WithHandler(handler, calls(Ping(7))))
        assert type(result.error) is ValueError
        assert path(result).endswith("Ping(number=7)")


def test_a_handler_that_raises_in_its_body():
    @do
    def refusing(effect: Ping, ctx):
        yield Put("seen", effect.number)
        raise ValueError("refused")

    result = run(WithHandler(refusing, calls(Ping(7))))
    assert functions(result) == ["calls", "refusing"]
    assert kinds(result) == [
        "ReturnFrame",
        "HandlerResultFrame",
        "ReturnFrame",
        "HandlerFrame",
    ]
    assert result.k_stack.frames[1].description == "result of refusing"
    assert result.k_stack.frames[3].description == "refusing"
    assert path(result).endswith("refusing(Ping(number=7), ctx)")


def test_helpers_and_sub_generators_are_in_the_python_stack_only():
    def helper():
        raise ValueError("deep")

    def sub():
        yield Put("x", 1)
        helper()

    @do
    def main():
        yield from sub()

    result = run(main())
    assert functions(result) == ["main", "sub", "helper"]
    assert path(result) == "main()"
    assert kinds(result) == ["ReturnFrame"]


def test_scopes_show_in_the_continuation():
    @do
    def handler(effect: Ping, ctx):
        return (yield effect)

    @do
    def main():
        return (yield WithHandler(handler, Local({"a": 1, "b": 2}, boom())))

    result = run(main(), env={"a": 0})
    frames = result.k_stack.frames
    assert [f.frame_type for f in frames[:4]] == [
        "ReturnFrame",
        "LocalFrame",
        "HandlerFrame",
        "ReturnFrame",
    ]
    assert "a" in frames[1].description
    assert frames[2].description == "handler"
    assert frames[3].source_location.function == "main"
    assert frames[2].source_location is None


def test_a_caught_error_leaves_no_trace_behind():
    @do
    def main():
        try:
            yield Get("absent")
        except KeyError:
            pass
        yield Put("x", 1)
        raise ValueError("another")

    assert path(run(main())) == "main()"


def test_another_error_begins_another_trace():
    @do
    def main():
        try:
            yield Get("absent")
        except KeyError as error:
            raise ValueError("chained") from error

    result = run(main())
    assert path(result) == "main()"
    assert functions(result) == ["main"]


def test_a_stop_iteration_has_no_traceback_of_its_own():
    @do
    def main():
        yield Put("x", 1)
        raise StopIteration

    result = run(calls(main()))
    assert type(result.error) is RuntimeError
    assert [frame.frame_type for frame in result.k_stack.frames[:2]] == [
        "ReturnFrame"
    ] * 2
    assert result.k_stack.frames[0].description == "resume main"


# --- errors that are kept while their generator goes on -----------------------------------


def test_a_finally_with_effects_does_not_break_the_trace():
    @do
    def cleaning():
        try:
            yield Get("absent")
        finally:
            yield Put("cleaned", True)
            yield Get("cleaned")

    result = run(calls(cleaning()))
    assert functions(result) == ["calls", "cleaning"]
    assert path(result).endswith("cleaning() -> Get('absent')")
    assert kinds(result) == ["ReturnFrame", "ReturnFrame"]
    assert result.raw_store["cleaned"] is True


def test_an_error_raised_again_goes_on_with_its_trace():
    @do
    def again():
        kept = None
        try:
            yield calls(Get("absent"))
        except KeyError as error:
            kept = error
        yield Put("between", 1)
        raise kept

    result = run(again())
    assert path(result).startswith("again() ->")
    assert path(result).endswith("-> Get('absent')")


def test_the_error_of_a_safe_goes_on_with_its_trace():
    @do
    def unwraps():
        got = yield Safe(calls(Get("absent")))
        return got.unwrap()

    result = run(unwraps())
    assert path(result).endswith("-> Get('absent')")
    assert [f.function for f in result.python_stack.frames if f.function == "unwraps"]


def test_an_error_that_carries_a_trace_copies_and_pickles():
    @do
    def keeps():
        try:
            yield Get("absent")
        except KeyError as error:
            yield Put("error", error)

    error = run(keeps()).raw_store["error"]
    for again in (
        pickle.loads(pickle.dumps(error)),
        copy.deepcopy(error),
        copy.copy(error),
    ):
        assert type(again) is KeyError
        assert again.args == ("absent",)

    @do
    def raises(error):
        yield Put("x", 1)
        raise error

    assert path(run(raises(pickle.loads(pickle.dumps(error))))).startswith("raises(")


def test_an_error_object_that_two_runs_raise():
    shared = ValueError("shared")

    @do
    def raises():
        yield Put("x", 1)
        raise shared

    for _ in range(3):
        result = run(raises())
        assert result.error is shared
        assert path(result) == "raises()"


def test_a_traceback_taken_away():
    @do
    def inner():
        yield Put("x", 1)
        raise ValueError("cut")

    @do
    def outer():
        try:
            yield inner()
        except ValueError as error:
            raise error.with_traceback(None)  # noqa: B904

    result = run(calls(outer()))
    assert functions(result)[-1] == "inner"
    assert isinstance(result.format(verbose=True), str)
    result.error.__traceback__ = None
    assert functions(result)[-1] == "inner"


# --- bounds ---------------------------------------------------------------------------------


@do
def nested(n):
    if n == 0:
        raise ValueError("bottom")
    return (yield nested(n - 1))


def test_the_middle_of_a_deep_trace_is_left_out():
    result = run(nested(1000))
    frames = result.k_stack.frames
    assert len(frames) == 251
    assert frames[200].frame_type == "..."
    assert (
        "756" in frames[200].description
    )  # 1001 calls and the five handlers, but for 250
    assert frames[0].description == "resume nested"
    assert frames[-1].frame_type == "HandlerFrame"
    python = result.python_stack.frames
    assert len(python) == 246
    assert "756" in python[45].function
    assert " -> ... -> " in path(result)
    assert path(result).startswith("nested(1000) -> nested(999)")
    assert path(result).endswith("nested(1) -> nested(0)")
    assert "[nested(0)" not in result.format()
    assert "ReturnFrame x200, ..., ReturnFrame x45, HandlerFrame x5" in result.format()


@pytest.mark.parametrize("depth", [1, 4, 5, 195, 200, 201, 250, 251, 300])
def test_any_depth_keeps_both_ends(depth):
    result = sync_run(nested(depth), [])
    frames = [f for f in result.python_stack.frames if f.filename]
    assert len(frames) == min(depth + 1, 250)
    calls_shown = path(result).split(" -> ")
    assert calls_shown[0] == f"nested({depth})"
    assert calls_shown[-1] == "nested(0)"
    assert ("..." in calls_shown) == (depth + 1 > 250)


def test_a_deep_recursion_inside_one_program():
    def recurse(n):
        return recurse(n - 1) if n else 1 / 0

    @do
    def main():
        yield Put("x", 1)
        recurse(600)

    result = run(calls(main()))
    frames = result.python_stack.frames
    assert len(frames) <= 251
    assert frames[0].function == "calls"
    assert frames[-1].function == "recurse"
    assert any("more frames" in frame.function for frame in frames)


@pytest.mark.deep
def test_a_million_frames_are_crossed_with_a_finally_each():
    @do
    def level(n):
        try:
            if n:
                yield level(n - 1)
            else:
                raise ValueError("bottom")
        finally:
            yield Put("n", n)

    result = sync_run(level(100_000), sync_handlers_preset)
    assert len(result.k_stack.frames) == 251
    del result
    gc.collect()


# --- what Safe captures ---------------------------------------------------------------------


def captured_of(program):
    return run(Safe(program)).value.captured_traceback.unwrap()


def test_the_members_of_a_captured_traceback():
    trace = captured_of(calls(Get("absent")))
    assert trace.exception_type == "KeyError"
    assert trace.exception_message == "'absent'"
    assert trace.exception_args == ("absent",)
    assert type(trace.exception) is KeyError
    assert trace.effect == "Get('absent')"
    assert trace.capture_timestamp > 0
    (frame,) = trace.effect_frames
    assert frame.frame_kind == "program"
    assert frame.location.function == "calls"
    assert frame.call_site is None
    (python,) = trace.python_frames
    assert python.filename == __file__
    assert trace.get_raise_location().line == python.line
    assert "\n" not in repr(trace)


def test_call_sites_are_the_places_of_the_callers():
    frames = captured_of(calls(calls(boom()))).effect_frames
    assert [f.location.function for f in frames] == ["calls", "calls", "boom"]
    assert frames[0].call_site is None
    assert frames[1].call_site == frames[0].location
    assert frames[2].call_site == frames[1].location


def test_texts_of_a_captured_traceback():
    trace = captured_of(calls(boom("first\nsecond")))
    assert trace.format_short() == "calls -> boom: ValueError: first"
    lines = trace.lines()
    assert trace.format() == "\n".join(lines)
    assert lines[-2:] == ["ValueError: first", "second"]
    assert any("in boom" in line for line in lines)
    assert trace.lines(condensed=True)[-1] == "ValueError: first"
    assert trace.lines(max_lines=2) == lines[-2:]
    assert trace.format(condensed=True, max_lines=1) == "ValueError: first"
    assert len(captured_of(nested(50)).lines(condensed=True)) < 12
    with pytest.raises(ValueError, match="max_lines"):
        trace.lines(max_lines=0)
    with pytest.raises(TypeError):
        trace.lines(max_lines="many")


def test_a_captured_traceback_as_data():
    data = captured_of(calls(boom())).to_dict()
    assert json.loads(json.dumps(data)) == data
    assert data["version"] == "1.0"
    assert data["exception"] == {
        "type": "ValueError",
        "message": "boom",
        "args": ["'boom'"],
    }
    assert [f["location"]["function"] for f in data["effect_frames"]] == [
        "calls",
        "boom",
    ]
    assert data["python_frames"][-1]["filename"] == __file__


def test_a_captured_traceback_copies_and_pickles():
    got = run(Safe(calls(Get("absent")))).value
    trace = got.captured_traceback.unwrap()
    for again in (pickle.loads(pickle.dumps(trace)), copy.deepcopy(trace)):
        assert again.format() == trace.format()
        assert again.to_dict() == trace.to_dict()
    assert (
        pickle.loads(pickle.dumps(got)).captured_traceback.unwrap().format()
        == trace.format()
    )


def test_safe_inside_safe():
    @do
    def twice():
        first = yield Safe(boom("one"))
        second = yield Safe(calls(boom("two")))
        return first, second

    first, second = run(twice()).value
    assert first.captured_traceback.unwrap().format_short() == "boom: ValueError: one"
    assert (
        second.captured_traceback.unwrap().format_short()
        == "calls -> boom: ValueError: two"
    )


def test_a_trace_stops_where_the_error_was_caught():
    @do
    def outer():
        return (yield Safe(boom()))

    trace = run(outer()).value.captured_traceback.unwrap()
    assert [f.function for f in trace.python_frames] == ["boom"]


class Held:
    pass


@do
def refuses(effect: Ping, ctx):
    raise ValueError("no")


def test_a_trace_holds_no_effect_and_no_argument():
    held = Held()
    gone = weakref.ref(held)
    result = run(Safe(WithHandler(refuses, calls(Ping(held)))))
    trace = result.value.captured_traceback.unwrap()
    trace.exception.__traceback__ = None
    del held, result
    gc.collect()
    assert gone() is None
    assert "Ping(number=<" in trace.effect


# --- hostile arguments -----------------------------------------------------------------------


class Unprintable:
    def __repr__(self):
        raise RuntimeError("no repr")


class Endless:
    def __repr__(self):
        return "x" * 10_000_000


class Meddling:
    """Takes the traceback apart while it is looked at."""

    error = None

    def __repr__(self):
        if self.error is not None:
            self.error.__traceback__ = None
        gc.collect()
        return "<meddling>"


@pytest.mark.parametrize(
    "make", [Unprintable, Endless, Meddling], ids=lambda c: c.__name__
)
def test_hostile_arguments(make):
    argument = make()

    @do
    def takes(a, *rest, b, **more):
        raise ValueError(a)
        yield

    result = run(calls(takes(argument, argument, b=argument, c=argument)))
    argument.__class__.error = result.error
    for text in (
        path(result),
        result.format(),
        result.effect_stack.format(),
        repr(result.k_stack),
    ):
        assert isinstance(text, str)
    shown = path(result).rsplit("takes(", 1)[1]
    assert len(shown) < 500
    assert shown.count("b=") == 1
    assert shown.count("c=") == 1
    if make is Unprintable:
        assert (
            shown
            == "<unprintable Unprintable>, <unprintable Unprintable>, b=<unprintable Unprintable>, c=<unprintable Unprintable>)"
        )


def test_long_arguments_are_cut():
    @do
    def takes(a, b):
        yield Get("absent")

    shown = path(run(takes([1] * 1_000_000, "y" * 1_000_000)))
    assert shown.startswith("takes([1, 1, ")
    assert len(shown) < 250
    effect = path(run(Program.pure(1).flat_map(lambda _: Get("k" * 1000))))
    assert effect == "Get('" + "k" * 76 + "...)"


def test_many_arguments_are_not_all_shown():
    @do
    def takes(*numbers, **names):
        yield Get("absent")

    shown = path(run(takes(*range(10_000), **{f"n{i}": i for i in range(1000)})))
    assert shown.startswith("takes(0, 1, 2,")
    assert "19, ..., n0=0" in shown
    assert shown.endswith("n19=19, ...) -> Get('absent')")


def test_a_deleted_argument():
    @do
    def takes(a):
        del a
        yield Get("absent")

    assert path(run(takes(1))) == "takes(<deleted>) -> Get('absent')"


def test_frames_of_the_package_do_not_show():
    result = run(calls(Ask("absent").map(lambda x: x)))
    assert all(frame.filename == __file__ for frame in result.python_stack.frames)
