"""Which arguments a @do function wants unevaluated, and which effects a handler wants."""

from __future__ import annotations

from typing import Any


def plan(kleisli: Any) -> Any:
    """The table of parameters that take programs as they are, or None if there are none."""
    return None


def handled_classes(handler: Any) -> tuple[type, ...] | None:
    """The effect classes that a handler's first parameter is narrowed to, or None for all."""
    return None
