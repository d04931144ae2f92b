"""Readings of the scheduler: tasks, turns, waits, sleepers. The rows stand in rows.py."""

from __future__ import annotations

import asyncio
import resource
import sys
from functools import partial
from itertools import repeat
from pathlib import Path
from time import process_time_ns

from doeff import (
    Ask,
    CompletePromise,
    CreatePromise,
    Delay,
    Gather,
    Spawn,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)
from measure import calls_over, driven, times_reference

TASKS = 5_000
CROWD = 100_000
MULTITUDE = 1_000_000


def run(program):
    return sync_run(program, sync_handlers_preset, env={"key": 1}).value


# ---- Spawn and its share of Gather ----


@do
def answer(x):
    return x
    yield


@do
def spawn_all(n):
    tasks = []
    began = process_time_ns()
    for i in range(n):
        tasks.append((yield Spawn(answer(i))))
    yield Gather(*tasks)
    return (process_time_ns() - began) / n


async def async_answer(x):
    return x


async def create_all(n):
    tasks = []
    began = process_time_ns()
    for i in range(n):
        tasks.append(asyncio.create_task(async_answer(i)))
    await asyncio.gather(*tasks)
    return (process_time_ns() - began) / n


def spawn_and_gather() -> float:
    return times_reference(
        lambda: run(spawn_all(TASKS)), lambda: asyncio.run(create_all(TASKS))
    )


# ---- an effect that ends a turn ----


@do
def asking(loops):
    effect = Ask
    for _ in repeat(None, loops):
        yield effect("key")


@do
def taking_turns(tasks, loops):
    waiting = []
    for _ in range(tasks):
        waiting.append((yield Spawn(asking(loops))))
    began = process_time_ns()
    yield Gather(*waiting)
    return process_time_ns() - began


def turn(tasks: int, effects: int = 100_000) -> float:
    """ns for an effect in one of so many tasks that are always ready; what a task costs is taken off."""
    loops = max(effects // tasks, 10)
    with_effects = run(taking_turns(tasks, loops))
    without = run(taking_turns(tasks, 1))
    return (with_effects - without) / (tasks * (loops - 1))


def turn_over_driven(tasks: int) -> float:
    return calls_over(lambda: turn(tasks), partial(driven, 1))


def turn_among_many() -> float:
    return times_reference(lambda: turn(10_000), lambda: turn(10))


# ---- tasks that wait ----


@do
def waiter(future):
    yield Wait(future)


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def suspended():
    yield


@do
def parked(n):
    """User ns and bytes each, of n tasks that wait for one promise and are woken."""
    promise = yield CreatePromise()
    began, before = process_time_ns(), resident()
    for _ in range(n):
        yield Spawn(waiter(promise.future))
    yield Delay(1e-9)
    each = (resident() - before) / n
    yield CompletePromise(promise, None)
    return (process_time_ns() - began) / n, each - sys.getsizeof(suspended())


def bytes_of_blocked_task() -> float:
    return run(parked(CROWD))[1]


def time_of_a_multitude() -> float:
    small = min(run(parked(CROWD))[0] for _ in range(3))
    return run(parked(MULTITUDE))[0] / small


@do
def woken(n):
    promise = yield CreatePromise()
    for _ in range(n):
        yield Spawn(waiter(promise.future))
    yield Delay(1e-9)
    began = process_time_ns()
    yield CompletePromise(promise, None)
    return (process_time_ns() - began) / n


async def async_woken(n):
    event = asyncio.Event()

    async def waits():
        await event.wait()

    tasks = [asyncio.create_task(waits()) for _ in range(n)]
    await asyncio.sleep(0)
    began = process_time_ns()
    event.set()
    await asyncio.gather(*tasks)
    return (process_time_ns() - began) / n


def wake() -> float:
    return times_reference(
        lambda: run(woken(TASKS)), lambda: asyncio.run(async_woken(TASKS))
    )


@do
def sleeper():
    yield Delay(0.05)


@do
def sleepers(n):
    tasks = []
    began = process_time_ns()
    for _ in range(n):
        tasks.append((yield Spawn(sleeper())))
    yield Gather(*tasks)
    return (process_time_ns() - began) / n


def sleeping() -> float:
    """All told, over asyncio's create_task and gather of tasks that do nothing."""
    asyncs = min(asyncio.run(create_all(CROWD)) for _ in range(3))
    return min(run(sleepers(CROWD)) for _ in range(3)) / asyncs
