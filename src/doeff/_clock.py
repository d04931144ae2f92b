"""Arithmetic on the clocks of a run: datetimes (naive ones are local time) and plain numbers of seconds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from numbers import Real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 4 * 10**18  # ns, more than a century


def _ns(span: timedelta) -> int:
    ns = (span.days * 86400 + span.seconds) * 10**9 + span.microseconds * 1000
    return max(-_MOST, min(_MOST, ns))


def _span(a: datetime, b: datetime) -> timedelta:
    """a - b as time that passes: across a change of daylight saving time too, which ``-`` ignores."""
    if a.tzinfo is None and b.tzinfo is None:
        return a - b
    try:
        return a.astimezone(UTC) - b.astimezone(UTC)
    except OverflowError:  # at the ends of the calendar an hour does not matter
        return a.replace(tzinfo=None) - b.replace(tzinfo=None)


def difference(a: Any, b: Any) -> int:
    """a - b in ns, for two datetimes or two numbers; TypeError for anything else."""
    if isinstance(a, datetime) and isinstance(b, datetime):
        return _ns(_span(a, b))
    if isinstance(a, Real) and isinstance(b, Real) and not isinstance(a, bool):
        return max(-_MOST, min(_MOST, int((float(a) - float(b)) * 1e9)))
    raise TypeError(
        f"a time must be a datetime, got {type(a).__name__} where the clock is {type(b).__name__}"
    )


def later(clock: Any, ns: int) -> Any:
    """The clock ns later."""
    if not isinstance(clock, datetime):
        return clock + ns / 1e9
    span = timedelta(microseconds=ns / 1000)
    if clock.tzinfo is None:
        return clock + span
    return (clock.astimezone(UTC) + span).astimezone(clock.tzinfo)


_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


def instant(target: Any) -> int:
    """ns from a fixed moment to target, a datetime; TypeError for anything else."""
    if not isinstance(target, datetime):
        raise TypeError(f"target_time must be datetime, got {type(target).__name__}")
    return _ns(_span(target, _EPOCH))


def wall() -> int:
    """The same for the wall clock."""
    return instant(datetime.now(UTC))
