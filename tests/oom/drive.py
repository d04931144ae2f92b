"""Runs one body again and again while its n-th allocation fails, n = 1, 2, ...

    drive.py BODY once|onwards|short PROGRESS_FILE

once: only the n-th allocation fails. onwards: the n-th and all after it fail. short: like once, but
from n = 100 on only every seventh n. After each failure the machine must still give right answers.
It stops when the body has come through CLEAN numbers n in a row, the last allocation being passed.
PROGRESS_FILE holds the n being tried, for a crash report.
"""

from __future__ import annotations

import _testcapi
import builtins
import ctypes
import faulthandler
import gc
import os
import re
import sys
import types
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


def interpreter_lost(text):
    """Whether it is the text of an error that CPython made of a MemoryError and that hides it.

    Plain Python code without any program in it shows these as well: a Python function without
    memory for its traceback fails with no error set, pickle takes any failure to find an object
    for the object's absence, and a lock without memory (every import takes one) is a RuntimeError.
    """
    return re.search(
        r"SystemError.*(without setting an exception|error return without exception set)"
        r"|RuntimeError.*can't allocate lock"
        r"|PicklingError.*(import of module '.+' failed|attribute lookup .+ on .+ failed)",
        text,
    )


def reported(text):
    """Whether the text of a value shows the MemoryError, or a report without memory for a part."""
    return "MemoryError" in text or "<unprintable " in text or interpreter_lost(text)


def codes_of(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, type(code)):
            yield from codes_of(constant)


def survive_make_function():
    """More references to every code object than this run can take away.

    CPython 3.12 and later drop one reference too many to the code when there is no memory for a
    function object (MAKE_FUNCTION), also in `def f(): return lambda: 1`; the code object is freed
    while it is in use.
    """
    functions = (
        thing for thing in gc.get_objects() if isinstance(thing, types.FunctionType)
    )
    spare = [
        [code] * 1000 for code in {c for f in functions for c in codes_of(f.__code__)}
    ]
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(spare))  # never to be given back


compile_text, evaluate, compiled = builtins.compile, builtins.eval, {}


def compile_once(source, filename, mode, *rest, **more):
    key = (source, filename, mode, rest, *more.items())
    if key not in compiled:
        compiled[key] = compile_text(source, filename, mode, *rest, **more)
    return compiled[key]


def evaluate_compiled(source, names, *rest):
    if isinstance(source, str):
        source = compile_once(source, "<string>", "eval")
    return evaluate(source, names, *rest)


def keep_compiler_out():
    """Texts are compiled while there is memory, by the runs before the first failure.

    CPython's compiler spoils the heap when an allocation of its own fails: doing so again and again
    to a plain `eval("name", {})` crashes 3.11 and 3.13.
    """
    builtins.compile, builtins.eval = compile_once, evaluate_compiled


unraisable, told_aside = [], []


def note_unraisable(what):
    """A MemoryError here is a report as well, and so is a generator that could not be unwound in its run."""
    memory = (
        isinstance(what.exc_value, MemoryError)
        or what.exc_type is MemoryError
        or isinstance(getattr(what.exc_value, "__cause__", None), MemoryError)
        or interpreter_lost(repr(what.exc_value))
    )
    if memory or "generator ignored GeneratorExit" in str(what.exc_value):
        told_aside.append(True)
    else:
        unraisable.append((what.exc_type, repr(what.object)))


def main(identifier, mode, progress_file):
    faulthandler.enable()
    sys.unraisablehook = note_unraisable
    body = bodies.body(identifier)
    keep_compiler_out()
    expected = [body() for _ in range(3)][-1]
    if not still_works():
        raise AssertionError("the machine does not work even with memory")
    progress = os.open(progress_file, os.O_WRONLY | os.O_CREAT)
    if sys.version_info >= (3, 12):
        survive_make_function()
    failures, clean, n = 0, 0, 0
    gc.disable()  # collections at random places would move the n-th allocation
    while clean < CLEAN:
        n += 7 if mode == "short" and n >= 100 else 1
        if n > MOST:
            raise AssertionError(f"still failing at allocation {n}")
        _engine._drain()
        os.pwrite(progress, b"%8d\n" % n, 0)
        value = error = None
        told_aside.clear()
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
            if not told and not interpreter_lost(repr(error)):
                raise AssertionError(
                    f"allocation {n} failed: {type(error).__name__} instead of MemoryError"
                ) from error
        elif value == expected:
            clean += 1
        elif told_aside or reported(repr(value)):
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
