"""Await under sync_run: the loop in the background."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import subprocess
import sys
import threading
import weakref

import pytest

from doeff import (
    Await,
    Cancel,
    Gather,
    Safe,
    Scope,
    Shield,
    Spawn,
    TaskCancelledError,
    Timeout,
    UnhandledEffectError,
    Wait,
    _aio,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff._aio import background_loop
from doeff.cesk.result import PythonAsyncSyntaxEscape
from doeff.effects.scheduler_internal import WaitForExternalCompletion

NAME = "doeff-asyncio-thread"


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


async def soon(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fails(error):
    raise error


async def left():
    """What the background loop has besides the asking task."""
    return len(asyncio.all_tasks()) - 1


def test_values_and_errors():
    error = ValueError("boom")

    @do
    def program():
        one = yield Await(soon(1))
        caught = yield Safe(Await(fails(error)))
        assert caught.error is error
        return one, (yield Await(soon(2, turns=0)))

    assert run(program()).value == (1, 2)


def test_it_runs_on_one_thread_of_its_own():
    async def where():
        return threading.current_thread().name, asyncio.current_task() is not None

    @do
    def program():
        found = yield Gather(Await(where()), Await(where()))
        return found

    assert run(program()).value == [(NAME, True), (NAME, True)]
    assert run(program()).value == [(NAME, True), (NAME, True)]
    assert [t.name for t in threading.enumerate()].count(NAME) == 1


def test_awaits_overlap():
    @do
    def program():
        barrier = asyncio.Barrier(20)

        async def meet():
            await barrier.wait()
            return 1

        tasks = []
        for _ in range(20):
            tasks.append((yield Spawn(Await(meet()))))
        return sum((yield Gather(*tasks)))

    assert run(program()).value == 20


def test_runs_of_many_threads_share_it():
    values = []

    def body(n):
        values.append(run(Await(soon(n, turns=5))).value)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(values) == list(range(20))


def test_a_run_inside_an_awaited_coroutine():
    async def nested():
        return run(Await(soon("deep"))).value

    async def more():
        return run(Await(nested())).value

    assert run(Await(more())).value == "deep"


def test_in_a_thread_with_a_running_loop():
    async def main():
        return run(Await(soon(1))).value

    assert asyncio.run(main()) == 1


def test_context_variables():
    variable = contextvars.ContextVar("variable", default=None)

    async def inside():
        before = variable.get()
        variable.set("inside")
        return before

    @do
    def program():
        variable.set("main")
        return (yield Await(inside())), variable.get()

    assert run(program()).value == ("main", "main")
    variable.set(None)


def test_a_cancelled_task_waits_for_its_coroutine():
    log = []

    async def stands(entered):
        entered.set_result(None)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            log.append("out")

    @do
    def program():
        async def make():
            return asyncio.get_running_loop().create_future()

        entered = yield Await(make())
        task = yield Spawn(Await(stands(entered)))
        yield Await(entered)
        yield Cancel(task)
        caught = yield Safe(Wait(task))
        log.append("told")
        assert isinstance(caught.error, TaskCancelledError)
        return (yield Await(left()))

    assert run(program()).value == 0
    assert log == ["out", "told"]


def test_a_coroutine_that_ignores_cancellation():
    closed = threading.Event()

    async def ignores(entered):
        entered.set()
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    pass
        finally:
            closed.set()

    entered = threading.Event()

    @do
    def program():
        yield Spawn(Await(ignores(entered)), daemon=True)
        while not entered.is_set():
            yield Await(soon(None))
        return 1

    assert run(program(), close_timeout=0.01).value == 1
    assert entered.is_set()
    assert closed.wait(10)
    assert run(Await(left())).value == 0


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupts_leave_the_loop_alive(error):
    log = []

    @do
    def program():
        try:
            yield Await(fails(error()))
        finally:
            log.append((yield Await(soon("cleanup"))))

    with pytest.raises(error):
        run(program())
    assert log == ["cleanup"]
    assert run(Await(soon(1))).value == 1


@pytest.mark.once
def test_an_interrupt_while_it_waits():
    log = []

    async def stands():
        try:
            os.kill(os.getpid(), signal.SIGINT)
            await asyncio.Event().wait()
        finally:
            log.append("out")

    @do
    def program():
        try:
            yield Await(stands())
        finally:
            log.append((yield Await(soon("cleanup"))))

    with pytest.raises(KeyboardInterrupt):
        run(program())
    assert log == ["out", "cleanup"]


def test_what_awaits_something_that_few_know_is_not_collected():
    known = weakref.WeakSet()

    async def stands():
        future = asyncio.get_running_loop().create_future()
        known.add(future)
        asyncio.get_running_loop().call_soon(wake)
        return await future

    def wake():
        gc.collect()
        for future in known:
            future.set_result("woken")

    assert sync_run(Await(stands()), sync_handlers_preset).value == "woken"


def test_a_task_that_cannot_be_made():
    async def refuse():
        def factory(*_, **__):
            raise LookupError("no tasks today")

        asyncio.get_running_loop().set_task_factory(factory)

    @do
    def program():
        yield Await(refuse())
        try:
            result = yield Safe(Await(soon(1)))
        finally:
            loop = _aio.background_loop()
            loop.call_soon_threadsafe(loop.set_task_factory, None)
        return result

    error = sync_run(program(), sync_handlers_preset).value.error
    assert isinstance(error, LookupError)


INTERRUPTED = {
    "an Await": Await,
    "a Gather": lambda coroutine: Gather(Await(coroutine), Await(asyncio.sleep(60))),
    "a Gather in a Gather": lambda coroutine: Gather(Gather(Await(coroutine))),
    "a Scope": lambda coroutine: Scope(Spawn(Await(coroutine))),
    "a Timeout": lambda coroutine: Timeout(60, Await(coroutine)),
    "a Shield": lambda coroutine: Shield(Await(coroutine)),
}


@pytest.mark.parametrize("where", INTERRUPTED.values(), ids=list(INTERRUPTED))
def test_the_second_interrupt_does_not_wait(where):
    """The first one cancels the coroutine, which takes no notice."""
    log = []
    told = threading.Semaphore(0)

    async def ignores():
        try:
            told.release()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            log.append("cancelled")
            told.release()
        await asyncio.Event().wait()

    interrupts = [KeyboardInterrupt(1), KeyboardInterrupt(2)]

    @do
    def wait_handler(effect: WaitForExternalCompletion, ctx):
        if interrupts:
            told.acquire()
            raise interrupts.pop(0)
        return effect.queue.get()

    @do
    def program():
        try:
            yield where(ignores())
        except KeyboardInterrupt as error:
            log.append(error.args)
        return (yield Await(soon(1, turns=3)))

    stack = list(sync_handlers_preset)
    stack[1] = wait_handler
    assert sync_run(program(), stack).value == 1
    assert log in (["cancelled", (1,)], ["cancelled", (2,)])
    assert run(Await(left())).value == 0


@pytest.mark.parametrize("before", [True, False], ids=["not told", "told"])
def test_an_interrupt_while_the_coroutine_is_handed_over(before, monkeypatch):
    """Python code of asyncio's does that: whether the loop knows of it is uncertain then."""
    loop = background_loop()
    interrupts = [KeyboardInterrupt()]
    ended = []

    def call_soon_threadsafe(*args):
        if interrupts and before:
            raise interrupts.pop()
        type(loop).call_soon_threadsafe(loop, *args)
        if interrupts:
            raise interrupts.pop()

    async def stands():
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("coroutine")

    @do
    def program():
        try:
            yield Await(stands())
        except KeyboardInterrupt:
            ended.append("program")
        return (yield Await(soon(1)))

    monkeypatch.setattr(loop, "call_soon_threadsafe", call_soon_threadsafe)
    assert run(program()).value == 1
    assert ended in (["coroutine", "program"], ["program"])  # "program": not begun
    assert run(Await(left())).value == 0


