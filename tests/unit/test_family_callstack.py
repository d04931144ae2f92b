"""ProgramCallStack, ProgramCallFrame and GetDebugContext."""

from __future__ import annotations

import copy
import pickle

import pytest

from doeff import (
    CaptureGraph,
    EffectBase,
    FrozenDict,
    GetDebugContext,
    Intercept,
    Listen,
    Local,
    Program,
    ProgramCallFrame,
    ProgramCallStack,
    Safe,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.types import CallFrame


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw).value


def names(stack):
    return [frame.function_name for frame in stack]


@do
def look():
    return (yield ProgramCallStack())


@do
def forward(effect, ctx):
    return (yield effect)


@do
def forward_from_within(effect, ctx):
    @do
    def once_more():
        return (yield effect)

    return (yield once_more())


class Ping(EffectBase):
    pass


SCOPES = {
    "Local": lambda p: Local({"k": 1}, p),
    "Safe": lambda p: Safe(p).map(lambda r: r.value),
    "Listen": lambda p: Listen(p).map(lambda r: r.value),
    "Intercept": lambda p: Intercept(p, lambda e: None),
    "CaptureGraph": lambda p: CaptureGraph(p).map(lambda r: r[0]),
    "forwarding": lambda p: WithHandler(forward, p),
    "forwarding within": lambda p: WithHandler(forward_from_within, p),
    "map": lambda p: p.map(lambda v: v),
    "list": lambda p: Program.list(p).map(lambda v: v[0]),
}


@pytest.mark.parametrize("outer", SCOPES)
@pytest.mark.parametrize("inner", SCOPES)
def test_scopes_do_not_show(inner, outer):
    @do
    def middle():
        return (yield SCOPES[inner](look()))

    @do
    def top():
        return (yield SCOPES[outer](middle()))

    stack = run(top())
    assert names(stack) == ["look", "middle", "top"]
    assert [frame.depth for frame in stack] == [0, 1, 2]
    assert stack[0].created_at.function == "middle"
    assert stack[1].created_at.function == "top"
    assert stack[2].created_at is None


def test_no_call_pending():
    assert run(ProgramCallStack()) == ()
    assert run(Local({}, Safe(ProgramCallStack()))).value == ()
    with pytest.raises(IndexError, match="0 @do calls"):
        run(ProgramCallFrame())


def test_finished_calls_do_not_show():
    @do
    def done():
        yield Safe(look())

    @do
    def top():
        yield done()
        return (yield look())

    assert names(run(top())) == ["look", "top"]


def test_arguments():
    @do
    def f(a, /, b, c=3, *rest, d, e=5, **more):
        return (yield ProgramCallFrame())

    def shown(program):
        frame = run(program)
        return frame.args, dict(frame.kwargs)

    assert shown(f(1, 2, d=4)) == ((1, 2), {"d": 4})
    assert shown(f(1, 2, c=9, d=4, e=6, x=7)) == (
        (1, 2),
        {"c": 9, "d": 4, "e": 6, "x": 7},
    )
    assert shown(f(1, 2, 3, 9, d=4)) == ((1, 2, 3, 9), {"d": 4})
    frame = run(f(1, 2, d=[]))
    assert frame.kleisli is f
    assert isinstance(frame.kwargs, FrozenDict)


def test_changed_and_deleted_arguments():
    @do
    def f(a, b, c):
        a = [a]
        del b
        return (yield ProgramCallFrame())

    frame = run(f(1, 2, 3))
    assert frame.args == ([1],)
    assert dict(frame.kwargs) == {"c": 3}


def test_arguments_in_cells_and_of_methods():
    class Thing:
        @do
        def method(self, x):
            frame = yield ProgramCallFrame()
            return frame, lambda: (self, x)

    thing = Thing()
    frame, _ = run(thing.method(5))
    assert frame.args == (thing, 5)
    assert frame.function_name == "method"


