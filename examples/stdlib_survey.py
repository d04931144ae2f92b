"""Survey the source tree of the running Python's own standard library.

The program knows neither disks nor terminals. It asks for its configuration, starts a task
for each file, so many at once, and survives files that cannot be read, decoded or compiled
(the tree holds some on purpose) or that take too long. Each task counts in a state of its
own. Three effects of the program's own are given a meaning at the bottom: files come from
the disk, progress goes to the terminal. The tests give them another one.

Ctrl-C ends the tasks and shows what has been counted so far.

    doeff run stdlib_survey:program
"""

from __future__ import annotations

import io
import os
import platform
import sys
import sysconfig
import time
import tokenize
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from operator import add
from types import CodeType
from typing import Any, TextIO

from doeff import (
    PRIORITY_IDLE,
    AcquireSemaphore,
    Ask,
    CreateSemaphore,
    EffectBase,
    EffectGenerator,
    Err,
    Get,
    HandlerContext,
    Intercept,
    Modify,
    Ok,
    Program,
    Put,
    ReleaseSemaphore,
    Result,
    RuntimeResult,
    Safe,
    Scope,
    Semaphore,
    Spawn,
    Timeout,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)

# --- effects: what the program wants from the world ---------------------------------


@dataclass(frozen=True)
class ListFiles(EffectBase):
    """Gives the paths of all Python files below a folder, relative to it, sorted."""

    root: str


@dataclass(frozen=True)
class ReadSource(EffectBase):
    """Gives the bytes of a file."""

    path: str


@dataclass(frozen=True)
class Progress(EffectBase):
    """Says how far the program has come."""

    done: int
    total: int


# --- values ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Function:
    """A function of a source file: name, first line, and how many lines it spans."""

    name: str
    line: int
    length: int


@dataclass(frozen=True)
class LongFunction:
    """Finding: a function longer than the limit."""

    path: str
    function: Function


@dataclass(frozen=True)
class BadFile:
    """Finding: a file that could not be surveyed, and why."""

    path: str
    kind: str
    reason: str


@dataclass(frozen=True)
class Survey:
    """What the program returns."""

    root: str
    counts: dict[str, int]
    long_functions: list[LongFunction]
    bad_files: list[BadFile]
    interrupted: bool = False


@dataclass(frozen=True)
class Surveyed:
    """What a task found in its file, and what it had counted until then."""

    counts: dict[str, int]
    functions: Result[list[Function]]


class UndecodableError(ValueError):
    """The bytes of a file are not text in the encoding that it declares."""


class TooLargeError(ValueError):
    """The file is larger than the configured limit."""


# --- the program ----------------------------------------------------------------------

COUNTED = ("files", "bytes", "lines", "functions", "skipped")


@do
def survey() -> EffectGenerator[Survey]:
    """Survey all files below ``Ask("root")``; an interrupt ends it early."""
    root = yield Ask("root")
    for name in COUNTED:
        yield Put(name, 0)
    yield Put("long_functions", [])
    yield Put("bad_files", [])
    interrupted = False
    try:
        yield Scope(survey_files(root, (yield ListFiles(root))))
    except KeyboardInterrupt:  # the tasks have been unwound by now
        interrupted = True
    counts = {}
    for name in COUNTED:
        counts[name] = yield Get(name)
    long_functions = yield Get("long_functions")
    long_functions.sort(key=lambda item: (-item.function.length, item.path))
    return Survey(root, counts, long_functions, (yield Get("bad_files")), interrupted)


program = survey


@do
def survey_files(root: str, paths: list[str]) -> EffectGenerator[None]:
    """Starts a task for each file, and adds up what they give in the order of the files."""
    limit = yield CreateSemaphore((yield Ask("at_once")))
    tasks = []
    for path in paths:
        task = survey_file(limit, os.path.join(root, path))
        tasks.append(
            (yield Spawn(task, priority=PRIORITY_IDLE))
        )  # adding up goes first
    for done, (path, task) in enumerate(zip(paths, tasks, strict=True)):
        yield Progress(done, len(paths))
        yield add_up(path, (yield Wait(task)))
    yield Progress(len(paths), len(paths))


@do
def survey_file(limit: Semaphore, path: str) -> EffectGenerator[Surveyed]:
    """A task: its state is a copy, so it counts for itself."""
    yield AcquireSemaphore(limit)
    try:
        functions = yield Safe(Timeout((yield Ask("seconds")), functions_in(path)))
    finally:
        yield ReleaseSemaphore(limit)
    counts = {}
    for name in COUNTED:
        counts[name] = yield Get(name)
    return Surveyed(counts, functions)


