"""examples/native_handler builds and passes its tests in an environment of its own, as a stranger would do it.

The environment holds nothing but the example; doeff and the build tools are those that run this test, found
through a .pth file, so that nothing has to be downloaded. `make example` does it without that.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

import doeff

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "native_handler"

SETUPTOOLS_PYPROJECT = """\
[build-system]
requires = ["setuptools>=77", "doeff-c"]
build-backend = "setuptools.build_meta"

[project]
name = "doeff-kv"
version = "0.1.0"

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
doeff_kv = ["*.pyi", "py.typed"]
"""

SETUP_PY = """\
from setuptools import Extension, setup

import doeff

setup(
    ext_modules=[
        Extension(
            "doeff_kv._native",
            ["src/doeff_kv/_native.c"],
            include_dirs=[doeff.get_include()],
        )
    ]
)
"""


def use_setuptools(project: Path) -> None:
    (project / "meson.build").unlink()
    (project / "pyproject.toml").write_text(SETUPTOOLS_PYPROJECT)
    (project / "setup.py").write_text(SETUP_PY)


def call(*command: object, cwd: Path, env: dict[str, str]) -> str:
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.once
@pytest.mark.parametrize("backend", ["meson-python", "setuptools"])
def test_a_stranger_builds_it(backend, tmp_path, request):
    if request.config.getoption("--sanitized"):
        pytest.skip("an engine with sanitizers cannot be loaded by every build tool")
    project = tmp_path / "native_handler"
    shutil.copytree(EXAMPLE, project, ignore=shutil.ignore_patterns("build", "__py*"))
    if backend == "setuptools":
        use_setuptools(project)

    home = tmp_path / "venv"
    venv.create(home, with_pip=False, symlinks=True)
    python = home / "bin" / "python"
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    env["PATH"] = os.pathsep.join(
        [str(home / "bin"), str(Path(sys.executable).parent), env["PATH"]]
    )
    site = call(
        python,
        "-c",
        "import sysconfig as s; print(s.get_path('platlib'))",
        cwd=home,
        env=env,
    )
    tools = [str(Path(doeff.__file__).parents[1]), sysconfig.get_path("platlib")]
    (Path(site.strip()) / "tools.pth").write_text("\n".join(tools) + "\n")

    install = ("install", "-q", "--no-build-isolation", "--no-deps", "--no-index")
    call(python, "-m", "pip", *install, ".", cwd=project, env=env)
    where = call(
        python,
        "-P",
        "-c",
        "import doeff_kv; print(doeff_kv.__file__)",
        cwd=home,
        env=env,
    )
    assert Path(where.strip()).is_relative_to(home)
    said = call(
        python,
        "-P",
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests",
        cwd=project,
        env=env,
    )
    assert re.search(r"\d+ passed", said)
    assert "skipped" not in said


def test_the_guide_shows_the_code_of_the_example():
    """Each block of the guide is somewhere in the example, as it stands there."""
    guide = (ROOT / "docs" / "guide" / "native-handlers.md").read_text("utf-8")
    files = [
        p for p in EXAMPLE.rglob("*") if p.suffix in (".c", ".py", ".toml", ".build")
    ]
    texts = [p.read_text("utf-8") for p in files]
    blocks = re.findall(
        r"^```(?:c|python norun|toml|meson)\n(.*?)^```$", guide, re.M | re.S
    )
    assert len(blocks) >= 8
    for block in blocks:
        assert any(block in text for text in texts), block