def test_evaluated_arguments_show_their_values():
    @do
    def number():
        return 7
        yield

    @do
    def f(x):
        return (yield ProgramCallFrame())

    assert run(f(number())).args == (7,)


def test_frames_are_elements_of_the_stack():
    @do
    def both(depth):
        stack = yield ProgramCallStack()
        frame = yield ProgramCallFrame(depth)
        return stack[depth] == frame

    @do
    def top(depth):
        return (yield both(depth))

    assert run(top(0))
    assert run(top(1))
    with pytest.raises(IndexError):
        run(top(2))


def test_depth_of_a_frame():
    assert ProgramCallFrame().depth == 0
    assert ProgramCallFrame(depth=2).depth == 2
    assert type(ProgramCallFrame(True).depth) is int
    with pytest.raises(ValueError, match="negative"):
        ProgramCallFrame(-1)
    for wrong in (None, 1.0, "1"):
        with pytest.raises(TypeError, match="depth"):
            ProgramCallFrame(wrong)


def test_a_handlers_body_lies_inside_what_it_handles():
    @do
    def answer(effect: Ping, ctx):
        return (yield look())

    @do
    def asks():
        return (yield Ping())

    @do
    def top():
        return (yield WithHandler(answer, Local({}, asks())))

    assert names(run(top())) == ["look", "answer", "asks", "top"]
    assert names(run(WithHandler(forward, top()))) == ["look", "answer", "asks", "top"]


def test_handlers_in_handlers():
    class Pong(EffectBase):
        pass

    @do
    def outer(effect: Pong, ctx):
        return (yield ProgramCallStack())

    @do
    def inner(effect: Ping, ctx):
        return (yield Pong())

    @do
    def asks():
        return (yield Ping())

    program = WithHandler(outer, WithHandler(inner, asks()))
    assert names(run(program)) == ["outer", "inner", "asks"]


@pytest.mark.deep
def test_deep_stacks():
    @do
    def down(n):
        if n == 0:
            return (yield ProgramCallStack())
        return (yield down(n - 1))

    stack = run(down(20_000))
    assert len(stack) == 20_001
    assert stack[-1].args == (20_000,)


def test_frames_are_values():
    frame = CallFrame(None, "f", (1,), FrozenDict(), 0, None)
    assert frame == copy.copy(frame) == pickle.loads(pickle.dumps(frame))
    assert hash(frame) == hash(copy.copy(frame))
    with pytest.raises(AttributeError):
        frame.depth = 1


# --- GetDebugContext -------------------------------------------------------------------------------


@do
def context():
    return (yield GetDebugContext())


def test_debug_context():
    @do
    def top():
        return (yield Safe(Listen(context()))).value.value

    found = run(top())
    assert [(e.function_name, e.depth) for e in found.kleisli_stack] == [
        ("context", 0),
        ("top", 1),
    ]
    assert all(e.filename == __file__ and e.lineno > 0 for e in found.kleisli_stack)
    kinds = [f.frame_type for f in found.k_frames]
    assert kinds.index("ListenFrame") < kinds.index("SafeFrame")
    assert [f.depth for f in found.k_frames] == list(range(len(kinds)))
    assert found.current_effect == GetDebugContext()
    tree = found.effect_call_tree
    assert tree.function_name == "top"
    assert tree.children[0].children[0].effect_type == "GetDebugContextEffect"
    for text in (
        found.format_kleisli_stack(),
        found.format_effect_tree(),
        found.format_all(),
    ):
        assert "context" in text
        assert "top" in text
    assert "SafeFrame" in found.format_k_frames()


def test_debug_context_without_calls():
    found = run(GetDebugContext())
    assert found.kleisli_stack == ()
    assert "(empty)" in found.format_kleisli_stack()
    assert "GetDebugContextEffect" in found.format_all()


def test_deep_debug_context_can_be_printed():
    @do
    def down(n):
        return (yield (down(n - 1) if n else GetDebugContext()))

    found = run(down(3000))
    assert found.format_effect_tree().count("\n") == 3002
