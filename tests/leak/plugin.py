"""pytest plugin of the leak hunt: the body of every test runs eight times, with counts compared."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

# A test that asks for one of these keeps state between two runs of its body.
KEEPING = {
    "tmp_path",
    "tmpdir",
    "capsys",
    "capfd",
    "caplog",
    "monkeypatch",
    "request",
    "pytester",
}

skipped = []


def pytest_configure(config):
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("doeff_leak_hunt", Path(__file__).parent / "hunt.py")
    config.doeff_hunt = module_from_spec(spec)
    spec.loader.exec_module(config.doeff_hunt)


def repeatable(item):
    function = item.obj
    return not (
        KEEPING & set(item.fixturenames)
        or item.get_closest_marker("xfail")
        or inspect.iscoroutinefunction(function)
        or getattr(function, "is_hypothesis_test", False)
    )


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if not repeatable(pyfuncitem):
        skipped.append(pyfuncitem.nodeid)
        return None
    hunt = pyfuncitem.config.doeff_hunt
    function = pyfuncitem.obj
    arguments = {
        name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames
    }

    def once():
        function(**arguments)

    found = hunt.leaks(hunt.growth(once))
    if found:
        pytest.fail(hunt.complain(pyfuncitem.nodeid, found), pytrace=False)
    return True


def pytest_terminal_summary(terminalreporter):
    if skipped:
        terminalreporter.write_line(
            f"leak hunt: {len(skipped)} tests ran only once (they keep state between runs)"
        )
        if terminalreporter.verbosity > 0:
            for nodeid in skipped:
                terminalreporter.write_line(f"  {nodeid}")
