"""Finds the bodies: functions ``leak_*`` in ``tests/leak/bodies_*.py``.

A body is a small program run to its end. It takes no argument, leaves nothing behind and returns
a value that compares equal on every run (or nothing). It lets MemoryError through; if the program
catches errors, the MemoryError shows in the repr of the value. ``make test`` runs each body once,
``make leaks`` repeats it and counts, ``make oom`` fails its allocations one after the other.
"""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

FOLDER = Path(__file__).parent / "leak"


def load_file(path: Path):
    name = "doeff_leak_" + path.stem
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def all_bodies():
    """Every body as (id, function), the id being ``<file>:<name>``."""
    found = []
    for path in sorted(FOLDER.glob("bodies_*.py")):
        for name, value in vars(load_file(path)).items():
            if name.startswith("leak_") and callable(value):
                found.append((f"{path.stem.removeprefix('bodies_')}:{name}", value))
    return found


def body(identifier: str):
    stem, _, name = identifier.partition(":")
    return getattr(load_file(FOLDER / f"bodies_{stem}.py"), name)