def test_an_interrupt_while_the_coroutine_is_cancelled(monkeypatch):
    loop = background_loop()
    entered = threading.Event()
    calls = []

    def call_soon_threadsafe(callback, *args):
        type(loop).call_soon_threadsafe(loop, callback, *args)
        calls.append(callback.__name__)
        if calls == ["_begin", "_end"]:
            raise KeyboardInterrupt(2)

    async def stands():
        entered.set()
        await asyncio.Event().wait()

    def wait_once(queue):
        if not calls[1:]:
            entered.wait()
            raise KeyboardInterrupt(1)
        return queue.get()

    @do
    def wait_handler(effect: WaitForExternalCompletion, ctx):
        return wait_once(effect.queue)

    @do
    def program():
        try:
            yield Await(stands())
        except KeyboardInterrupt as error:
            return error.args

    monkeypatch.setattr(loop, "call_soon_threadsafe", call_soon_threadsafe)
    stack = list(sync_handlers_preset)
    stack[1] = wait_handler
    assert sync_run(program(), stack).value == (2,)


def test_a_cancelled_error_of_its_own():
    result = run(Await(fails(asyncio.CancelledError("mine"))))
    assert isinstance(result.result.error, asyncio.CancelledError)


def test_without_an_await_handler():
    stack = [h for h in sync_handlers_preset if "await" not in repr(h)]
    coroutine = soon(1)
    with pytest.raises(UnhandledEffectError):
        sync_run(Await(coroutine), stack)
    coroutine.close()


