"""The ``cache`` decorator: a ``@do`` function that computes each result once.

``doeff.cache`` is both this module and the decorator factory in it, which has the module's names.

Contract: effects, part 3.8.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from . import _engine
from ._cache_policy import CacheLifecycle, CachePolicy, CacheStorage, policy_of
from ._engine import FrozenDict, KleisliProgram, ProgramBase, do

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "CACHE_PATH_ENV_KEY",
    "CacheComputationError",
    "CacheLifecycle",
    "CachePolicy",
    "CacheStorage",
    "cache",
    "cache_1hour",
    "cache_1min",
    "cache_5min",
    "cache_forever",
    "cache_key",
    "clear_persistent_cache",
    "persistent_cache_path",
]

__doeff_machinery__ = True  # generators of this file are left out of call stacks

CACHE_PATH_ENV_KEY = "doeff.cache_path"
"""Name under which an environment may say where handlers keep persistent entries."""


class CacheComputationError(RuntimeError):
    """A cached function failed; ``__cause__`` is its error and nothing was cached.

    func_name: ``module.qualname`` of the function.
    call_args, call_kwargs: what the key was built from.
    call_site: where the function was called (an EffectCreationContext), or None.
    """

    def __init__(
        self,
        func_name: str,
        call_args: tuple[Any, ...],
        call_kwargs: Mapping[str, Any],
        call_site: Any = None,
    ) -> None:
        super().__init__(f"Computation of the cached function {func_name} failed")
        self.func_name = func_name
        self.call_args = call_args
        self.call_kwargs = call_kwargs
        self.call_site = call_site
        if call_site is not None:
            self.add_note(f"called at {call_site.format_location()}")

    def __reduce__(self) -> Any:
        return type(self), (
            self.func_name,
            self.call_args,
            self.call_kwargs,
            self.call_site,
        )


# ---- keys --------------------------------------------------------------------------------------


class _NamedKey:
    """What ``cache_key`` gives: a key made of some parameters."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names

    def select(self, function: str, values: Mapping[Any, Any]) -> Any:
        return function, tuple(values[name] for name in self.names)

    def __call__(
        self, function: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Any:
        raise TypeError(
            "cache_key(...) is for cache(key_func=...): by itself it knows no parameters"
        )

    def __repr__(self) -> str:
        return f"cache_key({', '.join(map(repr, self.names))})"


def cache_key(*names: str) -> Callable[..., Any]:
    """A ``key_func`` for :func:`cache` that looks at these parameters and no others.

    names: parameter names; ValueError is raised at the decoration for one that the function
    does not have.

    >>> @cache(key_func=cache_key("user_id"))
    ... @do
    ... def profile(user_id, connection): ...
    """
    for name in names:
        if not isinstance(name, str):
            raise TypeError(
                f"cache_key takes parameter names, got {type(name).__name__}"
            )
    return _NamedKey(names)


class _Call:
    """A call as the key sees it: bound to the signature, defaults filled in, values hashed."""

    def __init__(
        self, signature: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self.values: dict[str | int, Any] = {}  # by position if there is no signature
        self.positional: list[str | int] = []
        self.rest: str | None = None
        self.named: list[str] = []
        if signature is None:
            self.values.update(enumerate(args))
            self.values.update(kwargs.items())
            self.positional.extend(range(len(args)))
            self.named = list(kwargs)
            return
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                for key, item in value.items():
                    if (
                        key not in self.values
                    ):  # a positional-only parameter may have that name
                        self.values[key] = item
                        self.named.append(key)
                continue
            self.values[name] = value
            if kind is inspect.Parameter.VAR_POSITIONAL:
                self.rest = name
            elif kind is inspect.Parameter.KEYWORD_ONLY:
                self.named.append(name)
            else:
                self.positional.append(name)

    @property
    def args(self) -> tuple[Any, ...]:
        args = [self.values[name] for name in self.positional]
        if self.rest is not None:
            rest = self.values[self.rest]
            args.extend(rest if isinstance(rest, tuple) else (rest,))
        return tuple(args)

    @property
    def kwargs(self) -> Any:
        return FrozenDict({name: self.values[name] for name in self.named})


# ---- the decorator -----------------------------------------------------------------------------


def cache(
    ttl: float | None = None,
    key_func: Callable[..., Any] | None = None,
    key_hashers: Mapping[str, Callable[..., Any]] | None = None,
    *,
    lifecycle: CacheLifecycle | str | None = None,
    storage: CacheStorage | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    policy: CachePolicy | Mapping[str, Any] | None = None,
) -> Callable[[Any], Any]:
    """A decorator that keeps the results of a ``@do`` function in the run's cache.

    ttl: seconds for which a result is good; None: for the whole run.
    key_func: called as ``key_func(name, args, kwargs)``, gives the key; see :func:`cache_key`.
    key_hashers: for parameters, functions (plain or ``@do``) of the value that give what
        stands for it in the key.
    lifecycle, storage, metadata: hints for custom handlers; policy: a CachePolicy in place of
        all of them and of ttl.

    The decorated function may also be a plain one that returns a program. Calls with equal
    arguments, however they are written, share one entry. A call that fails raises
    CacheComputationError from the error and caches nothing.

    >>> @cache(ttl=60)
    ... @do
    ... def rate(currency):
    ...     return (yield IO(lambda: fetch(currency)))

    Contract: effects, part 3.8.
    """
    if callable(ttl):
        raise TypeError(
            "ttl must be a number of seconds: write @cache() with parentheses"
        )
    entry = policy_of(ttl, lifecycle, storage, metadata, policy)
    hashers = dict(key_hashers or {})

    def decorate(func: Any) -> Any:
        return _cached(func, entry, key_func, hashers)

    return decorate


def _cached(
    func: Any, policy: CachePolicy, key_func: Any, hashers: dict[str, Any]
) -> Any:
    if not callable(func):
        raise TypeError(f"cache() decorates a function, got {type(func).__name__}")
    kleisli = (
        func
        if isinstance(func, (KleisliProgram, _engine.BoundKleisliProgram))
        else KleisliProgram(func)
    )
    try:
        signature = inspect.signature(func)
    except (TypeError, ValueError):
        signature = None
    if isinstance(key_func, _NamedKey):
        for name in key_func.names:
            if signature is None or name not in signature.parameters:
                raise ValueError(f"{key_func!r}: {func!r} has no parameter {name!r}")
    inner_name = getattr(func, "__name__", type(func).__name__)
    name = (
        f"{getattr(func, '__module__', '')}.{getattr(func, '__qualname__', inner_name)}"
    )

    def cached(*args: Any, **kwargs: Any) -> Any:
        call = _Call(signature, args, kwargs)
        for parameter, hasher in hashers.items():
            if parameter in call.values:
                value = hasher(call.values[parameter])
                if isinstance(value, ProgramBase):
                    value = yield value
                call.values[parameter] = value
        if key_func is None:
            key: Any = (name, call.args, call.kwargs)
        elif isinstance(key_func, _NamedKey):
            key = key_func.select(name, call.values)
        else:
            key = key_func(name, call.args, call.kwargs)
            if isinstance(key, ProgramBase):
                key = yield key
        while True:
            try:
                hit = yield _engine.CacheGet(key)
            except Exception:
                pass
            else:
                return hit.value if isinstance(hit, _engine.Ok) else hit
            yield _engine.Tell(
                {"msg": f"Cache miss for {name}: computing", "level": "debug"}
            )
            program = kleisli(*args, **kwargs)
            result = yield from _compute(name, key, call, program, policy)
            if result is not None:
                return result.value

    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        value = getattr(func, attribute, None)
        if value is not None:
            setattr(cached, attribute, value)
    cached.__wrapped__ = func  # type: ignore[attr-defined]
    try:
        cached.__annotations__ = dict(func.__annotations__)
    except (AttributeError, NameError, TypeError, ValueError):
        cached.__annotations__ = {}
    return do(cached)


def _store(name: str, key: Any, program: ProgramBase[Any], policy: CachePolicy) -> Any:
    result = yield _engine.Safe(program)
    if isinstance(result, _engine.Ok):
        yield _engine.CachePut(key, result, policy=policy)
        yield _engine.Tell({"msg": f"Cache stored {name}", "level": "debug"})
    return result


_stored = do(_store)


def _compute(
    name: str, key: Any, call: _Call, program: Any, policy: CachePolicy
) -> Any:
    """Compute and store the value of a key that the cache does not have, as an Ok.

    Every miss comes through here. While another task computes the same key this one waits,
    and gives None: the cache is to be looked at again.
    """
    _engine.CachePut(
        key, None
    )  # a key that does not serialise fails before the work, not after
    result = yield _engine._CacheOnceEffect(key, _stored(name, key, program, policy))
    if result is None or isinstance(result, _engine.Ok):
        return result
    yield _engine.Tell({"msg": f"Cache computation of {name} failed", "level": "error"})
    from ._callstack import call_site

    site = yield call_site()
    raise CacheComputationError(name, call.args, call.kwargs, site) from result.error


cache.__doeff_do_wrapper__ = True  # type: ignore[attr-defined]


def _with_ttl(ttl: float | None, name: str, length: str) -> Callable[..., Any]:
    def factory(func: Any = None, /, **options: Any) -> Any:
        decorate = cache(ttl, **options)
        return decorate if func is None else decorate(func)

    factory.__name__ = factory.__qualname__ = name
    factory.__doc__ = (
        f"``cache`` {length}; ``@{name}`` and ``@{name}(key_func=...)`` both work."
    )
    factory.__doeff_do_wrapper__ = True  # type: ignore[attr-defined]
    return factory


cache_1min = _with_ttl(60.0, "cache_1min", "for one minute")
cache_5min = _with_ttl(300.0, "cache_5min", "for five minutes")
cache_1hour = _with_ttl(3600.0, "cache_1hour", "for one hour")
cache_forever = _with_ttl(None, "cache_forever", "for as long as the cache exists")


# ---- files -------------------------------------------------------------------------------------


def persistent_cache_path() -> Path:
    """Where a persistent cache is by convention. The library itself never writes there."""
    import tempfile
    from pathlib import Path

    return Path(tempfile.gettempdir()) / "doeff_cache.sqlite3"


def clear_persistent_cache(path: str | os.PathLike[str] | None = None) -> Path:
    """Remove all entries from a cache file and give its path; the file stays.

    path: the file; None: ``persistent_cache_path()``. A missing file is fine. Raises
    IsADirectoryError for a directory and ValueError for a file that is no cache of doeff,
    which is left as it is.
    """
    import sqlite3
    from contextlib import closing
    from pathlib import Path

    file = persistent_cache_path() if path is None else Path(path)
    if not file.exists():
        return file
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a directory, not a cache file")
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        try:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(cache)")}
        except sqlite3.DatabaseError:
            columns = set()
        if not {"key", "value"} <= columns:
            raise ValueError(f"{file} is no cache file of doeff; it was left as it is")
        connection.execute("DELETE FROM cache")
    return file


# ---- doeff.cache.cache_key ---------------------------------------------------------------------

# ``import doeff.cache`` leaves the decorator factory in ``doeff.cache``, not this module.
for _name in __all__:
    setattr(cache, _name, globals()[_name])
del _name
