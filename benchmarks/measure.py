"""How a reading is taken: reference and row in turn, medians, ratios.

call        ``f(x)`` with ``def f(x): return x``, in a loop
driven      a plain generator with the row's body, its effect constructor replaced by a builtin that
            gives an argument back, driven from C: what an engine that costs nothing would take
yield from  the same call through ``yield from child(x)``

All times are nanoseconds of CPU time for one turn of the loop, the loop itself included: on a
machine that does other work as well they move far less than the time on the wall.
"""

from __future__ import annotations

import operator
from collections import deque
from collections.abc import Callable, Generator
from contextlib import suppress
from itertools import repeat
from statistics import median
from time import process_time_ns
from typing import Any

LOOPS = 20_000
TURNS = 15

Timing = Callable[[], float]


def f(x):
    return x


def call() -> float:
    function = f
    x = 1
    began = process_time_ns()
    for _ in repeat(None, LOOPS):
        function(x)
    return (process_time_ns() - began) / LOOPS


def plain_child(x):
    return x
    yield


def drive(generator: Generator[Any, Any, Any], answer: Any = None) -> None:
    """Send answers until the generator ends, from C."""
    next(generator)
    with suppress(StopIteration):
        deque(map(generator.send, repeat(answer)), maxlen=0)


def yield_from() -> float:
    def body():
        child = plain_child
        began = process_time_ns()
        for _ in repeat(None, LOOPS):
            yield from child(1)
        spent.append(process_time_ns() - began)
        yield

    spent: list[int] = []
    drive(body())
    return spent[0] / LOOPS


def driven(arguments: int) -> float:
    """The floor of an effect whose constructor takes that many arguments."""
    spent: list[int] = []

    def no_argument():
        effect = 1
        began = process_time_ns()
        for _ in repeat(None, LOOPS):
            yield effect
        spent.append(process_time_ns() - began)

    def one_argument():
        effect = operator.index
        began = process_time_ns()
        for _ in repeat(None, LOOPS):
            yield effect(1)
        spent.append(process_time_ns() - began)

    def two_arguments():
        effect = operator.and_
        began = process_time_ns()
        for _ in repeat(None, LOOPS):
            yield effect(1, 1)
        spent.append(process_time_ns() - began)

    drive([no_argument, one_argument, two_arguments][arguments]())
    return spent[0] / LOOPS


def in_turn(*timings: Timing) -> list[list[float]]:
    """TURNS readings of each, taken in turn after one that is thrown away."""
    for timing in timings:
        timing()
    return [
        list(turn)
        for turn in zip(*([t() for t in timings] for _ in range(TURNS)), strict=True)
    ]


def times_reference(row: Timing, reference: Timing) -> float:
    rows, references = in_turn(row, reference)
    return median(a / b for a, b in zip(rows, references, strict=True))


def calls_over(row: Timing, floor: Timing) -> float:
    """(row - floor) in calls."""
    rows, floors, calls = in_turn(row, floor, call)
    return median((a - b) / c for a, b, c in zip(rows, floors, calls, strict=True))


def in_calls(row: Timing) -> float:
    return times_reference(row, call)
