"""The classic handlers, one module each: an effect or two, a handler, the law it obeys.

python -m classics.state
doeff run classics.state:program
"""

from __future__ import annotations

from typing import Any

from doeff import Program, RuntimeResult, sync_handlers_preset, sync_run


def interpret(program: Program[Any]) -> RuntimeResult:  # doeff: interpreter, default
    """Runs the program of any module here."""
    return sync_run(program, sync_handlers_preset)
