"""Builds stranger.c with setuptools, as the author of an extension would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

import doeff

INSTALLED = "-packages" in Path(doeff.__file__).parents[1].name

SETUP = """
import sys

from setuptools import Extension, setup

INCLUDE = sys.argv.pop()


def extension(name, *macros):
    return Extension(
        name,
        ["stranger.c"],
        include_dirs=[INCLUDE],
        define_macros=[("STRANGER", name), *macros],
    )


setup(
    name="stranger",
    ext_modules=[extension("stranger"), extension("past", ("DOEFF_ABI", "999"))],
)
"""


def include() -> str:
    if INSTALLED:
        return doeff.get_include()
    return str(Path(__file__).parents[2] / "include")  # a bare copy has no header


@pytest.fixture(scope="session")
def built():
    """The folder with the modules stranger and past (which has another ABI number)."""
    with (
        TemporaryDirectory() as folder
    ):  # tmp_path would keep tests from being repeated
        shutil.copy(Path(__file__).with_name("stranger.c"), folder)
        (Path(folder) / "setup.py").write_text(SETUP)
        done = subprocess.run(
            [sys.executable, "setup.py", "-q", "build_ext", "--inplace", include()],
            cwd=folder,
            env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stderr, done.stderr
        yield Path(folder)


def load(folder: Path, name: str):
    (path,) = folder.glob(f"{name}.*{sys.implementation.cache_tag[-3:]}*")
    loader = ExtensionFileLoader(name, str(path))
    spec = spec_from_file_location(name, path, loader=loader)
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stranger(built):
    module = load(built, "stranger")
    sys.modules["stranger"] = module
    return module


@pytest.fixture
def load_past(built):
    return lambda: load(built, "past")
