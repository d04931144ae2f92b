"""Names for annotations, and the constants that several modules share."""

from __future__ import annotations

from _collections_abc import Callable, Generator, Hashable

from ._engine import FrozenDict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    from ._engine import HandlerContext

    T = TypeVar("T")
    EffectGenerator: TypeAlias = Generator[Any, Any, T]
    EnvKey: TypeAlias = Hashable
    Store: TypeAlias = dict[str, Any]
    Environment: TypeAlias = FrozenDict[Any, Any]
    Handler: TypeAlias = Callable[[Any, HandlerContext], Any]
else:
    EffectGenerator = Generator
    EnvKey = Hashable
    Store = dict
    Environment = FrozenDict
    Handler = Callable

__all__ = [
    "DEFAULT_REPR_LIMIT",
    "REPR_LIMIT_KEY",
    "EffectGenerator",
    "EnvKey",
    "Environment",
    "Handler",
    "Store",
    "empty_environment",
    "empty_store",
]

DEFAULT_REPR_LIMIT = 1000
"""Characters of a value that reports show."""
REPR_LIMIT_KEY = "__repr_limit__"
"""The environment key that changes it; None: no limit."""


def empty_environment() -> Environment:
    return FrozenDict()


def empty_store() -> Store:
    return {}
