"""Random programs of tasks: scripts that hypothesis draws, and the program that performs one and keeps the books.

A script is a tree of commands. It is drawn as a flat list of ``(name, n)``: a compound opens a block, ``also``
begins the next one of the same compound, ``close`` ends it. ``Interpreter`` performs it and notes which tasks began
and ended, which ``finally`` ran, what happened in which order, and every answer that is not the right one.
"""

from __future__ import annotations

import sys
import threading
import warnings
import weakref
from collections import Counter
from datetime import datetime, timedelta

from hypothesis import strategies as st

from doeff import (
    AcquireSemaphore,
    Ask,
    Await,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    ExternalPromiseCancelCallbackError,
    FailPromise,
    Gather,
    Get,
    GetTime,
    Listen,
    Local,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Scope,
    Shield,
    Spawn,
    TaskCancelledError,
    Tell,
    Timeout,
    Wait,
    WaitUntil,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import (
    async_external_wait_handler,
    sync_external_wait_handler,
)
from doeff.effects.scheduler_internal import (
    SchedulerIntrospection,
    WaitForExternalCompletion,
)
from doeff.testing import with_schedule
from doeff.types import EffectBase

NOON = datetime(2024, 1, 1, 12)
STEPS = 400  # a script that repeats what repeats would not end in anybody's time


class Boom(Exception):
    pass


class Blast(BaseException):
    """No Exception: ``Safe`` lets it pass."""


class Ping(EffectBase):
    pass


# ---- drawing -----------------------------------------------------------------------------------

LEAVES = ["eff", "tell", "ask", "ping", "boom", "blast", "interrupt", "introspect", "time", "wait", "wait_safe", "wait_idle", "wait_high", "race", "race_mixed", "gather_handles", "cancel", "cancel_safe", "self_cancel", "discard", "is_done", "drop", "make_promise", "complete", "complete_keep", "complete_old", "complete_dying", "fail", "wait_promise", "make_external", "make_touchy", "external_now", "external_dying", "external_thread", "wait_external", "race_external", "make_semaphore", "acquire", "release", "with_permit", "delay", "until", "put_clock", "swallowing", "again_later"]  # fmt: skip
COMPOUNDS = ["spawn", "gather", "gather_spawn", "race_spawn", "finally", "catch", "safe", "swallow", "local", "listen", "handled", "repeat", "scope", "timeout", "shield"]  # fmt: skip
WILD = ["await", "await_stubborn", "thread_later", "threads"]  # their order is not ours

# Twice: what makes a program of tasks out of a list of commands.
NAMES = [*LEAVES, *COMPOUNDS, *COMPOUNDS, "spawn", "spawn", "close", "close", "also"]


def flat(names):
    command = st.tuples(st.sampled_from(names), st.integers(0, 7))
    return st.one_of(
        st.lists(command, min_size=1, max_size=24),
        st.lists(command, min_size=20, max_size=90),
    ).map(tree)


def tree(commands):
    """Blocks as lists of (name, n, blocks); blocks is empty for a leaf."""
    script = []
    open_ones = [(script, None)]
    for name, n in commands:
        body, blocks = open_ones[-1]
        if name == "close":
            if blocks is not None:
                open_ones.pop()
        elif name == "also":
            if blocks is not None and body:
                open_ones[-1] = ([], blocks)
                blocks.append(open_ones[-1][0])
        elif name in COMPOUNDS:
            inner = [[]]
            body.append((name, n, inner))
            open_ones.append((inner[0], inner))
        else:
            body.append((name, n, []))
    return script


SCRIPTS = flat(NAMES)
WILD_SCRIPTS = flat(NAMES + WILD * 2)


# ---- performing --------------------------------------------------------------------------------


class Live:
    """Lives in a task's frame: shows that the frame is gone."""


class Dying:
    """Runs something as it goes, in the middle of whatever drops it."""

    def __init__(self, last):
        self.last = last

    def __del__(self):
        self.last()


class Interpreter:
    def __init__(self, interrupt_at=None):
        self.interrupt_at = interrupt_at
        self.trace = []
        self.wrong = []
        self.began = Counter()
        self.ended = Counter()
        self.opened = Counter()
        self.closed = Counter()
        self.called_off = Counter()
        self.lives = []
        self.numbers = self.steps = 0
        self.clock_put = False
        self.tasks, self.promises, self.externals, self.semaphores = [], [], [], []
        self.number_of = {}  # task -> what it returns
        self.threads = []
        self.sentinel = object()

    def with_outside(self, handlers, waits):
        """When nothing else can go on, whatever was to come from outside comes."""

        @do
        def outside(effect, ctx):
            if isinstance(effect, WaitForExternalCompletion):
                self.trace.append("idle")
                for promise in self.externals:
                    promise.complete(self.sentinel)
            return (yield effect)

        at = handlers.index(waits) + 1
        return [*handlers[:at], outside, *handlers[at:]]

    def check(self, right, *what):
        if not right:
            self.wrong.append(what)

    def note(self, *what):
        self.trace.append(what)
        if self.interrupt_at is not None and len(self.trace) > self.interrupt_at:
            self.interrupt_at = None
            raise KeyboardInterrupt

    def number(self):
        self.numbers += 1
        return self.numbers

    def pick(self, things, n):
        return things[n % len(things)] if things else None

    def kept(self, task, number):
        self.tasks.append(task)
        self.number_of[task] = number

    @do
    def task(self, body, me=None):
        me = me or self.number()
        live = Live()
        self.lives.append(weakref.ref(live))
        self.began[me] += 1
        try:
            return (yield self.block(body, me))
        finally:
            self.ended[me] += 1
            self.trace.append((me, "end"))

    @do
    def block(self, body, me):
        for at, (name, n, blocks) in enumerate(body):
            self.steps += 1
            if self.steps > STEPS:
                break
            self.note(me, at, name)
            perform = getattr(self, "do_" + name)
            yield perform(me, n, blocks) if blocks else perform(me, n)
        return me

    # leaves

    @do
    def do_eff(self, me, n):
        yield Put("k", n)
        self.check((yield Get("k")) == n or n, "store", me)

    @do
    def do_tell(self, me, n):
        yield Tell(str(n))

    @do
    def do_ask(self, me, n):
        yield Ask("a")

    @do
    def do_ping(self, me, n):
        got = yield Safe(Ping())
        self.note(me, "ping", got.is_ok())

    @do
    def do_boom(self, me, n):
        yield Put("k", n)
        raise Boom(n)

    @do
    def do_blast(self, me, n):
        yield Put("k", n)
        if n == 0:
            raise Blast(n)

    @do
    def do_interrupt(self, me, n):
        yield Put("k", n)
        if n == 0:
            raise KeyboardInterrupt

    @do
    def do_introspect(self, me, n):
        counts = yield SchedulerIntrospection()
        self.check(min(counts.values()) >= 0, "counts", counts)
        self.note(me, *counts.values())

    @do
    def do_time(self, me, n):
        self.note(me, (yield GetTime()))

    def right_value(self, task, value):
        known = self.number_of.get(task)
        right = known is None or value in (known, "abandoned")
        self.check(right, "value of a task", known, value)

    @do
    def do_wait(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            self.right_value(task, (yield Wait(task)))

    @do
    def do_wait_idle(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            self.right_value(task, (yield Wait(task, priority=0)))

    @do
    def do_wait_high(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            self.right_value(task, (yield Wait(task, priority=15 + n)))

    @do
    def do_wait_safe(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            got = yield Safe(Wait(task))
            if got.is_ok():
                self.right_value(task, got.value)

    @do
    def do_race(self, me, n):
        if self.tasks:
            things = self.tasks[n % len(self.tasks) :] + self.tasks[:2]
            yield from self.race(things, None)

    def race(self, things, priority):
        won = yield Race(*things, priority=priority)
        self.check(len(won.rest) == len(things) - 1, "rest of a race")
        self.check(won.first in things, "first of a race")
        self.right_value(won.first, won.value)
        return won

    @do
    def do_race_mixed(self, me, n):
        things = (
            self.tasks[-2:]
            + [p.future for p in self.promises[-2:]]
            + self.externals[-2:]
        )
        if things:
            yield from self.race(things, n)

    @do
    def do_race_external(self, me, n):
        """Loses its race, and then nobody waits for it."""
        promise = yield CreateExternalPromise()
        self.externals.append(promise)
        promise.on_cancel(lambda: self.trace.append((me, "lost")))
        sleeper = yield Spawn(Delay(n))
        yield Race(promise, sleeper)
        self.note(me, "raced")
        promise.complete(self.sentinel)

    @do
    def do_gather_handles(self, me, n):
        things = self.tasks[-n:] if n else []
        values = yield Gather(*things)
        for thing, value in zip(things, values, strict=True):
            self.right_value(thing, value)

    @do
    def do_cancel(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            live = yield task.cancel()
            self.check(live in (True, False), "cancel", live)

    @do
    def do_cancel_safe(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            done = yield task.is_done()
            got = yield Safe(Cancel(task))
            self.note(me, "cancelled", got.is_ok())
            self.check(not (done and got.is_ok() and got.value), "cancel of the dead")

    @do
    def do_self_cancel(self, me, n):
        if n == 0 and self.tasks:
            yield self.tasks[-1].cancel()

    @do
    def do_discard(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            got = yield Safe(Discard(task))
            if got.is_ok():
                self.check((yield task.is_done()), "discarded and not done")

    @do
    def do_is_done(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            self.note(me, (yield task.is_done()))

    @do
    def do_drop(self, me, n):
        if self.tasks:
            self.number_of.pop(self.tasks.pop(n % len(self.tasks)), None)
        yield Put("k", 1)

    @do
    def do_make_promise(self, me, n):
        self.promises.append((yield CreatePromise()))

    @do
    def do_complete(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            yield CompletePromise(promise, self.sentinel)
            self.check(promise.value is self.sentinel, "value of a promise")

    @do
    def do_complete_keep(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            yield CompletePromise(promise, self.sentinel, yield_to_woken=False)

    @do
    def do_complete_old(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                promise.complete(self.sentinel)
            self.check(promise.is_completed, "completed and not complete")
        yield Put("k", 1)

    def settle_old(self, promise, n):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                promise.fail(Boom(n)) if n % 2 else promise.complete(self.sentinel)
        except RuntimeError:
            pass  # it is settled, or its run is over

    @do
    def do_complete_dying(self, me, n):
        """It is settled when this frame goes: at its end, or while the task is thrown away."""
        promise = self.pick(self.promises, n)
        if promise is not None:
            dying = Dying(lambda: self.settle_old(promise, n))
            yield Delay(n % 3)
            del dying

    @do
    def do_fail(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            yield FailPromise(promise, Boom(n))

    @do
    def do_wait_promise(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None:
            self.check(
                (yield Wait(promise.future)) is self.sentinel, "value of a promise"
            )

    @do
    def make_external(self, me, n, touchy=False):
        promise = yield CreateExternalPromise()
        made = self.number()

        def called_off():
            self.called_off[made] += 1
            self.trace.append((me, "on_cancel"))
            if touchy:
                raise Boom(n)

        promise.on_cancel(called_off)
        self.externals.append(promise)

    def do_make_external(self, me, n):
        return self.make_external(me, n)

    def do_make_touchy(self, me, n):
        return self.make_external(me, n, True)

    @do
    def do_external_now(self, me, n):
        promise = self.pick(self.externals, n)
        if promise is not None:
            won = promise.complete(self.sentinel) if n % 2 else promise.fail(Boom(n))
            self.check(not promise.complete(n), "completed twice")
            self.note(me, "won", won)
        yield Put("k", 1)

    @do
    def do_external_dying(self, me, n):
        promise = self.pick(self.externals, n)
        if promise is not None:
            dying = Dying(lambda: promise.complete(self.sentinel))
            yield Delay(n % 3)
            del dying

    @do
    def do_external_thread(self, me, n):
        promise = yield CreateExternalPromise()
        thread = threading.Thread(target=promise.complete, args=(n,))
        thread.start()
        thread.join()  # two that go on at once would have an order of their own
        self.check((yield Wait(promise)) == n, "value of an external promise")

    @do
    def do_wait_external(self, me, n):
        promise = self.pick(self.externals, n)
        if promise is not None:
            promise.complete(self.sentinel)
            self.check((yield Wait(promise)) is self.sentinel, "external value")

    @do
    def do_make_semaphore(self, me, n):
        self.semaphores.append(((yield CreateSemaphore(1 + n % 3)), 1 + n % 3, [0]))

    @do
    def do_acquire(self, me, n):
        chosen = self.pick(self.semaphores, n)
        if chosen is not None:
            yield AcquireSemaphore(chosen[0])
            self.taken(chosen, 1)

    def taken(self, chosen, by):
        chosen[2][0] += by
        self.check(chosen[2][0] <= chosen[1], "more permits than there are")

    @do
    def do_release(self, me, n):
        chosen = self.pick(self.semaphores, n)
        if chosen is not None:
            yield from self.release(chosen)

    def release(self, chosen):
        # one that is handed over never was free: it is counted down before
        chosen[2][0] -= 1
        if not (yield Safe(ReleaseSemaphore(chosen[0]))).is_ok():
            chosen[2][0] += 1

    @do
    def do_with_permit(self, me, n):
        chosen = self.pick(self.semaphores, n)
        if chosen is not None:
            yield AcquireSemaphore(chosen[0])
            self.taken(chosen, 1)
            try:
                yield Delay(1)
            finally:
                yield from self.release(chosen)

    @do
    def do_delay(self, me, n):
        began = yield GetTime()
        yield Delay(n % 4)
        self.check_clock((yield GetTime()), began + timedelta(seconds=n % 4))

    @do
    def do_until(self, me, n):
        target = (yield GetTime()) + timedelta(seconds=n - 1)
        yield WaitUntil(target)
        self.check_clock((yield GetTime()), target)

    def check_clock(self, now, least):
        self.check(now >= least or self.clock_put, "woken too early", now, least)

    @do
    def do_put_clock(self, me, n):
        now = yield GetTime()
        self.clock_put = True
        yield Put("__current_time__", now + timedelta(seconds=n))
        self.note(me, (yield GetTime()))

    @do
    def do_swallowing(self, me, n):
        for _ in range(n % 3 + 1):
            try:
                yield Delay(2)
            except TaskCancelledError:
                self.note(me, "swallowed")

    @do
    def do_again_later(self, me, n):
        """Cancels a task more than once, in its cleanup as well."""
        task = self.pick(self.tasks, n)
        if task is not None:
            for _ in range(3):
                yield Cancel(task)
                yield Delay(n % 2)

    # what has an order of its own

    @do
    def do_await(self, me, n):
        yield Await(later(n))

    @do
    def do_await_stubborn(self, me, n):
        yield Await(stubborn(n))

    @do
    def do_thread_later(self, me, n):
        promise = yield CreateExternalPromise()
        thread = threading.Timer(n * 1e-4, promise.complete, (n,))
        self.threads.append(thread)
        thread.start()
        self.check((yield Wait(promise)) == n, "value of an external promise")

    @do
    def do_threads(self, me, n):
        promises = []
        for _ in range(n + 1):
            promises.append((yield CreateExternalPromise()))
        wins = []

        def completes():
            for promise in promises:
                wins.append(promise.complete(n))

        threads = [threading.Thread(target=completes) for _ in range(3)]
        self.threads.extend(threads)
        for thread in threads:
            thread.start()
        self.check((yield Gather(*promises)) == [n] * (n + 1), "external values")
        for thread in threads:
            thread.join()
        self.check(sum(wins) == n + 1, "decided more than once", wins)

    # compounds

    @do
    def spawned(self, bodies, **options):
        made = []
        for body in bodies:
            me = self.number()
            made.append((yield Spawn(self.task(body, me), **options)))
            self.kept(made[-1], me)
        return made

    @do
    def do_spawn(self, me, n, bodies):
        yield self.spawned(bodies, priority=(10, 10, 10, 0, 20, 5)[n % 6], daemon=n > 5)

    @do
    def do_gather(self, me, n, bodies):
        yield Gather(*[self.task(body) for body in bodies])

    @do
    def do_gather_spawn(self, me, n, bodies):
        yield Gather(*[Spawn(self.task(body)) for body in bodies], self.task(bodies[0]))

    @do
    def do_race_spawn(self, me, n, bodies):
        won = yield from self.race((yield self.spawned(bodies)), None)
        if n % 2:
            for loser in won.rest:
                yield Cancel(loser)

    @do
    def do_finally(self, me, n, bodies):
        mark = self.number()
        self.opened[mark] += 1
        try:
            yield self.block(bodies[0], me)
        finally:
            self.closed[mark] += 1
            yield Put("cleanup", mark)
            for cleanup in bodies[1:]:
                yield self.block(cleanup, me)
            yield Delay(n % 2)

    @do
    def do_catch(self, me, n, bodies):
        try:
            yield self.block(bodies[0], me)
        except (
            Boom,
            TaskCancelledError,
            SchedulerDeadlockError,
            TimeoutError,
            ExternalPromiseCancelCallbackError,
            ExceptionGroup,
        ) as error:
            self.note(me, "caught", type(error).__name__)
            for after in bodies[1:]:
                yield self.block(after, me)

    @do
    def do_swallow(self, me, n, bodies):
        for body in bodies:
            try:
                yield self.block(body, me)
            except (TaskCancelledError, KeyboardInterrupt, Blast) as error:
                self.note(me, "swallowed", type(error).__name__)

    @do
    def do_safe(self, me, n, bodies):
        result = yield Safe(self.block(bodies[0], me))
        self.note(me, "safe", result.is_ok())

    @do
    def do_local(self, me, n, bodies):
        yield Local({"a": me}, self.block(bodies[0], me))

    @do
    def do_listen(self, me, n, bodies):
        listened = yield Listen(self.block(bodies[0], me))
        self.note(me, "heard", len(listened.log))

    @do
    def do_scope(self, me, n, bodies):
        before = set(self.ended)

        @do
        def body():
            yield self.spawned(bodies[1:], daemon=n == 7)
            return (yield self.block(bodies[0], me))

        yield Scope(body())
        self.note(me, "scope over", len(set(self.ended) - before))

    @do
    def do_timeout(self, me, n, bodies):
        yield Timeout(n, self.block(bodies[0], me))

    @do
    def do_shield(self, me, n, bodies):
        yield Shield(self.block(bodies[0], me))

    @do
    def do_handled(self, me, n, bodies):
        @do
        def handler(effect, ctx):
            if not isinstance(effect, Ping) or n == 0:
                return (yield effect)
            if n == 1:
                yield Delay(1)
            if n == 2:
                self.tasks.append((yield Spawn(Put("k", 1))))
            if n == 3:
                return (yield ctx.resume("ping"))
            if n == 4:
                return (yield ctx.throw(Boom(n)))
            if n == 5:
                return ctx.abandon("abandoned")
            if n == 6:
                yield Timeout(1, Delay(2))
            return "ping"

        for body in bodies:
            yield WithHandler(handler, self.block(body, me))

    @do
    def do_repeat(self, me, n, bodies):
        for _ in range(2):
            yield self.block(bodies[0], me)


async def later(n):
    import asyncio

    await asyncio.sleep(n * 1e-4)


async def stubborn(n):
    import asyncio

    for _ in range(2):
        try:
            await asyncio.sleep(n * 1e-4)
        except asyncio.CancelledError:
            pass


# ---- running -----------------------------------------------------------------------------------


@do
def in_scope(books, script):
    """Everything that the script does is over when its Scope is."""
    result = yield Safe(Scope(books.task(script)))
    counts = yield SchedulerIntrospection()
    books.check(not any(counts.values()), "left behind", counts)
    if result.is_err():
        raise result.error


def perform(
    script, *, asynchronous=False, schedule=None, scoped=False, interrupt_at=None
):
    books = Interpreter(interrupt_at)
    handlers, waits = sync_handlers_preset, sync_external_wait_handler
    if asynchronous:
        handlers, waits = async_handlers_preset, async_external_wait_handler
    handlers = books.with_outside(handlers, waits)
    if schedule is not None:
        handlers = with_schedule(handlers, schedule)
    program = in_scope(books, script) if scoped else books.task(script)
    known = {
        "env": {"a": 1},
        "store": {"__current_time__": NOON},
        "close_timeout": 30,
    }
    unraised, hook = [], sys.unraisablehook
    sys.unraisablehook = lambda what: unraised.append(what.exc_type.__name__)
    books.schedule = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if asynchronous:
                result = on_a_loop(async_run(program, handlers, **known))
            else:
                result = sync_run(program, handlers, **known)
        books.outcome = type(result.error).__name__ if result.is_err() else "value"
        books.schedule = result.schedule
        del result
    except (KeyboardInterrupt, Blast, BaseExceptionGroup) as error:
        books.outcome = type(error).__name__
    finally:
        sys.unraisablehook = hook
    for thread in books.threads:
        thread.join()
    books.trace.append(("outcome", books.outcome))
    books.trace.append(("unraised", *unraised))
    return books


def on_a_loop(coroutine):
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()