@do
def add_up(path: str, found: Surveyed) -> EffectGenerator[None]:
    for name, count in found.counts.items():
        yield Modify(name, partial(add, count))
    match found.functions:
        case Ok(functions):
            yield Modify("functions", partial(add, len(functions)))
            longest = yield Ask("max_function_lines")
            long = [item for item in functions if item.length > longest]
            found_long = [LongFunction(path, function) for function in long]
            yield Modify("long_functions", lambda seen: [*seen, *found_long])
        case Err(error):
            yield Modify("skipped", partial(add, 1))
            yield Modify("bad_files", lambda seen: [*seen, bad_file(path, error)])


@do
def functions_in(path: str) -> EffectGenerator[list[Function]]:
    """All functions of a file. Raises OSError, UndecodableError, SyntaxError and the like."""
    data = yield ReadSource(path)
    yield Modify("files", partial(add, 1))
    yield Modify("bytes", partial(add, len(data)))
    if len(data) > (yield Ask("max_bytes")):
        raise TooLargeError(f"{len(data):,} bytes")
    text = decode(data)
    yield Modify("lines", partial(add, text.count("\n")))
    return list(functions_of(compile_quietly(text, path)))


def decode(data: bytes) -> str:
    """Text of a source file, by its byte-order mark or coding comment."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        return data.decode(encoding)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise UndecodableError(str(error)) from error


def compile_quietly(text: str, path: str) -> CodeType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return compile(text, path, "exec", dont_inherit=True)


def functions_of(code: CodeType) -> Iterator[Function]:
    for inner in code.co_consts:
        if not isinstance(inner, CodeType):
            continue
        if inner.co_flags & 0x2 and not inner.co_name.startswith(
            "<"
        ):  # CO_NEWLOCALS: no class
            last = max((line for _, _, line in inner.co_lines() if line), default=0)
            first = inner.co_firstlineno
            yield Function(inner.co_qualname, first, last - first + 1)
        yield from functions_of(inner)


def bad_file(path: str, error: Exception) -> BadFile:
    kinds = {
        TimeoutError: "timed out",  # an OSError as well
        OSError: "unreadable",
        UndecodableError: "undecodable",
        TooLargeError: "too large",
    }
    kind = next(
        (kinds[cls] for cls in kinds if isinstance(error, cls)), "does not compile"
    )
    return BadFile(path, kind, f"{type(error).__name__}: {error}")


# --- handlers: what the effects mean here ---------------------------------------------


@do
def list_on_disk(effect: ListFiles, ctx: HandlerContext) -> list[str]:
    found = []
    for folder, folders, names in os.walk(effect.root):
        folders[:] = [
            name for name in folders if name not in ("site-packages", "__pycache__")
        ]
        found += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    return sorted(os.path.relpath(path, effect.root) for path in found)


@do
def read_from_disk(effect: ReadSource, ctx: HandlerContext) -> bytes:
    with open(effect.path, "rb") as file:
        return file.read()


def in_memory(
    files: Mapping[str, bytes | BaseException | Program[bytes]],
) -> list[Callable[..., Any]]:
    """Handlers that serve files from a mapping of relative path to content, error, or a
    program that gives the content (and may take its time)."""

    @do
    def list_in_memory(effect: ListFiles, ctx: HandlerContext) -> list[str]:
        return sorted(files)

    @do
    def read_from_memory(
        effect: ReadSource, ctx: HandlerContext
    ) -> EffectGenerator[bytes]:
        for path, content in files.items():
            if effect.path.endswith(path):
                if isinstance(content, BaseException):
                    raise content
                if isinstance(content, Program):
                    return (yield content)
                return content
        raise FileNotFoundError(effect.path)

    return [list_in_memory, read_from_memory]


@contextmanager
def progress_on(stream: TextIO) -> Iterator[Callable[..., Any]]:
    """A handler that shows progress on a terminal, and nothing elsewhere.

    It draws a bar with rich if that is installed, otherwise rewrites one line.
    """
    show, close = _progress_display(stream)
    shown_at = 0.0

    @do
    def show_progress(effect: Progress, ctx: HandlerContext) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if effect.done == effect.total or now - shown_at > 0.05:
            shown_at = now
            show(effect.done, effect.total)

    try:
        yield show_progress
    finally:
        close()


def _progress_display(
    stream: TextIO,
) -> tuple[Callable[[int, int], None], Callable[[], None]]:
    if not stream.isatty():
        return lambda done, total: None, lambda: None
    try:
        from rich.console import Console
        from rich.progress import Progress as Bar
    except ImportError:

        def rewrite(done: int, total: int) -> None:
            stream.write(f"\r{done:,} of {total:,} files")
            stream.flush()

        return rewrite, lambda: print(file=stream)
    bar = Bar(console=Console(file=stream), transient=True)
    task = bar.add_task("surveying", total=None)
    bar.start()
    return lambda done, total: bar.update(task, completed=done, total=total), bar.stop


# --- running it -----------------------------------------------------------------------


def default_config() -> dict[str, Any]:
    return {
        "root": sysconfig.get_paths()["stdlib"],
        "at_once": 16,
        "seconds": 10,
        "max_bytes": 100_000,
        "max_function_lines": 200,
    }


def interpret(program: Program[Any]) -> Any:
    """Run with disk and terminal, count the effects, and add what an effect costs.

    # doeff: interpreter, default
    """
    performed: Counter[str] = Counter()

    def count(effect: EffectBase) -> None:
        performed[type(effect).__name__] += 1

    started = time.perf_counter()
    with progress_on(sys.stderr) as show_progress:
        handlers = [*sync_handlers_preset, list_on_disk, read_from_disk, show_progress]
        result: RuntimeResult[Any] = sync_run(
            Intercept(program, count), handlers, default_config()
        )
    seconds = time.perf_counter() - started
    if result.is_err():
        return result
    return Report(result.value, dict(performed), seconds, measure_costs())


@do
def ask_often(times: int) -> EffectGenerator[None]:
    for _ in range(times):
        yield Ask("key")


@do
def get_often(times: int) -> EffectGenerator[None]:
    for _ in range(times):
        yield Get("key")


@do
def report_often(times: int) -> EffectGenerator[None]:
    progress = Progress(0, 1)  # making it costs more than performing it
    for _ in range(times):
        yield progress


@do
def ignore_progress(effect: Progress, ctx: HandlerContext) -> None:
    return None


def call_often(times: int) -> None:
    def function(x: int) -> int:
        return x

    for _ in range(times):
        function(1)


@dataclass(frozen=True)
class Costs:
    """Nanoseconds of one effect in a loop that performs nothing else, and of one call.

    ask, get: built-in effects. own: an effect with a handler written in Python.
    """

    ask: float
    get: float
    own: float
    call: float


def measure_costs(times: int = 10_000, rounds: int = 20) -> Costs:
    """Best of several rounds, the loops in turn."""
    data = {"key": 1}
    handlers = [*sync_handlers_preset, ignore_progress]

    def nanoseconds(work: Callable[[], object]) -> float:
        started = time.perf_counter_ns()
        work()
        return (time.perf_counter_ns() - started) / times

    measured = [
        (
            nanoseconds(lambda: sync_run(ask_often(times), sync_handlers_preset, data)),
            nanoseconds(
                lambda: sync_run(get_often(times), sync_handlers_preset, None, data)
            ),
            nanoseconds(lambda: sync_run(report_often(times), handlers)),
            nanoseconds(lambda: call_often(times)),
        )
        for _ in range(rounds)
    ]
    return Costs(*(min(column) for column in zip(*measured, strict=True)))


@dataclass(frozen=True)
class Report:
    """A survey and what it cost; its text is what ``doeff run`` prints."""

    survey: Survey
    performed: dict[str, int]
    seconds: float
    costs: Costs

    def __str__(self) -> str:
        return "\n".join([*survey_lines(self.survey), "", *self._cost_lines()])

    def _cost_lines(self) -> Iterator[str]:
        total = sum(self.performed.values())
        costs = self.costs
        yield f"{total:,} effects performed in {self.seconds:.1f} s"
        for name, count in sorted(
            self.performed.items(), key=lambda item: (-item[1], item[0])
        ):
            yield f"  {name:<20} {count:>9,}"
        yield ""
        yield "What an effect costs, in a loop that does nothing else"
        rows = [
            ("Ask", costs.ask),
            ("Get", costs.get),
            ("handler in Python", costs.own),
        ]
        for name, cost in rows:
            yield f"  {name:<20} {cost:>6.0f} ns = {cost / costs.call:.1f} function calls"
        yield f"  {'function call':<20} {costs.call:>6.0f} ns"
        own = sum(
            self.performed.get(cls.__name__, 0)
            for cls in (ListFiles, ReadSource, Progress)
        )
        share = (own * costs.own + (total - own) * costs.ask) / 1e6
        yield f"  so the machine took about {share:.0f} ms of the {self.seconds:.1f} s above"


def survey_lines(survey: Survey, shown: int = 10) -> Iterator[str]:
    yield f"Standard library of Python {platform.python_version()} in {survey.root}"
    if survey.interrupted:
        yield "Interrupted: this is what had been counted by then"
    yield ""
    for name in COUNTED:
        yield f"  {name:<20} {survey.counts[name]:>12,}"
    yield ""
    yield f"Longest of {len(survey.long_functions)} long functions"
    for item in survey.long_functions[:shown]:
        function = item.function
        yield f"  {function.length:>5} lines  {item.path}:{function.line}  {function.name}"
    yield ""
    yield f"Files skipped: {len(survey.bad_files)}"
    kinds = Counter(bad.kind for bad in survey.bad_files)
    for kind in sorted(kinds):
        yield f"  {kind:<20} {kinds[kind]:>12,}"
    yield ""
    for bad in survey.bad_files:
        if bad.kind != "too large":
            yield f"  {bad.kind:<16}  {bad.path}: {bad.reason}"[:110]
