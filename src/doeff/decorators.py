"""Marks for static tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    F = TypeVar("F", bound=Callable[..., Any])

__all__ = ["do_wrapper"]


def do_wrapper(factory: F) -> F:
    """Marks a function that takes a function and gives what ``do`` gives; it is returned as it is."""
    factory.__doeff_do_wrapper__ = True  # type: ignore[attr-defined]
    return factory
