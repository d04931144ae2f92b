"""What environments and stores are."""

from __future__ import annotations

from doeff._aliases import Store, empty_environment, empty_store
from doeff._engine import FrozenDict as Environment

__all__ = ["Environment", "Store", "empty_environment", "empty_store"]
