"""Many bodies that wait for the rest (`yield ctx.resume(value)`), and the garbage collector, which need not see them."""

from __future__ import annotations

import gc
import weakref

import pytest

from doeff import (
    CompletePromise,
    CreatePromise,
    EffectBase,
    Gather,
    Get,
    Local,
    Put,
    ResumeK,
    Safe,
    Spawn,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)

MANY = 1_300  # more than are left visible


class Ping(EffectBase):
    pass


class Other(EffectBase):
    pass


class Thing:
    pass


class Collecting:
    def __del__(self):
        gc.collect()


PING = Ping()


def run(program, **kwargs):
    return sync_run(program, sync_handlers_preset, **kwargs)


@do
def counting(effect: Ping, ctx):
    rest = yield ctx.resume(1)
    return rest + 1


@do
def pinging(n=MANY, last=None):
    for _ in range(n):
        yield PING
    return 0 if last is None else (yield last())


def test_collections_in_between_change_nothing():
    things = weakref.WeakSet()

    @do
    def handler(effect: Ping, ctx):
        mine = Thing()
        mine.itself = mine
        things.add(mine)
        Collecting() if len(things) % 500 == 0 else None
        rest = yield ctx.resume(mine)
        gc.collect() if rest % 500 == 0 else None
        return rest + 1

    @do
    def program():
        for _ in range(MANY):
            yield PING
        gc.collect()
        assert len(things) == MANY
        return 0

    assert run(WithHandler(handler, program())).value == MANY
    gc.collect()
    assert len(things) == 0


def test_an_error_goes_through_all_of_them():
    seen = []

    @do
    def handler(effect: Ping, ctx):
        try:
            return (yield ctx.resume(1))
        finally:
            seen.append((yield Get("n")))

    @do
    def program():
        yield pinging()
        raise LookupError("no")

    result = run(WithHandler(handler, program()), store={"n": 1})
    assert isinstance(result.error, LookupError)
    assert seen == [1] * MANY


@pytest.mark.parametrize("when", ["in the run", "after it"])
def test_a_cycle_through_them_is_collected_once_their_continuation_is_dropped(when):
    alive = weakref.WeakSet()

    @do
    def inner(effect: Ping, ctx):
        mine = Thing()
        alive.add(mine)
        mine.k = yield Get("k")
        rest = yield ctx.resume(mine)
        return rest, mine

    @do
    def outer(effect: Other, ctx):
        kept = yield Get("k")
        kept.append(ctx.k)
        return ResumeK(k=ctx.outer_k, value=len(kept))

    @do
    def program():
        yield Put("k", [])
        inside = WithHandler(inner, pinging(last=Other))
        n = yield WithHandler(outer, inside)
        yield Put("k", None)
        if when == "in the run":
            gc.collect()
            yield Get("k")
            gc.collect()
            return n, len(alive)
        return n, 0

    assert run(program()).value == (1, 0)
    gc.collect()
    assert len(alive) == 0


def test_the_collector_shows_them_once_a_continuation_is_looked_at():
    seen = []

    @do
    def outer(effect: Other, ctx):
        frames = list(ctx.k)
        views = [f for f in frames if type(f).__name__ == "ReturnFrame"]
        seen.extend(f.generator for f in views if hasattr(f, "generator"))
        ours = [o for o in gc.get_objects() if getattr(o, "__name__", "") == "counting"]
        return sum(hasattr(o, "gi_frame") for o in ours)
        yield

    inside = WithHandler(counting, pinging(last=Other))
    assert run(WithHandler(outer, inside)).value == 2 * MANY
    assert all(gc.is_tracked(g) for g in seen)


def test_a_continuation_with_them_is_kept_and_resumed_later():
    @do
    def outer(effect: Other, ctx):
        yield Put("k", ctx.k)
        return ResumeK(k=ctx.outer_k, value=-1)

    @do
    def later(effect: Ping, ctx):
        k = yield Get("k")
        gc.collect()
        return ResumeK(k=k, value=5)

    @do
    def program():
        inside = WithHandler(counting, pinging(last=Other))
        first = yield WithHandler(outer, inside)
        if first < 0:
            first = yield WithHandler(later, Ping())
        return first

    assert run(program()).value == MANY + 5


def test_they_wait_in_tasks_that_block_and_are_cancelled():
    alive = weakref.WeakSet()

    @do
    def handler(effect: Ping, ctx):
        mine = Thing()
        alive.add(mine)
        rest = yield ctx.resume(mine)
        return rest + 1

    @do
    def blocks(promise):
        yield pinging()
        yield Wait(promise.future)
        return 0

    @do
    def main():
        promise, never = (yield CreatePromise()), (yield CreatePromise())
        tasks = []
        for p in (promise, never):
            tasks.append((yield Spawn(WithHandler(handler, blocks(p)))))
        yield Safe(Gather())
        gc.collect()
        yield CompletePromise(promise, None)
        first = yield Wait(tasks[0])
        yield tasks[1].cancel()
        yield Safe(Wait(tasks[1]))
        gc.collect()
        return first

    assert run(main()).value == MANY
    gc.collect()
    assert len(alive) == 0


def test_async_bodies_and_forwarded_scopes():
    @do
    async def handler(effect, ctx):
        if isinstance(effect, Ping):
            rest = await ctx.resume(1)
            return rest + 1
        ctx.k
        return await effect

    @do
    def program():
        for i in range(MANY):
            yield PING
            if i % 100 == 0:
                yield Local({"x": i}, Safe(PING))
        gc.collect()
        return 0

    n = run(WithHandler(handler, program())).value
    assert n == MANY + len(range(0, MANY, 100))


def test_bodies_of_two_handlers_in_turn():
    @do
    def outer(effect: Other, ctx):
        rest = yield ctx.resume(1)
        return rest + 1_000_000

    @do
    def program():
        for _ in range(MANY):
            yield PING
            yield Other()
        return 0

    handled = WithHandler(outer, WithHandler(counting, program()))
    assert run(handled).value == MANY * 1_000_001
