"""Random programs of tasks: each ends once, nothing is woken twice, nothing stays behind, the same order each time.

``drawn_tasks`` draws scripts and performs them. ``Model`` is the rule SO-1 to SO-6 of contract/concurrency.md over the
simpler commands, in plain Python; its trace is compared with the real one.
"""

from __future__ import annotations

import gc
import sys
import threading
import warnings
from collections import deque

from drawn_tasks import NOON, SCRIPTS, WILD_SCRIPTS, perform
from hypothesis import given
from hypothesis import strategies as st

from doeff import (
    CompletePromise,
    CreatePromise,
    Delay,
    Gather,
    Put,
    SchedulerDeadlockError,
    Spawn,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.testing import Schedule

# ---- books over everything -------------------------------------------------------------------

OUTCOMES = {
    "value",
    "Boom",
    "Blast",
    "TaskCancelledError",
    "SchedulerDeadlockError",
    "TimeoutError",
    "ExceptionGroup",
    "BaseExceptionGroup",
    "ExternalPromiseCancelCallbackError",
    "KeyboardInterrupt",
}
UNRAISED = {"Boom", "ExternalPromiseCancelCallbackError"}


def balance(books):
    """What must be so of every run; the books are closed."""
    assert books.outcome in OUTCOMES, books.outcome
    assert set(books.trace[-1][1:]) <= UNRAISED
    assert books.wrong == []
    assert set(books.began.values()) <= {1}
    assert books.began == books.ended
    assert books.opened == books.closed
    assert set(books.called_off.values()) <= {1}
    for kept in (books.tasks, books.promises, books.externals, books.semaphores):
        kept.clear()
    books.number_of.clear()
    gc.collect()
    assert [ref() for ref in books.lives if ref() is not None] == []
    held = sys.getrefcount(books.sentinel)
    assert held == 2


INTERRUPTS = st.one_of(st.none(), st.none(), st.integers(0, 60))


@given(SCRIPTS, st.booleans(), INTERRUPTS)
def test_every_task_ends_once_and_nothing_stays(script, scoped, interrupt_at):
    how = {"scoped": scoped, "interrupt_at": interrupt_at}
    books = perform(script, **how)
    balance(books)
    again = perform(script, **how)
    assert again.trace == books.trace
    balance(again)
    on_a_loop = perform(script, asynchronous=True, **how)
    assert on_a_loop.trace == books.trace
    balance(on_a_loop)


@given(SCRIPTS, st.booleans(), INTERRUPTS, st.integers(0, 99), st.booleans())
def test_a_schedule_can_be_repeated(script, scoped, interrupt_at, seed, by_blocking):
    how = {"scoped": scoped, "interrupt_at": interrupt_at}
    books = perform(script, schedule=Schedule(seed, by_blocking=by_blocking), **how)
    balance(books)
    if books.schedule is not None:
        record = Schedule(choices=books.schedule.choices, by_blocking=by_blocking)
        again = perform(script, schedule=record, **how)
        assert again.trace == books.trace
        assert again.schedule.choices == record.choices


@given(WILD_SCRIPTS, st.booleans(), st.booleans(), INTERRUPTS)
def test_threads_and_coroutines(script, asynchronous, scoped, interrupt_at):
    threads = threading.active_count()
    books = perform(
        script, asynchronous=asynchronous, scoped=scoped, interrupt_at=interrupt_at
    )
    balance(books)
    assert (
        threading.active_count() <= threads + 1
    )  # that of Await, from the first one on


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
