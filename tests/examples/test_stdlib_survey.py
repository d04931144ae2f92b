"""The survey with files, progress and configuration from memory."""

from __future__ import annotations

import io
import os

import pytest

import stdlib_survey as demo
from doeff import Delay, do, sync_handlers_preset, sync_run
from doeff.testing import virtual_time, with_schedule

LONG = "def long():\n" + "    x = 1\n" * 30
FILES = {
    "a/good.py": b"class C:\n    def method(self):\n        return lambda: 1\n",
    "a/long.py": LONG.encode(),
    "b/bad_bytes.py": b"x = '\xf6'\n",
    "b/bad_cookie.py": b"# coding: uft-8\n",
    "b/bad_syntax.py": b"print 'two'\n",
    "b/latin.py": "# coding: latin-1\nx = 'ö'\n".encode("latin-1"),
    "c/big.py": b"#" * 3000,
    "c/gone.py": PermissionError("not yours"),
}
CONFIG = {
    "root": "root",
    "at_once": 3,
    "seconds": 10,
    "max_bytes": 2000,
    "max_function_lines": 20,
}


def survey_of(files):
    """On the controlled clock: no test sleeps."""
    seen = []

    @do
    def note_progress(effect: demo.Progress, ctx):
        seen.append((effect.done, effect.total))

    handlers = [*sync_handlers_preset, *demo.in_memory(files), note_progress]
    return sync_run(virtual_time(demo.program()), handlers, CONFIG), seen


def test_counts_findings_and_survived_errors():
    result, progress = survey_of(FILES)
    found = result.value
    assert found.counts == {
        "files": 7,
        "bytes": sum(len(data) for data in FILES.values() if isinstance(data, bytes)),
        "lines": 3 + 31 + 1 + 2,
        "functions": 2,
        "skipped": 5,
    }
    assert [(bad.path, bad.kind) for bad in found.bad_files] == [
        ("b/bad_bytes.py", "undecodable"),
        ("b/bad_cookie.py", "undecodable"),
        ("b/bad_syntax.py", "does not compile"),
        ("c/big.py", "too large"),
        ("c/gone.py", "unreadable"),
    ]
    assert found.bad_files[-1].reason == "PermissionError: not yours"
    assert found.long_functions == [
        demo.LongFunction("a/long.py", demo.Function("long", 1, 31))
    ]
    assert progress == [(done, len(FILES)) for done in range(len(FILES) + 1)]


def test_longest_function_comes_first():
    files = {
        f"{size}.py": ("def f():\n" + "    x = 1\n" * size).encode()
        for size in (25, 40, 30)
    }
    result, _ = survey_of(files)
    assert [item.function.length for item in result.value.long_functions] == [
        41,
        31,
        26,
    ]


def slowly(seconds, log, path):
    @do
    def read():
        log.append(f"+{path}")
        try:
            yield Delay(seconds)
        finally:
            log.append(f"-{path}")
        return b"x = 1\n"

    return read()


def test_so_many_files_at_once():
    log = []
    files = {f"{n}.py": slowly(1, log, n) for n in range(7)}
    result, _ = survey_of(files)
    assert result.value.counts["files"] == 7
    open_files = [0]
    for entry in log:
        open_files.append(open_files[-1] + (1 if entry[0] == "+" else -1))
    assert max(open_files) == CONFIG["at_once"]


def test_a_file_that_takes_too_long():
    log = []
    files = {"a.py": b"x = 1\n", "b.py": slowly(1000, log, "b"), "c.py": b"y = 1\n"}
    found = survey_of(files)[0].value
    assert [(bad.path, bad.kind) for bad in found.bad_files] == [("b.py", "timed out")]
    assert found.counts["files"] == 2
    assert log == ["+b", "-b"]


def test_an_interrupt_gives_what_has_been_counted():
    log = []
    files = {
        "a.py": b"x = 1\n",
        "b.py": slowly(1000, log, "b"),
        "c.py": KeyboardInterrupt(),
        "d.py": b"y = 1\n",
    }
    result, progress = survey_of(files)
    found = result.value
    assert found.interrupted
    assert found.counts["files"] <= 1
    assert log == ["+b", "-b"]
    assert progress[-1][0] < len(files)
    report = demo.Report(found, {}, 1.0, demo.Costs(1, 1, 1, 1))
    assert "Interrupted" in str(report)


@pytest.mark.parametrize("seed", range(10))
def test_the_order_of_the_tasks_does_not_show(seed):
    @do
    def ignore_progress(effect: demo.Progress, ctx):
        return None

    handlers = [*sync_handlers_preset, *demo.in_memory(FILES), ignore_progress]
    mixed = sync_run(demo.program(), with_schedule(handlers, seed), CONFIG)
    assert mixed.value == survey_of(FILES)[0].value


def test_empty_tree():
    result, progress = survey_of({})
    assert set(result.value.counts.values()) == {0}
    assert progress == [(0, 0)]


def test_disk_handlers(tmp_path):
    (tmp_path / "pkg" / "__pycache__").mkdir(parents=True)
    (tmp_path / "pkg" / "one.py").write_text("x = 1\n")
    (tmp_path / "pkg" / "notes.txt").write_text("no")
    (tmp_path / "pkg" / "__pycache__" / "two.py").write_text("no")
    handlers = [*sync_handlers_preset, demo.list_on_disk, demo.read_from_disk]
    root = str(tmp_path)
    listed = sync_run(demo.ListFiles(root), handlers)
    assert listed.value == [os.path.join("pkg", "one.py")]
    read = sync_run(demo.ReadSource(os.path.join(root, listed.value[0])), handlers)
    assert read.value == b"x = 1\n"
    assert isinstance(sync_run(demo.ReadSource(root), handlers).error, OSError)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [Terminal(), io.StringIO()])
def test_progress_only_on_a_terminal(stream, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    with demo.progress_on(stream) as handler:
        assert sync_run(demo.Progress(3, 3), [handler]).value is None
    assert stream.getvalue() == ("\r3 of 3 files\n" if stream.isatty() else "")


def test_report_text():
    result, _ = survey_of(FILES)
    report = demo.Report(
        result.value, {"AskEffect": 12_000}, 2.0, demo.Costs(100, 120, 300, 40)
    )
    text = str(report)
    assert "12,000 effects performed in 2.0 s" in text
    assert "100 ns = 2.5 function calls" in text
    assert "does not compile  b/bad_syntax.py" in text


def test_interpreter_counts_effects_and_measures(monkeypatch, tmp_path):
    (tmp_path / "one.py").write_text("x = 1\n")
    config = {**CONFIG, "root": str(tmp_path)}
    monkeypatch.setattr(demo, "default_config", lambda: config)
    monkeypatch.setattr(demo, "measure_costs", lambda: demo.Costs(1, 1, 1, 1))
    report = demo.interpret(demo.program())
    assert report.survey.counts["files"] == 1
    assert report.performed["ReadSource"] == 1
    assert report.performed["Progress"] == 2


def test_interpreter_hands_on_a_failed_result(monkeypatch):
    monkeypatch.setattr(demo, "default_config", dict)
    assert isinstance(demo.interpret(demo.program()).error, KeyError)


def test_costs_are_measured():
    costs = demo.measure_costs(times=200, rounds=1)
    assert min(costs.ask, costs.get, costs.own, costs.call) > 0
