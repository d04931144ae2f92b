"""Get, Put and Modify: the store of a task."""

from __future__ import annotations

from doeff._engine import (
    Get,
    Modify,
    Put,
    StateGetEffect,
    StateModifyEffect,
    StatePutEffect,
)

__all__ = [
    "Get",
    "Modify",
    "Put",
    "StateGetEffect",
    "StateModifyEffect",
    "StatePutEffect",
    "get",
    "modify",
    "put",
]

get = Get
modify = Modify
put = Put
