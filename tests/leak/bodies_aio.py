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
    return LOOP.run_until_complete(async_run(program, async_handlers_preset))


async def soon(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fails():
    raise ValueError


async def stands():
    await asyncio.Event().wait()


@do
def awaits():
    yield Await(soon(1))
    yield Await(soon(1, turns=0))
    yield Safe(Await(fails()))
    return (yield Gather(Await(soon(1)), Await(soon(2, turns=3)), Delay(0)))


def leak_await():
    run(awaits())


async def never():
    raise AssertionError


@do
def fails_at_once():
    raise ValueError
    yield


def leak_await_never_begun():
    run(Safe(Gather(fails_at_once(), Await(never()), Safe(Await(never())))))
    async_run(Await(never()), async_handlers_preset).close()


def leak_await_in_the_background():
    sync_run(awaits(), sync_handlers_preset)


@do
def cancels():
    task = yield Spawn(Await(stands()))
    yield Delay(0)
    yield Cancel(task)
    yield Safe(Wait(task))


def leak_cancelled_await():
    run(cancels())


def leak_refused_escape():
    try:
        sync_run(Await(soon(1)), async_handlers_preset)
    except TypeError:
        pass


async def step(running):
    running.send(None)
    await asyncio.sleep(0)


def leak_closed_run():
    running = async_run(Await(stands()), async_handlers_preset)
    LOOP.run_until_complete(step(running))
    running.close()
    LOOP.run_until_complete(soon(1, turns=3))


async def cancelled():
    task = asyncio.ensure_future(async_run(Await(stands()), async_handlers_preset))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])


def leak_cancelled_run():
    LOOP.run_until_complete(cancelled())


@do
def external():
    promise = yield CreateExternalPromise()
    asyncio.get_running_loop().call_soon(promise.complete, 1)
    return (yield Wait(promise.future))


def leak_external_wait():
    run(external())


@do
def escapes():
    yield PythonAsyncSyntaxEscape(action=lambda: soon(1))
    yield PythonAsyncSyntaxEscape(action=lambda: 5)
    yield Safe(PythonAsyncSyntaxEscape(action=fails))


def leak_escapes():
    run(escapes())


def leak_trace():
    events = []
    before = set_scheduler_trace(events.append)
    try:
        run(awaits())
    finally:
        set_scheduler_trace(before)
    if not any(event.name == "external-completed" for event in events):
        raise AssertionError(events)
