"""From a path such as ``package.module:name`` to the object it names."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "InputError",
    "PathAttributeError",
    "PathImportError",
    "PathTypeError",
    "describe",
    "load_object",
    "programs_of",
    "split_path",
]


_MISSING: Any = object()


class InputError(Exception):
    """An input of a run that cannot be used; the message says what to give instead."""

    def __str__(self) -> str:  # ImportError and AttributeError would decorate it
        return str(self.args[0]) if self.args else ""


class PathImportError(InputError, ImportError):
    """The module of a path cannot be found."""


class PathAttributeError(InputError, AttributeError):
    """The module of a path has no such name."""


class PathTypeError(InputError, TypeError):
    """A path names, or a caller gave, an object of the wrong kind."""


def describe(value: object) -> str:
    """Say in a few words what an object is, for messages.

    Example::

        assert describe(3) == "int 3"
    """
    from doeff import KleisliProgram, Program

    if isinstance(value, KleisliProgram):
        return f"the @do function {_name_of(value)!r}"
    if isinstance(value, type):
        return f"the class {value.__name__!r}"
    if isinstance(value, ModuleType):
        return f"the module {value.__name__!r}"
    if isinstance(value, Program):
        return f"a program ({type(value).__name__})"
    kind = type(value).__name__
    if callable(value):
        return f"the {kind} {_name_of(value)!r}"
    if value is None:
        return "None"
    try:
        text = repr(value)
    except Exception:  # a hostile __repr__ must not hide the real message
        return kind
    return f"{kind} {text}" if len(text) <= 60 else f"{kind} {text[:57]}..."


def _name_of(value: object) -> str:
    name = getattr(value, "__name__", None)
    return name if isinstance(name, str) else type(value).__name__


def split_path(path: str, role: str = "program") -> tuple[str, str]:
    """Split a path into module and attribute part.

    path: ``pkg.mod:attr.attr``, or ``pkg.mod.attr`` with one attribute.
    role: what the path is for, named in the error.

    Raises PathTypeError for a path of another form.

    Example::

        assert split_path("shop.orders:checkout") == ("shop.orders", "checkout")
        assert split_path("shop.orders.checkout") == ("shop.orders", "checkout")
    """
    text = path.strip()
    separator = ":" if ":" in text else "."
    module, found, attribute = text.rpartition(separator)
    parts = [*module.split("."), *attribute.split(".")]
    if found and all(part.isidentifier() for part in parts) and attribute != "py":
        return module, attribute
    example = f"{text}:main" if text.isidentifier() else "shop.orders:checkout"
    message = f"{path!r} is not a path to a {role}: write MODULE:NAME, e.g. '{example}'"
    file_part = (
        module if text.partition(":")[0].endswith(".py") and separator == ":" else text
    )
    if file_part.endswith(".py"):
        folder, stem = os.path.split(file_part[:-3])
        where = (
            f", from the folder {folder!r} (or with it on PYTHONPATH)" if folder else ""
        )
        message += f". For a file name its module: '{stem}:NAME'{where}"
    raise PathTypeError(message)


def load_object(path: str, role: str = "program") -> Any:
    """Import the module of a path and give the object the path names.

    path: see ``split_path``.
    role: what the path is for, named in errors.

    Raises PathImportError, PathAttributeError, or what importing the module raises.

    Example::

        assert load_object("os.path:join") is os.path.join
    """
    module_name, attribute = split_path(path, role)
    found: Any = _import_module(module_name, path, role)
    reached = module_name
    for part in attribute.split("."):
        owner = found
        try:
            found = getattr(owner, part)
        except AttributeError:
            found = _submodule(owner, f"{reached}.{part}")
        if found is _MISSING:
            raise PathAttributeError(
                _missing_attribute(path, role, reached, part, owner)
            )
        reached = f"{reached}.{part}"
    return found


def _submodule(owner: object, name: str) -> Any:
    """Import a module of a package that nobody has imported yet; _MISSING if there is none."""
    if not hasattr(owner, "__path__"):
        return _MISSING
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            return _MISSING
        raise


def _import_module(module_name: str, path: str, role: str) -> Any:
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if missing == module_name or module_name.startswith(f"{missing}."):
            raise PathImportError(
                _missing_module(path, role, module_name, missing)
            ) from None
        error.add_note(
            f"raised while importing {module_name!r} for the {role} {path!r}"
        )
        raise
    except Exception as error:
        error.add_note(
            f"raised while importing {module_name!r} for the {role} {path!r}"
        )
        raise


def _missing_module(path: str, role: str, module_name: str, missing: str) -> str:
    message = f"cannot import the {role} {path!r}: there is no module {missing!r}"
    parent, _, last = missing.rpartition(".")
    owner = sys.modules.get(parent)
    if parent and owner is not None and hasattr(owner, last):
        rest = module_name[len(missing) :]
        leaf = path.strip().replace(":", ".").rpartition(".")[2]
        return f"{message}; {last!r} is a name in the module {parent!r}: write '{parent}:{last}{rest}.{leaf}'"
    here = Path.cwd()
    nearby = sorted(here.glob(f"*/{missing.partition('.')[0]}.py"))
    if nearby:
        folder = nearby[0].parent.name
        return f"{message} here, but there is {folder}/{nearby[0].name}: run from {folder!r} or set PYTHONPATH={folder}"
    return f"{message} in {str(here)!r} or on sys.path; check the spelling, or run from the folder that holds it"


def _missing_attribute(
    path: str, role: str, reached: str, part: str, owner: object
) -> str:
    message = f"cannot load the {role} {path!r}: {reached!r} has no attribute {part!r}"
    names = vars(owner) if isinstance(owner, ModuleType) else {}
    close = difflib.get_close_matches(part, names, n=1)
    if close:
        return f"{message}; did you mean {close[0]!r}?"
    programs = programs_of(owner)
    if programs:
        return f"{message}; programs in it: {', '.join(programs)}"
    return message


def programs_of(module: object) -> list[str]:
    """Names of the programs and @do functions that a module defines itself, at most eight.

    Example::

        assert programs_of(os) == []
    """
    from doeff import KleisliProgram, Program

    if not isinstance(module, ModuleType):
        return []
    found = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, Program)
            or (
                isinstance(value, KleisliProgram)
                and getattr(value, "__module__", None) == module.__name__
            )
        )
    ]
    return found[:8]
