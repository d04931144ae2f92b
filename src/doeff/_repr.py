"""Short texts for values that may be deep."""

from __future__ import annotations

from typing import Any


def call(program: Any) -> str:
    """The repr of a call: ``<f(1, key='a')>``; programs among the arguments are named, not entered."""
    from ._engine import ProgramBase

    def shown(value: Any) -> str:
        if isinstance(value, ProgramBase):
            return f"<{getattr(value, 'function_name', None) or type(value).__name__}>"
        try:
            text = repr(value)
        except Exception:
            return f"<unprintable {type(value).__name__}>"
        return text if len(text) <= 80 else text[:77] + "..."

    parts = [shown(a) for a in program.args]
    parts += [f"{name}={shown(value)}" for name, value in program.kwargs.items()]
    return f"<{program.function_name}({', '.join(parts)})>"
