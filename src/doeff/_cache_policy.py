"""How long a cache entry lives and where custom handlers may keep it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from ._engine import FrozenDict

__all__ = ["CacheLifecycle", "CachePolicy", "CacheStorage"]


class CacheLifecycle(str, Enum):
    """For how long an entry is of use: a hint for custom handlers."""

    TRANSIENT = "transient"
    SESSION = "session"
    PERSISTENT = "persistent"


class CacheStorage(str, Enum):
    """Where an entry should be kept: a hint for custom handlers."""

    MEMORY = "memory"
    DISK = "disk"


@dataclass(frozen=True)
class CachePolicy:
    """What ``CachePut`` says about an entry beside its key and value.

    ttl: seconds after which the entry counts as absent; None, zero and less: never.
    lifecycle, storage, metadata: hints that the built-in handler carries and ignores.

    Raises TypeError for a field of the wrong type, ValueError for an unknown name of a
    lifecycle or storage.

    >>> CachePolicy(ttl=60, lifecycle="session").lifecycle
    <CacheLifecycle.SESSION: 'session'>

    Contract: effects, part 3.8.
    """

    ttl: float | None = None
    lifecycle: CacheLifecycle = CacheLifecycle.TRANSIENT
    storage: CacheStorage | None = None
    metadata: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.ttl is not None and not isinstance(self.ttl, (int, float)):
            raise TypeError(
                f"ttl must be a number of seconds or None, got {type(self.ttl).__name__}"
            )
        if self.ttl is not None and self.ttl != self.ttl:
            raise ValueError("ttl must not be NaN")
        object.__setattr__(
            self, "lifecycle", _member(CacheLifecycle, self.lifecycle, "lifecycle")
        )
        if self.storage is not None:
            object.__setattr__(
                self, "storage", _member(CacheStorage, self.storage, "storage")
            )
        if self.metadata is not None:
            if not isinstance(self.metadata, Mapping):
                raise TypeError(
                    f"metadata must be a mapping or None, got {type(self.metadata).__name__}"
                )
            object.__setattr__(self, "metadata", FrozenDict(self.metadata))

    def resolved_storage(self) -> CacheStorage:
        """The storage asked for, else DISK for PERSISTENT entries and MEMORY for the others."""
        if self.storage is not None:
            return self.storage
        if self.lifecycle is CacheLifecycle.PERSISTENT:
            return CacheStorage.DISK
        return CacheStorage.MEMORY


def _member(kind: Any, value: Any, field: str) -> Any:
    if isinstance(value, kind):
        return value
    if not isinstance(value, str):
        raise TypeError(
            f"{field} must be {kind.__name__} or str, got {type(value).__name__}"
        )
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(repr(member.value) for member in kind)
        raise ValueError(f"{field} must be one of {names}, got {value!r}") from None


_DEFAULT = CachePolicy()
_FIELDS = ("ttl", "lifecycle", "storage", "metadata")


def policy_from(policy: Any) -> CachePolicy:
    """A policy from a CachePolicy, a mapping of its fields or None."""
    if policy is None:
        return _DEFAULT
    if isinstance(policy, CachePolicy):
        return policy
    if not isinstance(policy, Mapping):
        raise TypeError(
            f"policy must be a CachePolicy or a mapping of its fields, got {type(policy).__name__}"
        )
    for name in policy:
        if name not in _FIELDS:
            raise TypeError(
                f"a CachePolicy has no field {name!r}; it has {', '.join(_FIELDS)}"
            )
    return CachePolicy(**policy)


def policy_of(
    ttl: Any, lifecycle: Any, storage: Any, metadata: Any, policy: Any
) -> CachePolicy:
    """A policy from the arguments of ``CachePut`` and ``cache``."""
    given = {
        name: value
        for name, value in zip(
            _FIELDS, (ttl, lifecycle, storage, metadata), strict=True
        )
        if value is not None
    }
    if policy is None:
        return CachePolicy(**given) if given else _DEFAULT
    if given:
        raise ValueError(f"policy= excludes {', '.join(given)}: give one or the other")
    return policy_from(policy)
