"""Bodies for the first handler API."""

from __future__ import annotations

from doeff import (
    Ask,
    CacheGet,
    CachePut,
    EffectBase,
    FrozenDict,
    Gather,
    Get,
    InterpreterInvariantError,
    Local,
    Pure,
    Put,
    Safe,
    Tell,
    Wait,
    WithHandler,
    do,
)
from doeff.cesk import SyncRuntime, default_handlers
from doeff.cesk.frames import (
    ContinueError,
    ContinueGenerator,
    ContinueProgram,
    ContinueValue,
)
from doeff.cesk.state import (
    CreateFuture,
    CreateTask,
    PerformEffect,
    PerformIO,
    ResolveFuture,
    TaskState,
)
from doeff.effects.pure import PureEffect


class Ping(EffectBase):
    def __init__(self, number=0):
        self.number = number


class Refused(Exception):
    pass


def value_of(value, task, store, k=None):
    return ContinueValue(value, task.env, store, task.kontinuation if k is None else k)


def run(program, handler, handlers=None):
    runtime = SyncRuntime({**(handlers or {}), Ping: handler})
    return runtime.run(program, env={"one": 1}, store={"count": 0})


def error_of(program, handler, kind):
    try:
        value = run(program, handler).value
    except kind as error:
        return type(error).__name__
    raise AssertionError(f"{value!r} instead of an error")


@do
def twice():
    return (yield Ping(1)), (yield Ping(2))


@do
def outer():
    return (yield twice()), (yield Ask("one"))


# ---- results -------------------------------------------------------------------------------------
def answer(effect, task, store):
    store["count"] += effect.number
    return value_of(effect.number, task, store)


def leak_v1_value():
    result = run(outer(), answer)
    return result.value, result.raw_store


def leak_v1_copied_store():
    def handler(effect, task, store):
        return value_of(1, task, {**store, "more": effect.number})

    result = run(twice(), handler)
    return result.value, result.raw_store


def leak_v1_error():
    def handler(effect, task, store):
        return ContinueError(Refused(effect.number), task.env, store, task.kontinuation)

    return error_of(outer(), handler, Refused)


def leak_v1_raising():
    def handler(effect, task, store):
        raise Refused(task.control)

    return error_of(outer(), handler, Refused)


def leak_v1_program():
    def handler(effect, task, store):
        if effect.number == 2:
            return value_of(2, task, store)
        env = task.env | FrozenDict(one=Ping(2))
        return ContinueProgram(Ask("one"), env, store, task.kontinuation)

    return run(outer(), handler).value


def leak_v1_generator():
    def steps(start):
        try:
            yield Get("count")
        except Refused:
            start += 10
        return start + (yield Ask("one"))

    def handler(effect, task, store):
        error = Refused() if effect.number == 2 else None
        generator = steps(effect.number)
        if error is not None:
            next(generator)
        return ContinueGenerator(
            generator, None, error, task.env, store, task.kontinuation, twice()
        )

    return run(outer(), handler).value


def leak_v1_generator_of_a_frame():
    def handler(effect, task, store):
        k = task.kontinuation
        return ContinueGenerator(
            k[0].generator, effect.number, None, task.env, store, k[1:]
        )

    return run(outer(), handler).value


# ---- continuations -------------------------------------------------------------------------------
class Doubling:
    def on_value(self, value, env, store, k):
        return ContinueValue(value * 2, env, store, k)

    def on_error(self, error, env, store, k):
        if not isinstance(error, Refused):
            return ContinueError(error, env, store, k)
        return ContinueProgram(Ask("one"), env, store, k)


def leak_v1_frames_in_front():
    def handler(effect, task, store):
        k = [Doubling()] + task.kontinuation  # noqa: RUF005
        if effect.number == 2:
            return ContinueError(Refused(), task.env, store, k)
        return value_of(effect.number, task, store, k)

    return run(outer(), handler).value


def leak_v1_frames_left_out():
    return run(
        outer(),
        lambda e, task, store: value_of(e.number, task, store, task.kontinuation[1:]),
    ).value


def leak_v1_end():
    @do
    def cleaning():
        try:
            yield twice()
        finally:
            yield Put("count", 5)

    result = run(cleaning(), lambda e, task, store: value_of(7, task, store, []))
    return result.value, result.raw_store


def leak_v1_exchange():
    waiting = []

    @do
    def other():
        yield Ping(3)
        yield Ping(4)

    def handler(effect, task, store):
        if not waiting:
            waiting.append(task.kontinuation)
            return ContinueProgram(other(), task.env, store, [])
        k = waiting.pop()
        waiting.append(task.kontinuation)
        return value_of(effect.number, task, store, k)

    return run(twice(), handler).value


