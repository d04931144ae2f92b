"""The effects that an earlier scheduler was made of, and counts of what the scheduler holds."""

from __future__ import annotations

import pytest

import doeff.cesk.handlers as handlers
from doeff import (
    AcquireSemaphore,
    CreateExternalPromise,
    CreatePromise,
    CreateSemaphore,
    Delay,
    Err,
    Gather,
    Ok,
    Promise,
    Put,
    Safe,
    Scope,
    Spawn,
    Task,
    TaskCancelledError,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.effects import scheduler_internal as internal
from doeff.effects.scheduler_internal import SchedulerIntrospection

names = {name.removeprefix("_Scheduler"): name for name in internal.__all__}
Enqueue = getattr(internal, names["EnqueueTask"])
Dequeue = getattr(internal, names["DequeueTask"])
QueueEmpty = getattr(internal, names["QueueEmpty"])
RegisterWaiter = getattr(internal, names["RegisterWaiter"])
Complete = getattr(internal, names["TaskComplete"])
Completed = getattr(internal, names["TaskCompleted"])
CreateHandle = getattr(internal, names["CreateTaskHandle"])
MakePromise = getattr(internal, names["CreatePromise"])
CurrentId = getattr(internal, names["GetCurrentTaskId"])
TaskResult = getattr(internal, names["GetTaskResult"])
CancelTask = getattr(internal, names["CancelTask"])
IsDone = getattr(internal, names["IsTaskDone"])


def value(program):
    return sync_run(program, sync_handlers_preset).value


def test_the_queue_of_entries():
    @do
    def main():
        empty = yield QueueEmpty()
        yield Enqueue(1, "k", {}, None)
        yield Enqueue(task_id=2, k="l", store_snapshot=None, program=Put("x", 1))
        full = yield QueueEmpty()
        first = yield Dequeue()
        second = yield Dequeue()
        return empty, full, first, second, (yield Dequeue())

    assert value(main()) == (
        True,
        False,
        (1, "k", {}, None),
        (2, "l", None, Put("x", 1)),
        None,
    )


def test_a_handle_and_its_completion():
    @do
    def main():
        task = yield CreateHandle(1, {}, {})
        assert isinstance(task, Task)
        yield RegisterWaiter(task._handle, 7, "k", {"s": 1})
        assert (yield Dequeue()) is None
        assert (yield IsDone(task._handle)) is False
        assert (yield TaskResult(task._handle)) is None
        yield Complete(task._handle, 1, "value", None, {})
        entry = yield Dequeue()
        yield RegisterWaiter(task, 8, "later", None)
        late = yield Dequeue()
        result = yield TaskResult(task._handle)
        return entry, late, result, (yield Wait(task)), (yield IsDone(task))

    entry, late, result, got, done = value(main())
    assert entry == (7, "k", {"s": 1}, None)
    assert late == (8, "later", None, None)
    assert (result, got, done) == (Ok("value"), "value", True)


def test_a_handle_that_fails():
    failure = ValueError("x")

    @do
    def main():
        task = yield CreateHandle(1, {}, {})
        yield Completed(1, task._handle, None, failure)
        result = yield TaskResult(task)
        again = yield Safe(Complete(task, 1, 2, None, {}))
        return result, again, (yield Safe(Wait(task)))

    result, again, waited = value(main())
    assert isinstance(result, Err)
    assert result.error is failure
    assert isinstance(again.error, RuntimeError)
    assert waited.error is failure


def test_promises_and_ids():
    @do
    def child():
        return (yield CurrentId())

    @do
    def main():
        promise = yield MakePromise()
        assert isinstance(promise, Promise)
        yield Complete(promise.future, 0, 5, None, None)
        task = yield Spawn(child())
        return (
            (yield Wait(promise.future)),
            (yield CurrentId()),
            (yield Wait(task)) == task._handle,
        )

    assert value(main()) == (5, None, True)


def test_cancelling_by_handle():
    @do
    def main():
        task = yield Spawn(Delay(1000))
        yield Put("x", 1)
        was_live = yield CancelTask(task._handle)
        promise = yield CreatePromise()
        return was_live, (yield CancelTask(promise.future)), (yield Safe(Wait(task)))

    was_live, of_promise, waited = value(main())
    assert (was_live, of_promise) == (True, False)
    assert isinstance(waited.error, TaskCancelledError)


def test_wrong_use():
    @do
    def main():
        task = yield Spawn(Delay(0))
        return (
            (yield Safe(IsDone(5))),
            (yield Safe(Complete(task, 0, 1, None, None))),
            (yield Safe(Completed(0, (yield CreateHandle(1, 2, 3)), 1, "text"))),
        )

    errors = [type(result.error) for result in value(main())]
    assert errors == [TypeError, RuntimeError, TypeError]
    with pytest.raises(TypeError):
        Enqueue(1)


def test_counts():
    @do
    def waiting(semaphore, promise):
        yield Wait(promise)
        yield AcquireSemaphore(semaphore)

    @do
    def main():
        nothing = yield SchedulerIntrospection()
        semaphore = yield CreateSemaphore(1)
        yield AcquireSemaphore(semaphore)
        promise = yield CreatePromise()
        external = yield CreateExternalPromise()
        tasks = []
        for _ in range(3):
            tasks.append((yield Spawn(waiting(semaphore, promise.future))))
        tasks.append((yield Spawn(AcquireSemaphore(semaphore))))
        tasks.append((yield Spawn(Wait(external))))
        tasks.append((yield Spawn(Gather(Delay(1000), tasks[0]))))
        tasks.append((yield Spawn(Scope(Spawn(Wait(external))))))
        new = yield SchedulerIntrospection()
        yield Delay(0.001)
        parked = yield SchedulerIntrospection()
        for task in tasks:
            yield task.cancel()
        yield Delay(0.001)
        return nothing, new, parked, (yield SchedulerIntrospection())

    nothing, new, parked, after = value(main())
    assert set(nothing) == {
        "tasks",
        "promises",
        "semaphores",
        "waiters",
        "ready",
        "timers",
        "external",
    }
    assert set(nothing.values()) == {0}
    assert new["tasks"] == new["ready"] == 7
    assert parked == {
        "tasks": 9,
        "promises": 2,
        "semaphores": 1,
        "waiters": 3 + 1 + 1 + 2 + 1 + 1,
        "ready": 0,
        "timers": 1,
        "external": 2,
    }
    assert set(after.values()) == {0}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("python_async_handler", "python_async_syntax_escape_handler"),
        ("async_effects_handler", "python_async_syntax_escape_handler"),
        ("queue_handler", "scheduler_state_handler"),
        ("scheduler_handler", "task_scheduler_handler"),
        ("threaded_asyncio_handler", "sync_await_handler"),
    ],
)
def test_old_names_of_handlers(old, new):
    assert getattr(handlers, old) is getattr(handlers, new)
