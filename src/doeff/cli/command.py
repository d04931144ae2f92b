"""Arguments and exit codes of the ``doeff`` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doeff.cli.pipeline import Outcome, Prepared, Request

__all__ = ["run_command"]

_EXAMPLES = """\
examples:
  doeff run shop.orders:checkout --env shop.settings:test_env
  doeff run shop.orders:checkout --interpreter doeff:sync_run --format json
  doeff run -c 'from doeff import Ask; yield Ask("name")' --env shop.settings:test_env

A PATH is package.module:name or package.module.name; the working directory is searched
first. Without --interpreter, a function marked '# doeff: interpreter, default' in the
program's module or a package around it runs the program.
"""


def run_command(argv: Sequence[str] | None) -> int:
    """Parse arguments, run, and give the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    parser, run_parser = _parsers()
    try:
        if words[:1] != ["run"]:
            parser.parse_args(words)  # --version, --help, and complaints about the rest
            parser.print_help(sys.stderr)
            return 2
        options = run_parser.parse_intermixed_args(words[1:])
        _check_usage(options, run_parser)
    except SystemExit as stop:
        return _exit_code(stop)
    try:
        return _run(options)
    except SystemExit as stop:
        return _exit_code(stop)
    except KeyboardInterrupt:
        print("doeff: interrupted", file=sys.stderr)
        return 130
    except (
        BrokenPipeError
    ):  # the reader of our output has left, as in "doeff run ... | head"
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (closed with the process)
        return 1


def _exit_code(stop: SystemExit) -> int:
    if stop.code is None:
        return 0
    if isinstance(stop.code, int):
        return stop.code
    print(stop.code, file=sys.stderr)
    return 1


class _Version(argparse.Action):
    """Print the version; it is looked up only then."""

    def __init__(self, option_strings: Sequence[str], dest: str, **kwargs: Any) -> None:
        super().__init__(
            option_strings, dest, nargs=0, help="show the version and exit"
        )

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        print(f"doeff {_version()}")
        parser.exit()


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("doeff-c")
    except metadata.PackageNotFoundError:
        import doeff

        return str(getattr(doeff, "__version__", "unknown"))


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    parser = argparse.ArgumentParser(
        prog="doeff", description="Run programs of the doeff effect system."
    )
    parser.add_argument("--version", action=_Version)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    run = commands.add_parser(
        "run",
        help="run a program and print its value",
        description="Run a program and print its value.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = run.add_argument
    add("arguments", nargs="*", metavar="PROGRAM [SCRIPT]", help=argparse.SUPPRESS)
    add(
        "--program",
        metavar="PATH",
        help="program, or function without arguments giving one",
    )
    add("-c", dest="code", metavar="CODE", help="run CODE; '-' reads it from stdin")
    add(
        "--interpreter",
        metavar="PATH",
        help="function that takes the program and runs it",
    )
    add("--env", dest="envs", action="append", metavar="PATH",
        help="mapping, or program giving one; repeatable, later keys win")  # fmt: skip
    add("--apply", metavar="PATH", help="@do function applied to the program first")
    add("--transform", dest="transforms", action="append", metavar="PATH",
        help="function from program to program; repeatable, in order")  # fmt: skip
    add(
        "--format",
        choices=("text", "json"),
        default="text",
        help="how the value is printed",
    )
    add("--report", action="store_true", help="add a run report")
    add("--report-verbose", action="store_true", help="add the long run report")
    add("--no-runbox", action="store_true", help=argparse.SUPPRESS)
    run.usage = (
        "doeff run [options] PROGRAM [SCRIPT]\n"
        "       doeff run [options] --program PROGRAM [SCRIPT]\n"
        "       doeff run [options] -c CODE"
    )
    return parser, run


def _check_usage(options: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Sort the positional arguments into program and script; complain as argparse does."""
    complain = parser.error
    words = list(options.arguments)
    if options.code is not None and options.program is not None:
        complain("argument -c: not allowed with argument --program")
    if options.code is not None and words:
        complain(f"-c takes no program or script: drop {words[0]!r}")
    if options.code is None and options.program is None:
        if not words:
            complain("give a program: MODULE:NAME, --program PATH or -c CODE")
        options.program = words.pop(0)
    if len(words) > 1:
        complain(f"unexpected argument {words[1]!r}")
    options.script = words[0] if words else None


def _run(options: argparse.Namespace) -> int:
    from doeff.cli.pipeline import Outcome, Request, working_directory_first

    with working_directory_first():
        try:
            code = sys.stdin.read() if options.code == "-" else options.code
            request = Request(
                program=options.program,
                code=code,
                interpreter=options.interpreter,
                envs=options.envs,
                apply=options.apply,
                transforms=options.transforms,
            )
            return _run_request(options, request)
        except Exception as error:
            if isinstance(error, BrokenPipeError):
                raise
            return _show_error(options, error, Outcome(error=error))


def _run_request(options: argparse.Namespace, request: Request) -> int:
    from doeff.cli.pipeline import execute, prepare

    prepared = prepare(request)
    outcome = execute(prepared)
    if outcome.error is not None:
        return _show_error(options, outcome.error, outcome)
    if options.script is not None:
        from doeff.cli.script import run_script

        run_script(options.script, prepared, outcome)
        return 0
    _show_value(options, prepared, outcome)
    return 0


def _show_value(
    options: argparse.Namespace, prepared: Prepared, outcome: Outcome
) -> None:
    from doeff.cli import report

    wanted = options.report or options.report_verbose
    if options.format == "json":
        payload = report.success_payload(prepared, outcome)
        if wanted:
            report.add_report(payload, outcome, verbose=options.report_verbose)
        _print_json(payload)
        return
    print(outcome.value)
    if wanted:
        print()
        print(report.report_text(outcome, verbose=options.report_verbose))
    sys.stdout.flush()


def _show_error(
    options: argparse.Namespace, error: BaseException, outcome: Outcome
) -> int:
    from doeff.cli import report

    wanted = options.report or options.report_verbose
    if options.format == "json":
        payload = report.error_payload(error)
        if wanted:
            report.add_report(payload, outcome, verbose=options.report_verbose)
        _print_json(payload)
        return 1
    sys.stdout.flush()
    print(report.format_error(error), end="", file=sys.stderr)
    if wanted and outcome.run_result is not None:
        print(
            f"\n{report.report_text(outcome, verbose=options.report_verbose)}",
            file=sys.stderr,
        )
    return 1


def _print_json(payload: dict[str, Any]) -> None:
    import json

    print(json.dumps(payload), flush=True)
