"""Bodies for the scheduler's trace and the budget of turns."""

from __future__ import annotations

import logging
import warnings

from doeff import (
    CreateExternalPromise,
    Delay,
    Gather,
    Get,
    Put,
    Safe,
    Spawn,
    StepBudgetExceeded,
    Wait,
    arm_step_budget,
    do,
    set_scheduler_trace,
    set_stall_log,
    sync_handlers_preset,
    sync_run,
)


@do
def worker(n):
    yield Put("n", n)
    yield Delay(0)
    return n


@do
def main():
    promise = yield CreateExternalPromise()
    promise.complete(1)
    unsettled = yield CreateExternalPromise()
    waiting = yield Spawn(Wait(unsettled))
    yield Gather(*[worker(n) for n in range(3)])
    yield Wait(promise)
    yield waiting.cancel()
    yield Safe(Wait(waiting))


@do
def waits_for_a_worker():
    task = yield Spawn(worker(1), daemon=True)
    yield Wait(task)


def traced(sink, run):
    before = set_scheduler_trace(sink)
    try:
        run()
    finally:
        set_scheduler_trace(before)


def run():
    sync_run(main(), sync_handlers_preset).value


def leak_trace():
    events = []
    traced(events.append, run)
    [str(event) for event in events]


def leak_sink_removes_itself():
    traced(lambda event: set_scheduler_trace(None), run)


def leak_sink_runs_a_program():
    def sink(event):
        if event.name == "start" and event.task == "main":
            sync_run(worker(1), sync_handlers_preset)

    traced(sink, run)


def leak_interrupt_in_a_sink():
    def sink(event):
        if event.name == "task-enter":
            raise KeyboardInterrupt

    try:
        traced(sink, lambda: sync_run(waits_for_a_worker(), sync_handlers_preset))
    except KeyboardInterrupt:
        pass


def leak_wrong_sink():
    try:
        set_scheduler_trace(1)
    except TypeError:
        pass


@do
def polls():
    while True:
        yield Safe(Get("nothing"))


@do
def catches():
    while True:
        try:
            yield Get("nothing")
        except Exception:
            pass


def spent(program):
    before = arm_step_budget(30)
    try:
        sync_run(program, sync_handlers_preset)
    except StepBudgetExceeded:
        pass
    finally:
        arm_step_budget(before)


def leak_budget():
    spent(polls())


def leak_budget_of_a_failing_loop():
    spent(catches())


def leak_budget_of_tasks():
    spent(Gather(polls(), catches()))


def leak_budget_after_main():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        spent(Spawn(polls()))


def leak_wrong_budget():
    for turns in ("x", 0):
        try:
            arm_step_budget(turns)
        except (TypeError, ValueError):
            pass


class Settles(logging.Handler):
    def __init__(self, promises):
        super().__init__()
        self.promises = promises

    def emit(self, record):
        record.getMessage()
        for promise in self.promises:
            promise.complete(1)


@do
def waits(promises):
    promises.append((yield CreateExternalPromise(0.5, lambda: 1 / 0)))
    promises.append((yield CreateExternalPromise()))
    yield Gather(Wait(promises[0]), Spawn(Wait(promises[1])))


def leak_stall_log():
    promises = []
    logger = logging.getLogger("doeff.stall")
    handler = Settles(promises)
    logger.addHandler(handler)
    logger.propagate = False
    before = set_stall_log(1e-9)
    try:
        sync_run(waits(promises), sync_handlers_preset).value
    finally:
        set_stall_log(before)
        logger.removeHandler(handler)
        logger.propagate = True


def leak_wrong_stall_log():
    for seconds in ("x", 0):
        try:
            set_stall_log(seconds)
        except (TypeError, ValueError):
            pass
    for given in ({"deadline": "x"}, {"source_alive": 1}):
        try:
            CreateExternalPromise(**given)
        except TypeError:
            pass
