"""Bodies for tasks, what they wait for, time, semaphores, promises and the end of a run."""

from __future__ import annotations

import warnings
from datetime import datetime

from doeff import (
    AcquireSemaphore,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    FailPromise,
    Gather,
    Get,
    Listen,
    Pure,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    SchedulerDeadlockError,
    Spawn,
    TaskCancelledError,
    Tell,
    Wait,
    WaitUntil,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import sync_external_wait_handler
from doeff.effects.scheduler_internal import WaitForExternalCompletion

NOON = datetime(2024, 1, 1, 12)
MEANT = (KeyError, TaskCancelledError, SchedulerDeadlockError, RuntimeError, ValueError)


def run(program, handlers=sync_handlers_preset, store=None, **kw):
    store = {"__current_time__": NOON} if store is None else store
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return sync_run(program, handlers, store=store, **kw)


def name_of(result):
    if not isinstance(result.error, MEANT):
        raise result.error
    return type(result.error).__name__


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


@do
def fails():
    yield Put("k", 1)
    raise KeyError("on purpose")


@do
def parked():
    try:
        yield Wait((yield CreatePromise()).future)
    finally:
        yield Put("k", 1)


def leak_spawn_and_wait():
    @do
    def child(n):
        yield Put("k", n)
        return (yield Get("k"))

    @do
    def main():
        tasks = []
        for n in range(3):
            tasks.append((yield Spawn(child(n), priority=5 * n, hint=n)))
        values = yield Gather(*tasks)
        return (
            values,
            (yield Wait(tasks[0])),
            (yield tasks[1].is_done()),
            repr(tasks[2]),
        )

    return run(main()).value


def leak_fire_and_forget():
    @do
    def main():
        for _ in range(3):
            yield Spawn(turns(1))
        yield Spawn(parked(), daemon=True)
        yield turns(2)
        return 1

    return run(main()).value


def leak_failures_nobody_asks_for():
    @do
    def main():
        for _ in range(12):
            yield Spawn(fails())
        kept = yield Spawn(fails())
        yield turns(3)
        return type(kept).__name__

    return run(main()).value


def leak_cancel_at_every_wait():
    @do
    def main():
        promise, external = (yield CreatePromise()), (yield CreateExternalPromise())
        semaphore = yield CreateSemaphore(1)
        yield AcquireSemaphore(semaphore)
        external.on_cancel(lambda: None)
        tasks = []
        for wait in (
            Wait(promise.future),
            Wait(external),
            Gather(promise.future, external, turns(1), Delay(5)),
            Race(promise.future, external),
            AcquireSemaphore(semaphore),
            Delay(1000),
            WaitUntil(datetime(2030, 1, 1)),
            Gather(Gather(Wait(promise.future)), Delay(7)),
        ):
            tasks.append((yield Spawn(wait)))
        never = yield Spawn(turns(1))
        answers = [(yield never.cancel())]
        yield turns(5)
        for task in tasks:
            answers.append((yield Cancel(task)))
        names = []
        for task in tasks:
            names.append(name_of((yield Safe(Wait(task)))))
        return answers, names

    return run(main()).value


def leak_discard_at_every_wait():
    @do
    def main():
        promise, external = (yield CreatePromise()), (yield CreateExternalPromise())
        tasks = []
        for program in (
            parked(),
            Gather(parked(), Gather(parked(), Wait(external))),
            Race(promise.future, external),
            Delay(1000),
            turns(1000),
        ):
            tasks.append((yield Spawn(program)))
        yield turns(5)
        for task in tasks:
            yield Discard(task)
        return len(tasks)

    return run(main()).value


def leak_gather_fails():
    @do
    def main():
        first = yield Safe(Gather(fails(), parked(), turns(1)))
        second = yield Safe(Gather(parked(), fails(), Spawn(turns(1))))
        third = yield Safe(Gather((yield Spawn(fails())), Pure(1)))
        return [name_of(r) for r in (first, second, third)]

    return run(main()).value


def leak_race():
    @do
    def main():
        a, b = (yield Spawn(Delay(2))), (yield Spawn(Delay(1)))
        first = yield Race(a, b)
        second = yield Race(*first.rest)
        again = yield Safe(Race((yield Spawn(fails())), a))
        return first.value, second.value, again.unwrap().value

    return run(main()).value


def leak_promises():
    @do
    def main():
        a, b, c = (
            (yield CreatePromise()),
            (yield CreatePromise()),
            (yield CreatePromise()),
        )
        waiters = []
        for promise in (a, b, c):
            waiters.append((yield Spawn(Safe(Wait(promise.future)))))
        yield turns(2)
        yield CompletePromise(a, [1])
        yield FailPromise(b, KeyError("k"))
        yield CompletePromise(c, 3, yield_to_woken=False)
        results = yield Gather(*waiters)
        return (
            name_of(results[1]),
            name_of((yield Safe(CompletePromise(a, 2)))),
            a.value,
            repr(c),
        )

    return run(main()).value


def leak_external_promises():
    @do
    def main():
        a, b, c = (
            (yield CreateExternalPromise()),
            (yield CreateExternalPromise()),
            (yield CreateExternalPromise()),
        )
        a.complete([1])
        waiter = yield Spawn(Safe(Wait(b)))
        c.on_cancel(lambda: None)
        yield turns(2)
        first = b.fail(KeyError("k")), b.complete(1)
        return (yield Wait(a)), first, name_of((yield Wait(waiter))), c

    value, first, name, handle = run(main()).value
    return value, first, name, handle.complete(1)


def leak_own_wait_handler():
    @do
    def waits(effect, ctx):
        if not isinstance(effect, WaitForExternalCompletion):
            return (yield effect)
        promise = box.pop()
        promise.complete(1)
        yield Put("idle", 1)
        effect.queue.put((promise.id, 2, None))
        return effect.queue.get()

    box = []

    @do
    def main():
        promise = yield CreateExternalPromise()
        box.append(promise)
        return (yield Wait(promise)), (yield Get("idle"))

    handlers = [sync_handlers_preset[-1]]
    handlers += [
        waits if h is sync_external_wait_handler else h for h in sync_handlers_preset
    ]
    return run(main(), handlers).value


def leak_semaphores():
    @do
    def worker(semaphore):
        yield AcquireSemaphore(semaphore)
        yield turns(1)
        yield ReleaseSemaphore(semaphore)

    @do
    def main():
        semaphore = yield CreateSemaphore(2)
        yield Gather(*[Spawn(worker(semaphore)) for _ in range(4)])
        return name_of((yield Safe(ReleaseSemaphore(semaphore)))), repr(semaphore)

    return run(main()).value


def leak_deadlock():
    @do
    def main():
        semaphore = yield CreateSemaphore(1)
        yield AcquireSemaphore(semaphore)
        task = yield Spawn(AcquireSemaphore(semaphore))
        yield turns(2)
        caught = yield Safe(Gather(task, (yield CreatePromise()).future, parked()))
        return name_of(caught), name_of((yield Safe(AcquireSemaphore(semaphore))))

    return run(main()).value


def leak_time():
    @do
    def main():
        tasks = []
        for n in (3, 1, 2):
            tasks.append((yield Spawn(Delay(n))))
        yield Gather(*tasks, WaitUntil(datetime(2024, 1, 1, 13)))
        return (yield Get("__current_time__"))

    return run(main()).value


def leak_main_fails_with_tasks():
    @do
    def main():
        yield Spawn(parked())
        yield Spawn(Gather(parked(), Delay(5)))
        yield turns(3)
        yield Spawn(turns(1))
        raise KeyError("main")

    return name_of(run(main()))


def leak_interrupts():
    @do
    def interrupts():
        yield turns(1)
        raise SystemExit(3)

    @do
    def main():
        yield Spawn(parked(), daemon=True)
        yield Wait((yield Spawn(interrupts())))

    try:
        result = run(main())
    except SystemExit as error:
        return error.code
    raise result.error


def leak_unstoppable():
    @do
    def stubborn():
        try:
            yield from parked_here()
        finally:
            while True:
                yield Put("k", 1)

    def parked_here():
        yield Wait((yield CreatePromise()).future)

    @do
    def main():
        yield Spawn(stubborn(), daemon=True)
        yield turns(3)
        return 1

    return run(main(), close_timeout=0).value


def leak_handlers_in_tasks():
    @do
    def handler(effect, ctx):
        if isinstance(effect, type(Tell("x"))):
            promise = yield CreatePromise()
            yield Gather((yield Spawn(CompletePromise(promise, None))), promise.future)
            return (yield effect)
        return (yield effect)

    @do
    def child():
        yield Tell("x")
        return 1

    @do
    def main():
        listened = yield Listen(Gather(WithHandler(handler, child()), child()))
        task = yield Spawn(WithHandler(handler, child()))
        yield turns(2)
        yield task.cancel()
        return listened.value, list(listened.log), name_of((yield Safe(Wait(task))))

    return run(main()).value


CANCELLING = []


def wrong():
    if CANCELLING:  # at the end of a run nobody is told but sys.unraisablehook
        raise KeyError("callback")


@do
def touchy():
    first, second = (yield CreateExternalPromise()), (yield CreateExternalPromise())
    first.on_cancel(wrong)
    yield Race(first, second)


@do
def callbacks_that_raise():
    kinds = []
    for how in (Cancel, Discard):
        task = yield Spawn(touchy())
        yield turns(6)
        try:
            CANCELLING.append(how)
            caught = yield Safe(how(task))
        finally:
            CANCELLING.clear()
        kinds.append(name_of(caught) if caught.is_err() else caught.value)
        kinds.append(name_of((yield Safe(Wait(task)))))
    return kinds


def leak_callbacks_that_raise():
    return run(callbacks_that_raise()).value


@do
def takes(semaphore):
    yield AcquireSemaphore(semaphore)
    yield Delay(1)


@do
def permits_given_back():
    semaphore = yield CreateSemaphore(1)
    for how in (Cancel, Discard):
        task = yield Spawn(takes(semaphore))
        yield Put("turn", 0)
        yield how(task)
    return repr(semaphore)


def leak_permits_given_back():
    return run(permits_given_back()).value
