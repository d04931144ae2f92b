"""Long runs: the numbers of contract/concurrency.md part 6 at full size. ``make soak``; one by name: ``soak.py NAME``.

Each ends with a line of what it did, or raises. Memory is that of the process, from /proc where there is one.
"""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
import warnings
from datetime import datetime
from pathlib import Path

from doeff import (
    AcquireSemaphore,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Discard,
    Gather,
    Pure,
    Put,
    Race,
    ReleaseSemaphore,
    Safe,
    Spawn,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)

CLOCK = {"__current_time__": datetime(2024, 1, 1)}


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw).value


def resident():
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * 4096 if status.exists() else 0


def peak():
    """Of the process, since it began."""
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    return int(text.partition("VmHWM:")[2].split()[0]) << 10 if "VmHWM:" in text else 0


def live_tasks(n=1_000_000):
    """RO-4: a million tasks parked on one promise."""

    @do
    def parked(future):
        return (yield Wait(future))

    @do
    def main():
        promise = yield CreatePromise()
        tasks = []
        before = resident()
        for _ in range(n):
            tasks.append((yield Spawn(parked(promise.future))))
        yield Delay(0)
        each = (resident() - before) / n
        yield CompletePromise(promise, 1)
        assert sum((yield Gather(*tasks))) == n
        return each

    return f"{run(main()):.0f} bytes each, handles included"


def fire_and_forget(n=10_000_000):
    """RO-8: tasks, races with a loser that never ends, cancelled delays."""

    @do
    def main():
        never = (yield CreatePromise()).future
        most = least = None
        for i in range(n):
            task = yield Spawn(Pure(i))
            if i % 10 == 0:
                yield Race(task, never)
                sleeper = yield Spawn(Delay(1000))
                yield Delay(0)
                yield sleeper.cancel()
            if i % (n // 10) == n // 20:
                gc.collect()
                least = least if least is not None else resident()
                most = resident()
        return most - least

    grown = run(main())
    assert grown < 8_000_000, grown
    return f"grew by {grown} bytes"


def completions(n=1_000_000, threads=8):
    """RO-1: every wait is answered once, whoever completes, twice over, with cancellations in between."""
    pool, stop = [], threading.Event()
    some = (
        threading.Event()
    )  # those who complete do not turn in vain: the run's thread would hardly get on
    wins = [0] * threads

    def completer(k):
        draw = random.Random(k)
        while not stop.is_set():
            some.wait(1)
            promises = list(pool)
            draw.shuffle(promises)
            for promise in promises:
                wins[k] += promise.complete(1)

    @do
    def main():
        answered = cancelled = 0
        for _ in range(n // 100):
            promises, tasks = [], []
            for _ in range(100):
                promises.append((yield CreateExternalPromise()))
                tasks.append((yield Spawn(Safe(Wait(promises[-1])))))
            pool.extend(promises)
            some.set()
            if random.random() < 0.1:
                yield Delay(0)
                yield tasks[50].cancel()
            for task in tasks:
                got = yield Safe(Wait(task))
                answered += got.is_ok()
                cancelled += got.is_err()
            some.clear()
            pool.clear()
        return answered, cancelled

    workers = [threading.Thread(target=completer, args=(k,)) for k in range(threads)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    for worker in workers:
        worker.start()
    try:
        answered, cancelled = run(main())
    finally:
        sys.setswitchinterval(interval)
        stop.set()
        some.set()
        for worker in workers:
            worker.join()
    assert answered + cancelled == n // 100 * 100
    assert answered <= sum(wins) <= n
    return f"{answered} answers, {cancelled} cancelled, {sum(wins)} completions by {threads} threads"


def permits(n=200_000, tasks=50):
    """SE-2, CA-8: cancelled and discarded wherever they are, tasks leave every permit to the next."""
    held = [0]

    @do
    def worker(semaphore):
        yield AcquireSemaphore(semaphore)
        held[0] += 1
        try:
            assert held[0] <= 3
            yield Delay(0.001)
        finally:
            held[0] -= 1
            yield ReleaseSemaphore(semaphore)

    @do
    def main():
        draw = random.Random(1)
        semaphore = yield CreateSemaphore(3)
        for _ in range(n // tasks):
            line = []
            for _ in range(tasks):
                line.append((yield Spawn(worker(semaphore))))
                if draw.random() < 0.3:
                    yield Delay(draw.choice([0, 0.001]))
                if draw.random() < 0.5:
                    yield draw.choice(line).cancel()
            for task in line:
                yield Safe(Wait(task))
            assert "3 of 3 permits free, 0 waiting" in repr(semaphore), semaphore

    run(main(), store=dict(CLOCK))
    return f"{n} tasks, none kept one"


def interrupts(n=3000):
    """RU-6: KeyboardInterrupt at any step; whatever began has unwound."""
    began, ended = [0], [0]

    @do
    def child(promise):
        began[0] += 1
        try:
            yield Put("k", 1)
            yield Safe(Race(promise.future, (yield Spawn(Delay(1)))))
            yield Gather(Wait(promise.future), Delay(1))
        finally:
            ended[0] += 1

    @do
    def main():
        promise = yield CreatePromise()
        for _ in range(20):
            task = yield Spawn(child(promise), daemon=True)
        yield task.cancel()
        yield Discard(task)
        for _ in range(200):
            yield Put("k", 1)

    def raises(*_):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, raises)
    hits = 0
    for i in range(n):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + (i % 97) * 1e-5)
            sync_run(main(), sync_handlers_preset, store=dict(CLOCK), close_timeout=0.5)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            hits += 1
        finally:
            signal.signal(signal.SIGALRM, signal.SIG_IGN)
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, raises)
    gc.collect()
    assert run(Gather(Pure(1), Pure(2))) == [1, 2]
    return f"{hits} of {n} runs interrupted, {began[0]} began, {ended[0]} ended"


SOAKS = {
    f.__name__: f
    for f in (live_tasks, fire_and_forget, completions, permits, interrupts)
}


def main(names):
    warnings.simplefilter("ignore")
    for name in names or SOAKS:
        began = time.monotonic()
        told = SOAKS[name]()
        taken = time.monotonic() - began
        print(f"{name}: {told}; {taken:.0f} s, peak {peak() >> 20} MB", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
