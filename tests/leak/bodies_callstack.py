"""Bodies for the call stack and the debug context."""

from __future__ import annotations

from doeff import (
    EffectBase,
    GetDebugContext,
    Listen,
    Local,
    ProgramCallFrame,
    ProgramCallStack,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program):
    return sync_run(program, sync_handlers_preset)


class Ping(EffectBase):
    pass


@do
def look(effect, *rest, key=0):
    return (yield Local({}, effect()))


@do
def top(effect):
    return (yield Listen(look(effect, 1, 2, key=3))).value


@do
def forward(effect, ctx):
    return (yield effect)


@do
def answer(effect: Ping, ctx):
    return (yield top(ProgramCallStack))


def leak_stack():
    return [frame.args[1:] for frame in run(top(ProgramCallStack)).value]


def leak_frame():
    return run(top(ProgramCallFrame)).value.function_name


def leak_frame_too_deep():
    error = run(ProgramCallFrame(100)).error
    if not isinstance(error, IndexError):
        raise error


def leak_stack_forwarded():
    program = WithHandler(forward, WithHandler(forward, top(ProgramCallStack)))
    return [frame.function_name for frame in run(program).value]


def leak_stack_in_a_handler():
    program = WithHandler(answer, Listen(Ping()))
    return [frame.function_name for frame in run(program).value.value]


def leak_debug_context():
    context = run(top(GetDebugContext)).value
    return len(context.format_all()) > 0, [f.frame_type for f in context.k_frames]
