"""Run a program from Python the way ``doeff run`` runs it from a shell."""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers read it as true; importing doeff stays cheap
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any, NoReturn, TypeAlias

    from doeff import Program, RuntimeResult

    EnvSource: TypeAlias = str | Mapping[Any, Any] | Program[Any] | Callable[[], Any]

__all__ = ["ProgramRunResult", "run_program"]


class ProgramRunResult:
    """What ``run_program`` gives back; read-only.

    value: what the program returned.
    run_result: the ``RuntimeResult``, or None if the interpreter returned a plain value.
    interpreter_path: path or description of the interpreter that was used.
    env_sources: paths or descriptions of the environments, in the order of merging.
    applied_kleisli: path or description of ``apply``, or None.
    applied_transforms: paths or descriptions of the transforms, in order.

    Example::

        from doeff import Ask, run_program

        done = run_program(Ask("name"), envs=[{"name": "Ada"}])
        assert done.value == "Ada"
        assert done.interpreter_path == "<default sync_run>"
    """

    __slots__ = __match_args__ = (
        "value",
        "run_result",
        "interpreter_path",
        "env_sources",
        "applied_kleisli",
        "applied_transforms",
    )

    value: Any
    run_result: RuntimeResult[Any] | None
    interpreter_path: str
    env_sources: list[str]
    applied_kleisli: str | None
    applied_transforms: list[str]

    def __init__(
        self,
        value: Any,
        run_result: RuntimeResult[Any] | None,
        interpreter_path: str,
        env_sources: list[str],
        applied_kleisli: str | None,
        applied_transforms: list[str],
    ) -> None:
        given = (
            value,
            run_result,
            interpreter_path,
            env_sources,
            applied_kleisli,
            applied_transforms,
        )
        for name, item in zip(self.__match_args__, given, strict=True):
            object.__setattr__(self, name, item)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"ProgramRunResult is read-only: cannot assign {name!r}")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"ProgramRunResult is read-only: cannot delete {name!r}")

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}={getattr(self, name)!r}" for name in self.__match_args__
        )
        return f"ProgramRunResult({shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ProgramRunResult):
            return NotImplemented
        return all(
            getattr(self, name) == getattr(other, name) for name in self.__match_args__
        )

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        return ProgramRunResult, tuple(
            getattr(self, name) for name in self.__match_args__
        )


def run_program(
    program: str | Program[Any] | Callable[[], Program[Any]],
    *,
    interpreter: str | Callable[..., Any] | None = None,
    envs: Sequence[EnvSource] | None = None,
    apply: str | Callable[..., Any] | None = None,
    transform: Sequence[str | Callable[..., Any]] | None = None,
    report: bool = False,
    report_verbose: bool = False,
    quiet: bool = False,
    load_default_env: bool = True,
) -> ProgramRunResult:
    """Prepare a program as the command line does, run it and return its value.

    Order of work: load, ``apply``, every ``transform``, one ``Local`` with the merged
    environments (``__default_env__`` of ``~/.doeff.py`` first, later keys win), then
    the interpreter.

    program: a program, a callable without arguments that returns one, or a path
        ``"package.module:name"`` to either.
    interpreter: callable that takes the program, or a path to one. If it is None and
        every input is a path, the default interpreter marked in the program's packages
        is used; otherwise the program runs under ``sync_handlers_preset``.
    envs: mappings, programs that give a dict, callables giving either, or paths.
    apply: callable or ``@do`` function that takes the program and gives a program.
    transform: callables from program to program, applied in order.
    report: print the run report on stderr, ``report_verbose`` its long form.
    quiet: no messages about discovery and timing.
    load_default_env: whether ``~/.doeff.py`` is read.

    Raises the program's own error if it fails, TypeError for an input of the wrong
    kind, ImportError or AttributeError for a path that names nothing.

    Example::

        from doeff import Ask, do, run_program

        @do
        def greet():
            return f"Hello, {(yield Ask('name'))}!"

        assert run_program(greet, envs=[{"name": "Ada"}]).value == "Hello, Ada!"
    """
    from doeff.cli.pipeline import Request, execute, prepare, working_directory_first
    from doeff.cli.report import print_report

    request = Request(
        program=program,
        interpreter=interpreter,
        envs=envs,
        apply=apply,
        transforms=transform,
        load_default_env=load_default_env,
        quiet=quiet,
    )
    with working_directory_first():
        prepared = prepare(request)
        outcome = execute(prepared)
    if report or report_verbose:
        print_report(outcome, verbose=report_verbose)
    if outcome.error is not None:
        raise outcome.error
    return ProgramRunResult(
        outcome.value,
        outcome.run_result,
        prepared.interpreter_name,
        list(prepared.env_names),
        prepared.apply_name,
        list(prepared.transform_names),
    )
