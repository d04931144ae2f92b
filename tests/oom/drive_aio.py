"""drive.py for bodies that need an event loop: allocations fail in the engine's steps only.

    drive_aio.py BODY once|onwards|short PROGRESS_FILE

asyncio does not survive everywhere without memory: a callback that it cannot call, or cannot
schedule, is forgotten, and whoever waits for it waits for ever. So each step of a coroutine that an
asyncio task drives is a window, the k-th one of a run of the body is chosen, and in it the n-th
allocation (and all after it, for `onwards`) fails. The loop itself has memory. A step ends with a
wake-up, a new task, a timer: what these do in asyncio happens inside of the window.
"""

from __future__ import annotations

import _testcapi
import asyncio
import collections.abc
import faulthandler
import gc
import os
import signal
import sys
import warnings
import weakref
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import drive

from doeff import _aio, _engine

CLEAN = 12
MOST = 5_000
TURNS = 20
SECONDS = 30

fail_from, works_again = _testcapi.set_nomemory, _testcapi.remove_mem_hooks


class Window(collections.abc.Coroutine):
    """A coroutine whose steps are windows."""

    seen = chosen = first = stop = 0
    begun = False
    runs = weakref.WeakSet()

    def __init__(self, coroutine):
        self.coroutine = coroutine
        self.is_run = type(coroutine).__name__ == "AsyncRun"
        if self.is_run:
            Window.runs.add(self)
        self.steps = coroutine.send, coroutine.throw, coroutine.close

    def __await__(self):
        return self

    def send(self, value):
        self.begun = True
        return self.step(self.steps[0], value)

    def throw(self, *error):
        return self.step(self.steps[1], *error)

    def close(self):
        return self.steps[2]()

    @staticmethod
    def step(method, *arguments):
        Window.seen += 1
        if Window.seen != Window.chosen:
            return method(*arguments)
        fail_from(Window.first, Window.stop)
        try:
            return method(*arguments)
        finally:
            works_again()


def with_windows(loop, coroutine, **options):
    return asyncio.Task(Window(coroutine), loop=loop, **options)


async def some_turns():
    """How many tasks are still there after them.

    asyncio may schedule a task, fail then, and forget it: a run that stands in such a one is woken.
    """
    for _ in range(TURNS):
        await asyncio.sleep(0)
    for run in list(Window.runs):
        if run.coroutine.cr_await is not None:
            run.coroutine.cr_await.cancel()
    for _ in range(TURNS):
        await asyncio.sleep(0)
    return len(asyncio.all_tasks()) - 1


def settle(loop):
    """Lets asyncio tasks that were told to end do so, with memory."""
    return loop.run_until_complete(some_turns())


def hangs(*_):
    works_again()
    raise AssertionError("it hangs")


def nobody_has(task):
    """A destroyed task that nobody could end.

    Either there was no memory to make all of it or to schedule its first step, and whoever wanted it
    has been told; or it is the body's own, which had no memory to cancel it.
    """
    if task is None:
        return False
    window = task.get_coro()
    return window is None or not window.begun or window.is_run


def note_problem(_, context):
    """Called by asyncio."""
    error = context.get("exception")
    if (
        isinstance(error, MemoryError)
        or isinstance(getattr(error, "__cause__", None), MemoryError)
        or nobody_has(context.get("task"))
    ):
        drive.told_aside.append(True)
    else:
        drive.unraisable.append(context)


def attempt(body, window, first, stop):
    """The value or the error of the body; signals interrupt one that hangs."""
    Window.seen, Window.chosen, Window.first, Window.stop = 0, window, first, stop
    signal.alarm(SECONDS)
    try:
        return body(), None
    except AssertionError:
        raise
    except BaseException as error:
        return None, error
    finally:
        works_again()
        Window.chosen = 0
        signal.alarm(0)


def check(place, value, error, expected):
    """Whether it went as if nothing had failed, which it may."""
    if error is not None:
        told = isinstance(error, MemoryError) or isinstance(
            error.__cause__, MemoryError
        )
        if not told and not drive.interpreter_lost(repr(error)):
            raise AssertionError(
                f"{place} failed: {type(error).__name__} instead of MemoryError"
            ) from error
        return False
    if value == expected and not drive.told_aside:
        return True
    if value != expected and not drive.told_aside and not drive.reported(repr(value)):
        raise AssertionError(
            f"{place} failed: {value!r} instead of {expected!r} or MemoryError"
        )
    return False


def main(identifier, mode, progress_file):
    faulthandler.enable()
    warnings.simplefilter("ignore")  # of coroutines that there was no memory to await
    signal.signal(signal.SIGALRM, hangs)
    sys.unraisablehook = drive.note_unraisable
    body = drive.bodies.body(identifier)
    drive.keep_compiler_out()
    loop = drive.bodies.load_file(drive.bodies.FOLDER / "bodies_aio.py").LOOP
    loop.set_exception_handler(note_problem)
    loop.set_task_factory(with_windows)
    background = _aio.background_loop()
    background.set_exception_handler(note_problem)
    background.set_task_factory(with_windows)
    expected = [attempt(body, 0, 0, 0)[0] for _ in range(3)][-1]
    windows = Window.seen
    if windows == 0:
        drive.main(identifier, mode, progress_file)
        return
    progress = os.open(progress_file, os.O_WRONLY | os.O_CREAT)
    if sys.version_info >= (3, 12):
        drive.survive_make_function()
    failures = 0
    gc.disable()
    gc.freeze()
    for window in range(1, windows + 1):
        n = clean = 0
        while clean < CLEAN:
            n += 3 if mode == "short" and n >= 30 else 1
            place = f"allocation {n} of step {window}"
            if n > MOST:
                raise AssertionError(f"{place}: still failing")
            _engine._drain()
            os.pwrite(progress, b"%40s\n" % place.encode(), 0)
            drive.told_aside.clear()
            value, error = attempt(body, window, n - 1, 0 if mode == "onwards" else n)
            if check(place, value, error, expected):
                clean += 1
            else:
                clean = 0
                failures += 1
            del error
            gc.collect()  # CPython keeps 16 exceptions for then, and asyncio has them in cycles
            left = settle(loop)
            if left:
                raise AssertionError(f"{place} failed: {left} asyncio tasks are left")
            if drive.unraisable:
                raise AssertionError(f"{place} failed: {drive.unraisable}")
            if not drive.still_works():
                raise AssertionError(
                    f"{place} failed, then the machine gave wrong answers"
                )
    if attempt(body, 0, 0, 0)[0] != expected:
        raise AssertionError("the body gives another value afterwards")
    gc.collect()
    print(f"{identifier} {mode}: {failures} failing allocations in {windows} steps")


if __name__ == "__main__":
    main(*sys.argv[1:])
