"""Bodies for Scope, Timeout and Shield."""

from __future__ import annotations

from datetime import datetime

from doeff import (
    Cancel,
    CreatePromise,
    Delay,
    Discard,
    EffectBase,
    Gather,
    HandlerContext,
    Safe,
    Scope,
    Shield,
    Spawn,
    TaskCancelledError,
    Timeout,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)

START = datetime(2030, 1, 1)
NEVER = 10**6


def run(program):
    return sync_run(
        program, sync_handlers_preset, store={"__current_time__": START}
    ).value


def name_of(result):
    if result.is_ok():
        return result.value
    error = result.error
    return repr(error) if isinstance(error, ExceptionGroup) else type(error).__name__


@do
def sleeper(seconds=NEVER, cleanup=0):
    try:
        yield Delay(seconds)
    finally:
        if cleanup:
            yield Delay(cleanup)


@do
def failing(after):
    yield Delay(after)
    raise ValueError(after)


@do
def body(*failures):
    for after in failures:
        yield Spawn(failing(after))
    yield Spawn(sleeper(cleanup=1))
    yield Spawn(sleeper(2), daemon=True)
    yield Delay(1)


@do
def outcome(program: EffectBase):
    return name_of((yield Safe(program)))


def leak_scope_that_fails():
    return run(outcome(Scope(body(1))))


def leak_scope_with_several_failures():
    return run(outcome(Scope(body(1, 1, 1))))


def leak_timeout():
    return run(outcome(Timeout(3, Scope(body()))))


def leak_timeout_in_time():
    return run(outcome(Timeout(3, Delay(1))))


@do
def ended(how, program: EffectBase):
    task = yield Spawn(program)
    yield Delay(1)
    yield how(task)
    return name_of((yield Safe(Wait(task))))


def leak_cancelled():
    return run(ended(Cancel, Timeout(9, Scope(body()))))


def leak_discarded():
    return run(ended(Discard, Timeout(9, Shield(Scope(body())))))


def leak_shielded():
    return run(ended(Cancel, Shield(Timeout(3, Delay(NEVER)))))


class Keep(EffectBase):
    pass


KEPT = []


@do
def keep(effect: Keep, ctx: HandlerContext):
    KEPT.append(ctx)
    return ctx.abandon("left")
    yield


@do
def keeping():
    yield Spawn(sleeper(2))
    yield Keep()


def leak_kept_continuation():
    try:
        return run(WithHandler(keep, Scope(Timeout(5, Shield(keeping())))))
    finally:
        KEPT.clear()


@do
def passes_on(effect, ctx):
    return (yield effect)


@do
def leaving_children():
    """Killed below a handler that sees every effect, inside a Scope, with members and children of its own."""
    inner = Scope(Gather(body(), WithHandler(passes_on, Shield(Scope(body())))))
    task = yield Spawn(Gather(inner, sleeper()))
    yield Delay(0.5)
    yield Discard(task)


def leak_children_of_a_killed_task():
    return run(outcome(Scope(leaving_children())))


@do
def member(box):
    try:
        yield Delay(1)
        yield Discard(box[0])
        yield Delay(NEVER)
    finally:
        yield Delay(1)


@do
def discarding_its_gatherer():
    box = []
    box.append((yield Spawn(Gather(member(box)))))
    yield Safe(Wait(box[0]))


def leak_member_that_discards_its_gatherer():
    return run(outcome(Scope(discarding_its_gatherer())))


@do
def stubborn():
    promise = yield CreatePromise()
    while True:
        try:
            yield Wait(promise.future)
        except TaskCancelledError:
            pass


def leak_forced_deadlock():
    return run(outcome(Scope(Gather(Scope(stubborn()), Scope(Spawn(stubborn()))))))
