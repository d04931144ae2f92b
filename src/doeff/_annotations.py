"""Which arguments a @do function wants unevaluated, and which effects a handler wants.

Everything here runs once for a function, not once for a call, and nothing runs for a
function without annotations. Annotations are evaluated one by one; a name that cannot be
resolved stands for an unknown class and spoils neither the others nor the union it is in.
"""

from __future__ import annotations

import builtins
import sys
from functools import lru_cache, partial
from types import CellType, CodeType, FunctionType, GenericAlias, MethodType, UnionType

from ._engine import BoundKleisliProgram, EffectBase, KleisliProgram, ProgramBase

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_OPTIMIZED, _VARARGS, _VARKEYWORDS = 0x1, 0x4, 0x8  # inspect.CO_*
_HANDLES = "__doeff_handles__"

# What the usual names mean in a function that imports them for type checkers only.
_DEFAULTS: dict[str, Any] = {
    "Program": ProgramBase,
    "ProgramBase": ProgramBase,
    "ProgramLike": ProgramBase,
    "Effect": EffectBase,
    "EffectBase": EffectBase,
}


class _UnknownMeta(type):
    def __getitem__(cls, item: Any) -> type:
        return cls

    def __getattr__(cls, name: str) -> type:
        if name.startswith("_"):
            raise AttributeError(name)
        return cls


class _Unknown(metaclass=_UnknownMeta):
    """What a name stands for that cannot be resolved."""


# ---- the function behind a callable ----


class _Target:
    """The Python function that a callable ends in, and how many of its parameters are taken."""

    __slots__ = ("function", "names", "taken")

    def __init__(self, function: Any, taken: int, names: dict[str, Any] | None) -> None:
        self.function = function
        self.taken = taken
        self.names = names


def _target(thing: Any) -> _Target | None:
    taken = 0
    names: dict[str, Any] | None = None
    for _ in range(100):
        if isinstance(thing, FunctionType):
            wrapped = thing.__dict__.get("__wrapped__")
            if wrapped is None:
                return _Target(thing, taken, names)
            thing = wrapped
        elif isinstance(thing, BoundKleisliProgram):
            taken += 1
            thing = thing.__func__
        elif isinstance(thing, KleisliProgram):
            inner = getattr(thing, "target", None)
            if inner is not None:
                taken += len(getattr(thing, "args", ()))
                thing = inner
            else:
                names = names or thing._names
                thing = thing.func
        elif isinstance(thing, MethodType):
            taken += 1
            thing = thing.__func__
        elif isinstance(thing, partial):
            taken += len(thing.args)
            thing = thing.func
        else:
            of_class = isinstance(thing, type)
            call = getattr(
                thing if of_class else type(thing),
                "__init__" if of_class else "__call__",
                None,
            )
            if not isinstance(call, (FunctionType, KleisliProgram)):
                return None
            taken += 1
            thing = call
    return None


