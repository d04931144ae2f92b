"""doeff.testing: virtual time, the jumping wait handler, the pytest plugin."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from datetime import datetime, timedelta

import pytest

from doeff import (
    CreateExternalPromise,
    Delay,
    Gather,
    GetTime,
    Safe,
    Spawn,
    Timeout,
    Wait,
    WaitUntil,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.testing import (
    START,
    jumping_wait_handler,
    virtual_time,
    with_jumping_clock,
)


@do
def hourly(n):
    times = []
    for _ in range(n):
        yield Delay(3600)
        times.append((yield GetTime()))
    return times


def test_virtual_time():
    result = sync_run(virtual_time(hourly(3)), sync_handlers_preset)
    assert result.value == [START + timedelta(hours=i) for i in (1, 2, 3)]


def test_virtual_time_begins_where_it_is_said():
    start = datetime(2030, 5, 1)
    result = sync_run(virtual_time(hourly(1), start), sync_handlers_preset)
    assert result.value == [start + timedelta(hours=1)]


@do
def log_after(log, seconds, name):
    yield Delay(seconds)
    log.append(name)


@do
def a_day(log):
    yield Gather(
        *[Spawn(log_after(log, 3600 * i, f"{i}")) for i in (24, 3, 12)],
        Spawn(log_after(log, 0.5, "first")),
    )
    outcome = yield Safe(Timeout(3600, Delay(10**6)))
    log.append(type(outcome.error).__name__)


def test_a_jumping_clock_lets_a_day_pass_at_once():
    log = []
    result = sync_run(a_day(log), with_jumping_clock(sync_handlers_preset))
    assert result.is_ok(), result.error
    assert log == ["first", "3", "12", "24", "TimeoutError"]


def test_a_jumping_clock_and_a_time_of_day():
    @do
    def main():
        yield WaitUntil(datetime.now() + timedelta(days=3))
        return "later"

    result = sync_run(main(), with_jumping_clock(sync_handlers_preset))
    assert result.value == "later"


def test_a_jumping_clock_waits_for_what_is_awaited_outside():
    log = []

    @do
    def main():
        promise = yield CreateExternalPromise()
        task = yield Spawn(log_after(log, 3600, "hour"))
        thread = threading.Thread(target=promise.complete, args=(1,))
        thread.start()
        log.append((yield Wait(promise)))
        yield Wait(task)
        thread.join()

    sync_run(main(), with_jumping_clock(sync_handlers_preset)).value
    assert log == [1, "hour"]


def test_the_handler_is_in_place_of_the_presets():
    handlers = with_jumping_clock(sync_handlers_preset)
    assert handlers[1] is jumping_wait_handler
    assert len(handlers) == len(sync_handlers_preset)
    with pytest.raises(ValueError, match="not among the handlers"):
        with_jumping_clock([])


# --- the plugin, in a pytest of its own ---------------------------------------------------

PLUGIN = "doeff.testing.pytest"


def pytest_on(tmp_path, text, *options):
    (tmp_path / "test_it.py").write_text(text)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    environment = {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}
    environment["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        PLUGIN,
        "-p",
        "no:cacheprovider",
    ]
    done = subprocess.run(
        [*command, *options, "test_it.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_fixtures(tmp_path):
    code, output = pytest_on(
        tmp_path,
        """
from datetime import datetime, timedelta
from doeff import Ask, Delay, EffectBase, Get, GetTime, do

class Twice(EffectBase):
    pass

@do
def twice(effect: Twice, ctx):
    return 2 * (yield Ask("n"))

@do
def nap():
    yield Delay(3600)
    return (yield GetTime())

def test_run(run):
    result = run(Twice(), [twice], {"n": 4})
    assert result.value == 8
    assert result.schedule is None

def test_store(run):
    assert run(Get("n"), store={"n": 4}).value == 4

def test_virtual(run, virtual_time):
    virtual_time.now = datetime(2030, 1, 1)
    assert run(nap()).value == datetime(2030, 1, 1, 1)
    assert run(nap()).value == datetime(2030, 1, 1, 2)
    assert virtual_time.now == datetime(2030, 1, 1, 2)
    assert "2030" in repr(virtual_time)
""",
    )
    assert code == 0, output
    assert "3 passed" in output


SEEDED = """
import pytest
from doeff import Gather, Put, Spawn, do

@do
def add(cell):
    n = cell[0]
    yield Put("x", n)
    cell[0] = n + 1

@do
def race(cell):
    yield Gather(Spawn(add(cell)), Spawn(add(cell)))
    return cell[0]

def test_race(run, seed):
    assert run(race([0])).schedule.seed == seed

@pytest.mark.seeds(3)
def test_marked(run, seed):
    pass

@pytest.mark.seeds(20)
def test_lost_update(run, seed):
    assert run(race([0])).value == 2

class TestOwn:
    @pytest.fixture
    def seed(self):
        return "mine"

    def test_it(self, seed):
        assert seed == "mine"
"""


def test_seeds(tmp_path):
    code, output = pytest_on(tmp_path, SEEDED, "--doeff-seeds=5", "-k", "not lost")
    assert code == 0, output
    assert "9 passed" in output


def test_a_failing_seed_has_a_name(tmp_path):
    code, output = pytest_on(tmp_path, SEEDED, "-k", "lost")
    assert code == 1
    failed = [line for line in output.splitlines() if line.startswith("FAILED")]
    assert 0 < len(failed) < 20
    seed = failed[0].partition("seed=")[2].partition("]")[0]
    code, output = pytest_on(tmp_path, SEEDED, "-k", "lost", f"--doeff-seed={seed}")
    assert code == 1
    assert "1 failed" in output


def test_a_test_with_seeds_of_its_own(tmp_path):
    code, output = pytest_on(
        tmp_path,
        """
import pytest

@pytest.mark.parametrize("seed", [7])
def test_own(seed):
    assert seed == 7

@pytest.mark.parametrize(("other", "seed"), [(1, 8), (2, 8)])
def test_pairs(other, seed):
    assert seed == 8
""",
    )
    assert code == 0, output
    assert "3 passed" in output
