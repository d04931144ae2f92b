"""What a run says about its tasks: deadlocks, failures nobody asked for, tasks that its end cancelled."""

from __future__ import annotations

import warnings

from ._errors import SchedulerDeadlockError, _place, _shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SHOWN_WAITERS = 20
_SHOWN_TASKS = 10


def _where(waiting: Any) -> str:
    """Of a task that waits: its program, or where a task was spawned that has none but an effect."""
    if isinstance(waiting, str):
        return f", spawned at {waiting}"
    place = _place(waiting)
    return f" at {place}" if place is not None else ""


def _waiter(name: str, what: str, things: Any, waiting: Any) -> str:
    shown = ", ".join(_shown(thing) for thing in list(things)[:3])
    if len(things) > 3:
        shown += f" and {len(things) - 3} more"
    return f"{name} waits for {what}{f'({shown})' if shown else ''}{_where(waiting)}"


def deadlock(
    waiters: list[tuple[str, tuple[str, Any], Any, int]],
) -> SchedulerDeadlockError:
    """The error for a run in which each of ``waiters`` waits and nothing can wake any of them."""
    parked: list[str] = []
    semaphores: dict[int, list[int]] = {}
    for name, (what, things), waiting, number in waiters:
        parked.append(_waiter(name, what, things, waiting))
        if what == "AcquireSemaphore":
            semaphores.setdefault(id(things[0]), []).append(number)
    lines = parked[:_SHOWN_WAITERS]
    if len(parked) > _SHOWN_WAITERS:
        lines.append(f"and {len(parked) - _SHOWN_WAITERS} more")
    message = (
        "Deadlock: no task can go on and nothing from outside is awaited:\n  "
        + "\n  ".join(lines)
    )
    return SchedulerDeadlockError(message, parked, semaphores)


def _raise_site(error: BaseException) -> str:
    tb = error.__traceback__
    if tb is None:
        return ""
    while tb.tb_next is not None:
        tb = tb.tb_next
    code = tb.tb_frame.f_code
    return f", raised at {code.co_filename}:{tb.tb_lineno} in {code.co_name}"


def _outermost(error: BaseException) -> str:
    tb = error.__traceback__
    return "a task" if tb is None else f"task {tb.tb_frame.f_code.co_name}"


def failed(place: str | None, error: BaseException) -> None:
    """Warn of a task that failed and that nobody waited for."""
    where = f" (spawned at {place})" if place is not None else ""
    warnings.warn(
        f"{_outermost(error)}{where} failed and nobody asked for its outcome: "
        f"{type(error).__name__}: {_text(error)}{_raise_site(error)}",
        RuntimeWarning,
        stacklevel=2,
    )


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "<unprintable>"


def failed_more(count: int) -> None:
    """Warn of further such tasks, by their number."""
    warnings.warn(
        f"{count} more task{'s' if count != 1 else ''} failed and nobody asked for the outcome",
        RuntimeWarning,
        stacklevel=2,
    )


def swept(names: list[str]) -> None:
    """Warn of tasks that were still waiting when the run ended, and were cancelled."""
    times: dict[str, int] = {}
    for name in names:
        times[name] = times.get(name, 0) + 1
    kinds = list(times.items())[:_SHOWN_TASKS]
    shown = ", ".join(name if n == 1 else f"{n} times {name}" for name, n in kinds)
    more = len(names) - sum(n for _, n in kinds)
    if more > 0:
        shown += f" and {more} more"
    warnings.warn(
        f"the run ended while {len(names)} task{'s' if len(names) != 1 else ''} still waited: {shown}; "
        "cancelled (Wait for them, or spawn them with daemon=True)",
        RuntimeWarning,
        stacklevel=2,
    )
