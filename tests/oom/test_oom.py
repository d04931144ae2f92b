"""Fails the n-th allocation of every body, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

NAMES = [name for name, _ in pytest.doeff_bodies.all_bodies()]
FOLDER = Path(__file__).parent


def pytest_generate_tests(metafunc):
    modes = ["short"] if metafunc.config.getoption("--short") else ["once", "onwards"]
    metafunc.parametrize("mode", modes)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", NAMES)
def test_failing_allocations(name, mode, tmp_path):
    progress = tmp_path / "n"
    drive = FOLDER / ("drive_aio.py" if name.startswith("aio:") else "drive.py")
    done = subprocess.run(
        [sys.executable, "-P", str(drive), name, mode, str(progress)],
        capture_output=True,
        text=True,
        timeout=850,
        check=False,
    )
    if done.returncode != 0:
        reached = progress.read_text().strip() if progress.exists() else "none"
        pytest.fail(
            f"{name} with allocation {reached} failing ({mode}): exit code {done.returncode}\n"
            f"{done.stdout}{done.stderr}",
            pytrace=False,
        )
    print(done.stdout, end="")
