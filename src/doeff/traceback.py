"""The protocol of traces that errors carry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from doeff._engine import CodeLocation

__all__ = ["EffectTraceback"]


@runtime_checkable
class EffectTraceback(Protocol):
    """What ``CapturedTraceback`` offers to whoever shows an error."""

    def format(self, *, condensed: bool = False, max_lines: int | None = None) -> str:
        """The trace as a text."""
        ...

    def lines(
        self, *, condensed: bool = False, max_lines: int | None = None
    ) -> list[str]:
        """The trace as lines; of more than ``max_lines``, the last ones."""
        ...

    def get_raise_location(self) -> CodeLocation | None:
        """The innermost place."""
        ...
