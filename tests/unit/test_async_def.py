"""`async def` under @do beside tasks, time and asyncio: `await` does what `yield` does."""

from __future__ import annotations

import asyncio
import gc
import traceback

import pytest

from doeff import (
    AcquireSemaphore,
    Ask,
    Await,
    Cancel,
    CompletePromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Gather,
    Get,
    GetTime,
    InterpreterInvariantError,
    Listen,
    Local,
    Modify,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    Scope,
    Shield,
    Spawn,
    TaskCancelledError,
    Tell,
    Timeout,
    Wait,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.testing import virtual_time


def sync(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def in_a_loop(program, **kw):
    return asyncio.run(async_run(program, async_handlers_preset, **kw))


@pytest.fixture(params=[sync, in_a_loop])
def go(request):
    return request.param


async def soon(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


@do
async def awaiting(key):
    value = await Ask(key)
    await Modify("n", lambda n: n + 1)
    await Tell(key)
    return value


@do
def yielding(key):
    value = yield Ask(key)
    yield Modify("n", lambda n: n + 1)
    yield Tell(key)
    return value


@pytest.mark.parametrize("child", [awaiting, yielding])
def test_both_kinds_of_parent_and_child(go, child):
    @do
    async def awaits():
        task = await Spawn(child("a"))
        local = await Local({"a": 3}, child("a"))
        heard = await Listen(child("b"))
        return await Wait(task), local, heard.value, list(heard.log), await Get("n")

    @do
    def yields():
        task = yield Spawn(child("a"))
        local = yield Local({"a": 3}, child("a"))
        heard = yield Listen(child("b"))
        return (yield Wait(task)), local, heard.value, list(heard.log), (yield Get("n"))

    for parent in (awaits, yields):
        result = go(parent(), env={"a": 1, "b": 2}, store={"n": 0})
        assert result.value == (1, 3, 2, ["b"], 2)
        assert result.raw_store["__log__"] == ["a", "b"]


def test_turns_are_the_same_for_both_kinds(go):
    def trace(kind):
        log = []

        @do
        async def awaits(name):
            for i in range(3):
                log.append(f"{name}{i}")
                await Put("x", i)

        @do
        def yields(name):
            for i in range(3):
                log.append(f"{name}{i}")
                yield Put("x", i)

        kinds = {"await": (awaits,) * 2, "yield": (yields,) * 2}
        first, second = kinds.get(kind, (awaits, yields))

        @do
        async def main():
            tasks = [await Spawn(first("a")), await Spawn(second("b"))]
            log.append("m")
            await Gather(*tasks)

        go(main())
        return log

    assert trace("await") == trace("yield") == trace("mixed")
    assert trace("await") == ["m", "a0", "b0", "a1", "b1", "a2", "b2"]


def test_gather_of_every_kind(go):
    @do
    async def program():
        return await Gather(
            awaiting("a"),
            yielding("b"),
            Await(soon(3)),
            Ask("a"),
            await Spawn(awaiting("b")),
            Spawn(yielding("a")),
        )

    result = go(program(), env={"a": 1, "b": 2}, store={"n": 0})
    assert result.value == [1, 2, 3, 1, 2, 1]
    assert result.raw_store["n"] == 2


def test_a_comprehension_of_awaits(go):
    @do
    async def program():
        tasks = [await Spawn(Await(soon(i, turns=5 - i))) for i in range(5)]
        return [await Wait(task) for task in tasks]

    assert go(program()).value == [0, 1, 2, 3, 4]


def test_race_and_cancel(go):
    @do
    async def slow(log):
        try:
            await Delay(1000)
        except TaskCancelledError:
            log.append(await Ask("k"))
            log.append(await Await(soon("unwound", turns=3)))
            raise

    @do
    async def program():
        log = []
        task = await Spawn(slow(log))
        won = await Race(task, await Spawn(Await(soon("fast"))))
        assert await Cancel(task)
        ended = await Safe(Wait(task))
        return won.value, log, type(ended.error)

    value = go(program(), env={"k": "cancelled"}).value
    assert value == ("fast", ["cancelled", "unwound"], TaskCancelledError)


def test_scope_waits_for_what_was_spawned_in_it(go):
    @do
    async def child(log, name):
        await Await(soon(None, turns=3))
        log.append(name)

    @do
    async def body(log):
        for name in "ab":
            await Spawn(child(log, name))
        log.append("body")
        return "value"

    @do
    async def program():
        log = []
        value = await Scope(body(log))
        return value, log

    assert go(program()).value == ("value", ["body", "a", "b"])


def test_a_failure_in_a_scope_cancels_the_others(go):
    log = []

    @do
    async def stands():
        try:
            await Await(asyncio.Event().wait())
        finally:
            log.append(await Await(soon("left")))

    @do
    async def fails():
        await Await(soon(None, turns=3))
        raise KeyError("failed")

    @do
    async def body():
        await Spawn(stands())
        await Spawn(fails())

    @do
    async def program():
        with pytest.raises(KeyError):
            await Scope(body())
        return log

    assert go(program()).value == ["left"]


def test_timeout_of_an_await(go):
    log = []

    async def stands():
        try:
            await asyncio.Event().wait()
        finally:
            log.append("coroutine")

    @do
    async def body():
        try:
            await Await(stands())
        finally:
            log.append(await Await(soon("program")))

    @do
    async def program():
        try:
            await Timeout(0.01, body())
        except TimeoutError:
            return log

    assert go(program()).value == ["coroutine", "program"]


def test_shield_delays_a_cancellation(go):
    log = []

    @do
    async def careful():
        log.append(await Await(soon("begun")))
        log.append(await Await(soon("finished", turns=5)))

    @do
    async def task():
        await Shield(careful())
        log.append("not here")

    @do
    async def program():
        running = await Spawn(task())
        while not log:
            await Await(soon(None))
        await running.cancel()
        return type((await Safe(Wait(running))).error)

    assert go(program()).value is TaskCancelledError
    assert log == ["begun", "finished"]


def test_promises_and_semaphores(go):
    class Held:
        def __init__(self, semaphore):
            self.semaphore = semaphore

        async def __aenter__(self):
            await AcquireSemaphore(self.semaphore)

        async def __aexit__(self, *error):
            await ReleaseSemaphore(self.semaphore)

    @do
    async def worker(semaphore, log, promise):
        async with Held(semaphore):
            log.append("in")
            await Await(soon(None, turns=3))
            log.append("out")
        if log.count("out") == 3:
            await CompletePromise(promise, "all")

    @do
    async def program():
        promise, semaphore, log = await CreatePromise(), await CreateSemaphore(), []
        for _ in range(3):
            await Spawn(worker(semaphore, log, promise))
        return await Wait(promise.future), log

    assert go(program()).value == ("all", ["in", "out"] * 3)


def test_time_without_an_event_loop():
    @do
    async def nap(seconds):
        await Delay(seconds)
        return seconds

    @do
    async def program():
        began = await GetTime()
        naps = await Gather(nap(60), nap(3600))
        late = await Safe(Timeout(5, nap(10)))
        return naps, type(late.error), (await GetTime() - began).total_seconds()

    def guarded():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return virtual_time(program())

    assert sync(guarded()).value == ([60, 3600], TimeoutError, 3605)


def test_a_coroutine_of_asyncio_needs_await_around_it(go):
    @do
    async def program():
        failed = await Safe(bare())
        return failed.error, await Await(soon("with"))

    @do
    async def bare():
        return await soon("without")

    error, value = go(program()).value
    assert [frame.name for frame in traceback.extract_tb(error.__traceback__)][:2] == [
        "bare",
        "soon",
    ]
    assert isinstance(error, TypeError)
    assert "await Await(x)" in str(error)
    assert value == "with"


class Manager:
    async def __aenter__(self):
        return await asyncio.sleep(0, "inside")

    async def __aexit__(self, *_):
        await asyncio.sleep(0)


class Counting:
    def __init__(self):
        self.n = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        await asyncio.sleep(0)
        raise StopAsyncIteration


async def managed():
    async with Manager():
        pass


async def iterated():
    async for _ in Counting():
        pass


BARE = {
    "sleep(0)": lambda: asyncio.sleep(0),
    "sleep": lambda: asyncio.sleep(1),
    "future": lambda: asyncio.get_running_loop().create_future(),
    "task": lambda: asyncio.get_running_loop().create_task(asyncio.sleep(1)),
    "executor": lambda: asyncio.get_running_loop().run_in_executor(None, int),
    "to_thread": lambda: asyncio.to_thread(int),
    "gather": lambda: asyncio.gather(soon(1), soon(2)),
    "async with": managed,
    "async for": iterated,
}


@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", BARE)
def test_what_is_awaited_bare_is_told_of_await(go, kind, asyncio_complaints):
    @do
    async def program():
        return await BARE[kind]()

    error = go(program()).error
    assert isinstance(error, InterpreterInvariantError | RuntimeError)
    told = "".join([str(error), *getattr(error, "__notes__", [])])
    assert told.count("await Await(x)") == 1
    assert (
        traceback.extract_tb(error.__traceback__)[0].line == "return await BARE[kind]()"
    )
    if kind == "gather":  # which the program has left to itself
        gc.collect()
        asyncio_complaints.clear()


@pytest.mark.parametrize("kind", sorted(BARE.keys() - {"sleep", "future", "task"}))
def test_the_same_inside_await(go, kind):
    async def inside():
        await BARE[kind]()
        return "done"

    @do
    async def program():
        return await Await(inside())

    assert go(program()).value == "done"
