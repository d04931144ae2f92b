"""Readings of the bridge to asyncio. The rows stand in rows.py."""

from __future__ import annotations

import asyncio
from itertools import repeat
from time import process_time_ns

from doeff import Await, Gather, Pure, async_handlers_preset, async_run, do
from measure import in_calls, times_reference

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


def run_of_nothing() -> float:
    return in_calls(lambda: asyncio.run(running(20_000)))
