"""The script that ``doeff run PROGRAM SCRIPT`` runs when the program is done."""

from __future__ import annotations

import json
import linecache
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from doeff.cli.pipeline import Outcome, Prepared

__all__ = ["run_script"]


def run_script(script: str, prepared: Prepared, outcome: Outcome) -> None:
    """Run a script that sees the program and its value.

    script: a file, or ``-`` for stdin. Its names: ``program`` (as prepared), ``value``,
        ``interpreter``, ``Program``, ``RunResult``, ``sync_run``,
        ``sync_handlers_preset``, ``sys``, ``json``.

    Raises OSError if the file cannot be read, and what the script raises.
    """
    import doeff

    if script == "-":
        filename, source = "<stdin>", sys.stdin.read()
        linecache.cache[filename] = (
            len(source),
            None,
            source.splitlines(True),
            filename,
        )
    else:
        filename, source = script, Path(script).read_text(encoding="utf-8")
    names: dict[str, Any] = {
        "__name__": "__main__",
        "__file__": filename,
        "program": prepared.program,
        "value": outcome.value,
        "interpreter": prepared.interpreter,
        "Program": doeff.Program,
        "RunResult": doeff.RuntimeResult,
        "sync_run": doeff.sync_run,
        "sync_handlers_preset": doeff.sync_handlers_preset,
        "sys": sys,
        "json": json,
    }
    exec(compile(source, filename, "exec"), names)
