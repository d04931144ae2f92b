"""The ``doeff`` command. Only ``main`` is for use from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the ``doeff`` command and give its exit code.

    argv: arguments without the command's name; ``sys.argv[1:]`` if None.

    Returns 0 for success, 1 for an error, 2 for wrong usage, or the code that a
    script or the program passed to ``sys.exit``.

    Example::

        from doeff.cli import main

        assert main(["--version"]) == 0
    """
    from doeff.cli.command import run_command

    return run_command(argv)
