"""Bodies for the families of effects that need no scheduler."""

from __future__ import annotations

from doeff import (
    IO,
    Annotate,
    Ask,
    AtomicGet,
    AtomicUpdate,
    CacheExists,
    CacheGet,
    CachePut,
    CaptureGraph,
    Get,
    Intercept,
    Listen,
    Local,
    Modify,
    Put,
    Safe,
    Snapshot,
    Step,
    StructuredLog,
    Tell,
    WithHandler,
    cache,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.effects import GetDebugContext, ProgramCallStack, Pure


class Refused(Exception):
    pass


def run(program, **env):
    return sync_run(
        program, sync_handlers_preset, env={"one": 1, **env}, store={"n": 0}
    )


@do
def ask_one():
    return (yield Ask("one"))


@do
def refuse():
    yield Tell("refusing")
    raise Refused("no")


# ---- reader --------------------------------------------------------------------------
@do
def locals_in_locals():
    inside = yield Local({"one": 2}, Local({"two": 3}, ask_one()))
    return inside, (yield ask_one())


def leak_local():
    return run(locals_in_locals()).value


@do
def local_that_fails():
    try:
        yield Local({"one": 2}, refuse())
    except Refused:
        return (yield ask_one())


def leak_local_error():
    return run(local_that_fails()).value


@do
def asks(*keys):
    found = []
    for key in keys:
        found.append((yield Ask(key)))
    return found


def leak_lazy_ask():
    return run(asks("lazy", "lazy"), lazy=ask_one()).value


def leak_lazy_ask_that_fails():
    @do
    def twice():
        found = []
        for _ in range(2):
            try:
                yield Ask("lazy")
            except Refused as error:
                found.append(str(error))
        return found

    return run(twice(), lazy=refuse()).value


def leak_circular_ask():
    result = run(asks("a"), a=asks("b"), b=asks("a"))
    error = result.error
    if isinstance(error, MemoryError):
        raise error
    return type(error).__name__


# ---- state ---------------------------------------------------------------------------
@do
def modifies():
    for _ in range(3):
        yield Modify("n", lambda n: n + 1)
    try:
        yield Modify("n", lambda n: n / 0)
    except ZeroDivisionError:
        return (yield Get("n"))


def leak_modify():
    return run(modifies()).value


@do
def atomics():
    first = yield AtomicGet("total", default_factory=lambda: 10)
    second = yield AtomicUpdate("total", lambda x: x + 1, default_factory=int)
    return first, second


def leak_atomic():
    return run(atomics()).value


# ---- writer --------------------------------------------------------------------------
@do
def talks():
    yield Tell("one")
    yield Tell(["two", "three"])
    yield StructuredLog(four=4)
    return "said"


def leak_tell():
    result = run(talks())
    return result.value, result.raw_store["__log__"]


@do
def listens():
    heard = yield Listen(Listen(talks()))
    return heard.value.value, list(heard.value.log), list(heard.log)


def leak_listen():
    return run(listens()).value


@do
def listens_to_failure():
    try:
        yield Listen(refuse())
    except Refused:
        return "refused"


def leak_listen_error():
    return run(listens_to_failure()).value


# ---- Safe, Intercept, IO, Pure -------------------------------------------------------
@do
def safely():
    good = yield Safe(ask_one())
    bad = yield Safe(Safe(refuse()).flat_map(lambda result: refuse()))
    return repr(good), repr(bad)


def leak_safe():
    return run(safely()).value


def leak_safe_keeps_the_error():
    @do
    def program():
        bad = yield Safe(refuse())
        yield Put("bad", bad)
        return repr(bad), bad.captured_traceback.unwrap().format() != ""

    return run(program()).value


def leak_intercept():
    def replaced(effect):
        return Pure(5) if type(effect).__name__ == "AskEffect" else None

    return run(Intercept(asks("one", "absent"), replaced, lambda effect: None)).value


def leak_intercept_that_raises():
    def raises(effect):
        raise Refused("by the transform")

    @do
    def program():
        try:
            return (yield ask_one())
        except Refused as error:
            return str(error)

    return run(Intercept(program(), raises)).value


def leak_io():
    @do
    def program():
        value = yield IO(lambda: 3)
        try:
            yield IO(lambda: 1 / 0)
        except ZeroDivisionError:
            return value

    return run(program()).value


# ---- scoped effects below a forwarding handler ---------------------------------------
@do
def forwarding(effect, ctx):
    return (yield effect)


def leak_scopes_below_a_forwarding_handler():
    @do
    def program():
        first = yield Safe(Local({"one": 7}, Listen(ask_one())))
        second = yield Safe(refuse())
        return repr(first), repr(second)

    inner = WithHandler(handler=forwarding, program=program())
    return run(WithHandler(handler=forwarding, program=inner)).value


# ---- graph, cache, introspection -----------------------------------------------------
@do
def steps():
    yield Step(1, {"name": "first"})
    yield Annotate({"more": True})
    yield Step(2)
    return len((yield Snapshot()))


def leak_graph():
    return run(steps()).value


def leak_capture_graph():
    @do
    def program():
        value, nodes = yield CaptureGraph(steps())
        return value, len(nodes)

    return run(program()).value


@do
def caches():
    yield CachePut("key", [1, 2])
    try:
        yield CacheGet("absent")
    except KeyError:
        return (yield CacheGet("key")), (yield CacheExists("absent"))


def leak_cache_effects():
    return run(caches()).value


@cache()
@do
def doubled(x):
    yield Tell("computing")
    return x * 2


@do
def uses_cache():
    return (yield doubled(2)), (yield doubled(2)), (yield doubled(3))


def leak_cached_function():
    return run(uses_cache()).value


@do
def introspects():
    stack = yield ProgramCallStack()
    context = yield GetDebugContext()
    return len(stack), type(context).__name__


def leak_introspection():
    return run(introspects()).value
