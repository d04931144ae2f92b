"""Bodies for step(): programs by hand, to the end, abandoned, stale, escaping."""

from __future__ import annotations

from doeff import (
    EffectBase,
    Get,
    Put,
    Spawn,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
)
from doeff.cesk.result import Failed, PythonAsyncSyntaxEscape
from doeff.cesk.state import CESKState
from doeff.cesk.step import step


class Ping(EffectBase):
    pass


@do
def answering(effect, ctx):
    if isinstance(effect, Ping):
        return (yield ctx.resume(1))
    return (yield effect)


@do
def leaving(effect, ctx):
    if isinstance(effect, Ping):
        return ctx.abandon(2)
    return (yield effect)


@do
def program():
    try:
        return (yield Ping())
    finally:
        yield Put("closed", (yield Get("count")))


@do
def spawning():
    task = yield Spawn(program())
    return (yield Wait(task))


def first(handler, body):
    wrapped = WithHandler(handler, body)
    for native in reversed(sync_handlers_preset):
        wrapped = WithHandler(native, wrapped)
    return CESKState.initial(wrapped, {}, {"count": 0})


def end(state, steps=1000):
    while steps and isinstance(state, CESKState):
        state = step(state)
        steps -= 1
    if isinstance(state, Failed):
        raise state.exception
    return state


def leak_step_to_the_end():
    return end(first(answering, program())).value


def leak_step_abandoning():
    return end(first(leaving, program())).value


def leak_step_tasks():
    return end(first(answering, spawning())).value


def leak_step_left_half_way():
    for steps in range(1, 24):
        end(first(answering, spawning()), steps)


def leak_step_stale():
    state = step(first(answering, program()))
    step(state)
    try:
        step(state)
    except RuntimeError as error:
        return str(error)[:12]


def leak_step_escape():
    @do
    def escaping():
        return (yield PythonAsyncSyntaxEscape(lambda: 3))

    escape = end(first(answering, escaping()))
    coroutine = escape.action()
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return end(stop.value).value
