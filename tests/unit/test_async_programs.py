"""async def under @do: await performs effects and programs on the machine."""

from __future__ import annotations

import asyncio
import warnings

import pytest

from doeff import (
    Ask,
    EffectBase,
    Get,
    InterpreterInvariantError,
    Local,
    Modify,
    Pure,
    Put,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


@do
async def double(value):
    return value * 2


@do
def plain(value):
    return value + (yield Get("x"))


class Custom(EffectBase):
    pass


def test_effects_and_programs_are_awaited():
    @do
    async def program():
        await Put("x", 1)
        first = await plain(await double(Ask("k")))
        return first, await Pure(first).map(str), await Modify("x", lambda x: x + 1)

    result = run(program(), env={"k": 5})
    assert result.value == (11, "11", 2)
    assert result.raw_store == {"x": 2}


def test_helpers_that_are_coroutine_functions_perform_effects_too():
    async def helper(key):
        return await Get(key)

    @do
    async def program():
        return await helper("x"), [await helper(key) for key in ("x", "y")]

    assert run(program(), store={"x": 1, "y": 2}).value == (1, [1, 2])


def test_async_with_and_async_for():
    class Counting:
        async def __aenter__(self):
            return await Modify("n", lambda n: n + 1)

        async def __aexit__(self, *error):
            await Modify("n", lambda n: n - 1)

    async def upto(n):
        for i in range(n):
            yield i + await Get("n")

    @do
    async def program():
        async with Counting() as inside:
            values = [v async for v in upto(3)]
        return inside, values

    result = run(program(), store={"n": 0})
    assert result.value == (1, [1, 2, 3])
    assert result.raw_store == {"n": 0}


def test_errors_land_at_the_await():
    @do
    async def program():
        log = []
        try:
            await Get("absent")
        except KeyError as error:
            log.append(error.args[0])
        finally:
            log.append(await Modify("n", lambda n: 1))
        return log

    assert run(program()).value == ["absent", 1]


def test_an_error_that_leaves_is_the_error_of_the_run():
    @do
    async def program():
        try:
            raise ValueError("inside")
        finally:
            await Put("cleaned", True)

    result = run(program())
    assert str(result.error) == "inside"
    assert result.raw_store == {"cleaned": True}


def test_stop_iteration_at_an_await_does_not_pass_for_a_value():
    stop = StopIteration("value")

    @do
    def handler(effect, ctx):
        if isinstance(effect, Custom):
            raise RuntimeError("handler") from stop
        return (yield effect)

    @do
    async def program():
        return await Custom()

    assert str(run(WithHandler(handler, program())).error) == "handler"

    class Iterating:
        def __getattr__(self, name):
            raise stop

    @do
    async def projecting():
        return await Pure(Iterating()).anything

    error = run(projecting()).error
    assert type(error) is RuntimeError


def test_an_async_handler():
    @do
    async def handler(effect, ctx):
        if isinstance(effect, Custom):
            return await Ask("k")
        return await effect

    program = WithHandler(handler, Local({"k": "inner"}, Custom()))
    assert run(program, env={"k": "outer"}).value == "inner"
    assert run(WithHandler(handler, Get("x")), store={"x": 1}).value == 1


def test_arguments_and_combinators():
    assert run(double(double(Pure(2))).map(str)).value == "8"
    assert run((double >> double)(1)).value == 4


@pytest.mark.parametrize(
    "make", [lambda: asyncio.sleep(0), lambda: Foreign()], ids=["sleep", "other"]
)
def test_what_an_event_loop_would_run_names_await(make):
    @do
    async def program():
        try:
            await make()
        except InterpreterInvariantError as error:
            return str(error)

    assert "await Await(x)" in run(program()).value


class Foreign:
    def __await__(self):
        yield self


def test_a_future_of_asyncio_names_await():
    loop = asyncio.new_event_loop()
    try:
        future = loop.create_future()

        @do
        async def program():
            await future

        error = run(program()).error
        assert type(error) is InterpreterInvariantError
        assert "await Await(x)" in str(error)
    finally:
        loop.close()


def test_awaiting_an_uncalled_function_is_a_type_error():
    @do
    async def program():
        await double

    assert type(run(program()).error) is TypeError


def test_nothing_is_left_unawaited():
    with warnings.catch_warnings():
        warnings.simplefilter("error")

        @do
        async def program(value):
            return value

        program(1)
        assert type(run(program()).error) is TypeError
        assert run(program(1)).value == 1


def test_an_async_generator_function_warns_once_and_is_a_value():
    with pytest.warns(RuntimeWarning, match="async generator") as caught:

        @do
        async def numbers():
            yield 1

    assert len(caught) == 1
    assert caught[0].filename == __file__
    value = run(numbers()).value
    assert type(value).__name__ == "async_generator"


def test_the_iterator_of_an_await_is_used_once():
    effect = Get("x")
    awaiting = effect.__await__()
    assert iter(awaiting) is awaiting
    assert next(awaiting) is effect
    with pytest.raises(StopIteration):
        next(awaiting)
    awaiting = effect.__await__()
    assert next(awaiting) is effect
    with pytest.raises(KeyError):
        awaiting.throw(KeyError("k"))
    with pytest.raises(RuntimeError):
        awaiting.throw(StopIteration(1))
    with pytest.raises(TypeError):
        awaiting.throw(5)


@pytest.mark.deep
def test_a_hundred_thousand_nested_async_programs():
    @do
    async def nest(n):
        return (await nest(n - 1)) + 1 if n else 0

    assert run(nest(100_000)).value == 100_000
