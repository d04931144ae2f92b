"""Readings of the bridge to asyncio. The rows stand in rows.py."""

from __future__ import annotations

import asyncio
from itertools import repeat
from time import process_time_ns, thread_time_ns

from doeff import Await, Gather, Get, Pure, async_handlers_preset, async_run, do
from measure import in_calls, times_reference

try:
    import uvloop
except ImportError:  # no row for it then
    uvloop = None

AWAITS = 2_000
TOGETHER = 10_000


async def suspends():
    await asyncio.sleep(0)


async def does_not():
    pass


@do
def awaiting(f):
    began = process_time_ns()
    for _ in repeat(None, AWAITS):
        yield Await(f())
    return process_time_ns() - began


async def creating(f):
    began = process_time_ns()
    for _ in repeat(None, AWAITS):
        await asyncio.create_task(f())
    return process_time_ns() - began


@do
def gathering():
    began = process_time_ns()
    yield Gather(*[Await(suspends()) for _ in range(TOGETHER)])
    return process_time_ns() - began


async def gathering_in_asyncio():
    began = process_time_ns()
    await asyncio.gather(*[suspends() for _ in range(TOGETHER)])
    return process_time_ns() - began


def compute(ns):
    end = thread_time_ns() + ns
    while thread_time_ns() < end:
        pass


@do
def computing(short, ns):
    """Effects at once one after the other, then something that takes its time."""
    for _ in range(100_000_000 // (ns or 1_000)):
        for _ in range(short):
            yield Get("key")
        compute(ns)
        yield Get("key")


async def beside(program):
    """The longest that the loop had to wait for a turn, in ms of CPU time."""
    waits = []

    async def ticker():
        before = thread_time_ns()
        while True:
            await asyncio.sleep(0)
            now = thread_time_ns()
            waits.append(now - before)
            before = now

    task = asyncio.create_task(ticker())
    await asyncio.sleep(0)
    await async_run(program, async_handlers_preset, store={"key": 0})
    task.cancel()
    return max(waits) / 1e6


async def running(loops):
    nothing = Pure(None)
    began = process_time_ns()
    for _ in repeat(None, loops):
        await async_run(nothing, async_handlers_preset)
    return (process_time_ns() - began) / loops


def run(program):
    return asyncio.run(async_run(program, async_handlers_preset)).value


def one(f) -> float:
    return times_reference(lambda: run(awaiting(f)), lambda: asyncio.run(creating(f)))


def together() -> float:
    return times_reference(
        lambda: run(gathering()), lambda: asyncio.run(gathering_in_asyncio())
    )


def in_uvloop(coroutine):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(coroutine)


def together_in_uvloop() -> float:
    return times_reference(
        lambda: in_uvloop(async_run(gathering(), async_handlers_preset)).value,
        lambda: in_uvloop(gathering_in_asyncio()),
    )


def loop_waits(short, ns) -> float:
    return asyncio.run(beside(computing(short, ns)))


def run_of_nothing() -> float:
    return in_calls(lambda: asyncio.run(running(20_000)))
