"""The samples of SPEC-EFF-011 and the await handler of SPEC-CESK-005, executed as written."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

import doeff
from doeff import (
    Await,
    Cancel,
    CESKState,
    Delay,
    Gather,
    Pure,
    Safe,
    Spawn,
    TaskCancelledError,
    Wait,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
)
from doeff.cesk.result import Done, Failed, PythonAsyncSyntaxEscape
from doeff.cesk.step import step
from doeff.effects import PythonAsyncioAwaitEffect

SAMPLES = Path(__file__).parent / "samples"


def execute(name: str, **names: Any) -> dict[str, Any]:
    """Run one sample with doeff's names and the given open ones; returns its namespace."""
    path = SAMPLES / f"{name}.py"
    namespace: dict[str, Any] = {
        **{key: getattr(doeff, key) for key in doeff.__all__},
        "asyncio": asyncio,
        "PythonAsyncioAwaitEffect": PythonAsyncioAwaitEffect,
        "PythonAsyncSyntaxEscape": PythonAsyncSyntaxEscape,
        **names,
    }
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), namespace)
    return namespace


def typed_in() -> list[Any]:
    handler = execute("await_escape_handler")["python_async_syntax_escape_handler"]
    stack = list(async_handlers_preset)
    stack[3] = handler
    return stack


@pytest.fixture(params=["built in", "typed in"])
def stack(request: pytest.FixtureRequest) -> list[Any]:
    return typed_in() if request.param == "typed in" else list(async_handlers_preset)


async def soon(value: Any, turns: int = 1) -> Any:
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fails(error: BaseException) -> None:
    raise error


@do
def values():
    one = yield Await(soon(1))
    two = yield Await(soon(2, 0))
    return one, two


@do
def errors():
    caught = yield Safe(Await(fails(ValueError("boom"))))
    try:
        yield Await(fails(KeyError("key")))
    except KeyError as error:
        return repr(caught.error), repr(error)


@do
def together():
    tasks = []
    for n in range(50):
        tasks.append((yield Spawn(Await(soon(n, n % 5)))))
    return (yield Gather(*tasks))


@do
def overlap():
    barrier = asyncio.Barrier(10)

    async def meet():
        await barrier.wait()
        return 1

    return sum((yield Gather(*(Await(meet()) for _ in range(10)))))


@do
def cancelled():
    @do
    def sleeps():
        yield Await(soon(None, 50))

    task = yield Spawn(sleeps())
    yield Delay(0)
    yield Cancel(task)
    caught = yield Safe(Wait(task))
    return isinstance(caught.error, TaskCancelledError)


@pytest.mark.parametrize("program", [values, errors, together, overlap, cancelled])
def test_the_typed_in_handler_gives_the_same(program: Any) -> None:
    async def main(stack: list[Any]) -> Any:
        result = await async_run(program(), stack)
        await soon(None, 60)
        return result.value

    assert asyncio.run(main(typed_in())) == asyncio.run(main(async_handlers_preset))


def test_parallel_fetches(stack: list[Any]) -> None:
    async def fetch_url(url: str) -> str:
        return await soon(url.upper())

    sample = execute("await_parallel_fetches", fetch_url=fetch_url)
    result = asyncio.run(async_run(sample["parallel_fetches"](), stack))
    assert result.value == ["HTTPS://A.COM", "HTTPS://B.COM"]


def test_with_timeout(stack: list[Any]) -> None:
    sample = execute("await_with_timeout")

    log: list[str] = []

    @do
    def slow():
        log.append("begun")
        yield Delay(0)

    async def main() -> Any:
        # its parameter has no annotation: the argument is evaluated, and gives the program
        program = sample["with_timeout"](Pure(slow()), 0.001)
        return await async_run(program, stack)

    assert isinstance(asyncio.run(main()).result.error, TimeoutError)
    assert log == ["begun"]


def test_fetch_json(stack: list[Any]) -> None:
    from aiohttp import web

    sample = execute("await_fetch_json")

    async def main() -> Any:
        async def answer(request: Any) -> Any:
            return web.json_response({"path": request.path})

        app = web.Application()
        app.router.add_get("/{name}", answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        try:
            program = sample["fetch_json"](f"http://127.0.0.1:{port}/x")
            return (await async_run(program, stack)).value
        finally:
            await runner.cleanup()

    assert asyncio.run(main()) == {"path": "/x"}
    gc.collect()


def initial_state(program: Any, handlers: list[Any]) -> Any:
    """What the sample leaves open."""
    for handler in reversed(handlers):
        program = WithHandler(handler, program)
    return CESKState.initial(program)


def test_the_loop_of_the_specification(stack: list[Any]) -> None:
    """The async_run of SPEC-CESK-005 steps through both handlers that escape."""
    sample = execute(
        "await_async_run",
        step=step,
        initial_state=initial_state,
        Done=Done,
        Failed=Failed,
    )

    @do
    def program():
        one = yield Await(soon(1))
        yield Delay(0.001)
        task = yield Spawn(Await(soon(2, 3)))
        caught = yield Safe(Await(fails(ValueError("boom"))))
        return one, (yield Wait(task)), str(caught.error)

    assert asyncio.run(sample["async_run"](program(), stack)) == (1, 2, "boom")
    with pytest.raises(ValueError, match="boom"):
        asyncio.run(sample["async_run"](Await(fails(ValueError("boom"))), stack))


def test_the_effect_has_the_field_of_the_specification() -> None:
    documented = execute(
        "await_effect", dataclass=dataclasses.dataclass, Awaitable=Awaitable, Any=Any
    )["AwaitEffect"]
    ours = dataclasses.fields(PythonAsyncioAwaitEffect)[:1]
    assert [f.name for f in ours] == [f.name for f in dataclasses.fields(documented)]
    awaitable = asyncio.Barrier(1)
    assert documented(awaitable).awaitable is awaitable


def test_every_sample_is_run() -> None:
    text = Path(__file__).read_text()
    for path in SAMPLES.glob("await_*.py"):
        assert re.search(rf'execute\(\s*"{path.stem}"', text), path.stem
