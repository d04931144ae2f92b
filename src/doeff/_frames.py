"""Frames as Python sees them.

The machine runs on frames in C; objects of these classes are made when somebody looks into
a continuation. ``LocalFrame`` and the other classes with ``on_value`` and ``on_error`` can
also be put in front of a continuation by hand: ``[LocalFrame(env)] + ctx.k``.

Contract: programs, part 3.3.
"""

from __future__ import annotations

from typing import Any


class _View:
    """A frame by its fields. Equal when class and fields are."""

    __slots__ = ("_origin",)  # where in a continuation it was seen; set by the engine
    __match_args__: tuple[str, ...] = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        names = self.__match_args__
        if len(args) > len(names):
            raise TypeError(
                f"{type(self).__name__} takes {len(names)} arguments, got {len(args)}"
            )
        values = dict(zip(names, args, strict=False))
        for name, value in kwargs.items():
            if name not in names or name in values:
                raise TypeError(
                    f"{type(self).__name__} got an unexpected argument {name!r}"
                )
            values[name] = value
        for name in names:
            object.__setattr__(self, name, values.get(name))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(
            f"a {type(self).__name__} is immutable: cannot set {name!r}"
        )

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        pairs = ((getattr(self, n), getattr(other, n)) for n in self.__match_args__)
        return all(a is b or a == b for a, b in pairs)

    def __hash__(self) -> int:
        return hash((type(self), *(id(getattr(self, n)) for n in self.__match_args__)))

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{n}={_short(getattr(self, n))}" for n in self.__match_args__
        )
        return f"{type(self).__name__}({shown})"


def _short(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        return f"<unprintable {type(value).__name__}>"
    return text if len(text) <= 60 else text[:57] + "..."


class _Passing(_View):
    """A frame that hands values and errors on unless a subclass says more."""

    __slots__ = ()

    def on_value(self, value: Any, env: Any, store: Any, k_rest: Any) -> Any:
        from ._engine import CESKState

        return CESKState.with_value(value, env, store, k_rest)

    def on_error(self, error: BaseException, env: Any, store: Any, k_rest: Any) -> Any:
        from ._engine import CESKState

        return CESKState.with_error(error, env, store, k_rest)


class ReturnFrame(_Passing):
    """The program that waits for the value, at its yield."""

    __slots__ = __match_args__ = (
        "generator",
        "saved_env",
        "program_call",
        "kleisli_function_name",
        "kleisli_filename",
        "kleisli_lineno",
    )


class HandlerFrame(_Passing):
    """The scope of a handler."""

    __slots__ = __match_args__ = ("handler", "saved_env")


class HandlerResultFrame(_Passing):
    """Waits for what a handler's body gives."""

    __slots__ = __match_args__ = (
        "original_effect",
        "handler_depth",
        "handled_program_k",
        "inherited_handlers",
    )


class LocalFrame(_Passing):
    """Puts an environment back in force."""

    __slots__ = __match_args__ = ("saved_env",)
    saved_env: Any

    @property
    def restore_env(self) -> Any:
        return self.saved_env

    def on_value(self, value: Any, env: Any, store: Any, k_rest: Any) -> Any:
        return super().on_value(value, self.saved_env, store, k_rest)

    def on_error(self, error: BaseException, env: Any, store: Any, k_rest: Any) -> Any:
        return super().on_error(error, self.saved_env, store, k_rest)


class SafeFrame(_Passing):
    """Turns the outcome into Ok or Err."""

    __slots__ = __match_args__ = ("saved_env",)
    saved_env: Any

    def on_value(self, value: Any, env: Any, store: Any, k_rest: Any) -> Any:
        from ._engine import Ok

        return super().on_value(Ok(value), self.saved_env or env, store, k_rest)

    def on_error(self, error: BaseException, env: Any, store: Any, k_rest: Any) -> Any:
        from ._engine import Err

        if not isinstance(error, Exception):
            return super().on_error(error, env, store, k_rest)
        return super().on_value(Err(error), self.saved_env or env, store, k_rest)


class ListenFrame(_Passing):
    """Collects what is told while its program runs."""

    __slots__ = __match_args__ = ("log_start_index",)


class InterceptFrame(_Passing):
    """The scope of an Intercept."""

    __slots__ = __match_args__ = ("transforms",)


class GatherFrame(_Passing):
    """Collects the values of several programs."""

    __slots__ = __match_args__ = (
        "remaining_programs",
        "collected_results",
        "saved_env",
    )


class AskLazyFrame(_Passing):
    """Remembers the value of a lazy environment entry."""

    __slots__ = __match_args__ = ("ask_key", "program")


class GraphCaptureFrame(_Passing):
    """Collects the graph nodes that its program adds."""

    __slots__ = __match_args__ = ()


class MachineFrame(_View):
    """A frame of the machine that no user ever has to make."""

    __slots__ = __match_args__ = ("name", "description")


_BY_NAME = {
    cls.__name__: cls
    for cls in (
        LocalFrame,
        SafeFrame,
        ListenFrame,
        InterceptFrame,
        AskLazyFrame,
        GraphCaptureFrame,
    )
}


def view(name: str, a: Any, b: Any, description: str) -> Any:
    """The view of one frame of the machine with its two payload objects."""
    if name == "ReturnFrame":
        code = getattr(a, "gi_code", None) or getattr(a, "cr_code", None)
        title = getattr(b, "__name__", None) or getattr(a, "__name__", None)
        return ReturnFrame(
            a,
            None,
            None,
            title,
            code.co_filename if code is not None else None,
            code.co_firstlineno if code is not None else None,
        )
    if name == "HandlerFrame":
        return HandlerFrame(a, b)
    if name == "HandlerResultFrame":
        return HandlerResultFrame(
            a.effect if hasattr(a, "effect") else None, a.handler_depth, None, None
        )
    if name == "Frame":
        return a
    if name == "AskLazyFrame":
        return AskLazyFrame(a, b)
    if name == "GraphCaptureFrame":
        return GraphCaptureFrame()
    cls = _BY_NAME.get(name)
    if cls is not None:
        return cls(a)
    return MachineFrame(name, description)
