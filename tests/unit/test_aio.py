"""async_run and Await in an event loop: values, errors, cancellation, turns, what is left."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref

import pytest

from doeff import (
    Ask,
    Await,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    Gather,
    Get,
    Put,
    Race,
    Safe,
    Spawn,
    TaskCancelledError,
    UnhandledEffectError,
    Wait,
    WithHandler,
    async_handlers_preset,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk.handlers import (
    core_handler,
    scheduler_state_handler,
    task_scheduler_handler,
)
from doeff.cesk.result import PythonAsyncSyntaxEscape

try:
    import uvloop
except ImportError:
    uvloop = None


class OwnLoop(asyncio.SelectorEventLoop):
    """A loop that wants to see each task."""

    def create_task(self, coro, **kwargs):
        self.seen = getattr(self, "seen", 0) + 1
        return super().create_task(coro, **kwargs)


LOOPS = {"asyncio": asyncio.new_event_loop, "own": OwnLoop}
if uvloop is not None:
    LOOPS["uvloop"] = uvloop.new_event_loop


@pytest.fixture(params=LOOPS)
def run(request):
    """Runs a coroutine function in a loop of each kind, in debug mode: nothing may be left of it."""
    loop = LOOPS[request.param]()
    loop.set_debug(True)
    loop.slow_callback_duration = 60
    problems = []
    loop.set_exception_handler(lambda _, context: problems.append(context))

    def run(coroutine):
        async def main():
            try:
                return await coroutine
            finally:
                left = asyncio.all_tasks() - {asyncio.current_task()}
                assert not left, left

        try:
            return loop.run_until_complete(main())
        finally:
            gc.collect()
            assert not problems, problems

    yield run
    loop.close()


def go(program, **kwargs):
    return async_run(program, async_handlers_preset, **kwargs)


async def soon(value, turns=1):
    for _ in range(turns):
        await asyncio.sleep(0)
    return value


async def fails(error):
    raise error


class Gate:
    """A place where a coroutine stands until it is cancelled, and then for some turns of cleanup."""

    def __init__(self, cleanup=0):
        self.cleanup = cleanup
        self.log = []

    async def stand(self):
        self.log.append("in")
        try:
            await asyncio.Event().wait()
        finally:
            for _ in range(self.cleanup):
                await asyncio.sleep(0)
            self.log.append("out")


# --- values and errors ------------------------------------------------------------------


def test_values(run):
    @do
    def program():
        a = yield Await(soon(1))
        b = yield Await(soon(2, turns=0))
        c = yield Ask("k")
        return a, b, c, (yield Get("s"))

    result = run(go(program(), env={"k": 3}, store={"s": 4}))
    assert result.value == (1, 2, 3, 4)


def test_errors_are_raised_at_the_yield(run):
    error = ValueError("boom")

    @do
    def program():
        try:
            yield Await(fails(error))
        except ValueError as caught:
            assert caught is error
            names = []
            tb = caught.__traceback__
            while tb is not None:
                names.append(tb.tb_frame.f_code.co_name)
                tb = tb.tb_next
            assert "fails" in names
        yield Await(fails(KeyError("end")))

    result = run(go(program()))
    assert isinstance(result.result.error, KeyError)


def test_a_cancelled_error_of_its_own_is_an_err(run):
    @do
    def program():
        caught = yield Safe(Await(fails(asyncio.CancelledError("mine"))))
        assert isinstance(caught.error, asyncio.CancelledError)
        yield Await(fails(asyncio.CancelledError("mine")))

    async def main():
        result = await go(program())
        assert asyncio.current_task().cancelling() == 0
        return result

    assert isinstance(run(main()).result.error, asyncio.CancelledError)


class Own:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "own"


class Odd:
    def __await__(self):
        return 5


def test_anything_that_can_be_awaited(run):
    import types

    @types.coroutine
    def generator():
        yield
        return "generator"

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.call_soon(future.set_result, "future")
        done = loop.create_future()
        done.set_result("done")

        @do
        def program():
            out = []
            for thing in (
                future,
                done,
                asyncio.create_task(soon("task")),
                Own(),
                generator(),
                go(Await(soon("run"))),
            ):
                value = yield Await(thing)
                out.append(getattr(value, "value", value))
            odd = yield Safe(Await(Odd()))
            assert "non-iterator" in str(odd.error)
            return out

        return await go(program())

    assert run(main()).value == ["future", "done", "task", "own", "generator", "run"]


@pytest.mark.parametrize("thing", [5, None, "x", soon, iter(()), Ask("k"), lambda: 1])
def test_what_cannot_be_awaited_is_refused_at_once(thing):
    with pytest.raises(TypeError, match="awaitable must be"):
        Await(thing)


def test_hints():
    with pytest.raises(TypeError, match="not called"):
        Await(soon)
    with pytest.raises(TypeError, match="yield it"):
        Await(Ask("k"))


def test_the_same_coroutine_twice(run):
    coroutine = soon(1, turns=3)

    @do
    def program():
        first = yield Spawn(Await(coroutine))
        second = yield Spawn(Await(coroutine))
        a = yield Safe(Wait(first))
        b = yield Safe(Wait(second))
        c = yield Safe(Await(coroutine))
        return a.value, b.error, c.error

    value, *errors = run(go(program())).value
    assert value == 1
    for error in errors:
        assert isinstance(error, RuntimeError)
        assert "cannot reuse" in str(error)


def test_a_future_of_another_loop(run):
    other = asyncio.new_event_loop()
    future = other.create_future()
    result = run(go(Await(future)))
    assert isinstance(result.result.error, RuntimeError)
    assert "loop" in str(result.result.error)
    other.close()


def test_context_variables(run):
    variable = contextvars.ContextVar("variable", default="none")

    async def inside():
        before = variable.get()
        variable.set("inside")
        await asyncio.sleep(0)
        return before, variable.get()

    @do
    def child():
        variable.set("child")
        return (yield Await(inside()))

    @do
    def program():
        variable.set("main")
        task = yield Spawn(child())
        mine = yield Await(inside())
        theirs = yield Wait(task)
        return mine, theirs, variable.get()

    async def main():
        return (await go(program())).value, variable.get()

    values, outside = run(main())
    assert values == (("main", "inside"), ("child", "inside"), "main")
    assert outside == "main"


def test_current_task_and_timeout_inside(run):
    async def inside():
        mine = asyncio.current_task()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await asyncio.Event().wait()
        async with asyncio.TaskGroup() as group:
            group.create_task(soon(1))
        return mine

    async def main():
        result = await go(Await(inside()))
        assert isinstance(result.value, asyncio.Task)
        assert result.value is not asyncio.current_task()

    run(main())


def test_awaits_overlap(run):
    order = []

    async def meet(barrier, name):
        order.append(name)
        await barrier.wait()
        return name

    @do
    def program():
        barrier = asyncio.Barrier(50)
        tasks = []
        for i in range(50):
            tasks.append((yield Spawn(Await(meet(barrier, i)))))
        return (yield Gather(*tasks))

    assert run(go(program())).value == list(range(50))
    assert sorted(order) == list(range(50))


def test_async_do_functions(run):
    @do
    async def program():
        one = await Await(soon(1))
        return one + await Ask("two")

    assert run(go(program(), env={"two": 2})).value == 3


def test_race_of_awaits(run):
    gate = Gate()

    @do
    def program():
        slow = yield Spawn(Await(gate.stand()))
        fast = yield Spawn(Await(soon("fast")))
        won = yield Race(slow, fast)
        yield slow.cancel()
        with pytest.raises(TaskCancelledError):
            yield Wait(slow)
        return won.value

    assert run(go(program())).value == "fast"
    assert gate.log == ["in", "out"]


# --- cancellation of a task ---------------------------------------------------------------


@pytest.mark.parametrize("cleanup", [0, 3])
def test_a_cancelled_task_waits_for_its_coroutine(run, cleanup):
    gate = Gate(cleanup)

    @do
    def stands():
        try:
            yield Await(gate.stand())
        except TaskCancelledError:
            gate.log.append("task")
            gate.log.append((yield Await(soon("cleanup"))))
            raise

    @do
    def program():
        task = yield Spawn(stands())
        yield Await(soon(None, turns=3))
        assert (yield Cancel(task))
        return (yield Safe(Wait(task)))

    assert isinstance(run(go(program())).value.error, TaskCancelledError)
    assert gate.log == ["in", "out", "task", "cleanup"]


def test_a_coroutine_that_ends_anyway(run):
    async def stubborn(seen):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append(1)
        return "late"

    seen = []

    @do
    def program():
        task = yield Spawn(Await(stubborn(seen)))
        yield Await(soon(None, turns=3))
        yield Cancel(task)
        return (yield Safe(Wait(task)))

    assert isinstance(run(go(program())).value.error, TaskCancelledError)
    assert seen == [1]


class Stubborn:
    """Ends at the last of so many cancellations."""

    def __init__(self, cancellations):
        self.left = cancellations
        self.log = []

    async def stand(self):
        while self.left:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.log.append("cancelled")
                self.left -= 1


def test_cancelled_again(run):
    """As in asyncio each call reaches the coroutine."""
    stubborn = Stubborn(3)

    @do
    def program():
        task = yield Spawn(Await(stubborn.stand()))
        for _ in range(3):
            assert not (yield task.is_done())
            yield Await(soon(None, turns=3))
            yield Cancel(task)
        return (yield Safe(Wait(task)))

    assert isinstance(run(go(program())).value.error, TaskCancelledError)
    assert stubborn.log == ["cancelled"] * 3


def test_the_asyncio_task_is_cancelled_again(run):
    stubborn = Stubborn(2)

    async def main():
        task = asyncio.create_task(go(Await(stubborn.stand())))
        for _ in range(2):
            await soon(None, turns=3)
            assert task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert stubborn.log == ["cancelled"] * 2


def test_the_end_of_the_run_leaves_a_cleanup_alone(run):
    log = []

    async def stands():
        try:
            await asyncio.Event().wait()
        finally:
            log.append("begun")
            await soon(None, turns=5)
            log.append("done")

    @do
    def program():
        task = yield Spawn(Await(stands()), daemon=True)
        yield Await(soon(None, turns=3))
        yield Cancel(task)
        yield Await(soon(None))
        log.append("main")

    run(go(program()))
    assert log == ["begun", "main", "done"]


async def never():
    raise AssertionError


@do
def fails_at_once():
    raise ValueError
    yield


@do
def passes_on(effect, ctx):
    return (yield effect)


WRAPPED = {
    "itself": lambda await_: await_,
    "an effect": Safe,
    "a handler": lambda await_: WithHandler(passes_on, await_),
    "a combinator": lambda await_: await_.map(str).then(Ask("k")),
    "an argument": lambda await_: do(lambda value=None: value)(value=await_),
    "many": lambda await_: Gather(*[Ask("k")] * 50, await_),
}


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("wrapped", WRAPPED.values(), ids=list(WRAPPED))
def test_given_up_before_the_coroutine_began(run, wrapped, monkeypatch):
    """As in asyncio nobody is told of a coroutine that was never awaited."""
    told = []
    monkeypatch.setattr("sys.unraisablehook", told.append)
    made = []

    def program_of_a_coroutine():
        made.append(never())
        return wrapped(Await(made[-1]))

    @do
    def program():
        task = yield Spawn(program_of_a_coroutine())
        yield Cancel(task)
        assert isinstance((yield Safe(Wait(task))).error, TaskCancelledError)
        member = program_of_a_coroutine()
        yield Safe(Gather(fails_at_once(), member))
        yield Spawn(program_of_a_coroutine(), daemon=True)
        raise ValueError

    async def main():
        assert isinstance((await go(program())).error, ValueError)
        closed = go(program_of_a_coroutine())
        closed.close()
        task = asyncio.create_task(go(program_of_a_coroutine()))
        task.cancel()
        await asyncio.wait([task])

    run(main())
    assert [coroutine.cr_frame for coroutine in made] == [None] * 5
    made.clear()
    gc.collect()
    assert told == []


def test_a_coroutine_that_another_awaits_is_left_alone(run):
    """The second Await of it is given up, not the first."""

    @do
    def program():
        coroutine = soon("value", turns=9)
        first = yield Spawn(Await(coroutine))
        for _ in range(3):
            yield Delay(0)
        yield Cancel((yield Spawn(Await(coroutine))))
        return (yield Wait(first))

    assert run(go(program())).value == "value"


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_closed_while_a_program_is_due(run, monkeypatch):
    told = []
    monkeypatch.setattr("sys.unraisablehook", told.append)

    @do
    def program():
        yield Spawn(Await(never()))
        yield Delay(0)

    async def main():
        running = go(program())
        running.send(None)
        running.close()

    run(main())
    gc.collect()
    assert told == []


def test_a_coroutine_that_ignores_cancellation_ends_with_the_run(run):
    seen = []

    async def ignores():
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    seen.append("asked")
        finally:
            seen.append("closed")

    @do
    def program():
        yield Spawn(Await(ignores()), daemon=True)
        yield Await(soon(None, turns=3))
        return "value"

    assert run(go(program(), close_timeout=0.01)).value == "value"
    assert seen[0] == "asked"
    assert seen[-1] == "closed"


# --- cancellation of the run --------------------------------------------------------------


def test_cancelling_the_asyncio_task(run):
    gate = Gate(cleanup=2)
    log = gate.log

    @do
    def child(name):
        try:
            yield Await(gate.stand())
        finally:
            log.append((name, (yield Await(soon("cleanup")))))

    @do
    def program():
        yield Spawn(child("a"), daemon=True)
        try:
            yield Await(gate.stand())
        except asyncio.CancelledError as error:
            log.append(error.args)
            raise
        finally:
            yield Put("x", 1)
            log.append((yield Await(soon("main"))))

    async def main():
        task = asyncio.create_task(go(program()))
        while len(log) < 2:
            await asyncio.sleep(0)
        task.cancel("stop")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(main())
    assert log[:4] == ["in", "in", "out", ("stop",)]
    assert "main" in log
    assert ("a", "cleanup") in log


def test_main_may_catch_the_cancellation(run):
    gate = Gate()

    @do
    def program():
        try:
            yield Await(gate.stand())
        except asyncio.CancelledError:
            asyncio.current_task().uncancel()
        return (yield Await(soon("caught")))

    async def main():
        task = asyncio.create_task(go(program()))
        while not gate.log:
            await asyncio.sleep(0)
        task.cancel()
        return (await task).value

    assert run(main()) == "caught"


def test_cancelled_while_another_task_computes(run):
    log = []

    @do
    def spins():
        try:
            while True:
                yield Ask("k")
        finally:
            log.append("child")

    @do
    def program():
        task = yield Spawn(spins())
        try:
            yield Wait(task)
        finally:
            log.append("main")

    async def main():
        task = asyncio.create_task(go(program(), env={"k": 1}))
        await soon(None, turns=3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert log == ["main", "child"]


def test_cancelled_while_main_computes(run):
    @do
    def fails_on():
        while True:
            try:
                yield Get("missing")
            except KeyError:
                pass

    @do
    def calls():
        @do
        def nothing():
            return 1

        while True:
            yield nothing()

    async def main():
        for program in (fails_on(), calls()):
            task = asyncio.create_task(go(program))
            await soon(None, turns=3)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main())


def test_timeouts_and_groups_around_a_run(run):
    gate = Gate(cleanup=1)

    async def main():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.001):
                await go(Await(gate.stand()))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(go(Await(gate.stand())), 0.001)
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(go(Await(gate.stand())))
                group.create_task(fails(ValueError()))

    run(main())
    assert gate.log.count("in") == gate.log.count("out") >= 2


def test_a_second_cancellation_discards_the_rest(run):
    log = []

    @do
    def program():
        yield Spawn(stands(), daemon=True)
        try:
            yield Await(asyncio.Event().wait())
        finally:
            log.append("first")

    @do
    def stands():
        try:
            yield Await(Gate().stand())
        except TaskCancelledError:
            log.append("asked")
            yield Await(asyncio.Event().wait())
            log.append("never")

    async def main():
        task = asyncio.create_task(go(program()))
        await soon(None, turns=3)
        task.cancel()
        while "asked" not in log:
            await asyncio.sleep(0)
        await soon(None, turns=3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    assert log == ["first", "asked"]


def test_closing_a_suspended_run(run):
    gate = Gate()

    @do
    def program():
        yield Spawn(Await(gate.stand()), daemon=True)
        yield Await(gate.stand())

    async def main():
        running = go(program())
        while running.send(None) is None:
            pass  # a turn for the loop: the machine under the test is slow
        await soon(None, turns=2)
        running.close()
        running.close()
        assert gate.log == ["in", "in", "out", "out"]
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await running
        await soon(None, turns=3)

    run(main())


def test_an_async_run_that_nobody_awaits():
    with pytest.warns(RuntimeWarning, match="'async_run' was never awaited"):
        go(Await(Own()))
        gc.collect()


class Kept:
    """Something a weak reference may point at."""


@pytest.mark.parametrize("depth", ["main", "child"])
@pytest.mark.parametrize("held", ["promise", "asyncio task", "context variable"])
@pytest.mark.parametrize("new_loop", LOOPS.values(), ids=list(LOOPS))
def test_a_run_that_its_closed_loop_forgot_is_collected(new_loop, held, depth):
    ended = []
    variable = contextvars.ContextVar("variable")

    @do
    def waits(kept):
        promise = yield CreateExternalPromise()
        tasks = [asyncio.current_task()] if held == "asyncio task" else []
        if held == "context variable":
            variable.set((asyncio.current_task(), kept))
        try:
            yield Wait(promise.future)
        finally:
            ended.append(held)
            tasks.clear()

    @do
    def program(kept):
        if depth == "main":
            return (yield waits(kept))
        return (yield Wait((yield Spawn(waits(kept)))))

    async def main(kept):
        task = asyncio.create_task(go(program(kept)))
        await soon(None, turns=3)
        return task

    kept = Kept()
    gone = weakref.ref(kept)
    loop = new_loop()
    task = loop.run_until_complete(main(kept))
    loop.close()
    task._log_destroy_pending = False
    del task, kept, loop
    gc.collect()
    assert gone() is None
    assert ended == [held]


# --- turns of the loop ------------------------------------------------------------------------


def test_the_loop_gets_turns(run):
    ticks = 0

    async def ticker():
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    @do
    def program():
        for _ in range(10_000):
            yield Ask("k")
        return ticks

    async def main():
        task = asyncio.create_task(ticker())
        result = await go(program(), env={"k": 1})
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return result.value

    assert run(main()) >= 9


def test_delay_zero_gives_a_turn(run):
    ticks = []

    @do
    def program():
        asyncio.get_running_loop().call_soon(ticks.append, 1)
        yield Delay(0)
        assert ticks == [1]

    run(go(program())).value


def test_an_idle_run_leaves_the_loop_alone(run):
    turns = []

    @do
    def program():
        promise = yield CreateExternalPromise()
        asyncio.get_running_loop().call_later(0.02, promise.complete, "there")
        return (yield Wait(promise.future))

    async def main():
        loop = asyncio.get_running_loop()
        counting = True

        def count():
            turns.append(1)
            if counting:
                loop.call_later(0.005, count)

        count()
        value = (await go(program())).value
        counting = False
        await asyncio.sleep(0.006)
        return value

    assert run(main()) == "there"
    assert len(turns) < 20


def test_what_awaits_something_that_few_know_is_not_collected(run):
    """A loop holds its tasks weakly, and the run may be all that waits for one."""
    known = weakref.WeakSet()

    async def stands():
        future = asyncio.get_running_loop().create_future()
        known.add(future)
        return await future

    async def main():
        running = asyncio.ensure_future(go(Await(stands())))
        await soon(None, turns=3)
        gc.collect()
        for future in known:
            future.set_result("woken")
        return await running

    assert run(main()).value == "woken"


def test_what_the_task_of_an_idle_run_shows(run):
    async def main():
        gate = Gate()
        running = asyncio.ensure_future(go(Await(gate.stand())))
        await soon(None, turns=3)
        text = repr(running)
        running.cancel("enough")
        with pytest.raises(asyncio.CancelledError):
            await running
        return text

    text = run(main())
    assert "coro=<async_run()" in text
    assert "wait_for=<wait of an async_run, pending>" in text


def test_a_coroutine_that_somebody_else_closes(run):
    async def main():
        gate = Gate()
        running = asyncio.ensure_future(go(Await(gate.stand())))
        await soon(None, turns=3)
        [task] = asyncio.all_tasks() - {running, asyncio.current_task()}
        task.get_coro().close()
        result = await running
        assert gate.log == ["in", "out"]
        await asyncio.wait([task])
        return result

    assert "was closed" in str(run(main()).error)


def test_the_clock_of_the_loop_drives_delays():
    class Simulated(asyncio.SelectorEventLoop):
        now = 0.0

        def time(self):
            return self.now

        def _run_once(self):
            if not self._ready and self._scheduled:
                self.now = max(self.now, self._scheduled[0].when())
            super()._run_once()

    @do
    def sleeps():
        yield Gather(Delay(3600), Delay(7200))
        return asyncio.get_running_loop().time()

    loop = Simulated()
    assert 7200 <= loop.run_until_complete(go(sleeps())).value < 7201
    loop.close()


def test_completions_from_other_threads(run):
    @do
    def program():
        promises = []
        for _ in range(100):
            promises.append((yield CreateExternalPromise()))

        def complete():
            for n, promise in enumerate(promises):
                promise.complete(n)

        thread = threading.Thread(target=complete)
        thread.start()
        got = yield Gather(*(p.future for p in promises))
        thread.join()
        return got

    assert run(go(program())).value == list(range(100))


# --- several runs -------------------------------------------------------------------------------


def test_many_idle_runs_in_one_loop(run):
    async def main():
        loop = asyncio.get_running_loop()
        gate = loop.create_future()

        async def stand():
            await asyncio.shield(gate)
            return 1

        runs = [asyncio.create_task(go(Await(stand()))) for _ in range(1000)]
        await soon(None, turns=3)
        gate.set_result(None)
        assert threading.active_count() < 10
        return sum(result.value for result in await asyncio.gather(*runs))

    assert run(main()) == 1000


def test_runs_inside_runs(run):
    @do
    def inner():
        return (yield Await(soon("inner")))

    @do
    def program():
        first = (yield Await(go(inner()))).value
        second = sync_run(inner(), sync_handlers_preset).value
        return first, second

    assert run(go(program())).value == ("inner", "inner")


def test_the_sync_preset_in_a_loop(run):
    @do
    def program():
        yield Delay(0.001)
        return (yield Await(soon(1)))

    assert run(async_run(program(), sync_handlers_preset)).value == 1


def test_a_run_belongs_to_its_thread(run):
    async def main():
        running = go(Await(soon(1, turns=3)))
        running.send(None)
        caught = []

        def other():
            try:
                running.send(None)
            except RuntimeError as error:
                caught.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        running.close()
        await soon(None, turns=5)
        assert "another thread" in str(caught[0])

    run(main())


def test_one_awaits_it_at_a_time(run):
    async def wait_for(running):
        return (await running).value

    async def main():
        release = asyncio.Event()
        running = go(Await(release.wait()))
        first = asyncio.create_task(wait_for(running))
        await soon(None, turns=3)
        for second in (wait_for(running), running):
            with pytest.raises(RuntimeError, match="being awaited already"):
                await asyncio.create_task(second)
        release.set()
        assert await first is True
        with pytest.raises(RuntimeError, match="cannot reuse"):
            await running

    run(main())


def test_closed_before_it_began():
    running = go(Ask("k"))
    running.close()
    with pytest.raises(RuntimeError, match="cannot reuse"):
        running.send(None)


def test_without_a_loop():
    running = go(Ask("k"))
    with pytest.raises(RuntimeError, match="no running event loop"):
        running.send(None)


def test_it_cannot_be_sent_to_while_it_runs(run):
    @do
    def program():
        with pytest.raises(ValueError, match="already executing"):
            running.send(None)
        with pytest.raises(ValueError, match="already executing"):
            running.close()
        yield Ask("k")

    running = go(program(), env={"k": 1})
    run(running)


# --- handlers -----------------------------------------------------------------------------------


def test_without_an_await_handler():
    stack = [h for h in async_handlers_preset if "escape" not in repr(h)]
    coroutine = soon(1)
    with pytest.raises(UnhandledEffectError):
        asyncio.run(async_run(Await(coroutine), stack))
    coroutine.close()


def test_without_a_wait_handler():
    stack = [scheduler_state_handler, task_scheduler_handler, core_handler]

    @do
    def program():
        promise = yield CreateExternalPromise()
        try:
            yield Wait(promise.future)
        except UnhandledEffectError:
            return "told"

    assert asyncio.run(async_run(program(), stack)).value == "told"


def test_errors_of_the_action_are_raised_at_the_yield(run):
    @do
    def program():
        with pytest.raises(ValueError, match="boom"):
            yield PythonAsyncSyntaxEscape(action=lambda: fails(ValueError("boom")))
        with pytest.raises(ZeroDivisionError):
            yield PythonAsyncSyntaxEscape(action=lambda: 1 / 0)
        value = yield PythonAsyncSyntaxEscape(action=lambda: soon("value"))
        junk = yield PythonAsyncSyntaxEscape(action=lambda: 5)
        task = yield PythonAsyncSyntaxEscape(
            action=lambda: asyncio.ensure_future(soon("task"))
        )
        return value, junk, (yield Await(task))

    assert run(go(program())).value == ("value", 5, "task")


def test_a_handler_of_promises_sees_what_await_does(run):
    seen = []

    @do
    def watches(effect, ctx):
        seen.append(type(effect).__name__)
        return (yield effect)

    stack = [*async_handlers_preset[:3], watches, *async_handlers_preset[3:]]
    assert run(async_run(Await(soon(1)), stack)).value == 1
    assert seen[:2] == ["CreateExternalPromiseEffect", "WaitEffect"]
    stack = [*sync_handlers_preset[:3], watches, *sync_handlers_preset[3:]]
    assert sync_run(Await(soon(1)), stack).value == 1


@pytest.mark.parametrize("preset", [async_handlers_preset, sync_handlers_preset])
def test_cancelled_while_a_handler_of_promises_looks_on(run, preset):
    begun, ended = threading.Event(), threading.Event()

    @do
    def watches(effect, ctx):
        return (yield effect)

    async def stands():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    @do
    def program():
        task = yield Spawn(Await(stands()))
        while not begun.is_set():
            yield Await(soon(None))
        yield Cancel(task)
        return (yield Safe(Wait(task))).error

    async def main():
        stack = [*preset[:3], watches, *preset[3:]]
        result = await async_run(program(), stack)
        await soon(None, turns=2)
        return result.value

    assert isinstance(run(main()), TaskCancelledError)
    assert ended.wait(10)


def test_a_wait_handler_of_ones_own(run):
    calls = []

    @do
    def waits(effect, ctx):
        if type(effect).__name__ != "WaitForExternalCompletion":
            return (yield effect)
        calls.append(effect)
        loop = asyncio.get_running_loop()

        async def wait():
            return await loop.run_in_executor(None, effect.queue.get)

        return (yield PythonAsyncSyntaxEscape(action=wait))

    stack = [async_handlers_preset[0], waits, *async_handlers_preset[2:]]

    @do
    def program():
        yield Delay(0.001)
        a = yield Spawn(Await(soon("a", turns=2)))
        b = yield Await(soon("b"))
        return (yield Wait(a)), b

    async def main():
        value = (await async_run(program(), stack)).value
        await asyncio.get_running_loop().shutdown_default_executor()
        return value

    assert run(main()) == ("a", "b")
    assert calls


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [sync_run, async_run])
def test_options(function):
    with pytest.raises(TypeError, match="close_timeout"):
        function(Ask("k"), [], close_timeout="x")
    for bad in (-1, float("nan")):
        with pytest.raises(ValueError, match="close_timeout"):
            function(Ask("k"), [], close_timeout=bad)
    with pytest.raises(ValueError, match="unfinished"):
        function(Ask("k"), [], unfinished="never")


def test_unfinished_wait(run):
    done = []

    @do
    def child():
        done.append((yield Await(soon("waited", turns=3))))

    @do
    def program():
        yield Spawn(child())

    run(go(program(), unfinished="wait"))
    assert done == ["waited"]


def test_bad_runs(run):
    with pytest.raises(TypeError, match="handlers must be a list"):
        run(async_run(Ask("k"), 5))
    result = run(async_run(5, []))
    assert isinstance(result.result.error, TypeError)


def test_promises_between_tasks(run):
    @do
    def program():
        promise = yield CreatePromise()

        @do
        def child():
            value = yield Await(soon("x"))
            yield CompletePromise(promise, value)

        yield Spawn(child())
        return (yield Wait(promise.future))

    assert run(go(program())).value == "x"


def test_a_handler_may_await(run):
    @do
    def answers(effect, ctx):
        if type(effect).__name__ == "AskEffect":
            return (yield ctx.resume((yield Await(soon(effect.key)))))
        return (yield effect)

    @do
    def program():
        return (yield Ask("a")) + (yield Ask("b"))

    assert run(go(WithHandler(answers, program()))).value == "ab"


def test_a_run_that_awaits_grows_old_for_the_collector(run):
    """Young collections need not walk its tasks, however often it gives the loop a turn."""

    def among_the_young():
        return sum(type(o).__name__ == "Machine" for o in gc.get_objects(0))

    async def look():
        return among_the_young()

    @do
    def program():
        yield Await(soon(1))
        gc.collect()
        seen = []
        for _ in range(3):
            seen.append((yield Await(look())))
        return seen

    assert run(go(program())).value == [0, 0, 0]
