"""What tests of programs need: a clock that does not sleep, and schedules that can be chosen and repeated.

>>> from datetime import datetime
>>> from doeff import Delay, GetTime, do, sync_handlers_preset, sync_run
>>> from doeff.testing import virtual_time
>>> @do
... def nap():
...     yield Delay(3600)
...     return (yield GetTime())
>>> sync_run(virtual_time(nap(), datetime(2030, 1, 1)), sync_handlers_preset).value
datetime.datetime(2030, 1, 1, 1, 0)
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from datetime import datetime
from typing import Any, TypeVar

from doeff._engine import (
    HandlerContext,
    ProgramBase,
    Put,
    Schedule,
    SchedulerEvent,
    WaitForExternalCompletion,
    _scheduler_with,
    arm_step_budget,
    do,
    set_scheduler_trace,
    sync_external_wait_handler,
    task_scheduler_handler,
)
from doeff._errors import StepBudgetExceeded

__all__ = [
    "START",
    "Schedule",
    "SchedulerEvent",
    "StepBudgetExceeded",
    "arm_step_budget",
    "jumping_wait_handler",
    "set_scheduler_trace",
    "virtual_time",
    "with_jumping_clock",
    "with_schedule",
]

_T = TypeVar("_T")

START = datetime(2000, 1, 1)
"""Where virtual time begins unless it is said."""


@do
def virtual_time(
    program: ProgramBase[_T], start: datetime = START
) -> Generator[Any, Any, _T]:
    """Run a program on the controlled clock, which begins at start.

    ``Delay``, ``WaitUntil`` and ``Timeout`` take no real time: the clock jumps to the next deadline when no
    task can go on and nothing from outside is awaited. ``GetTime`` answers it. The whole run
    is on that clock from then on.
    """
    yield Put("__current_time__", start)
    value: _T = yield program
    return value


@do
def jumping_wait_handler(effect: WaitForExternalCompletion, ctx: HandlerContext) -> Any:
    """A wait handler that does not sleep until a deadline: the real clock of the run jumps there.

    In place of ``sync_external_wait_handler`` it lets programs run in no time that shall not know of a
    controlled clock. While something from outside is awaited it waits for that. ``GetTime`` still answers the
    time of day.
    """
    if effect.queue._jump():
        return None
    return effect.queue.get()


def with_jumping_clock(handlers: Iterable[Any]) -> list[Any]:
    """The handlers with ``jumping_wait_handler`` in place of the preset's wait handler."""
    return _replaced(handlers, sync_external_wait_handler, jumping_wait_handler)


def with_schedule(
    handlers: Iterable[Any], schedule: Schedule | int | Iterable[int]
) -> list[Any]:
    """The handlers with a scheduler that goes by schedule: a Schedule, a seed, or choices to repeat.

    Each run makes a record of its own, ``result.schedule``; its ``choices`` repeat the run as long as the program
    does the same.

    >>> from doeff import Pure, sync_handlers_preset
    >>> handlers = with_schedule(sync_handlers_preset, 7)
    """
    if isinstance(schedule, int):
        schedule = Schedule(schedule)
    elif not isinstance(schedule, Schedule):
        schedule = Schedule(choices=schedule)
    return _replaced(handlers, task_scheduler_handler, _scheduler_with(schedule))


def _replaced(handlers: Iterable[Any], old: Any, new: Any) -> list[Any]:
    result = list(handlers)
    for at, handler in enumerate(result):
        if handler is old:
            result[at] = new
            return result
    raise ValueError(f"{old!r} is not among the handlers: begin with a preset")
