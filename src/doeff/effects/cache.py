"""The cache of a run."""

from __future__ import annotations

from doeff._engine import (
    CacheDelete,
    CacheDeleteEffect,
    CacheExists,
    CacheExistsEffect,
    CacheGet,
    CacheGetEffect,
    CachePut,
    CachePutEffect,
)

__all__ = [
    "CacheDelete",
    "CacheDeleteEffect",
    "CacheExists",
    "CacheExistsEffect",
    "CacheGet",
    "CacheGetEffect",
    "CachePut",
    "CachePutEffect",
    "cache_delete",
    "cache_exists",
    "cache_get",
    "cache_put",
]

cache_delete = CacheDelete
cache_exists = CacheExists
cache_get = CacheGet
cache_put = CachePut
