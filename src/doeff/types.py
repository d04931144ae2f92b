"""Types for annotations and ``isinstance``, and the value types: ``doeff._types_internal`` by its public name."""

from __future__ import annotations

from doeff._types_internal import *  # noqa: F403
from doeff._types_internal import __all__, __getattr__  # noqa: F401
