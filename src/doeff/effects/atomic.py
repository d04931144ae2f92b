"""AtomicGet and AtomicUpdate: the store, in one step."""

from __future__ import annotations

from doeff._engine import AtomicGet, AtomicGetEffect, AtomicUpdate, AtomicUpdateEffect

__all__ = [
    "AtomicGet",
    "AtomicGetEffect",
    "AtomicUpdate",
    "AtomicUpdateEffect",
    "atomic_get",
    "atomic_update",
]

atomic_get = AtomicGet
atomic_update = AtomicUpdate
