"""Where effects and calls were made, when somebody asked for it to be recorded.

Recording keeps code objects and positions, never frames, so nothing that a caller holds
stays alive. Lines, names and source text are worked out when they are asked for.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from doeff._engine import _line_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import CodeType, FrameType

__all__ = ["EffectCreationContext", "capture"]

_PACKAGE = __file__.rpartition("_origin")[0]
_DEPTH = 16
"""Callers that are remembered beyond the innermost."""


def _source(filename: str, line: int) -> str | None:
    import linecache

    return linecache.getline(filename, line).strip() or None


class EffectCreationContext:
    """The place where an effect was made; read-only.

    filename, line, function: the caller of the constructor.
    code: that line's text, or None if there is no source to read.
    stack_trace: the same four for the caller and its callers, innermost first, as dicts.
    frame_info: None, for code that expects the attribute; frames are never kept.
    """

    __slots__ = ("_code", "_places", "_stack", "filename", "function", "line")

    filename: str
    line: int
    function: str
    frame_info = None
    _code: str | None
    _places: Sequence[tuple[CodeType, int]]
    _stack: list[dict[str, Any]]

    def __init__(
        self,
        filename: str,
        line: int,
        function: str,
        code: str | None = None,
        stack_trace: Any = (),
        frame_info: Any = None,
    ) -> None:
        set_field = object.__setattr__
        set_field(self, "filename", filename)
        set_field(self, "line", line)
        set_field(self, "function", function)
        set_field(self, "_code", code)
        set_field(self, "_stack", list(stack_trace))
        set_field(self, "_places", ())

    @classmethod
    def _at(cls, places: list[tuple[CodeType, int]]) -> EffectCreationContext:
        code, instruction = places[0]
        made = cls(code.co_filename, _line_of(code, instruction), code.co_name)
        object.__setattr__(made, "_places", places)
        return made

    @property
    def code(self) -> str | None:
        return self._code or _source(self.filename, self.line)

    @property
    def stack_trace(self) -> list[dict[str, Any]]:
        if not self._places:
            return list(self._stack)
        return [
            {
                "filename": code.co_filename,
                "line": (line := _line_of(code, instruction)),
                "function": code.co_name,
                "code": _source(code.co_filename, line),
            }
            for code, instruction in self._places
        ]

    def without_frames(self) -> EffectCreationContext:
        """This object: there are no frames in it."""
        return self

    def format_location(self) -> str:
        """``file:line in function``."""
        return f"{self.filename}:{self.line} in {self.function}"

    def build_traceback(self) -> str:
        """The callers as Python prints a traceback, innermost last."""
        entries = self.stack_trace or [
            {
                "filename": self.filename,
                "line": self.line,
                "function": self.function,
                "code": self.code,
            }
        ]
        lines = ["Effect created at (most recent call last):"]
        for entry in reversed(entries):
            lines.append(
                '  File "{filename}", line {line}, in {function}'.format(**entry)
            )
            if entry["code"]:
                lines.append(f"    {entry['code']}")
        return "\n".join(lines)

    def format_full(self) -> str:
        """The location, and below it the callers."""
        return f"{self.format_location()}\n{self.build_traceback()}"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(
            f"EffectCreationContext is read-only: cannot assign {name!r}"
        )

    def __delattr__(self, name: str) -> None:
        raise AttributeError(
            f"EffectCreationContext is read-only: cannot delete {name!r}"
        )

    def _key(self) -> tuple[str, int, str]:
        return self.filename, self.line, self.function

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, EffectCreationContext):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<EffectCreationContext {self.format_location()}>"

    def __reduce__(self) -> Any:
        return type(self), (*self._key(), self.code, self.stack_trace)


def _from_frame(frame: FrameType | None) -> EffectCreationContext:
    places: list[tuple[CodeType, int]] = []
    while frame is not None and len(places) <= _DEPTH:
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            places.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    if not places:  # made by the package alone, say by its command
        return EffectCreationContext("<doeff>", 0, "<doeff>")
    return EffectCreationContext._at(places)


def capture() -> EffectCreationContext:
    """The innermost place outside this package; the engine's constructors call it."""
    return _from_frame(sys._getframe(1))
