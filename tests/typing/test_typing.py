"""The stubs, through mypy: what programs.py says must hold, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import doeff

HERE = Path(__file__).parent


def mypy(module: str, *args: str) -> None:
    env = dict(os.environ)
    home = Path(doeff.__file__).parents[1]
    if home.name not in ("site-packages", "dist-packages"):
        env["MYPYPATH"] = str(home)
    done = subprocess.run(
        [sys.executable, "-m", module, *args], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.once
@pytest.mark.parametrize("program", ["programs.py"])
def test_types(program, tmp_path):
    mypy(
        "mypy",
        "--strict",
        "--follow-imports=silent",
        f"--cache-dir={tmp_path}",
        str(HERE / program),
    )
