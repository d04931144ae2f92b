"""What ``@do`` objects do off the hot path: metadata, signatures, pickling."""

from __future__ import annotations

from . import _engine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_COPIED = ("__name__", "__qualname__", "__doc__", "__module__")
_ASYNC_GENERATOR = 0x200  # inspect.CO_ASYNC_GENERATOR


def metadata(func: Any) -> dict[str, Any]:
    """The ``__dict__`` of the KleisliProgram made from ``func``."""
    values: dict[str, Any] = {}
    if not isinstance(func, type):
        for name, value in (getattr(func, "__dict__", None) or {}).items():
            if not hasattr(_engine.KleisliProgram, name):  # partial, fmap ... stay ours
                values[name] = value
        values.pop("__doeff_handles__", None)
    for name in _COPIED:
        values[name] = getattr(func, name, None)
    if values["__name__"] is None:
        inner = getattr(func, "func", None)
        values["__name__"] = getattr(inner, "__name__", type(func).__name__)
    if values["__qualname__"] is None:
        values["__qualname__"] = values["__name__"]
    values["original_func"] = values["original_generator"] = values["__wrapped__"] = (
        func
    )
    code = getattr(getattr(func, "func", func), "__code__", None)
    if code is not None and code.co_flags & _ASYNC_GENERATOR:
        import warnings

        warnings.warn(
            f"{values['__qualname__']} is an async generator function: its async generator will be the "
            "value of the program and is not run. Use `await` or `yield` alone in a @do function.",
            RuntimeWarning,
            stacklevel=2,
        )
    return values


class KleisliClassMethod(classmethod):  # type: ignore[type-arg]
    """A classmethod whose bound form keeps partial, fmap and >> with the class bound."""

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        bound_to = type(instance) if owner is None else owner
        return self.__func__.__get__(bound_to, bound_to)


def signature(kleisli: Any) -> Any:
    """``__signature__``: that of the user's function, less what is bound.

    Raises AttributeError where there is none, so that inspect goes on by itself.
    """
    import inspect

    try:
        if isinstance(kleisli, _engine.PartiallyAppliedKleisliProgram):
            return _without_bound(
                inspect.signature(kleisli.target), kleisli.args, kleisli.keywords
            )
        if isinstance(kleisli, _engine.ComposedKleisliProgram):
            whole = inspect.signature(kleisli.target)
            return whole.replace(return_annotation=inspect.Signature.empty)
        if isinstance(kleisli, _engine.BoundKleisliProgram):
            return _without_bound(
                inspect.signature(kleisli.__func__), (kleisli.__self__,), {}
            )
        return inspect.signature(kleisli.func)
    except (TypeError, ValueError) as error:
        raise AttributeError("__signature__") from error


def _without_bound(whole: Any, args: Any, keywords: Any) -> Any:
    bound = whole.bind_partial(*args, **keywords).arguments
    left = []
    by_keyword = False
    for name, parameter in whole.parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            left.append(parameter)
        elif name in bound:
            by_keyword = by_keyword or (
                name in keywords and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
            )
        elif by_keyword and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            left.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        else:
            left.append(parameter)
    if by_keyword:  # nothing can be passed by position behind what is bound by name
        left = [p for p in left if p.kind is not p.VAR_POSITIONAL]
    return whole.replace(parameters=left)


def reduce(kleisli: Any) -> Any:
    """``__reduce__``: functions by qualified name, the rest by what they are made of."""
    if isinstance(kleisli, _engine.PartiallyAppliedKleisliProgram):
        return _partial, (kleisli.target, kleisli.args, kleisli.keywords)
    if isinstance(kleisli, _engine.ComposedKleisliProgram):
        return _composed, (kleisli.target, kleisli.method, kleisli.f)
    if isinstance(kleisli, _engine.BoundKleisliProgram):
        return getattr, (kleisli.__self__, kleisli.__name__)
    return kleisli.__qualname__


def _partial(target: Any, args: Any, keywords: Any) -> Any:
    return target.partial(*args, **keywords)


def _composed(target: Any, method: str, f: Any) -> Any:
    return getattr(target, method)(f)


def reduce_call(call: Any) -> Any:
    """``__reduce__`` of a call: the function and its arguments."""
    return _call, (call.kleisli_source, call.args, call.kwargs, call._bound)


def _call(kleisli: Any, args: Any, kwargs: Any, bound: int) -> Any:
    if bound:
        return kleisli.__get__(args[0])(*args[1:], **kwargs)
    return kleisli(*args, **kwargs)


def reduce_combinator(kind: str, source: Any, f: Any, items: Any) -> Any:
    """``__reduce__`` of a combined program: its parts."""
    return _combined, (kind, source, f, items)


def _combined(kind: str, source: Any, f: Any, items: Any) -> Any:
    program = _engine.ProgramBase
    if kind in ("map", "flat_map", "then"):
        return getattr(source, kind)(f)
    if kind == "attribute":
        return getattr(source, f)
    if kind == "item":
        return source[f]
    if kind == "call":
        split = len(items) - len(f or ())
        return source(*items[:split], **dict(zip(f or (), items[split:], strict=True)))
    if kind == "sequence":
        return program.sequence(items)
    if kind == "traverse":
        return program.traverse(items, f)
    if kind == "dict":
        return program.dict(zip(f, items, strict=True))
    return getattr(program, kind)(*items)
