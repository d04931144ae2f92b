"""Bodies for the bridge to asyncio."""

from __future__ import annotations

import asyncio
import atexit

from doeff import (
    Await,
    Cancel,
    CreateExternalPromise,
    Delay,
    Gather,
    Safe,
    Spawn,
    Timeout,
    Wait,
    async_handlers_preset,
    async_run,
    do,
    set_scheduler_trace,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.result import PythonAsyncSyntaxEscape

LOOP = asyncio.new_event_loop()
atexit.register(LOOP.close)


def run(program):
    return LOOP.run_until_complete(async_run(program, async_handlers_preset)).value


def error_of(safe):
    return repr(safe.error)


async def soon(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fails():
    raise ValueError


async def stands():
    await asyncio.get_running_loop().create_future()


@do
def awaits():
    yield Await(soon(1))
    yield Await(soon(1, turns=0))
    failed = yield Safe(Await(fails()))
    together = yield Gather(Await(soon(1)), Await(soon(2, turns=3)), Delay(0))
    return error_of(failed), together


def leak_await():
    return run(awaits())


async def never():
    raise AssertionError


@do
def fails_at_once():
    raise ValueError
    yield


def leak_await_never_begun():
    failed = run(Safe(Gather(fails_at_once(), Await(never()), Safe(Await(never())))))
    async_run(Await(never()), async_handlers_preset).close()
    return error_of(failed)


def leak_await_in_the_background():
    return sync_run(awaits(), sync_handlers_preset).value


@do
def cancels():
    task = yield Spawn(Await(stands()))
    yield Delay(0)
    yield Cancel(task)
    return error_of((yield Safe(Wait(task))))


def leak_cancelled_await():
    return run(cancels())


def leak_refused_escape():
    try:
        sync_run(Await(soon(1)), async_handlers_preset)
    except TypeError:
        pass


async def step(running):
    try:
        running.send(None)
    except StopIteration as end:
        raise end.value.error from None
    await asyncio.sleep(0)


def leak_closed_run():
    running = async_run(Await(stands()), async_handlers_preset)
    LOOP.run_until_complete(step(running))
    running.close()
    LOOP.run_until_complete(soon(1, turns=3))


async def cancelled():
    task = asyncio.ensure_future(async_run(Await(stands()), async_handlers_preset))
    try:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    finally:
        task.cancel()
    while not task.done():
        await asyncio.sleep(0)
    return task


def leak_cancelled_run():
    task = LOOP.run_until_complete(cancelled())
    try:
        return task.result().value
    except asyncio.CancelledError:
        return "cancelled"


@do
def external():
    promise = yield CreateExternalPromise()
    asyncio.get_running_loop().call_soon(promise.complete, 1)
    return (yield Wait(promise.future))


def leak_external_wait():
    return run(external())


@do
def escapes():
    a = yield PythonAsyncSyntaxEscape(action=lambda: soon(1))
    b = yield PythonAsyncSyntaxEscape(action=lambda: 5)
    return a, b, error_of((yield Safe(PythonAsyncSyntaxEscape(action=fails))))


def leak_escapes():
    return run(escapes())


@do
def delays():
    yield Delay(1e-6)
    return (yield Timeout(60, Await(soon(1, turns=2))))


def leak_delays():
    return run(delays())


def leak_trace():
    """Without memory a trace loses events, so they are not counted here."""
    before = set_scheduler_trace([].append)
    try:
        return run(awaits())
    finally:
        set_scheduler_trace(before)
