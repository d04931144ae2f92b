"""Bodies for schedules and the jumping clock."""

from __future__ import annotations

from doeff import (
    Delay,
    Gather,
    Put,
    Safe,
    Spawn,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.effects import scheduler_internal as internal
from doeff.testing import Schedule, with_jumping_clock, with_schedule


@do
def main():
    yield Gather(*[Spawn(Put("x", i)) for i in range(5)])


def choices_of(schedule):
    result = sync_run(main(), with_schedule(sync_handlers_preset, schedule))
    if result.is_err():
        raise result.error
    return result.schedule.choices


def leak_seed():
    return choices_of(3)


def leak_replay():
    return choices_of(choices_of(4))


def leak_wrong_seed():
    try:
        Schedule("x")
    except TypeError:
        pass


def leak_wrong_choices():
    try:
        Schedule(1, [1, "x"])
    except TypeError:
        pass


def leak_jumping_clock():
    return sync_run(Delay(3600), with_jumping_clock(sync_handlers_preset)).value


@do
def old_effects():
    task = yield internal._SchedulerCreateTaskHandle(1, {}, {})
    yield internal._SchedulerRegisterWaiter(task, 2, "k", {})
    yield internal._SchedulerTaskComplete(task, 1, "value", None, {})
    entry = yield internal._SchedulerDequeueTask()
    unfinished = yield internal._SchedulerCreateTaskHandle(1, {}, {})
    yield internal._SchedulerRegisterWaiter(unfinished, 3, "k", {})
    yield internal._SchedulerEnqueueTask(4, "k", {}, None)
    counts = yield internal.SchedulerIntrospection()
    failed = yield Safe(internal._SchedulerTaskComplete(task, 1, 2, None, {}))
    return entry, counts["tasks"], (yield Wait(task)), failed.is_err()


def leak_old_effects():
    return sync_run(old_effects(), sync_handlers_preset).value
