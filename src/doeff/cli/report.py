"""What a run prints: its value or error, as text or JSON, and the run report."""

from __future__ import annotations

import json
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

import doeff
from doeff.cli.inline import CODE_FILENAME
from doeff.cli.loading import InputError

if TYPE_CHECKING:
    from doeff.cli.pipeline import Outcome, Prepared

__all__ = [
    "add_report",
    "error_payload",
    "format_error",
    "print_report",
    "report_text",
    "success_payload",
]

_PACKAGE = os.path.dirname(os.path.abspath(doeff.__file__)) + os.sep


def format_error(error: BaseException) -> str:
    """The error as text: one line for a bad path, else a traceback of the user's frames."""
    if isinstance(error, InputError):
        return f"doeff: error: {error}\n"
    if isinstance(error, SyntaxError) and error.filename == CODE_FILENAME:
        return "".join(traceback.format_exception_only(error))
    detail = traceback.TracebackException.from_exception(error)
    _drop_own_frames(detail, set())
    return "".join(detail.format())


def _is_own(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or filename.startswith("<frozen ")


def _drop_own_frames(
    detail: traceback.TracebackException | None, seen: set[int]
) -> None:
    if detail is None or id(detail) in seen:
        return
    seen.add(id(detail))
    kept = [frame for frame in detail.stack if not _is_own(frame.filename)]
    if kept:
        detail.stack = traceback.StackSummary.from_list(kept)
    _drop_own_frames(detail.__cause__, seen)
    _drop_own_frames(detail.__context__, seen)
    for inner in getattr(detail, "exceptions", None) or ():
        _drop_own_frames(inner, seen)


def report_text(outcome: Outcome, *, verbose: bool) -> str:
    """The run report, or a line that says why there is none."""
    if outcome.run_result is None:
        kind = type(outcome.value).__name__
        return (
            f"(no run report: the interpreter gave {kind}, not a RuntimeResult; "
            f"let it return what sync_run returns)"
        )
    text: str = outcome.run_result.format(verbose=verbose)
    return text


def print_report(outcome: Outcome, *, verbose: bool) -> None:
    """Print the run report on stderr."""
    print(report_text(outcome, verbose=verbose), file=sys.stderr)


def success_payload(prepared: Prepared, outcome: Outcome) -> dict[str, Any]:
    """The JSON object of a run that ended with a value."""
    return {
        "status": "ok",
        "program": prepared.program_name,
        "interpreter": prepared.interpreter_name,
        "envs": list(prepared.env_names),
        "apply": prepared.apply_name,
        "transformers": list(prepared.transform_names),
        "result": _json_safe(outcome.value),
        "result_type": type(outcome.value).__name__,
    }


def error_payload(error: BaseException) -> dict[str, Any]:
    """The JSON object of a run that ended with an error."""
    return {
        "status": "error",
        "error": type(error).__name__,
        "message": str(error),
        "traceback": format_error(error),
    }


def add_report(payload: dict[str, Any], outcome: Outcome, *, verbose: bool) -> None:
    """Add the keys ``report`` and ``call_tree`` to a JSON object."""
    result = outcome.run_result
    payload["report"] = None if result is None else result.format(verbose=verbose)
    payload["call_tree"] = None if result is None else result.effect_stack.format()


def _json_safe(value: Any) -> Any:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return repr(value)
    return value