def test_an_escape_is_refused_and_the_coroutine_closed():
    with pytest.raises(TypeError, match="async_run"):
        sync_run(Await(soon(1)), async_handlers_preset)
    gc.collect()

    @do
    def catches():
        try:
            yield PythonAsyncSyntaxEscape(action=lambda: None)
        except TypeError:
            return "caught"

    assert sync_run(catches(), async_handlers_preset).value == "caught"


def script(text: str) -> str:
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", text],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


HEAD = """
import asyncio, os, threading
from doeff import *
async def soon(value):
    await asyncio.sleep(0)
    return value
run = lambda program: sync_run(program, sync_handlers_preset).value
"""


@pytest.mark.once
def test_a_thread_that_cannot_start(monkeypatch):
    loops = []
    new_event_loop = asyncio.new_event_loop

    def keep():
        loops.append(new_event_loop())
        return loops[-1]

    def refuse(self):
        raise RuntimeError("can't start new thread")

    @do
    def program():
        coroutine = soon(1)
        error = (yield Safe(Await(coroutine))).error
        return str(error), coroutine.cr_frame

    with monkeypatch.context() as patch:
        patch.setattr(_aio, "_background", _aio._Background("another"))
        patch.setattr(asyncio, "new_event_loop", keep)
        patch.setattr(threading.Thread, "start", refuse)
        assert run(program()).value == ("can't start new thread", None)
    assert [loop.is_closed() for loop in loops] == [True]
    assert run(Await(soon(1))).value == 1


def test_it_stops_when_the_process_ends():
    text = """
async def forever():
    try:
        await asyncio.Event().wait()
    finally:
        print("closed")
async def start():
    global task
    task = asyncio.create_task(forever())
    await asyncio.sleep(0)
run(Await(start()))
print("end")
"""
    assert script(HEAD + text) == "end\nclosed\n"


@pytest.mark.once
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_after_a_fork():
    text = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)
assert run(Await(soon(1))) == 1
pid = os.fork()
if pid == 0:
    os._exit(run(Await(soon(7))))
_, status = os.waitpid(pid, 0)
print(os.waitstatus_to_exitcode(status), run(Await(soon(2))))
"""
    assert script(HEAD + text) == "7 2\n"


@pytest.mark.once
def test_a_loop_closed_under_a_run():
    text = """
@do
def program():
    try:
        yield Await(asyncio.Event().wait())
    finally:
        print("closed")
loop = asyncio.new_event_loop()
running = async_run(program(), async_handlers_preset)
async def begin():
    running.send(None)
    await asyncio.sleep(0)
loop.run_until_complete(begin())
loop.close()
running.close()
del running
"""
    assert script(HEAD + text) == "closed\n"


@pytest.mark.once
def test_interrupting_asyncio_run():
    text = """
import signal
@do
def program():
    try:
        asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
        yield Await(asyncio.Event().wait())
    finally:
        print((yield Await(soon("cleanup"))))
try:
    asyncio.run(async_run(program(), async_handlers_preset))
except KeyboardInterrupt:
    print("interrupted")
"""
    assert script(HEAD + text) == "cleanup\ninterrupted\n"


@pytest.mark.once
def test_a_coroutine_that_interrupts_the_loop():
    text = """
async def fails():
    raise KeyboardInterrupt
@do
def program():
    try:
        yield Await(fails())
    finally:
        print((yield Await(soon("cleanup"))))
try:
    asyncio.run(async_run(program(), async_handlers_preset))
except KeyboardInterrupt:
    print("interrupted")
"""
    assert script(HEAD + text) == "cleanup\ninterrupted\n"


def test_sync_await_handler_in_an_event_loop():
    stack = [*async_handlers_preset[:3], *sync_handlers_preset[3:]]

    @do
    def program():
        async def where():
            return threading.current_thread().name

        return (yield Await(where()))

    assert asyncio.run(async_run(program(), stack)).value == NAME
