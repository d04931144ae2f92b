"""From the inputs of a run to its outcome: what ``doeff run`` and ``run_program`` share."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from doeff.cli.loading import (
    InputError,
    PathTypeError,
    describe,
    load_object,
    programs_of,
    split_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doeff import Program, RuntimeResult

__all__ = [
    "HOME_FILE",
    "NoInterpreterError",
    "Outcome",
    "Prepared",
    "Request",
    "execute",
    "prepare",
    "working_directory_first",
]

HOME_FILE = ".doeff.py"
HOME_NAME = "__default_env__"


class NoInterpreterError(InputError, LookupError):
    """Discovery found no default interpreter."""


@dataclass(frozen=True)
class Request:
    """Inputs of one run. Paths are strings; everything else is the object itself.

    program: path, program, or callable without arguments; None together with ``code``.
    code: inline source of ``doeff run -c``.
    """

    program: Any = None
    code: str | None = None
    interpreter: Any = None
    envs: Any = None
    apply: Any = None
    transforms: Any = None
    load_default_env: bool = True
    quiet: bool = False


@dataclass(frozen=True)
class Prepared:
    """A program that is ready for its interpreter, and how it came about."""

    program: Program[Any]
    interpreter: Callable[[Any], Any]
    program_name: str | None
    interpreter_name: str
    env_names: tuple[str, ...]
    apply_name: str | None
    transform_names: tuple[str, ...]
    clock: Clock


@dataclass(frozen=True)
class Outcome:
    """What a run came to: a value or the program's error.

    run_result: the ``RuntimeResult`` behind it, None if the interpreter gave a plain value.
    """

    value: Any = None
    error: BaseException | None = None
    run_result: RuntimeResult[Any] | None = None


@dataclass
class Clock:
    """Prints how long the steps of a run took, where ``DOEFF_PROFILE=1`` asks for it."""

    enabled: bool
    started: float = field(default_factory=time.perf_counter)

    @classmethod
    def from_environment(cls, quiet: bool) -> Clock:
        wanted = os.environ.get("DOEFF_PROFILE") == "1"
        return cls(wanted and not quiet and not os.environ.get("DOEFF_DISABLE_PROFILE"))

    def lap(self, step: str) -> None:
        now = time.perf_counter()
        if self.enabled:
            print(
                f"doeff: {step}: {(now - self.started) * 1e3:.1f} ms", file=sys.stderr
            )
        self.started = now


@contextmanager
def working_directory_first() -> Iterator[None]:
    """Put the working directory first on ``sys.path`` while the block runs."""
    here = os.getcwd()
    if sys.path[:1] in ([""], [here]):
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)


def prepare(request: Request) -> Prepared:
    """Load everything a request names and put the program together.

    Raises TypeError for an input of the wrong kind, ImportError or AttributeError for
    a path that names nothing, LookupError if discovery finds no interpreter, and what
    an environment's own program raises.
    """
    clock = Clock.from_environment(request.quiet)
    envs = _sequence(request.envs, "envs")
    transforms = _sequence(request.transforms, "transform")
    program = _load_program(request)
    clock.lap("load program")
    interpreter_name, interpreter = _load_interpreter(request, envs, transforms)
    clock.lap(f"load interpreter {interpreter_name}")
    if _discovers(request, envs, transforms) and request.envs is None:
        from doeff.cli.discovery import default_envs

        envs = tuple(default_envs(split_path(request.program)[0]))
    env, env_names = _merge_envs(envs, request.load_default_env)
    clock.lap("load environments")
    apply_name = None
    if request.apply is not None:
        apply_name, program = _apply_step(request.apply, program, "apply")
    transform_names = []
    for transform in transforms:
        name, program = _apply_step(transform, program, "transform")
        transform_names.append(name)
    if env:
        from doeff import Local

        program = Local(env, program)
    clock.lap("prepare program")
    return Prepared(
        program=program,
        interpreter=interpreter,
        program_name=request.program if isinstance(request.program, str) else None,
        interpreter_name=interpreter_name,
        env_names=env_names,
        apply_name=apply_name,
        transform_names=tuple(transform_names),
        clock=clock,
    )


def execute(prepared: Prepared) -> Outcome:
    """Call the interpreter and unwrap what it gives.

    Raises what the interpreter itself raises; a failed ``RuntimeResult`` becomes the
    ``error`` of the outcome.
    """
    from doeff import Program, RuntimeResult

    answer = _awaited(prepared.interpreter(prepared.program))
    if isinstance(answer, Program):
        answer = _run_default(answer)
    prepared.clock.lap("run")
    if not isinstance(answer, RuntimeResult):
        return Outcome(value=answer)
    if answer.is_err():
        return Outcome(error=answer.error, run_result=answer)
    return Outcome(value=answer.value, run_result=answer)


# --- program ---------------------------------------------------------------------


def _load_program(request: Request) -> Program[Any]:
    if request.code is not None:
        from doeff.cli.inline import program_from_code

        return program_from_code(request.code)
    given = request.program
    if isinstance(given, str):
        return _as_program(load_object(given, "program"), f"program {given!r}")
    return _as_program(given, "program")


def _as_program(found: Any, what: str) -> Program[Any]:
    from doeff import Program

    if isinstance(found, Program):
        return found
    if isinstance(found, type) or not callable(found):
        raise PathTypeError(f"{what} is {describe(found)}, {_how_to_program(found)}")
    needed = _required_parameters(found)
    if needed:
        raise PathTypeError(
            f"{what} is {describe(found)} with parameters that have no default: "
            f"{', '.join(needed)}. Give them defaults, read them with Ask, "
            f"or name a program that passes them"
        )
    made = found()
    if isinstance(made, Program):
        return made
    raise PathTypeError(
        f"{what} is {describe(found)}, and calling it gave {describe(made)}, "
        f"{_how_to_program(made)}"
    )


def _how_to_program(found: object) -> str:
    import inspect

    advice = "not a program: it must be a program or a function without arguments that gives one"
    if inspect.isgenerator(found):
        return f"{advice} (decorate the generator function with @do)"
    if inspect.iscoroutine(found):
        found.close()
        return f"{advice} (wrap the coroutine in Await)"
    names = programs_of(found)
    if names:
        return f"{advice} (programs in it: {', '.join(names)})"
    return advice


def _required_parameters(function: Callable[..., Any]) -> list[str]:
    import inspect

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]


# --- interpreter -----------------------------------------------------------------


def _discovers(
    request: Request, envs: Sequence[Any], transforms: Sequence[Any]
) -> bool:
    """Discovery is for runs that are described by paths alone."""
    given = [request.program, request.interpreter, request.apply, *envs, *transforms]
    return isinstance(request.program, str) and all(
        item is None or isinstance(item, str) for item in given
    )


def _load_interpreter(
    request: Request, envs: Sequence[Any], transforms: Sequence[Any]
) -> tuple[str, Callable[[Any], Any]]:
    given = request.interpreter
    if given is not None:
        found = load_object(given, "interpreter") if isinstance(given, str) else given
        name = given if isinstance(given, str) else _label(given)
        return name, _as_interpreter(found, f"interpreter {name!r}")
    path = None
    if request.code is not None:
        path = _interpreter_for_code()
    elif _discovers(request, envs, transforms):
        path = _interpreter_for_path(request.program)
    if path is None:
        return "<default sync_run>", _run_default
    return path, _as_interpreter(
        load_object(path, "interpreter"), f"interpreter {path!r}"
    )


def _interpreter_for_path(path: str) -> str:
    from doeff.cli.discovery import MARKER, default_interpreter

    module, _ = split_path(path)
    found = default_interpreter(module)
    if found is None:
        raise NoInterpreterError(
            f"no default interpreter for {path!r}: mark a function that takes the program "
            f"with the comment '{MARKER}' in {module!r} or a package around it, or choose one, "
            f"e.g. '--interpreter doeff:sync_run'"
        )
    return found


def _interpreter_for_code() -> str | None:
    from doeff.cli.discovery import interpreter_near

    found = interpreter_near(Path.cwd())
    if found is None:
        return None
    path, folder = found
    if str(folder) not in sys.path:
        sys.path.insert(1, str(folder))
    return path


def _as_interpreter(found: Any, what: str) -> Callable[[Any], Any]:
    import inspect

    import doeff

    interpreter: Callable[[Any], Any] = found

    if found is doeff.sync_run:
        return _run_default
    if found is getattr(doeff, "async_run", None):
        return lambda program: doeff.async_run(program, doeff.async_handlers_preset)
    if isinstance(found, doeff.Program) or not callable(found):
        raise PathTypeError(
            f"{what} is {describe(found)}, not an interpreter: it must be a function "
            f"that takes the program and runs it"
        )
    try:
        signature = inspect.signature(found)
    except (TypeError, ValueError):
        return interpreter
    try:
        signature.bind(None)
    except TypeError:
        raise PathTypeError(
            f"{what} cannot be called with the program alone: its signature is {signature}; "
            f"the program must be its first positional parameter and all others need defaults"
        ) from None
    return interpreter


def _run_default(program: Program[Any]) -> RuntimeResult[Any]:
    from doeff import sync_handlers_preset, sync_run

    return sync_run(program, sync_handlers_preset)


def _awaited(answer: Any) -> Any:
    import inspect

    from doeff import Program

    if isinstance(answer, Program) or not inspect.isawaitable(answer):
        return answer
    import asyncio

    async def wait() -> Any:
        return await answer

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(wait())
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(max_workers=1) as pool:  # this thread's loop is taken
        return pool.submit(asyncio.run, wait()).result()


# --- environments ----------------------------------------------------------------


def _sequence(given: Any, name: str) -> tuple[Any, ...]:
    if given is None:
        return ()
    if isinstance(given, list | tuple):
        return tuple(given)
    raise PathTypeError(
        f"{name} must be a list, got {describe(given)}: write {name}=[...]"
    )


def _merge_envs(
    sources: Sequence[Any], load_default_env: bool
) -> tuple[dict[Any, Any], tuple[str, ...]]:
    merged: dict[Any, Any] = {}
    names: list[str] = []
    if load_default_env:
        home = _home_env()
        if home is not None:
            name = f"~/{HOME_FILE}:{HOME_NAME}"
            merged.update(_env_of(home, f"environment {name!r}", merged))
            names.append(name)
    for source in sources:
        name = source if isinstance(source, str) else _label(source)
        found = (
            load_object(source, "environment") if isinstance(source, str) else source
        )
        merged.update(_env_of(found, f"environment {name!r}", merged))
        names.append(name)
    return merged, tuple(names)


def _env_of(found: Any, what: str, so_far: Mapping[Any, Any]) -> Mapping[Any, Any]:
    from doeff import Program, sync_handlers_preset, sync_run

    if isinstance(found, Mapping):
        return found
    origin = describe(found)
    made = found
    if callable(found) and not isinstance(found, Program):
        needed = _required_parameters(found)
        if needed:
            raise PathTypeError(
                f"{what} is {origin}, which needs arguments: {', '.join(needed)}; "
                f"it must be callable without any"
            )
        made = found()
    if isinstance(made, Program):
        made = sync_run(made, sync_handlers_preset, env=dict(so_far)).value
    if isinstance(made, Mapping):
        return made
    result = "" if made is found else f", which gave {describe(made)}"
    raise PathTypeError(
        f"{what} is {origin}{result}: it must be a mapping, a program that gives one, "
        f"or a function without arguments that gives either"
    )


def _home_env() -> Any:
    """``__default_env__`` of the user's dot file, None if there is none."""
    import runpy

    try:
        path = Path.home() / HOME_FILE
    except RuntimeError:
        return None
    if not path.is_file():
        return None
    try:
        return runpy.run_path(str(path), run_name="doeff_home").get(HOME_NAME)
    except Exception as error:
        error.add_note(f"raised while reading ~/{HOME_FILE}")
        raise


# --- steps and names -------------------------------------------------------------


def _apply_step(
    given: Any, program: Program[Any], role: str
) -> tuple[str, Program[Any]]:
    from doeff import Program

    name = given if isinstance(given, str) else _label(given)
    found = load_object(given, role) if isinstance(given, str) else given
    if isinstance(found, Program) or not callable(found):
        raise PathTypeError(
            f"{role} {name!r} is {describe(found)}: it must be a function that takes "
            f"the program and gives a program"
        )
    made = found(program)
    if not isinstance(made, Program):
        raise PathTypeError(
            f"{role} {name!r} gave {describe(made)}: it must give a program "
            f"(return the program, or decorate the function with @do)"
        )
    return name, made


def _label(given: object) -> str:
    from doeff import KleisliProgram, Program

    if isinstance(given, Mapping):
        return "<dict>"
    if isinstance(given, Program):
        return "<Program[dict]>"
    name = getattr(given, "__name__", None) or type(given).__name__
    kind = "KleisliProgram" if isinstance(given, KleisliProgram) else "callable"
    return f"<{kind}: {name}>"
