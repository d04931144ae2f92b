"""The exception classes of doeff and the texts of the machine's own errors."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def _shown(thing: Any, limit: int = 80) -> str:
    try:
        text = repr(thing)
    except Exception:
        return f"<unprintable {type(thing).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."


class UnhandledEffectError(Exception):
    """No handler in force took an effect; raised at the yield that performed it.

    ``effect`` is the effect. Contract: programs, part 6.7.
    """

    def __init__(self, message: str = "", effect: Any = None) -> None:
        super().__init__(message)
        self.effect = effect

    def __reduce__(self) -> Any:
        return type(self), (self.args[0] if self.args else "", self.effect)


class InterpreterInvariantError(TypeError):
    """A program yielded, or a transform answered, something that the machine cannot run."""


class MissingEnvKeyError(KeyError):
    """``Ask(key)`` found no such key in the environment; ``key`` is the object asked for."""

    def __init__(self, key: Any) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        key = _shown(self.key, 1000)
        return (
            f"Environment key not found: {key}\n"
            f"Hint: pass env={{{key}: ...}} to the run, "
            f"or wrap the program in Local({{{key}: ...}}, ...)"
        )


class CircularAskError(Exception):
    """A lazy environment value asks, directly or through others, for its own key."""

    def __init__(self, key: Any, message: str | None = None) -> None:
        super().__init__(
            message or f"Circular dependency detected for Ask({_shown(key, 1000)})"
        )
        self.key = key
        self._message = message

    def __reduce__(self) -> Any:
        return type(self), (self.key, self._message)


class TaskCancelledError(Exception):
    """Raised in a cancelled task at its yield, and in whoever waits for it."""


class SchedulerDeadlockError(RuntimeError):
    """Nothing can wake the main program any more; raised at its own wait.

    ``parked_waiters`` has a line for each waiting task, ``semaphore_waiters`` the numbers of the
    tasks that wait for each semaphore. Contract: concurrency, part 1.12.
    """

    def __init__(
        self,
        message: str = "Deadlock",
        parked_waiters: list[str] | None = None,
        semaphore_waiters: dict[int, list[int]] | None = None,
    ) -> None:
        super().__init__(message)
        self.parked_waiters = [] if parked_waiters is None else parked_waiters
        self.semaphore_waiters = {} if semaphore_waiters is None else semaphore_waiters

    def __reduce__(self) -> Any:
        return type(self), (self.args[0], self.parked_waiters, self.semaphore_waiters)


class StepBudgetExceeded(BaseException):
    """A run has taken the turns that ``arm_step_budget`` allows; ``turns`` is their number.

    Raised in the main program at its yield. No ``Exception``: a loop that goes on after whatever went wrong is
    what it is to end, so ``Safe`` does not catch it and the run function raises it.
    """

    def __init__(self, message: str = "", turns: int | None = None) -> None:
        super().__init__(message)
        self.turns = turns

    def __reduce__(self) -> Any:
        return type(self), (self.args[0], self.turns)


class ExternalPromiseCancelCallbackError(RuntimeError):
    """Callbacks given to ``ExternalPromise.on_cancel`` raised; ``errors`` has what they raised."""

    def __init__(self, errors: list[BaseException]) -> None:
        super().__init__(
            f"{len(errors)} on_cancel callback{'s' if len(errors) != 1 else ''} raised: "
            + ", ".join(_shown(error) for error in errors)
        )
        self.errors = errors

    def __reduce__(self) -> Any:
        return type(self), (self.errors,)


def _place(generator: Any) -> str | None:
    """Where a suspended program stands, as ``file:line in function``: the innermost generator that it waits in."""
    place = None
    while generator is not None:
        frame = getattr(generator, "gi_frame", None) or getattr(
            generator, "cr_frame", None
        )
        if frame is None:
            break
        place = f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        generator = getattr(generator, "gi_yieldfrom", None) or getattr(
            generator, "cr_await", None
        )
    return place


def budget_spent(turns: int, generator: Any) -> StepBudgetExceeded:
    """The error for a run that has taken its turns; ``generator`` is the program whose turn it was."""
    place = _place(generator)
    at = f"; the last one at {place}" if place is not None else ""
    return StepBudgetExceeded(
        f"the run has not ended after {turns} turn{'s' if turns != 1 else ''}{at}",
        turns,
    )


_SHOWN_HANDLERS = 20


def unhandled(
    effect: Any, tried: list[str], generator: Any = None
) -> UnhandledEffectError:
    """The error for an effect that passed all the handlers named, innermost first.

    ``generator`` is the program that performed it, suspended at its yield.
    """
    where = ""
    place = _place(generator)
    if place is not None:
        where = f", performed at {place}"
    origin = getattr(effect, "created_at", None)
    if origin is not None:
        where += f", created at {origin.format_location()}"
    names = ", ".join(tried[:_SHOWN_HANDLERS]) if tried else "none"
    if len(tried) > _SHOWN_HANDLERS:
        names += f" and {len(tried) - _SHOWN_HANDLERS} more"
    message = (
        f"No handler for {type(effect).__name__}: {_shown(effect)}{where}. "
        f"Handlers tried, innermost first: {names}. Add a handler that answers it to the run's list, "
        f"or wrap the program in WithHandler(handler, program)."
    )
    return UnhandledEffectError(message, effect)


def bad_yield(thing: Any, awaited: int = 0) -> InterpreterInvariantError:
    """The error for a yield of something that is neither an effect nor a program.

    awaited: it came out of an async program, where awaitables of an event loop yield to the machine.
    """
    import types

    from ._engine import BoundKleisliProgram, CESKState, KleisliProgram, ResumeK

    hint = "Hint: yield an effect such as Get('key'), or call a @do function and yield the call."
    if awaited:
        hint = (
            "Hint: in an async @do function await effects and programs only; "
            "write `await Await(x)` for anything else that can be awaited."
        )
    elif isinstance(thing, (KleisliProgram, BoundKleisliProgram, type)):
        hint = f"Hint: call it: yield {thing.__name__}(...)."
    elif isinstance(thing, (ResumeK, CESKState)):
        hint = "Hint: return it: what a handler returns says how the program goes on."
    elif isinstance(thing, types.CoroutineType) or hasattr(type(thing), "__await__"):
        hint = "Hint: wrap it: yield Await(coroutine)."
    elif isinstance(thing, types.GeneratorType):
        hint = "Hint: write yield from for a raw generator, or decorate its function with @do."
    elif hasattr(type(thing), "future"):
        hint = "Hint: wait for it: yield Wait(promise.future)."
    elif hasattr(type(thing), "_handle"):
        hint = "Hint: wait for it: yield Wait(task)."
    elif callable(thing):
        hint = "Hint: call it, or decorate it with @do and yield the call."
    elif isinstance(thing, (list, tuple)):
        hint = "Hint: to run several at once, yield Gather(*programs)."
    else:
        hint += (
            " An argument that is a program is run before the body begins, and its value passed: "
            "to get the program itself, annotate the parameter (program: Program)."
        )
    return InterpreterInvariantError(
        f"Program yielded unexpected type: {type(thing).__name__}. "
        f"Programs must yield Effect or Program instances only.\n{hint}"
    )


def _handler_place(handler: object) -> str:
    """The name of a handler and where its body begins."""
    name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
    function: object = handler
    for attribute in ("__func__", "func", "original_func", "__wrapped__", "__call__"):
        if hasattr(function, "__code__"):
            break
        function = getattr(function, attribute, function)
    code = getattr(function, "__code__", None)
    if code is None:
        return str(name)
    return f"{name} ({code.co_filename}:{code.co_firstlineno})"


def resumed_twice(
    effect: object, first: object, again: object, generator: object = None
) -> str:
    """What to say when a continuation that is gone is resumed.

    generator: the body whose yield resumes it again; None if a handler returned it.
    """
    place = _place(generator)
    at = "" if place is None else f", at {place}"
    return (
        f"continuation already resumed: that of {_shown(effect)} was resumed or closed by "
        f"handler {_handler_place(first)}, and handler {_handler_place(again)} resumes it again{at}"
    )


def bad_parameters(handler: object, error: BaseException) -> str | None:
    """What to say when a handler could not be called with an effect and a context; None if it can be."""
    import inspect

    function = getattr(handler, "original_func", handler)
    try:
        inspect.signature(function).bind(None, None)  # type: ignore[arg-type]
    except TypeError:
        return (
            f"handler {_handler_place(handler)} must take an effect and a context, "
            f"as handler(effect, ctx): {error}"
        )
    except ValueError:
        pass
    return None
