"""Arithmetic on the clocks of a run: datetimes (naive ones are local time) and plain numbers of seconds."""

from __future__ import annotations

from datetime import datetime, timedelta
from numbers import Real

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_MOST = 4 * 10**18  # ns, more than a century


def _ns(span: timedelta) -> int:
    ns = (span.days * 86400 + span.seconds) * 10**9 + span.microseconds * 1000
    return max(-_MOST, min(_MOST, ns))


def difference(a: Any, b: Any) -> int:
    """a - b in ns, for two datetimes or two numbers; TypeError for anything else."""
    if isinstance(a, datetime) and isinstance(b, datetime):
        if (a.tzinfo is None) != (b.tzinfo is None):
            a, b = a.astimezone(), b.astimezone()
        return _ns(a - b)
    if isinstance(a, Real) and isinstance(b, Real) and not isinstance(a, bool):
        return max(-_MOST, min(_MOST, int((float(a) - float(b)) * 1e9)))
    raise TypeError(
        f"a time must be a datetime, got {type(a).__name__} where the clock is {type(b).__name__}"
    )


def later(clock: Any, ns: int) -> Any:
    """The clock ns later."""
    if isinstance(clock, datetime):
        return clock + timedelta(microseconds=ns / 1000)
    return clock + ns / 1e9


def until(target: Any, _clock: Any = None) -> int:
    """ns until the wall clock reaches target; not positive once it has."""
    if not isinstance(target, datetime):
        raise TypeError(f"target_time must be datetime, got {type(target).__name__}")
    return _ns(target - datetime.now(target.tzinfo))
