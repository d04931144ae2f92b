"""Lets the engine's value types answer ``dataclasses.fields`` and friends.

The engine asks for these two attributes only when somebody looks at them, so that
``import doeff`` does not pay for :mod:`dataclasses`.
"""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any


@cache
def _model(
    names: tuple[str, ...], required: int, positional: int, compared: int
) -> type:
    columns: list[Any] = []
    for index, name in enumerate(names):
        options: dict[str, Any] = {
            "compare": index < compared,
            "repr": index < compared,
            "kw_only": index >= positional,
        }
        if index >= required:
            options["default"] = None
        columns.append((name, Any, dataclasses.field(**options)))
    return dataclasses.make_dataclass("Record", columns, frozen=True)


def describe(
    attribute: str,
    names: tuple[str, ...],
    required: int,
    positional: int,
    compared: int,
) -> Any:
    """Give ``__dataclass_fields__`` or ``__dataclass_params__`` of a record type."""
    return getattr(_model(names, required, positional, compared), attribute)
