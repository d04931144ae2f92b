"""Runs one body again and again while its n-th allocation fails, n = 1, 2, ...

    drive.py BODY once|onwards|short PROGRESS_FILE

once: only the n-th allocation fails. onwards: the n-th and all after it fail. short: like once, but
from n = 100 on only every seventh n. After each failure the machine must still give right answers.
It stops when the body has come through CLEAN numbers n in a row, the last allocation being passed.
PROGRESS_FILE holds the n being tried, for a crash report.
"""

from __future__ import annotations

import _testcapi
import faulthandler
import gc
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
import bodies
from doeff import Ask, Get, Put, Safe, Tell, _engine, do, sync_handlers_preset, sync_run

CLEAN = 40
MOST = 200_000

fail_from, works_again = _testcapi.set_nomemory, _testcapi.remove_mem_hooks


@do
def child(x):
    return x + (yield Ask("one"))


@do
def fails():
    yield Tell("about to fail")
    raise ValueError("on purpose")


@do
def health():
    """A bit of everything; its answer is known."""
    yield Put("sum", 0)
    for i in range(3):
        yield Put("sum", (yield Get("sum")) + (yield child(i)))
    caught = yield Safe(fails())
    return (yield Get("sum")), caught.is_err()


def still_works():
    result = sync_run(health(), sync_handlers_preset, env={"one": 1}, store={})
    return result.value == (6, True)


def attempt(body, first, stop):
    fail_from(first, stop)
    try:
        return body()
    finally:
        works_again()


def interpreter_lost(error):
    """A Python function without memory for its traceback fails with no error set.

    Plain Python code without any program in it shows this as well.
    """
    return (
        isinstance(error, SystemError)
        and "without" in str(error)
        and "exception" in str(error)
    )


unraisable = []


def note_unraisable(what):
    if not isinstance(what.exc_value, MemoryError) and what.exc_type is not MemoryError:
        unraisable.append((what.exc_type, repr(what.object)))


def main(identifier, mode, progress_file):
    faulthandler.enable()
    sys.unraisablehook = note_unraisable
    body = bodies.body(identifier)
    expected = [body() for _ in range(3)][-1]
    if not still_works():
        raise AssertionError("the machine does not work even with memory")
    progress = os.open(progress_file, os.O_WRONLY | os.O_CREAT)
    failures, clean, n = 0, 0, 0
    gc.disable()  # collections at random places would move the n-th allocation
    while clean < CLEAN:
        n += 7 if mode == "short" and n >= 100 else 1
        if n > MOST:
            raise AssertionError(f"still failing at allocation {n}")
        _engine._drain()
        os.pwrite(progress, b"%8d\n" % n, 0)
        value = error = None
        try:
            value = attempt(body, n - 1, 0 if mode == "onwards" else n)
        except BaseException as raised:
            error = raised
        if error is not None:
            clean = 0
            failures += 1
            told = isinstance(error, MemoryError) or isinstance(
                error.__cause__, MemoryError
            )
            if not told and not interpreter_lost(error):
                raise AssertionError(
                    f"allocation {n} failed: {type(error).__name__} instead of MemoryError"
                ) from error
        elif value == expected:
            clean += 1
        elif "MemoryError" in repr(value):
            clean = 0
            failures += 1
        else:
            raise AssertionError(
                f"allocation {n} failed: {value!r} instead of {expected!r} or MemoryError"
            )
        del error
        if unraisable:
            raise AssertionError(f"allocation {n} failed: unraisable {unraisable}")
        if n % 50 == 0:
            gc.collect()
        if not still_works():
            raise AssertionError(
                f"allocation {n} failed, then the machine gave wrong answers"
            )
    if body() != expected:
        raise AssertionError("the body gives another value afterwards")
    gc.collect()
    print(f"{identifier} {mode}: {failures} failing allocations up to n = {n - CLEAN}")


if __name__ == "__main__":
    main(*sys.argv[1:])
