"""GetTime: the clock of the run."""

from __future__ import annotations

from doeff._engine import GetTime, GetTimeEffect

__all__ = ["GetTime", "GetTimeEffect", "get_time"]

get_time = GetTime
