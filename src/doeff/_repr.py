"""Short texts for values that may be deep."""

from __future__ import annotations

import reprlib

from ._engine import ProgramBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_LIMIT = 80
_WHOLE = 200


class _Short(reprlib.Repr):
    """Programs are named and never entered, containers shown by their first items."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = self.maxlong = _LIMIT

    def repr1(self, x: Any, level: int) -> str:
        if isinstance(x, ProgramBase):
            return f"<{name(x)}>"
        try:
            return super().repr1(x, level)
        except Exception:
            return f"<unprintable {type(x).__name__}>"

    def repr_instance(self, x: Any, level: int) -> str:
        text = repr(x)
        return text if len(text) <= _LIMIT else text[: _LIMIT - 3] + "..."


def name(program: Any) -> str:
    """The function that a call calls, else the type."""
    called = (
        _function_name(program)
        if getattr(type(program), "function_name", None)
        else None
    )
    return called or type(program).__name__


def _function_name(program: Any) -> str | None:
    found = program.function_name
    return found if isinstance(found, str) else None


def short(value: Any) -> str:
    """The repr of any value in at most 80 characters."""
    text = _Short().repr(value)
    return text if len(text) <= _LIMIT else text[: _LIMIT - 3] + "..."


def _arguments(args: Any, kwargs: Any) -> str:
    parts: list[str] = []
    room = _WHOLE
    pairs = [("", value) for value in args[:10]]
    pairs += [
        (f"{key}=", kwargs[key]) for key in list(kwargs)[:10]
    ]  # items() without memory crashes CPython 3.11
    for prefix, value in pairs:
        part = prefix + short(value)
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    if len(parts) < len(args) + len(kwargs):
        parts.append("...")
    return ", ".join(parts)


def call(program: Any) -> str:
    """The repr of a call: ``<f(1, key='a')>``; programs among the arguments are named, not entered."""
    return f"<{program.function_name}({_arguments(program.args, program.kwargs)})>"


def combinator(kind: str, source: Any, f: Any, items: Any) -> str:
    """The repr of a combined program: ``<f(...).map(str)>``; the program inside is named, not entered."""
    if source is None:
        return f"<Program.{kind} of {len(items) if items is not None else 0}>"
    inner = f"{name(source)}(...)"
    if kind == "attribute":
        return f"<{inner}.{f}>"
    if kind == "item":
        return f"<{inner}[{short(f)}]>"
    if kind == "call":
        names = f or ()
        split = len(items or ()) - len(names)
        return f"<{inner}({_arguments(items[:split], dict(zip(names, items[split:], strict=True)))})>"
    if isinstance(f, ProgramBase):
        return f"<{inner}.{kind}({name(f)}(...))>"
    shown = getattr(f, "__name__", None)
    return f"<{inner}.{kind}({shown if isinstance(shown, str) else short(f)})>"


def note_failures(last: BaseException, earlier: list[BaseException]) -> None:
    """Tell on the last error of a first_success what the programs before it failed with."""
    for number, error in enumerate(earlier, 1):
        last.add_note(
            f"first_success: program {number} failed with {type(error).__name__}: {short(error)}"
        )
