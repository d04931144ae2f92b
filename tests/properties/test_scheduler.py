"""Random programs of tasks: each ends once, nothing is woken twice, nothing stays behind, the same order each time.

``scripts`` draws a tree of small commands. ``Interpreter`` turns it into a program and keeps the books:
which tasks began and ended, which ``finally`` ran, what happened in which order. ``Model`` is the rule SO-1 to SO-6 of
contract/concurrency.md over the simpler commands, in plain Python; its trace is compared with the real one.
"""

from __future__ import annotations

import gc
import threading
import warnings
import weakref
from collections import Counter, deque
from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from doeff import (
    AcquireSemaphore,
    Ask,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    FailPromise,
    Gather,
    Listen,
    Local,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Spawn,
    TaskCancelledError,
    Tell,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import sync_external_wait_handler
from doeff.effects.scheduler_internal import WaitForExternalCompletion
from doeff.types import EffectBase

NOON = datetime(2024, 1, 1, 12)

# ---- books over everything -------------------------------------------------------------------


class Boom(Exception):
    pass


class Ping(EffectBase):
    pass


def leaf(*names):
    return st.tuples(st.sampled_from(names), st.integers(0, 7))


LEAVES = leaf(
    "eff", "tell", "wait", "wait_safe", "race", "gather_handles", "cancel", "discard", "is_done", "self_cancel",
    "make_promise", "complete", "complete_keep", "fail", "wait_promise", "make_external", "external_now",
    "external_thread", "wait_external", "race_mixed", "make_semaphore", "acquire", "release", "with_permit",
    "delay", "boom", "ping", "ask", "wait_idle", "drop", "complete_old",
)  # fmt: skip


def compound(children):
    body = st.lists(children, min_size=1, max_size=4)
    bodies = st.lists(body, min_size=1, max_size=3)
    return st.one_of(
        st.tuples(
            st.just("spawn"),
            body,
            st.sampled_from([10, 10, 10, 0, 20, 5]),
            st.booleans(),
        ),
        st.tuples(st.just("gather"), bodies),
        st.tuples(st.just("gather_spawn"), bodies),
        st.tuples(st.just("finally"), body, st.lists(LEAVES, min_size=1, max_size=3)),
        st.tuples(st.just("catch"), body),
        st.tuples(st.just("safe"), body),
        st.tuples(st.just("local"), body),
        st.tuples(st.just("listen"), body),
        st.tuples(
            st.just("handled"),
            body,
            st.sampled_from(["answer", "forward", "waits", "resume", "spawns"]),
        ),
        st.tuples(st.just("repeat"), body),
    )


SCRIPTS = st.lists(
    st.recursive(LEAVES, compound, max_leaves=25), min_size=1, max_size=8
)


class Live:
    """Lives in a task's frame: shows that the frame is gone."""


class Interpreter:
    def __init__(self):
        self.trace = []
        self.began = Counter()
        self.ended = Counter()
        self.opened = Counter()
        self.closed = Counter()
        self.lives = []
        self.numbers = 0
        self.tasks, self.promises, self.externals, self.semaphores = [], [], [], []

    def handlers(self):
        """When nothing else can go on, whatever was to come from outside comes."""

        @do
        def outside(effect, ctx):
            if not isinstance(effect, WaitForExternalCompletion):
                return (yield effect)
            self.trace.append("idle")
            for promise in self.externals:
                promise.complete("idle")
            return effect.queue.get(timeout=5)

        return [
            outside if known is sync_external_wait_handler else known
            for known in sync_handlers_preset
        ]

    def number(self):
        self.numbers += 1
        return self.numbers

    def pick(self, things, n):
        return things[n % len(things)] if things else None

    @do
    def task(self, body):
        me = self.number()
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
        for at, command in enumerate(body):
            self.trace.append((me, at, command[0]))
            yield getattr(self, "do_" + command[0])(me, *command[1:])
        return me

    # leaves

    @do
    def do_eff(self, me, n):
        yield Put("k", n)

    @do
    def do_tell(self, me, n):
        yield Tell(str(n))

    @do
    def do_ask(self, me, n):
        yield Ask("a")

    @do
    def do_ping(self, me, n):
        yield Safe(Ping())

    @do
    def do_boom(self, me, n):
        yield Put("k", n)
        raise Boom(n)

    @do
    def do_wait(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            yield Wait(task)

    @do
    def do_wait_idle(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            yield Wait(task, priority=0)

    @do
    def do_wait_safe(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            yield Safe(Wait(task))

    @do
    def do_race(self, me, n):
        if self.tasks:
            yield Race(*(self.tasks[n % len(self.tasks) :] + self.tasks[:2]))

    @do
    def do_race_mixed(self, me, n):
        things = (
            self.tasks[-2:]
            + [p.future for p in self.promises[-2:]]
            + self.externals[-2:]
        )
        if things:
            yield Race(*things, priority=n)

    @do
    def do_gather_handles(self, me, n):
        yield Gather(*self.tasks[-n:] if n else ())

    @do
    def do_cancel(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            yield task.cancel()

    @do
    def do_self_cancel(self, me, n):
        if n == 0 and self.tasks:
            yield self.tasks[-1].cancel()

    @do
    def do_discard(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            yield Safe(Discard(task))

    @do
    def do_is_done(self, me, n):
        task = self.pick(self.tasks, n)
        if task is not None:
            yield task.is_done()

    @do
    def do_drop(self, me, n):
        if self.tasks:
            del self.tasks[n % len(self.tasks)]
        yield Put("k", 1)

    @do
    def do_make_promise(self, me, n):
        self.promises.append((yield CreatePromise()))

    @do
    def do_complete(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            yield CompletePromise(promise, n)

    @do
    def do_complete_keep(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            yield CompletePromise(promise, n, yield_to_woken=False)

    @do
    def do_complete_old(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                promise.complete(n)
        yield Put("k", 1)

    @do
    def do_fail(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None and not promise.is_completed:
            yield FailPromise(promise, Boom(n))

    @do
    def do_wait_promise(self, me, n):
        promise = self.pick(self.promises, n)
        if promise is not None:
            yield Wait(promise.future)

    @do
    def do_make_external(self, me, n):
        promise = yield CreateExternalPromise()
        promise.on_cancel(lambda: self.trace.append((me, "on_cancel")))
        self.externals.append(promise)

    @do
    def do_external_now(self, me, n):
        promise = self.pick(self.externals, n)
        if promise is not None:
            won = promise.complete(n) if n % 2 else promise.fail(Boom(n))
            assert not promise.complete(n)
            self.trace.append((me, "won", won))
        yield Put("k", 1)

    @do
    def do_external_thread(self, me, n):
        promise = yield CreateExternalPromise()
        thread = threading.Thread(target=promise.complete, args=(n,))
        thread.start()
        thread.join()  # two that go on at once would have an order of their own
        yield Wait(promise)

    @do
    def do_wait_external(self, me, n):
        promise = self.pick(self.externals, n)
        if promise is not None:
            promise.complete(n)
            yield Wait(promise)

    @do
    def do_make_semaphore(self, me, n):
        self.semaphores.append((yield CreateSemaphore(1 + n % 3)))

    @do
    def do_acquire(self, me, n):
        semaphore = self.pick(self.semaphores, n)
        if semaphore is not None:
            yield AcquireSemaphore(semaphore)

    @do
    def do_release(self, me, n):
        semaphore = self.pick(self.semaphores, n)
        if semaphore is not None:
            yield Safe(ReleaseSemaphore(semaphore))

    @do
    def do_with_permit(self, me, n):
        semaphore = self.pick(self.semaphores, n)
        if semaphore is not None:
            yield AcquireSemaphore(semaphore)
            try:
                yield Delay(1)
            finally:
                yield Safe(ReleaseSemaphore(semaphore))

    @do
    def do_delay(self, me, n):
        yield Delay(n % 4)

    # compounds

    @do
    def do_spawn(self, me, body, priority, daemon):
        self.tasks.append(
            (yield Spawn(self.task(body), priority=priority, daemon=daemon))
        )

    @do
    def do_gather(self, me, bodies):
        yield Gather(*[self.task(body) for body in bodies])

    @do
    def do_gather_spawn(self, me, bodies):
        yield Gather(*[Spawn(self.task(body)) for body in bodies], self.task(bodies[0]))

    @do
    def do_finally(self, me, body, cleanup):
        mark = self.number()
        self.opened[mark] += 1
        try:
            yield self.block(body, me)
        finally:
            self.closed[mark] += 1
            yield Put("cleanup", mark)
            yield self.block(cleanup, me)

    @do
    def do_catch(self, me, body):
        try:
            yield self.block(body, me)
        except (Boom, TaskCancelledError, SchedulerDeadlockError) as error:
            self.trace.append((me, "caught", type(error).__name__))

    @do
    def do_safe(self, me, body):
        result = yield Safe(self.block(body, me))
        self.trace.append((me, "safe", result.is_ok()))

    @do
    def do_local(self, me, body):
        yield Local({"a": me}, self.block(body, me))

    @do
    def do_listen(self, me, body):
        listened = yield Listen(self.block(body, me))
        self.trace.append((me, "heard", len(listened.log)))

    @do
    def do_handled(self, me, body, kind):
        @do
        def handler(effect, ctx):
            if not isinstance(effect, Ping) or kind == "forward":
                return (yield effect)
            if kind == "waits":
                yield Delay(1)
            if kind == "spawns":
                self.tasks.append((yield Spawn(Put("k", 1))))
            if kind == "resume":
                return (yield ctx.resume("ping"))
            return "ping"

        yield WithHandler(handler, self.block(body, me))

    @do
    def do_repeat(self, me, body):
        for _ in range(2):
            yield self.block(body, me)


def perform(script):
    books = Interpreter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = sync_run(
            books.task(script),
            books.handlers(),
            env={"a": 1},
            store={"__current_time__": NOON},
            close_timeout=30,
        )
    outcome = type(result.error).__name__ if result.is_err() else "value"
    books.trace.append(("outcome", outcome))
    del result
    return books


EXPECTED = {"value", "Boom", "TaskCancelledError", "SchedulerDeadlockError"}


@given(SCRIPTS)
def test_every_task_ends_once_and_nothing_stays(script):
    books = perform(script)
    trace = books.trace
    assert trace[-1][1] in EXPECTED, trace[-1]
    assert set(books.began.values()) <= {1}
    assert books.began == books.ended
    assert books.opened == books.closed
    refs = books.lives
    for kept in (books.tasks, books.promises, books.externals, books.semaphores):
        kept.clear()
    del books
    gc.collect()
    assert [ref() for ref in refs if ref() is not None] == []
    assert perform(script).trace == trace


# ---- the order, against a model ---------------------------------------------------------------

MODEL_LEAVES = st.one_of(
    st.tuples(st.just("eff")),
    st.tuples(st.just("delay"), st.integers(0, 3)),
    st.tuples(st.just("wait"), st.integers(0, 5)),
    st.tuples(st.just("promise"), st.integers(0, 2)),
    st.tuples(st.just("complete"), st.integers(0, 2), st.booleans()),
    st.tuples(st.just("done"), st.integers(0, 5)),
)


def model_compound(children):
    body = st.lists(children, min_size=1, max_size=4)
    return st.one_of(
        st.tuples(st.just("spawn"), body, st.sampled_from([10, 10, 10, 0, 20])),
        st.tuples(st.just("gather"), st.lists(body, min_size=1, max_size=3)),
    )


MODELLED = st.lists(
    st.recursive(MODEL_LEAVES, model_compound, max_leaves=20), min_size=1, max_size=8
)


class ModelTask:
    def __init__(self, priority, group, steps):
        self.priority = priority
        self.wake = priority
        self.group = group
        self.steps = steps
        self.done = False
        self.waiters = []


class Group:
    def __init__(self):
        self.active = None
        self.ready = deque()


class Model:
    """SO-1 to SO-6: queues of groups, and programs as Python generators of requests."""

    def __init__(self, script):
        self.trace = []
        self.numbers = 0
        self.tasks = []
        self.promises = [[False, []] for _ in range(3)]
        self.queues = {}
        self.timers = []
        self.now = 0
        self.registered = 0
        main = ModelTask(10, Group(), None)
        main.group.active = main
        main.steps = self.program(script)
        self.main = main
        self.run(main)

    def program(self, body):
        self.numbers += 1
        me = self.numbers
        for at, command in enumerate(body):
            self.trace.append((me, at, command[0]))
            yield command
        self.trace.append((me, "end"))

    # queues

    def queue(self, task):
        self.queues.setdefault(task.wake, deque()).append(task)
        task.wake = task.priority

    def ready(self, task):
        group = task.group
        if group.active is not None and group.active is not task:
            group.ready.append(task)
            return
        group.active = task
        self.queue(task)

    def leaves(self, task):
        group = task.group
        group.active = group.ready.popleft() if group.ready else None
        if group.active is not None:
            self.queue(group.active)

    def choose(self):
        for priority in sorted(self.queues, reverse=True):
            if self.queues[priority]:
                return self.queues[priority].popleft()
        return None

    def somebody(self, priority):
        return any(queue for level, queue in self.queues.items() if level >= priority)

    # the loop

    def run(self, task):
        while True:
            if task is None:
                task = self.choose()
            if task is None:
                if not self.timers:
                    return
                self.timers.sort(key=lambda timer: timer[:2])
                self.now = self.timers[0][0]
                while self.timers and self.timers[0][0] <= self.now:
                    self.ready(self.timers.pop(0)[2])
                continue
            try:
                command = next(task.steps)
            except StopIteration:
                task.done = True
                self.leaves(task)
                waiters, task.waiters = task.waiters, []
                for waiter in waiters:
                    self.settled(waiter)
                if task is self.main:
                    return
                task = None
                continue
            step = self.perform(task, command)
            if step == "blocks":
                self.leaves(task)
                task = None
            elif step == "ends" and self.somebody(task.wake):
                self.queue(task)
                task = None
            else:
                task.wake = task.priority

    def settled(self, waiter):
        waiter[1] -= 1
        if waiter[1] == 0:
            self.ready(waiter[0])

    def perform(self, task, command):
        kind = command[0]
        if kind == "delay":
            if command[1] == 0:
                return "ends"
            self.registered += 1
            self.timers.append((self.now + command[1], self.registered, task))
            return "blocks"
        if kind == "spawn":
            child = ModelTask(command[2], Group(), self.program(command[1]))
            self.tasks.append(child)
            self.ready(child)
            return "keeps"
        if kind == "gather":
            members = [
                ModelTask(task.priority, task.group, self.program(b))
                for b in command[1]
            ]
            waiter = [task, len(members)]
            for member in members:
                member.waiters.append(waiter)
                self.ready(member)
            return "blocks"
        if kind == "wait":
            if not self.tasks:
                return "ends"
            child = self.tasks[command[1] % len(self.tasks)]
            if child is task or child.done:
                return "ends"
            child.waiters.append([task, 1])
            return "blocks"
        if kind == "promise":
            settled, waiters = self.promises[command[1]]
            if settled:
                return "ends"
            waiters.append(task)
            return "blocks"
        if kind == "complete":
            promise = self.promises[command[1]]
            if promise[0]:
                return "ends"
            promise[0] = True
            for waiter in promise[1]:
                if command[2]:
                    task.wake = min(task.wake, waiter.priority)
                self.ready(waiter)
            return "ends" if command[2] else "keeps"
        return "ends"


class Real:
    def __init__(self, script):
        self.trace = []
        self.numbers = 0
        self.tasks = []
        self.promises = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.result = sync_run(
                self.main(script),
                sync_handlers_preset,
                store={"__current_time__": NOON},
            )

    @do
    def main(self, script):
        for _ in range(3):
            self.promises.append((yield CreatePromise()))
        yield self.program(script, None)
        self.trace.append("over")

    @do
    def program(self, body, me_too):
        self.numbers += 1
        me = self.numbers
        for at, command in enumerate(body):
            if "over" in self.trace:
                return
            self.trace.append((me, at, command[0]))
            kind = command[0]
            if kind == "delay":
                yield Delay(command[1])
            elif kind == "spawn":
                box = []
                box.append(
                    (yield Spawn(self.program(command[1], box), priority=command[2]))
                )
                self.tasks.append(box[0])
            elif kind == "gather":
                yield Gather(*[self.program(b, None) for b in command[1]])
            elif kind == "wait":
                child = self.tasks[command[1] % len(self.tasks)] if self.tasks else None
                if child is None or (me_too and child is me_too[0]):
                    yield Put("k", 1)
                else:
                    yield Wait(child)
            elif kind == "promise":
                yield Wait(self.promises[command[1]].future)
            elif kind == "complete":
                promise = self.promises[command[1]]
                if promise.is_completed:
                    yield Put("k", 1)
                else:
                    yield CompletePromise(promise, 1, yield_to_woken=command[2])
            else:
                yield Put("k", 1)
        if "over" not in self.trace:
            self.trace.append((me, "end"))


@given(MODELLED)
def test_the_order_is_that_of_the_model(script):
    real = Real(script)
    trace = (
        real.trace[: real.trace.index("over")] if "over" in real.trace else real.trace
    )
    if real.result.is_err():
        assert isinstance(real.result.error, SchedulerDeadlockError)
    model = Model(script).trace
    assert trace[: len(model)] == model
