"""What ProgramCallStack, ProgramCallFrame and GetDebugContext make of the task's pending frames.

The engine hands over rows ``(kind, description, generator or None, KleisliProgram or None)``,
innermost first. A call of a ``@do`` function is a row with both. Generators of modules that set
``__doeff_machinery__`` are left out.
"""

from __future__ import annotations

import inspect
from typing import Any

from ._engine import CallFrame, FrozenDict, ProgramCallFrame, do
from ._origin import EffectCreationContext

Row = tuple[str, str, Any, Any]


def _is_machinery(row: Row) -> bool:
    frame = _frame(row[2])
    return frame is not None and "__doeff_machinery__" in frame.f_globals


def _frame(generator: Any) -> Any:
    """The suspended frame of a generator or coroutine, None if it has ended."""
    return generator.gi_frame if hasattr(generator, "gi_frame") else generator.cr_frame


def _code(generator: Any) -> Any:
    return generator.gi_code if hasattr(generator, "gi_code") else generator.cr_code


def _defaults(kleisli: Any, code: Any) -> tuple[Any, ...]:
    function = getattr(kleisli, "func", None)
    if function is None or getattr(function, "__code__", None) is not code:
        return ()
    return function.__defaults__ or ()


def arguments(kleisli: Any, generator: Any) -> tuple[tuple[Any, ...], Any]:
    """args and kwargs that call the function again as it was called.

    Read from the function's variables, in one form for all ways to write the call: required
    parameters by position, optional ones by name unless they have their default.
    """
    frame, code = _frame(generator), _code(generator)
    if frame is None:
        return (), FrozenDict()
    variables = frame.f_locals
    count, only = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    after = count + only
    rest: Any = ()
    more: Any = {}
    if code.co_flags & inspect.CO_VARARGS:
        rest = variables.get(names[after], ())
        after += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        more = variables.get(names[after], {})
    defaults = _defaults(kleisli, code)
    required = count if rest else count - len(defaults)
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for index, name in enumerate(names[:count]):
        if name not in variables:  # the function has deleted it
            required = 0
        elif index < required or index < code.co_posonlyargcount:
            args.append(variables[name])
        elif index < count - len(defaults) or (
            variables[name] is not defaults[index - count + len(defaults)]
        ):
            kwargs[name] = variables[name]
    standard = getattr(getattr(kleisli, "func", None), "__kwdefaults__", None) or {}
    for name in names[count : count + only]:
        if name in variables and not (
            name in standard and variables[name] is standard[name]
        ):
            kwargs[name] = variables[name]
    if isinstance(rest, tuple):
        args.extend(rest)
    if isinstance(more, dict):
        kwargs.update(more)
    return tuple(args), FrozenDict(kwargs)


def _site(callers: list[Row]) -> Any:
    """Where the innermost of these generators stands, as an EffectCreationContext."""
    frames = [frame for row in callers if (frame := _frame(row[2])) is not None]
    return (
        EffectCreationContext._at([(f.f_code, f.f_lasti) for f in frames])
        if frames
        else None
    )


def _generators(rows: list[Row]) -> list[Row]:
    """The rows of the user's generators."""
    return [row for row in rows if row[2] is not None and not _is_machinery(row)]


def _call_frame(depth: int, row: Row, callers: list[Row]) -> Any:
    _, _, generator, kleisli = row
    args, kwargs = arguments(kleisli, generator)
    return CallFrame(kleisli, _name(kleisli), args, kwargs, depth, _site(callers))


def _name(kleisli: Any) -> str:
    return str(getattr(kleisli, "__name__", type(kleisli).__name__))


_CALLERS = 16
"""How many callers a call site remembers."""


def _calls(rows: list[Row]) -> list[tuple[Row, list[Row]]]:
    """The calls, each with the generators around it, innermost first."""
    generators = _generators(rows)
    return [
        (row, generators[index + 1 : index + 1 + _CALLERS])
        for index, row in enumerate(generators)
        if row[3] is not None
    ]


def call_stack(rows: list[Row], effect: Any) -> tuple[Any, ...]:
    """The value of ProgramCallStack()."""
    return tuple(_call_frame(depth, *call) for depth, call in enumerate(_calls(rows)))


def call_frame(rows: list[Row], effect: Any) -> Any:
    """The value of ProgramCallFrame(depth)."""
    calls = _calls(rows)
    if effect.depth >= len(calls):
        raise IndexError(
            f"ProgramCallFrame({effect.depth}): only {len(calls)} @do calls are pending here"
        )
    return _call_frame(effect.depth, *calls[effect.depth])


@do
def call_site() -> Any:
    """Where the function that yields this call was called from, or None.

    For library functions whose own generators are left out of the stack.
    """
    frame = yield ProgramCallFrame()
    return frame.created_at


def debug_context(rows: list[Row], effect: Any) -> Any:
    """The value of GetDebugContext()."""
    from .cesk.debug import DebugContext, EffectCallNode, KFrameInfo, KleisliStackEntry

    stack = []
    for depth, (row, _) in enumerate(_calls(rows)):
        frame, code = _frame(row[2]), _code(row[2])
        line = code.co_firstlineno if frame is None else frame.f_lineno
        stack.append(KleisliStackEntry(_name(row[3]), code.co_filename, line, depth))
    frames = tuple(
        KFrameInfo(kind, description, depth)
        for depth, (kind, description, _, _) in enumerate(rows)
    )
    kind = type(effect).__name__
    tree = None
    for entry in stack:
        if tree is None:
            leaf = EffectCallNode(kind, entry.filename, entry.lineno, kind, ())
            tree = EffectCallNode(
                entry.function_name, entry.filename, entry.lineno, None, (leaf,)
            )
        else:
            tree = EffectCallNode(
                entry.function_name, entry.filename, entry.lineno, None, (tree,)
            )
    if tree is None:
        tree = EffectCallNode(kind, "", 0, kind, ())
    return DebugContext(tuple(stack), frames, tree, effect)
