"""Bodies for the report: traces, captured tracebacks, results and their texts."""

from __future__ import annotations

import copy
import pickle

from doeff import (
    EffectBase,
    Get,
    Local,
    Modify,
    Program,
    Put,
    Safe,
    UnhandledEffectError,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Ping(EffectBase):
    def __init__(self, number=0):
        self.number = number


class Hostile:
    def __repr__(self):
        raise RuntimeError("no repr")


def run(program):
    return sync_run(program, sync_handlers_preset, env={"one": 1}, store={"n": 0})


@do
def refusing(effect: Ping, ctx):
    yield Put("seen", effect.number)
    raise ValueError("refused")


@do
def refusing_at_once(effect: Ping, ctx):
    raise ValueError("refused at once")


@do
def calls(program: Program, *rest, **more):
    return (yield program)


@do
def nested(n):
    return (yield nested(n - 1) if n else Get("absent"))


@do
def cleaning(program: Program):
    try:
        return (yield program)
    finally:
        yield Put("n", 1)


def shown(result):
    """Everything that a result can show."""
    trace = result.captured_traceback
    if trace is None:
        raise MemoryError("no trace")
    texts = [
        result.format(),
        result.format(verbose=True),
        repr(result),
        trace.format(),
        repr(trace),
    ]
    texts += [
        trace.format_short(),
        str(trace.to_dict()),
        str(trace.get_raise_location()),
    ]
    stacks = [result.k_stack, result.effect_stack, result.python_stack]
    texts += [stack.format() for stack in stacks] + [
        result.effect_stack.get_effect_path()
    ]
    return all(texts) and bool(result.result) is False


def leak_everything_that_a_result_shows():
    return shown(run(WithHandler(refusing, Local({"a": 1}, calls(Ping(1), 1, 2, x=3)))))


def leak_a_handler_that_fails_at_once():
    return shown(run(WithHandler(refusing_at_once, calls(Ping(1)))))


def leak_a_deep_trace():
    return shown(run(nested(400)))


def leak_a_callback_that_fails():
    return shown(run(calls(Modify("n", lambda n: n / 0))))


def leak_hostile_arguments():
    return shown(run(calls(Get("absent"), Hostile(), key=Hostile())))


def leak_a_trace_carried_through_finally():
    return shown(run(cleaning(cleaning(nested(300)))))


def leak_safe_unwrapped_again():
    @do
    def main():
        got = yield Safe(nested(3))
        return got.unwrap()

    return shown(run(main()))


def leak_captured_traceback_copied():
    trace = run(Safe(calls(Get("absent")))).value.captured_traceback.unwrap()
    texts = [pickle.loads(pickle.dumps(trace)).format(), copy.deepcopy(trace).format()]
    return [text.splitlines()[-1] for text in texts]  # without memory the rest has gaps


def leak_error_with_a_trace_copied():
    error = run(cleaning(Get("absent"))).error
    return [type(pickle.loads(pickle.dumps(error))), type(copy.deepcopy(error))]


def leak_unhandled_effect():
    try:
        _ = run(calls(Ping())).value
    except UnhandledEffectError as error:
        return str(error).partition(":")[0]  # without memory the rest has gaps
    raise AssertionError("handled")


def leak_value_of_a_failure_raised_often():
    result = run(nested(2))
    for _ in range(3):
        try:
            result.value
        except KeyError:
            continue
    return repr(result)
