"""Options of the test run, and the rule that the installed package is what is tested."""

from __future__ import annotations

import logging
import os
import signal
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell's background job ignores Ctrl-C, and so would the tests that press it, for ever.
    signal.signal(signal.SIGINT, signal.default_int_handler)


class Complaints(logging.Handler):
    """What asyncio has to say. That a step took long is left out: machines are slow at times."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.texts = []

    def emit(self, record):
        text = record.getMessage()
        if not text.startswith("Executing "):
            self.texts.append(text)


@pytest.fixture(autouse=True)
def asyncio_complaints():
    """Every test: asyncio has logged nothing. One that breaks its rules on purpose clears the list."""
    complaints = Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)
    yield complaints.texts
    logger.removeHandler(complaints)
    assert complaints.texts == []


def load(path: Path):
    """Import a helper that stands beside the tests (import-mode importlib adds no paths)."""
    from importlib.util import module_from_spec, spec_from_file_location

    name = "doeff_tests_" + path.stem
    if name not in sys.modules:
        spec = spec_from_file_location(name, path)
        module = module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


def pytest_addoption(parser):
    group = parser.getgroup("doeff")
    group.addoption(
        "--leaks", action="store_true", help="repeat every test and fail on growth"
    )
    group.addoption(
        "--oom", action="store_true", help="collect tests/oom: failing allocations"
    )
    group.addoption(
        "--sanitized", action="store_true", help="the engine is built with sanitizers"
    )
    group.addoption(
        "--short", action="store_true", help="a quick subset of the modes above"
    )


def pytest_configure(config):
    import doeff

    pytest.doeff_bodies = load(HERE / "bodies.py")
    installed = Path(doeff.__file__).resolve()
    if (ROOT / "src") in installed.parents:
        raise pytest.UsageError(
            f"the tests want the installed package, not {installed}"
        )
    home = str(installed.parents[1])
    if "-packages" not in home:  # a bare copy: child processes must find the same one
        os.environ["PYTHONPATH"] = home
    # New event loops are in debug mode: they refuse calls from other threads and warn of what is left open.
    os.environ.setdefault("PYTHONASYNCIODEBUG", "1")
    if config.getoption("--leaks"):
        if not hasattr(sys, "gettotalrefcount"):
            raise pytest.UsageError("--leaks needs a debug interpreter (make leaks)")
        config.pluginmanager.register(load(HERE / "leak" / "plugin.py"), "doeff-leaks")


def pytest_ignore_collect(collection_path, config):
    if collection_path == HERE / "oom" and not config.getoption("--oom"):
        return True
    return None


def pytest_collection_modifyitems(config, items):
    """Short and slow modes leave tests out by deselecting them, which pytest counts."""
    leaks, short = config.getoption("--leaks"), config.getoption("--short")
    sanitized = config.getoption("--sanitized")

    def wanted(item):
        if leaks and (
            item.get_closest_marker("deep") or item.get_closest_marker("once")
        ):
            return False
        return not (sanitized and short and item.get_closest_marker("deep"))

    kept = [item for item in items if wanted(item)]
    if len(kept) < len(items):
        config.hook.pytest_deselected(
            items=[item for item in items if not wanted(item)]
        )
        items[:] = kept
