"""Places to keep cache entries beyond one run.

Pass one as ``store={"__cache_storage__": SQLiteStorage("cache.db")}``: the cache effects then
use it in place of the run's own dict.

Contract: effects, part 6.1.
"""

from __future__ import annotations

from .base import DurableStorage
from .memory import InMemoryStorage
from .sqlite import SQLiteStorage

__all__ = ["DurableStorage", "InMemoryStorage", "SQLiteStorage"]
