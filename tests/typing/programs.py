"""What the types of programs say; read by mypy, never run."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_type

from doeff import (
    NOTHING,
    PRIORITY_IDLE,
    AcquireSemaphore,
    Ask,
    Await,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    EffectBase,
    EffectGenerator,
    Err,
    ExternalPromise,
    FailPromise,
    FrozenDict,
    Gather,
    GetTime,
    HandlerContext,
    Listen,
    ListenResult,
    Local,
    Maybe,
    Modify,
    Ok,
    Program,
    Promise,
    Pure,
    Put,
    Race,
    RaceResult,
    ReleaseSemaphore,
    Result,
    RuntimeResult,
    Safe,
    Scope,
    Shield,
    Some,
    Spawn,
    Task,
    Timeout,
    Wait,
    WaitUntil,
    WithHandler,
    arm_step_budget,
    async_handlers_preset,
    async_run,
    do,
    scheduled,
    set_scheduler_trace,
    set_stall_log,
    sync_handlers_preset,
    sync_run,
)
from doeff.program import KleisliProgramCall
from doeff.testing import SchedulerEvent


@do
def add(a: int, b: int = 1) -> EffectGenerator[int]:
    yield Put("sum", a + b)
    return a + b


@do
def generator(flag: bool) -> Generator[Any, Any, str]:
    yield Ask("k")
    return "x" if flag else "y"


@do
def plain(text: str) -> int:
    return len(text)


@do
async def awaited(n: int) -> list[int]:
    await Put("n", n)
    assert_type(await add(n), int)
    assert_type(await GetTime(), datetime)
    return [n]


@dataclass(frozen=True)
class LookUp(EffectBase[float]):
    sku: str


class Shop:
    @do
    def price(self, sku: str) -> EffectGenerator[float]:
        price: float = yield LookUp(sku)
        return price


@do
def handler(effect: EffectBase[Any], ctx: HandlerContext) -> EffectGenerator[Any]:
    if isinstance(effect, LookUp):
        return 1.5
    return (yield effect)


def calls() -> None:
    assert_type(add(1), KleisliProgramCall[int])
    assert_type(add(1, b=2), KleisliProgramCall[int])
    add("1")  # type: ignore[arg-type]
    add()  # type: ignore[call-arg]
    assert_type(generator(True), KleisliProgramCall[str])
    assert_type(plain("x"), KleisliProgramCall[int])
    assert_type(awaited(1), KleisliProgramCall[list[int]])
    assert_type(Shop().price("x"), KleisliProgramCall[float])


def combinators() -> None:
    assert_type(add(1).map(str), Program[str])
    assert_type(add(1).flat_map(lambda n: Pure([n])), Program[list[int]])
    assert_type(add(1).then(generator(True)), Program[str])
    assert_type(Program.sequence([add(1), add(2)]), Program[list[int]])
    assert_type(Program.traverse("abc", plain), Program[list[int]])
    assert_type(add(1).field, Program[Any])
    if add(1):  # the runtime refuses as well
        pass


def effects() -> None:
    p: Program[int] = add(1)
    local: Program[int] = Local({"k": 1}, p)
    safe: Program[Result[int]] = Safe(p)
    listen: Program[ListenResult[int]] = Listen(p)
    modified: Program[int] = Modify("n", lambda n: 1)
    handled: Program[int] = WithHandler(handler, p)
    wrong: Program[str] = Safe(p)  # type: ignore[assignment]
    Put(1, 2)  # type: ignore[arg-type]
    Safe(3)  # type: ignore[arg-type]
    _ = (local, safe, listen, modified, handled, wrong)


@do
async def tasks() -> str:
    task = await Spawn(add(1))
    assert_type(task, Task[int])
    assert_type(await Wait(task), int)
    assert_type(await task.is_done(), bool)
    assert_type(await task.cancel(), bool)
    assert_type(await Cancel(task), bool)
    other = await Spawn(generator(True), daemon=True, priority=PRIORITY_IDLE)

    assert_type(await Gather(task, other), tuple[int, str])
    number, text, numbers = await Gather(add(1), other, awaited(2))
    assert_type((number, text, numbers), tuple[int, str, list[int]])
    assert_type(await Gather(*[add(n) for n in numbers]), list[int])
    assert_type(await Gather(add(1)), list[int])
    assert_type(
        await Gather(add(1), other, awaited(2), Delay(1), GetTime(), task),
        tuple[int, str, list[int], None, datetime, int],
    )
    Gather(3)  # type: ignore[call-overload]

    first = await Race(task, other)
    assert_type(first, RaceResult[int | str])
    assert_type(first.value, int | str)
    match first:
        case RaceResult(winner, value, rest):
            assert_type(value, int | str)
            for loser in rest:
                await Cancel(loser) if isinstance(loser, Task) else None
            _ = winner
    assert_type((await Race(*[task, task])).value, int)
    Race(add(1))  # type: ignore[call-overload]
    Wait(add(1))  # type: ignore[arg-type]
    Spawn(3)  # type: ignore[arg-type]
    return text


@do
async def promises() -> int:
    promise: Promise[int] = await CreatePromise()
    await CompletePromise(promise, 1)
    await FailPromise(promise, ValueError())
    assert_type(await Wait(promise.future), int)
    Wait(promise)  # type: ignore[arg-type]
    outside: ExternalPromise[str] = await CreateExternalPromise()
    assert_type(outside.complete("x"), bool)
    outside.complete(1)  # type: ignore[arg-type]
    assert_type(await Gather(promise.future, outside.future), tuple[int, str])
    semaphore = await CreateSemaphore(2)
    await AcquireSemaphore(semaphore)
    await ReleaseSemaphore(semaphore)
    return 1


async def fetched(url: str) -> bytes:
    return url.encode()


@do
async def time_and_structure() -> None:
    assert_type(await Delay(1), None)
    assert_type(await WaitUntil(await GetTime()), None)
    assert_type(await Await(fetched("x")), bytes)
    assert_type(await Scope(add(1)), int)
    assert_type(await Timeout(2, add(1)), int)
    assert_type(await Shield(Timeout(2.5, generator(True))), str)
    Timeout(add(1), 2)  # type: ignore[arg-type]
    Await(add)  # type: ignore[arg-type]


def watching() -> None:
    events: list[SchedulerEvent] = []
    set_scheduler_trace(events.append)
    set_scheduler_trace(None)
    assert_type(events[0].task, str | None)
    assert_type(arm_step_budget(10), int | None)
    assert_type(set_stall_log(2.5), float | None)
    assert_type(scheduled(add(1)), Program[int])
    arm_step_budget("10")  # type: ignore[arg-type]
    CreateExternalPromise(deadline="soon")  # type: ignore[arg-type]
    Await(fetched("x"), deadline=3, source_alive=lambda: True)


async def async_runs() -> None:
    running = async_run(add(1), async_handlers_preset, unfinished="wait")
    assert_type(await running, RuntimeResult[int])
    await async_run(add(1), [], unfinished="leave")  # type: ignore[arg-type]


def runs() -> None:
    result = sync_run(add(1), [*sync_handlers_preset, handler], env={"k": 1})
    assert_type(result, RuntimeResult[int])
    assert_type(result.value, int)
    match result.result:
        case Ok(value):
            n: int = value
            _ = n
        case Err(error):
            assert_type(error, BaseException)


def values() -> None:
    result: Result[int] = Ok(1)
    assert_type(result.map(str), Result[str])
    assert_type(result.unwrap_or(None), int | None)
    assert_type(result | Ok("x"), Result[int | str])
    failed: Result[int] = Err(ValueError())
    maybe: Maybe[int] = Some(1)
    nothing: Maybe[int] = NOTHING
    assert_type(maybe.flat_map(lambda n: Some([n])), Maybe[list[int]])
    assert_type(maybe.ok_or(ValueError()), Result[int])
    assert_type(Maybe.from_optional(3), Maybe[int])
    env: FrozenDict[str, int] = FrozenDict({"a": 1})
    env["a"] = 2  # type: ignore[index, assignment]
    assert_type(env.set("b", 2), FrozenDict[str, int])
    assert_type(env["a"], int)
    _ = (failed, nothing)
