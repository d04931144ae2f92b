"""The pytest plugin: fixtures ``run``, ``virtual_time`` and ``seed``. It is loaded wherever doeff is installed.

``run(program, handlers=(), env=None, store=None, max_turns=None)`` runs a program with the preset and further
handlers inside it, and gives the ``RuntimeResult``; ``max_turns`` ends one that goes on for longer, by
``StepBudgetExceeded``. In a test that asks for ``virtual_time`` it runs on that clock; in one that
asks for ``seed``, tasks are chosen at random from it, so that an order that breaks the test can be had again.
``@pytest.mark.seeds(50)`` says how many seeds there are for a test, ``--doeff-seeds`` for all others;
``--doeff-seed=7`` is that one and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from datetime import datetime

    from doeff import Program, RuntimeResult

__all__ = ["VirtualTime", "run", "seed", "virtual_time"]

DEFAULT_SEEDS = 10


class VirtualTime:
    """The clock of a test: where its runs begin, and where the last one ended.

    ``now``: the time of the clock. May be set before a run.
    """

    now: datetime

    def __init__(self) -> None:
        from doeff.testing import START

        self.now = START

    def __repr__(self) -> str:
        return f"VirtualTime({self.now.isoformat()})"


@pytest.fixture
def virtual_time() -> VirtualTime:
    """The controlled clock of the test's runs: none of them sleeps."""
    return VirtualTime()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed for the order of tasks; the test is repeated for several."""
    return int(getattr(request, "param", 0))


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Callable[..., RuntimeResult[Any]]:
    """``run(program, handlers=(), env=None, store=None, max_turns=None)``: run a program, give its result."""
    from doeff import arm_step_budget, sync_handlers_preset, sync_run
    from doeff.testing import with_schedule

    asked = request.fixturenames
    clock = request.getfixturevalue("virtual_time") if "virtual_time" in asked else None
    chosen = request.getfixturevalue("seed") if "seed" in asked else None

    def run(
        program: Program[Any],
        handlers: Iterable[Any] = (),
        env: Mapping[Any, Any] | None = None,
        store: Mapping[str, Any] | None = None,
        max_turns: int | None = None,
    ) -> RuntimeResult[Any]:
        stack = sync_handlers_preset
        if chosen is not None:
            stack = with_schedule(stack, chosen)
        if clock is not None:
            store = {"__current_time__": clock.now, **(store or {})}
        before = arm_step_budget(max_turns)
        try:
            result: RuntimeResult[Any] = sync_run(
                program, [*stack, *handlers], env, store
            )
        finally:
            arm_step_budget(before)
        if clock is not None:
            clock.now = result.raw_store["__current_time__"]
        return result

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("doeff")
    group.addoption(
        "--doeff-seeds",
        type=int,
        default=DEFAULT_SEEDS,
        metavar="N",
        help="how many seeds a test that asks for `seed` is run with (default: %(default)s)",
    )
    group.addoption(
        "--doeff-seed",
        type=int,
        default=None,
        metavar="SEED",
        help="run with this seed only",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "seeds(n): run the test with n seeds for the order of tasks (doeff)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" not in metafunc.fixturenames:
        return
    defined = (
        metafunc._arg2fixturedefs.get("seed", ())
        if hasattr(metafunc, "_arg2fixturedefs")
        else ()
    )
    if defined and defined[-1].func.__module__ != __name__:
        return  # a fixture of the same name, which is not ours
    for given in metafunc.definition.iter_markers("parametrize"):
        names = given.args[0] if given.args else given.kwargs.get("argnames", ())
        if "seed" in (
            names.replace(",", " ").split() if isinstance(names, str) else names
        ):
            return  # the test has seeds of its own
    config = metafunc.config
    only = config.getoption("--doeff-seed")
    mark = metafunc.definition.get_closest_marker("seeds")
    count = mark.args[0] if mark is not None else config.getoption("--doeff-seeds")
    seeds = range(count) if only is None else [only]
    metafunc.parametrize(
        "seed", seeds, indirect=True, ids=lambda value: f"seed={value}"
    )