def leak_v1_kept_state():
    kept = []

    def handler(effect, task, store):
        kept.append(task)
        task.status = kept
        return value_of(str(task.env), task.with_env({"a": 1}), store)

    return run(outer(), handler).value


# ---- wrong results -------------------------------------------------------------------------------
def leak_v1_junk():
    return error_of(twice(), lambda e, task, store: 5, TypeError)


def leak_v1_coroutine():
    async def handler(effect, task, store):
        return None

    return error_of(twice(), handler, TypeError)


def leak_v1_wrong_parts():
    def making(make):
        return lambda e, task, store: make(task, store)

    found = []
    for make in (
        lambda task, store: ContinueValue(1, 5, store, task.kontinuation),
        lambda task, store: ContinueValue(1, task.env, 5, task.kontinuation),
        lambda task, store: value_of(1, task, store, 5),
        lambda task, store: value_of(1, task, store, [5]),
        lambda task, store: ContinueProgram(5, task.env, store, task.kontinuation),
        lambda task, store: ContinueError(5, task.env, store, task.kontinuation),
        lambda task, store: ContinueGenerator(
            5, None, None, task.env, store, task.kontinuation
        ),
    ):
        found.append(error_of(twice(), making(make), TypeError))
    return found


def leak_v1_no_frame():
    def handler(effect, task, store):
        return value_of(1, task, store, [5] + task.kontinuation)  # noqa: RUF005

    return error_of(twice(), handler, InterpreterInvariantError)


def leak_v1_wrong_dictionary():
    found = []
    for handlers in ({5: answer}, {Get: answer}, {Ping: 5}, {WithHandler: answer}, [1]):
        try:
            SyncRuntime(handlers)
        except TypeError as error:
            found.append(type(error).__name__)
    return found


# ---- requests ------------------------------------------------------------------------------------
def leak_v1_perform_io():
    def refuse():
        raise Refused

    def handler(effect, task, store):
        return value_of(PerformIO(refuse if effect.number == 2 else dict), task, store)

    return error_of(twice(), handler, Refused)


def leak_v1_perform_effect():
    def handler(effect, task, store):
        k = [Doubling()] + task.kontinuation  # noqa: RUF005
        return value_of(PerformEffect(Get("count")), task, {**store, "count": 4}, k)

    return run(outer(), handler).value


def leak_v1_request_that_fails():
    def handler(effect, task, store):
        return value_of(ResolveFuture(effect.number, 1), task, store)

    return error_of(outer(), handler, TypeError)


def leak_v1_dropped_request():
    return repr(CreateTask(twice()))[:10]


# ---- defaults ------------------------------------------------------------------------------------
def leak_v1_wrapped_defaults():
    def wrap(default):
        return lambda effect, task, store: default(effect, task, store)

    @do
    def program():
        yield Put("count", (yield Pure(1)))
        yield Tell((yield Ask("one")))
        yield CachePut("key", 2)
        inner = yield Local({"one": Get("count")}, Ask("one"))
        return inner, (yield CacheGet("key")), (yield Safe(Ask("absent"))).is_err()

    wrapped = {cls: wrap(default) for cls, default in default_handlers().items()}
    return run(program(), answer, wrapped).value


def leak_v1_default_alone():
    default = default_handlers()[type(CachePut("key", 1))]
    task = TaskState.initial(twice(), env={"one": 1})
    result = default(CachePut("key", 1), task.resume_with(1), {"count": 0})
    return result.value, result.store["__cache_storage__"]


def leak_v1_pure():
    def handle(effect, task, store):
        return value_of([effect.value], task, store)

    return run(Pure(1).map(str), answer, {PureEffect: handle}).value


# ---- requests that need tasks ----------------------------------------------------------------------
class Make(EffectBase):
    def __init__(self, request):
        self.request = request


def making(program):
    runtime = SyncRuntime(
        {Make: lambda e, task, store: value_of(e.request, task, store), Ping: answer}
    )
    return runtime.run(program, env={"one": 1}, store={"count": 0})


def leak_v1_create_task():
    @do
    def program():
        task = yield Make(CreateTask(outer()))
        left = yield Make(CreateTask(twice()))
        return (yield Wait(task)), (yield Gather(task, left)), (yield Get("count"))

    return making(program()).value


def leak_v1_futures():
    @do
    def program():
        future = yield Make(CreateFuture())
        yield Make(CreateFuture())
        yield Make(ResolveFuture(future.future_id, 1))
        again = yield Safe(Make(ResolveFuture(future.future_id, 1)))
        return (yield Wait(future)), type(again.error).__name__

    return making(program()).value
