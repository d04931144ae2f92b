"""Starting programs by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from doeff._engine import ProgramBase

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["to_generator"]


def _performed(program: ProgramBase[Any]) -> Generator[Any, Any, Any]:
    return (yield program)


def to_generator(program: Any) -> Generator[Any, Any, Any]:
    """A fresh generator that performs the program and returns its value."""
    if not isinstance(program, ProgramBase):
        raise TypeError(f"Cannot convert {type(program).__name__} to generator")
    own = getattr(type(program), "to_generator", None)
    generator: Generator[Any, Any, Any] = (
        _performed(program) if own is None else own(program)
    )
    return generator
