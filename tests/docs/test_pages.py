"""The samples of the guide's pages, run as `make docs` runs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "guide").glob("*.md"))


def run_samples() -> ModuleType:
    path = ROOT / "scripts" / "run-samples.py"
    spec = importlib.util.spec_from_file_location("run_samples", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_samples_of_the_page(page: Path) -> None:
    code = compile(run_samples().code_of(page), str(page), "exec", dont_inherit=True)
    exec(code, {"__name__": f"page_{page.stem}"})
