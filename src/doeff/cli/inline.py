"""``doeff run -c CODE``: a program from a few lines of source."""

from __future__ import annotations

import ast
import linecache
from typing import TYPE_CHECKING, Any

from doeff.cli.loading import InputError

if TYPE_CHECKING:
    from doeff import Program

__all__ = ["CODE_FILENAME", "EmptyCodeError", "program_from_code"]

CODE_FILENAME = "<doeff -c>"
_BODY = "inline_program"
_RESULT = "__doeff_result__"


class EmptyCodeError(InputError, ValueError):
    """There is no code to run."""


def program_from_code(code: str) -> Program[Any]:
    """Make a program of source text in which ``yield`` may stand at the top level.

    code: Python source. Imports are hoisted, the rest becomes the body of a ``@do``
        function, and a final expression is its result, run if it is a program.
        ``do`` and ``Program`` need no import.

    Raises EmptyCodeError if there is no code, SyntaxError as Python does.

    Example::

        program = program_from_code("from doeff import Ask\\nyield Ask('name')")
    """
    tree = ast.parse(code, CODE_FILENAME)
    if not tree.body:
        raise EmptyCodeError(
            "-c got no code: give an expression, e.g. -c 'Program.pure(1)'"
        )
    imports = [
        node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    body = [node for node in tree.body if node not in imports]
    module = ast.Module(body=[*imports, _function(body)], type_ignores=[])
    compiled = compile(ast.fix_missing_locations(module), CODE_FILENAME, "exec")
    lines = code.splitlines(keepends=True)
    linecache.cache[CODE_FILENAME] = (len(code), None, lines, CODE_FILENAME)

    from doeff import Program, do

    names: dict[str, Any] = {"__name__": "doeff_inline", "do": do, "Program": Program}
    exec(compiled, names)
    program: Program[Any] = do(names[_BODY])()
    return program


def _function(body: list[ast.stmt]) -> ast.FunctionDef:
    template = ast.parse(
        f"def {_BODY}():\n"
        f" {_RESULT} = None\n"
        f" if isinstance({_RESULT}, __import__('doeff').Program):\n"
        f"  {_RESULT} = yield {_RESULT}\n"
        f" return {_RESULT}\n"
    )
    function = template.body[0]
    assert isinstance(function, ast.FunctionDef)
    if not body or not isinstance(body[-1], ast.Expr):
        function.body = body or [ast.Pass()]
        return function
    last = body[-1]
    for node in ast.walk(function):
        ast.copy_location(node, last)
    assignment = function.body[0]
    assert isinstance(assignment, ast.Assign)
    assignment.value = last.value
    function.body[:0] = body[:-1]
    return function