def _annotations_of(function: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = function.__annotations__
    except MemoryError:
        raise
    except Exception:  # lazily evaluated, and a name is missing: let that one be a string or a forward reference
        import annotationlib  # type: ignore[import-not-found]

        found = annotationlib.get_annotations(
            function, format=annotationlib.Format.FORWARDREF
        )
    return found


# ---- names ----


def visible_names(func: Any) -> dict[str, Any] | None:
    """What annotations written as strings need from the function around the one that is decorated."""
    target = _target(func)
    if target is None:
        return None
    if "." not in target.function.__qualname__:
        return None  # a function of a module: its globals say it all
    frame: Any = _defining_frame(target.function)
    try:
        if frame is None or frame.f_locals is frame.f_globals:
            return None
        wanted = _names_wanted(target.function)
        found: dict[str, Any] = {}
        while frame is not None and frame.f_locals is not frame.f_globals and wanted:
            visible = frame.f_locals
            for name in list(wanted):
                if name in visible:
                    found[name] = visible[name]
                    wanted.discard(name)
            if frame.f_code.co_flags & _OPTIMIZED:
                break  # a function; the body of a class also sees what is around it
            frame = frame.f_back
        return found or None
    finally:
        del frame


def _defining_frame(function: Any) -> Any:
    """The frame that made the function: decorators of others may stand between it and @do."""
    code = function.__code__
    nearest = None
    frame: Any = sys._getframe(2)  # behind this one and visible_names: where @do stands
    for _ in range(20):
        if frame is None or any(
            constant is code for constant in frame.f_code.co_consts
        ):
            return frame or nearest
        if nearest is None and frame.f_globals is function.__globals__:
            nearest = frame
        frame = frame.f_back
    return nearest


def _names_wanted(function: Any) -> set[str]:
    try:
        annotations: dict[str, Any] = function.__annotations__
    except MemoryError:
        raise
    except Exception:
        return set()
    return {name for text in annotations.values() for name in _names_in(text)}


def _names_in(annotation: Any) -> tuple[str, ...]:
    if not isinstance(annotation, str):
        return tuple(
            name
            for member in getattr(annotation, "__args__", ())
            for name in _names_in(_forward(member))
        )
    return _names_in_text(annotation)


@lru_cache(maxsize=1024)
def _names_in_text(annotation: str) -> tuple[str, ...]:
    try:
        code: CodeType = compile(annotation.strip(), "<annotation>", "eval")
    except (SyntaxError, ValueError):
        return ()
    names = list(code.co_names)
    for constant in code.co_consts:  # "Optional['Local']"
        if isinstance(constant, str):
            names += _names_in(constant)
    return tuple(names)


def _forward(annotation: Any) -> Any:
    return getattr(annotation, "__forward_arg__", annotation)


class _Scope(dict):  # type: ignore[type-arg]
    """The names that an annotation of one function may use."""

    def __init__(self, target: _Target) -> None:
        super().__init__()
        function = target.function
        for parameter in getattr(function, "__type_params__", ()):
            self[parameter.__name__] = parameter
        cells: tuple[CellType, ...] = function.__closure__ or ()
        for name, cell in zip(function.__code__.co_freevars, cells, strict=False):
            try:
                self[name] = cell.cell_contents
            except ValueError:
                continue
        self.update(target.names or {})
        self._globals = function.__globals__

    def __missing__(self, name: str) -> Any:
        if name in self._globals:
            return self._globals[name]
        if hasattr(builtins, name):
            return getattr(builtins, name)
        return _DEFAULTS.get(name, _Unknown)

    def evaluate(self, text: str) -> Any:
        try:
            return eval(text.strip(), {"__builtins__": builtins}, self)
        except (
            MemoryError,
            SystemError,
        ):  # CPython makes SystemError of MemoryError; neither is the annotation's
            raise
        except Exception:
            return _Unknown


# ---- what an annotation says ----


def _members(annotation: Any, scope: _Scope) -> list[Any]:
    """The plain things that an annotation is a union of; generics by their origin."""
    found: list[Any] = []
    left = [annotation]
    for _ in range(1000):
        if not left:
            break
        item = _forward(left.pop())
        if isinstance(item, str):
            left.append(scope.evaluate(item))
        elif isinstance(item, GenericAlias):
            found.append(item.__origin__)
        elif isinstance(item, type):
            found.append(item)
        elif isinstance(item, UnionType):
            left += item.__args__
        elif hasattr(item, "__metadata__"):  # Annotated
            left.append(item.__origin__)
        elif hasattr(item, "__supertype__"):  # NewType
            left.append(item.__supertype__)
        elif hasattr(item, "__value__"):  # type X = ...
            try:
                left.append(item.__value__)
            except MemoryError:
                raise
            except Exception:
                left.append(_Unknown)
        elif getattr(item, "__origin__", None) is not None:
            origin = item.__origin__
            if isinstance(origin, type) and origin is not UnionType:
                found.append(origin)
            elif str(origin) == "typing.Union":
                left += item.__args__
            elif hasattr(origin, "__value__"):
                left.append(origin)
            else:
                found.append(item)
        else:
            found.append(type(None) if item is None else item)
    return found


def _asks_for_program(annotation: Any, scope: _Scope) -> bool:
    return any(
        isinstance(member, type) and issubclass(member, ProgramBase)
        for member in _members(annotation, scope)
    )


# ---- what the engine asks ----


def plan(kleisli: Any) -> Any:
    """The table of parameters that take programs as they are, or None if there are none.

    (flags of the positional parameters, flag of *args, {keyword: flag}, flag of **kwargs)
    """
    target = _target(kleisli)
    if target is None:
        return None
    scope = _Scope(target)
    flags = {
        name: _asks_for_program(annotation, scope)
        for name, annotation in _annotations_of(target.function).items()
        if name != "return"
    }
    if True not in flags.values():
        return None
    code: CodeType = target.function.__code__
    names = code.co_varnames
    positional, end = code.co_argcount, code.co_argcount + code.co_kwonlyargcount
    extra = keywords = False
    if code.co_flags & _VARARGS:
        extra = flags.get(names[end], False)
    if code.co_flags & _VARKEYWORDS:
        keywords = flags.get(names[end + (1 if code.co_flags & _VARARGS else 0)], False)
    return (
        tuple(flags.get(name, False) for name in names[target.taken : positional]),
        extra,
        {name: flags.get(name, False) for name in names[code.co_posonlyargcount : end]},
        keywords,
    )


def handled_classes(handler: Any) -> tuple[type, ...] | None:
    """The effect classes that a handler's first parameter is narrowed to, or None for all."""
    target = _target(handler)
    if target is None:
        return None
    function = target.function
    annotations = _annotations_of(function)
    if not annotations:
        return None
    known = function.__dict__.get(_HANDLES)
    if known is None or known[0] != target.taken:
        # Kept by the function itself: a table of ours would keep classes local to a test alive.
        known = (target.taken, _narrowed(target, annotations))
        function.__dict__[_HANDLES] = known
    classes: tuple[type, ...] | None = known[1]
    return classes


def _narrowed(target: _Target, annotations: dict[str, Any]) -> tuple[type, ...] | None:
    code: CodeType = target.function.__code__
    names = code.co_varnames[target.taken : code.co_argcount]
    if not names or names[0] not in annotations:
        return None
    classes: list[type] = []
    for member in _members(annotations[names[0]], _Scope(target)):
        if member is type(None):
            continue
        if (
            not isinstance(member, type)
            or not issubclass(member, EffectBase)
            or member is EffectBase
        ):
            return None
        classes.append(member)
    return tuple(classes) or None
