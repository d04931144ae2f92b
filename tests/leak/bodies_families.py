"""Bodies for the families of effects: reader, log, Safe, Intercept, IO, atomic effects."""

from __future__ import annotations

from doeff import (
    IO,
    Ask,
    AtomicGet,
    AtomicUpdate,
    EffectBase,
    Get,
    GetTime,
    Intercept,
    Listen,
    Local,
    Put,
    ResumeK,
    Safe,
    StructuredLog,
    Tell,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Stop(EffectBase):
    pass


class Refused(Exception):
    pass


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs).value


@do
def lazy(n):
    yield Tell(["lazy", n])
    return 0 if n == 0 else (yield Ask(n - 1)) + 1


@do
def refuse():
    yield Tell("refused")
    raise Refused


@do
def forwarding(effect, ctx):
    return (yield effect)


@do
def putting_away(effect, ctx):
    if isinstance(effect, Stop):
        kept = ctx.k
        return ResumeK(k=ctx.outer_k, value=len(kept))
    return (yield effect)


def again(effect):
    @do
    def noted():
        yield Tell("noted")
        return (yield effect)

    return noted()


def another(effect):
    return Safe(Ask("absent")) if isinstance(effect, Stop) else None


def leak_lazy_values():
    return run(Local({"k": 1}, Ask(4)), env={n: lazy(n) for n in range(5)})


def leak_lazy_failures():
    return repr(run(Safe(Ask("a")), env={"a": Local({"b": refuse()}, Ask("b"))}))


def leak_a_cycle():
    return repr(run(Safe(Ask("a")), env={"a": Ask("b"), "b": Safe(Ask("a"))}))


def leak_log():
    @do
    def program():
        yield Tell("a")
        before = yield Get("__log__")
        yield StructuredLog(b=1)
        return before, (yield Get("__log__"))

    return run(program(), store={"__log__": ["0"]})


def leak_listen():
    @do
    def program():
        inner = yield Listen(Listen(Tell(["a", "b"])))
        failed = yield Safe(Listen(refuse()))
        yield Put("__log__", None)
        return list(inner.log), list(inner.value.log), repr(failed)

    return run(program())


def leak_listen_put_away():
    @do
    def inner():
        yield Tell("in")
        yield Stop()

    return repr(run(Listen(WithHandler(putting_away, Listen(inner())))))


def leak_intercept_again():
    return repr(
        run(
            Intercept(WithHandler(forwarding, Safe(Listen(Ask(1)))), again),
            env={1: lazy(0)},
        )
    )


def leak_intercept_another():
    return repr(run(Intercept(Intercept(Stop(), another), again)))


def leak_intercept_wrong_answer():
    return repr(run(Safe(Intercept(Get("x"), lambda e: 5))))


def leak_io_and_atomic():
    @do
    def program():
        yield GetTime()
        yield AtomicGet("a", default_factory=list)
        yield AtomicUpdate("n", lambda n: n + 1, default_factory=int)
        failed = yield Safe(AtomicUpdate("n", lambda n: n.nothing))
        return repr(failed), (yield IO(list)), (yield Get("n"))

    return run(program())
