"""Delay, WaitUntil and GetTime: the clock of the run."""

from __future__ import annotations

from doeff._engine import (
    Delay,
    DelayEffect,
    GetTime,
    GetTimeEffect,
    WaitUntil,
    WaitUntilEffect,
)

__all__ = [
    "Delay",
    "DelayEffect",
    "GetTime",
    "GetTimeEffect",
    "WaitUntil",
    "WaitUntilEffect",
    "delay",
    "get_time",
    "wait_until",
]

delay = Delay
get_time = GetTime
wait_until = WaitUntil
