"""The event loops of the bridge to asyncio: the one in the background, and what others do."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading

from doeff._engine import (
    CreateExternalPromise,
    PythonAsyncSyntaxEscape,
    Wait,
    do,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from typing import Any

# --- tasks ---------------------------------------------------------------------------

make_task = asyncio.Task
MAKE_TASK_NAMES = ("loop", "eager_start") if sys.version_info >= (3, 12) else ()
"""Names of the arguments behind the coroutine: the loop, and True for a start at once where that exists.

Without them the task belongs to the running loop, which is the same one, and is made in less time.
"""


def task_factory_of(loop: asyncio.AbstractEventLoop) -> Callable[[], Any] | None:
    """``loop.get_task_factory`` if its ``create_task`` does no more than call that.

    A loop of somebody's own gets to see each task, through its ``create_task``.
    """
    create = getattr(type(loop), "create_task", None)
    if create is asyncio.BaseEventLoop.create_task or type(loop).__module__ == "uvloop":
        return loop.get_task_factory
    return None


def hush_task() -> None:
    """Nobody is to be told that the current task's exception was never retrieved."""
    task = asyncio.current_task()
    if task is not None:
        task.add_done_callback(lambda task: task.cancelled() or task.exception())


# --- the loop in the background -------------------------------------------------------


class _Background:
    """An event loop on a thread of its own; ``inner`` serves what is awaited on that thread."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self.loop: asyncio.AbstractEventLoop | None = None
        self.inner: _Background | None = None

    def for_caller(self) -> _Background:
        """This one, or the one inside the one whose thread is asking."""
        here: _Background | None = self
        while here is not None:
            if here.thread is threading.current_thread():
                with here.lock:
                    if here.inner is None:
                        here.inner = _Background(self.name + "-inner")
                return here.inner
            here = here.inner
        return self

    def start(self) -> asyncio.AbstractEventLoop:
        with self.lock:
            if self.loop is None:
                loop = asyncio.new_event_loop()
                thread = threading.Thread(
                    target=self.serve, args=(loop,), name=self.name, daemon=True
                )
                try:
                    thread.start()
                except RuntimeError:  # too many threads, or the process ends
                    loop.close()
                    raise
                except BaseException:  # interrupted: it may have started
                    loop.call_soon_threadsafe(loop.stop)
                    raise
                self.thread, self.loop = thread, loop
            return self.loop

    @staticmethod
    def serve(loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            left = asyncio.all_tasks(loop)
            for task in left:
                task.cancel()
            if left:
                loop.run_until_complete(asyncio.wait(left, timeout=1))
            loop.run_until_complete(loop.shutdown_asyncgens())
            asyncio.set_event_loop(None)
            loop.close()

    def stop(self) -> None:
        if self.inner is not None:
            self.inner.stop()
        with self.lock:
            loop, thread = self.loop, self.thread
            self.loop = self.thread = None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join(5)


_background = _Background("doeff-asyncio-thread")


def background_loop() -> asyncio.AbstractEventLoop:
    """The loop for ``sync_await_handler``, of a thread that all runs share."""
    background = _background.for_caller()
    return background.loop or background.start()


def _forget() -> None:
    global _background
    _background = _Background(_background.name)


atexit.register(lambda: _background.stop())
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

# --- the handlers in effects ----------------------------------------------------------


async def _settle(awaitable: Any, promise: Any) -> None:
    try:
        promise.complete(await awaitable)
    except BaseException as error:
        promise.fail(error)


@do
def await_in_the_loop(awaitable: Any) -> Generator[Any, Any, Any]:
    """Await in the loop that drives the run, where handlers want to see how."""
    promise = yield CreateExternalPromise()
    task = yield PythonAsyncSyntaxEscape(
        action=lambda: asyncio.create_task(_settle(awaitable, promise))
    )
    promise.on_cancel(task.cancel)
    return (yield Wait(promise.future))


@do
def await_in_a_thread(awaitable: Any) -> Generator[Any, Any, Any]:
    """Await in the background, where handlers want to see how."""
    promise = yield CreateExternalPromise()
    settling = _settle(awaitable, promise)
    task = asyncio.run_coroutine_threadsafe(settling, background_loop())
    promise.on_cancel(task.cancel)
    return (yield Wait(promise.future))
