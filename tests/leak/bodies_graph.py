"""Bodies for the graph effects."""

from __future__ import annotations

from doeff import (
    Annotate,
    CaptureGraph,
    EffectBase,
    Get,
    Program,
    Safe,
    Snapshot,
    Step,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.graph_snapshot import build_graph_snapshot


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


@do
def steps():
    yield Annotate({"lost": 1})
    yield Step(1, {"a": 1})
    kept = yield Get("__graph__")
    yield Annotate({"b": 2})
    yield Step([2])
    return kept, (yield Snapshot())


@do
def failing():
    yield Step(1)
    raise ValueError("no")


class Stop(EffectBase):
    pass


@do
def stop(effect: Stop, ctx):
    return ctx.abandon("stopped")


@do
def forward(effect, ctx):
    return (yield effect)


def leak_steps():
    return run(steps()).value


def leak_graph_given():
    result = run(steps(), store={"__graph__": [{"value": 0, "meta": {}}]})
    return result.value, result.raw_store


def leak_capture():
    return run(CaptureGraph(Program.list(Step(0), CaptureGraph(steps())))).value


def leak_capture_failure():
    return repr(run(Safe(CaptureGraph(failing()))).value)


def leak_capture_abandoned():
    return run(WithHandler(stop, CaptureGraph(Program.list(Step(1), Stop())))).value


def leak_capture_forwarded():
    return run(WithHandler(forward, CaptureGraph(steps()))).value


def leak_wrong_meta():
    errors = []
    for make in (lambda: Step(1, 5), lambda: Step(1, {1: 2}), lambda: Annotate(None)):
        try:
            make()
        except TypeError as error:
            errors.append(type(error).__name__)
    return errors


def error_of(result):
    if not isinstance(result.error, TypeError):
        raise result.error
    return type(result.error).__name__


def leak_broken_graph():
    return (
        error_of(run(Annotate({}), store={"__graph__": [5]})),
        error_of(run(Step(1), store={"__graph__": 5})),
    )


def leak_snapshot_data():
    data = build_graph_snapshot([{"value": 1, "meta": {}}, {"value": 2, "meta": {}}])
    return data["edges"]
