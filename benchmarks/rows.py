"""The rows of the table. A row is a name, a unit, its bounds and a function that takes one reading.

A reading is one number, made in one process by the helpers of measure.py; run.py takes the median
over several processes and compares it with the bound (up to Python 3.11, from 3.12 on; a row
without bounds is printed for information). To add a row, append to ROWS.
"""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from statistics import median
from time import process_time_ns

import aio_rows
import measure
import task_rows
from doeff import (
    Ask,
    EffectBase,
    Get,
    Put,
    Tell,
    WithHandler,
    _engine,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk import SyncRuntime, default_handlers
from doeff.cesk.frames import ContinueValue
from measure import LOOPS

DEPTH = 1_000_000


@dataclass(frozen=True)
class Row:
    name: str
    unit: str
    bound: tuple[float, float] | None
    reading: Callable[[], float]


def run(program):
    """The value of a program under the whole preset."""
    return sync_run(
        program, sync_handlers_preset, env={"key": 1}, store={"key": 1}
    ).value


# ---- loops of one effect, timed inside the program: what is around them does not count ----------
@do
def ask_loop(loops=LOOPS):
    effect = Ask
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect("key")
    return (process_time_ns() - began) / loops


@do
def tell_loop(loops=LOOPS):
    effect = Tell
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect("message")
    return (process_time_ns() - began) / loops


@do
def get_loop(loops=LOOPS):
    effect = Get
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect("key")
    return (process_time_ns() - began) / loops


@do
def put_loop(loops=LOOPS):
    effect = Put
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect("key", 1)
    return (process_time_ns() - began) / loops


EFFECTS = {
    "Ask": (ask_loop, 1),
    "Tell": (tell_loop, 1),
    "Get": (get_loop, 1),
    "Put": (put_loop, 2),
}


def alone(effect):
    loop, _ = EFFECTS[effect]
    return run(loop())


def over_driven(effect):
    _, arguments = EFFECTS[effect]
    return measure.calls_over(
        partial(alone, effect), partial(measure.driven, arguments)
    )


# ---- a handler of somebody else's ---------------------------------------------------------------
@do
def kv_get_loop(effect, loops=LOOPS):
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect("key")
    return (process_time_ns() - began) / loops


@do
def kv_put_loop(effect, loops=LOOPS):
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect("key", 1)
    return (process_time_ns() - began) / loops


def times_built_in(kv_effect, effect):
    """The same loop with an effect of examples/native_handler, which make bench builds."""
    import doeff_kv

    loop = {"KvGet": kv_get_loop, "KvPut": kv_put_loop}[kv_effect]

    def under_handler(constructor):
        handler = doeff_kv.kv_handler({"key": 1})
        return run(WithHandler(handler=handler, program=loop(constructor)))

    return measure.times_reference(
        lambda: under_handler(getattr(doeff_kv, kv_effect)),
        lambda: under_handler(effect),
    )


# ---- the same below something -------------------------------------------------------------------
class Other(EffectBase):
    pass


@do
def uninterested(effect: Other, ctx):
    return 0


def below_handlers(effect, handlers=100):
    program = EFFECTS[effect][0]()
    for _ in range(handlers):
        program = WithHandler(handler=uninterested, program=program)
    return run(program)


def times_alone_below_handlers(effect):
    return measure.times_reference(
        partial(below_handlers, effect), partial(alone, effect)
    )


@do
def nest(depth, inside):
    """inside holds the program to run at the bottom: a bare one would be unwrapped."""
    if depth == 0:
        return (yield inside[0])
    return (yield nest(depth - 1, inside))


def times_alone_below_programs(effect):
    """Both loops run in one program and in turn: going down a million times costs seconds."""
    loop, _ = EFFECTS[effect]

    @do
    def several():
        readings = []
        for _ in range(measure.TURNS + 1):
            readings.append((yield loop()))
        return readings

    gc.collect()
    gc.freeze()
    shallow = run(nest(0, [several()]))
    deep = run(nest(DEPTH, [several()]))
    shallow += run(nest(0, [several()]))
    gc.unfreeze()
    return median(deep[1:]) / median(shallow)


# ---- programs and handlers ------------------------------------------------------------------------
@do
def child(x):
    return x
    yield


@do
def nested_loop(loops=LOOPS):
    program = child
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield program(1)
    return (process_time_ns() - began) / loops


def nested():
    return measure.times_reference(lambda: run(nested_loop()), measure.yield_from)


class Ping(EffectBase):
    __slots__ = ()


PING = Ping()


@do
def answer(effect: Ping, ctx):
    return 1
    yield


@do
def ping_loop(loops=LOOPS):
    effect = PING
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect
    return (process_time_ns() - began) / loops


@do
def new_ping_loop(loops=LOOPS):
    effect = Ping
    began = process_time_ns()
    for _ in repeat(None, loops):
        yield effect()
    return (process_time_ns() - began) / loops


def python_handler(loop):
    return measure.in_calls(lambda: run(WithHandler(handler=answer, program=loop())))


@do
def resume_in_the_middle(effect: Ping, ctx):
    rest = yield ctx.resume(1)
    return rest


def resuming_handler():
    """Every effect leaves a body that waits for the rest: the ends of the bodies count too."""
    loops = LOOPS // 20

    def loop():
        program = WithHandler(handler=resume_in_the_middle, program=ping_loop(loops))
        began = process_time_ns()
        for _ in repeat(None, 20):
            run(program)
        return (process_time_ns() - began) / loops / 20

    return measure.in_calls(loop)


def captured_across(handlers):
    program = ping_loop()
    for _ in range(handlers - 1):
        program = WithHandler(handler=uninterested, program=program)
    return run(WithHandler(handler=answer, program=program))


def times_one_handler():
    return measure.times_reference(
        partial(captured_across, 100), partial(captured_across, 1)
    )


def times_shallow():
    @do
    def several():
        readings = []
        for _ in range(measure.TURNS + 1):
            readings.append((yield ping_loop()))
        return readings

    def below(depth):
        return run(WithHandler(handler=answer, program=nest(depth, [several()])))

    gc.collect()
    gc.freeze()
    shallow = below(10)
    deep = below(DEPTH)
    shallow += below(10)
    gc.unfreeze()
    return median(deep[1:]) / median(shallow)


@do
def forward_all(effect, ctx):
    return (yield effect)


def forwarding_handler():
    return measure.in_calls(
        lambda: run(WithHandler(handler=forward_all, program=ask_loop()))
    )


def v1_answer(effect, task_state, store):
    return ContinueValue(
        value=1, env=task_state.env, store=store, k=task_state.kontinuation
    )


V1 = SyncRuntime(handlers={**default_handlers(), Ping: v1_answer})


def v1_handler():
    return measure.in_calls(lambda: V1.run(ping_loop()).value)


def beside_a_v1_dictionary(effect):
    program = EFFECTS[effect][0]()
    return V1.run(program, env={"key": 1}, store={"key": 1}).value


def times_alone_beside_a_v1_dictionary(effect):
    return measure.times_reference(
        partial(beside_a_v1_dictionary, effect), partial(alone, effect)
    )


def run_of_nothing():
    runs = 2_000

    def loop():
        program, preset = child, sync_handlers_preset
        began = process_time_ns()
        for _ in repeat(None, runs):
            sync_run(program(1), preset)
        return (process_time_ns() - began) / runs

    return measure.in_calls(loop)


# ---- start and memory -----------------------------------------------------------------------------
def import_milliseconds():
    def start(code):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-P", "-c", code], check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
        return seconds * 1000

    with_doeff, bare = measure.in_turn(
        partial(start, "import doeff"), partial(start, "pass")
    )
    return median(with_doeff) - median(bare)


def generators_alone(depth):
    """Bytes of that many suspended generators like nest's, without what holds them."""

    def body(depth, inside):
        if depth == 0:
            return (yield inside)
        return (yield inside)

    held = [None] * depth
    before = tracemalloc.get_traced_memory()[0]
    for i in range(depth):
        held[i] = generator = body(i + 1000, None)
        next(generator)
    return (tracemalloc.get_traced_memory()[0] - before) / depth


def bytes_of_nested_program():
    depth = DEPTH

    @do
    def bottom():
        _engine._drain()
        return tracemalloc.get_traced_memory()[0]
        yield

    run(nest(10, [bottom()]))
    _engine._drain()
    gc.collect()
    tracemalloc.start()
    try:
        generators = generators_alone(depth)
        program = nest(depth, [bottom()])
        before = tracemalloc.get_traced_memory()[0]
        return (run(program) - before) / depth - generators
    finally:
        tracemalloc.stop()


CALLS_OVER = "calls over driven"
TIMES_ALONE = "x the same alone"
HALF, MORE, FLAT = (0.5, 0.5), (0.6, 0.6), (1.05, 1.05)
SAME = (1.1, 1.1)  # times of two places in memory differ by that much

ROWS = [
    Row("Ask through the preset", CALLS_OVER, HALF, partial(over_driven, "Ask")),
    Row("Tell through the preset", CALLS_OVER, HALF, partial(over_driven, "Tell")),
    Row("Get through the preset", CALLS_OVER, MORE, partial(over_driven, "Get")),
    Row("Put through the preset", CALLS_OVER, MORE, partial(over_driven, "Put")),
    *(
        Row(
            f"{e} below 100 handlers",
            TIMES_ALONE,
            FLAT,
            partial(times_alone_below_handlers, e),
        )
        for e in EFFECTS
    ),
    *(
        Row(
            f"{e} below {DEPTH:,} programs",
            TIMES_ALONE,
            FLAT,
            partial(times_alone_below_programs, e),
        )
        for e in ("Ask", "Put")
    ),
    Row("KvGet of an extension", "x Get", SAME, partial(times_built_in, "KvGet", Get)),
    Row("KvPut of an extension", "x Put", SAME, partial(times_built_in, "KvPut", Put)),
    Row("nested program", "x yield from", (1.35, 1.55), nested),
    # Making an instance of a Python class costs what Python takes for it, so the bound is for one
    # that is made once.
    Row(
        "Python handler answers an effect",
        "calls",
        (5, 6),
        partial(python_handler, ping_loop),
    ),
    Row("resumed in the middle", "calls", (7, 8), resuming_handler),
    Row("answered across 100 handlers", "x across 1", FLAT, times_one_handler),
    Row(f"answered below {DEPTH:,} programs", "x below 10", FLAT, times_shallow),
    Row(
        "a new effect each time", "calls", None, partial(python_handler, new_ping_loop)
    ),
    Row("v1 handler answers an effect", "calls", (8, 8), v1_handler),
    *(
        Row(
            f"{e} that a v1 dictionary leaves alone",
            TIMES_ALONE,
            FLAT,
            partial(times_alone_beside_a_v1_dictionary, e),
        )
        for e in ("Ask", "Put")
    ),
    Row("Ask forwarded by a Python handler", "calls", None, forwarding_handler),
    Row("sync_run of nothing", "calls", (8, 8), run_of_nothing),
    Row("import doeff, over bare Python", "ms", (15, 15), import_milliseconds),
    Row(
        "nested program beside its generator",
        "bytes",
        (120, 120),
        bytes_of_nested_program,
    ),
    Row(
        "Spawn and its share of Gather",
        "x asyncio",
        (0.085, 0.085),
        task_rows.spawn_and_gather,
    ),
    Row(
        "an Ask that ends a turn, 10 tasks",
        CALLS_OVER,
        (1.8, 1.8),
        partial(task_rows.turn_over_driven, 10),
    ),
    Row(
        "the same among 10,000 tasks",
        "x among 10",
        (1.3, 1.3),
        task_rows.turn_among_many,
    ),
    Row(
        "a waiter woken by a promise", "x asyncio's Event", (0.15, 0.15), task_rows.wake
    ),
    Row(
        f"{task_rows.CROWD:,} sleeping tasks, each",
        "x asyncio's spawn",
        (0.5, 0.5),
        task_rows.sleeping,
    ),
    Row(
        "Await of what suspends once",
        "x create_task",
        (1.1, 1.1),
        partial(aio_rows.one, aio_rows.suspends),
    ),
    Row(
        "Await of what does not suspend",
        "x create_task",
        (1.0, 0.5),
        partial(aio_rows.one, aio_rows.does_not),
    ),
    Row(
        f"{aio_rows.TOGETHER:,} Awaits at once",
        "x asyncio.gather",
        (1.2, 1.2),
        aio_rows.together,
    ),
    *(
        [
            Row(
                f"{aio_rows.TOGETHER:,} Awaits at once in uvloop",
                "x asyncio.gather",
                (1.2, 1.2),
                aio_rows.together_in_uvloop,
            )
        ]
        if aio_rows.uvloop
        else []
    ),
    Row(
        "loop waits beside short effects",
        "ms",
        (1.2, 1.2),
        partial(aio_rows.loop_waits, 1, 0),
    ),
    Row(
        "loop waits beside effects of 0.1 ms",
        "ms",
        (1.2, 1.2),
        partial(aio_rows.loop_waits, 0, 100_000),
    ),
    Row(
        "loop waits, one effect in 8 takes 0.1 ms",
        "ms",
        (1.3, 1.3),
        partial(aio_rows.loop_waits, 7, 100_000),
    ),
    Row("async_run of nothing", "calls", (30, 30), aio_rows.run_of_nothing),
    Row(
        "blocked task beside its generator",
        "bytes",
        (400, 400),
        task_rows.bytes_of_blocked_task,
    ),
    Row(
        f"each of {task_rows.MULTITUDE:,} waiting tasks",
        f"x of {task_rows.CROWD:,}",
        (1.3, 1.3),
        task_rows.time_of_a_multitude,
    ),
]
