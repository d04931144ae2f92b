"""What ``@do`` objects do off the hot path: metadata, partial application, composition."""

from __future__ import annotations

from typing import Any

_COPIED = ("__name__", "__qualname__", "__doc__", "__module__")


def metadata(func: Any) -> dict[str, Any]:
    """The ``__dict__`` of the KleisliProgram made from ``func``."""
    values: dict[str, Any] = dict(getattr(func, "__dict__", None) or {})
    for name in _COPIED:
        values[name] = getattr(func, name, None)
    if values["__name__"] is None:
        inner = getattr(func, "func", None)
        values["__name__"] = getattr(inner, "__name__", type(func).__name__)
    if values["__qualname__"] is None:
        values["__qualname__"] = values["__name__"]
    values["original_func"] = values["original_generator"] = values["__wrapped__"] = func
    return values
