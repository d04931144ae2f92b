"""Promises and external promises: contract/concurrency.md 1.8 and 1.9."""

from __future__ import annotations

import gc
import signal
import threading
import uuid
import weakref

import pytest

from doeff import (
    PRIORITY_IDLE,
    Cancel,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    Discard,
    ExternalPromise,
    ExternalPromiseCancelCallbackError,
    FailPromise,
    Gather,
    Promise,
    Pure,
    Put,
    Race,
    Safe,
    Spawn,
    TaskCancelledError,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def value(program, **kw):
    return run(program, **kw).value


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


# ---- 1.8 ----


def test_pr_1_settled_once():
    @do
    def main():
        a, b = (yield CreatePromise()), (yield CreatePromise())
        yield CompletePromise(a, 1)
        yield FailPromise(b, KeyError("k"))
        errors = []
        for promise in (a, b):
            errors.append((yield Safe(CompletePromise(promise, 2))).error)
            errors.append((yield Safe(FailPromise(promise, ValueError()))).error)
        return (
            {type(e) for e in errors},
            (yield Wait(a.future)),
            (yield Safe(Wait(b.future))).error,
        )

    kinds, first, error = value(main())
    assert kinds == {RuntimeError}
    assert first == 1
    assert isinstance(error, KeyError)


def test_pr_1_what_it_shows():
    @do
    def main():
        p = yield CreatePromise()
        assert isinstance(p, Promise)
        assert p.future is p.future
        assert p.future == p.future
        assert (p.is_completed, p.value, p.error) == (False, None, None)
        yield CompletePromise(p, 5)
        assert (p.is_completed, p.value, p.error) == (True, 5, None)
        q = yield CreatePromise()
        error = KeyError()
        yield FailPromise(q, error)
        assert (q.is_completed, q.value, q.error) == (True, None, error)
        with pytest.raises(TypeError):
            FailPromise(q, "no exception")
        return True

    assert value(main())


def test_pr_2_waiters_wake_in_order():
    order = []

    @do
    def waiter(p, n):
        yield Wait(p.future)
        order.append(n)

    @do
    def main():
        p = yield CreatePromise()
        tasks = []
        for n in range(5):
            tasks.append((yield Spawn(waiter(p, n))))
        yield turns(3)
        yield CompletePromise(p, None)
        yield Gather(*tasks)

    run(main())
    assert order == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("woken", "keep", "expected"),
    [
        (10, False, ["a", "b", "main"]),
        (PRIORITY_IDLE, False, ["a", "b", "main"]),
        (10, True, ["main", "a", "b"]),
    ],
)
def test_pr_3_the_completer_goes_on_after_those_it_woke(woken, keep, expected):
    order = []

    @do
    def waiter(p, name):
        yield Wait(p.future)
        order.append(name)

    @do
    def main():
        p = yield CreatePromise()
        a = yield Spawn(waiter(p, "a"), priority=woken)
        b = yield Spawn(waiter(p, "b"), priority=woken)
        gate = yield Spawn(Pure(1), priority=woken)
        yield Wait(gate)
        yield CompletePromise(p, None, yield_to_woken=not keep)
        order.append("main")
        yield Gather(a, b)

    run(main())
    assert order == expected


def test_pr_3_only_this_once():
    order = []

    @do
    def waiter(p):
        yield Wait(p.future)
        order.append("woken")

    @do
    def idle():
        for i in range(3):
            order.append(i)
            yield Put("k", 1)

    @do
    def main():
        p = yield CreatePromise()
        yield Wait((yield Spawn(Pure(1), priority=PRIORITY_IDLE)))
        low = yield Spawn(waiter(p), priority=PRIORITY_IDLE)
        yield Wait((yield Spawn(Pure(1), priority=PRIORITY_IDLE)))
        yield CompletePromise(p, None)
        yield Spawn(idle(), priority=PRIORITY_IDLE)
        yield turns(3)
        order.append("main")
        yield Wait(low)

    run(main())
    assert order == ["woken", "main", 0, 1, 2]


def test_pr_4_not_for_external_promises():
    @do
    def main():
        e = yield CreateExternalPromise()
        with pytest.raises(TypeError):
            CompletePromise(e, 1)
        with pytest.raises(TypeError):
            FailPromise(e, KeyError())
        return True

    assert value(main())


def test_the_deprecated_methods_settle_for_real():
    @do
    def completer(p, q):
        with pytest.warns(DeprecationWarning, match="use `yield"):
            p.complete(7)
        with pytest.warns(DeprecationWarning, match="use `yield"):
            q.fail(KeyError("k"))
        with (
            pytest.warns(DeprecationWarning, match="use `yield"),
            pytest.raises(RuntimeError),
        ):
            p.complete(8)
        yield Pure(None)

    @do
    def main():
        p, q = (yield CreatePromise()), (yield CreatePromise())
        yield Spawn(completer(p, q))
        return (yield Wait(p.future)), (yield Safe(Wait(q.future))).error.args, p

    first, args, promise = value(main())
    assert (first, args) == (7, ("k",))
    with (
        pytest.warns(DeprecationWarning, match="use `yield"),
        pytest.raises(RuntimeError),
    ):
        promise.complete(1)


def test_the_deprecated_methods_refuse_other_threads():
    @do
    def main():
        p = yield CreatePromise()
        errors = []

        def elsewhere():
            with pytest.warns(DeprecationWarning, match="use `yield"):
                try:
                    p.complete(1)
                except RuntimeError as error:
                    errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        yield CompletePromise(p, 2)
        return len(errors), (yield Wait(p.future))

    assert value(main()) == (1, 2)


# ---- 1.9 ----


def from_thread(call):
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_ex_1_from_a_thread_a_task_a_del_and_a_signal_handler():
    @do
    def main():
        threaded, tasked, dropped, signalled = (
            (yield CreateExternalPromise()),
            (yield CreateExternalPromise()),
            (yield CreateExternalPromise()),
            (yield CreateExternalPromise()),
        )

        class Drops:
            def __del__(self):
                dropped.complete("del")

        @do
        def task():
            tasked.complete("task")
            yield Pure(None)

        thread = from_thread(lambda: threaded.complete("thread"))
        yield Spawn(task())
        Drops()
        before = signal.signal(
            signal.SIGUSR1, lambda *_: signalled.fail(KeyError("signal"))
        )
        try:
            signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        values = yield Gather(threaded, tasked, dropped)
        thread.join()
        return values, (yield Safe(Wait(signalled))).error.args

    assert value(main()) == (["thread", "task", "del"], ("signal",))


def test_ex_1_a_signal_handler_while_the_run_is_idle():
    @do
    def main():
        e = yield CreateExternalPromise()
        before = signal.signal(signal.SIGALRM, lambda *_: e.complete("alarm"))
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            return (yield Wait(e))
        finally:
            signal.signal(signal.SIGALRM, before)

    assert value(main()) == "alarm"


def test_ex_2_the_first_call_decides():
    @do
    def main():
        e = yield CreateExternalPromise()
        answers = [e.complete(1), e.complete(2), e.fail(KeyError())]
        return answers, (yield Wait(e)), (yield Wait(e))

    assert value(main()) == ([True, False, False], 1, 1)


def test_ex_2_from_many_threads_exactly_one_wins():
    @do
    def main():
        wins = []
        for _ in range(20):
            e = yield CreateExternalPromise()
            barrier = threading.Barrier(4)
            answers = []

            def call(n, e=e, barrier=barrier, answers=answers):
                barrier.wait()
                if e.complete(n):
                    answers.append(n)

            threads = [from_thread(lambda n=n: call(n)) for n in range(4)]
            got = yield Wait(e)
            for thread in threads:
                thread.join()
            wins.append(answers == [got])
        return wins

    assert value(main()) == [True] * 20


def test_ex_3_after_the_run():
    class Value:
        pass

    @do
    def main():
        return (yield CreateExternalPromise()), (yield CreateExternalPromise())

    a, b = value(main())
    kept = Value()
    ref = weakref.ref(kept)
    assert a.complete(kept) is False
    assert b.fail(KeyError()) is False
    del kept
    assert ref() is None


def test_ex_4_call_order():
    order = []

    @do
    def waiter(e, n):
        order.append((yield Wait(e)))

    @do
    def main():
        promises = []
        for _ in range(4):
            promises.append((yield CreateExternalPromise()))
        tasks = []
        for n, e in enumerate(promises):
            tasks.append((yield Spawn(waiter(e, n))))
        yield turns(3)
        for n in (2, 0, 3, 1):
            promises[n].complete(n)
        yield Gather(*tasks)

    run(main())
    assert order == [2, 0, 3, 1]


def test_ex_4_applied_before_the_next_turn_of_any_task():
    order = []

    @do
    def waiter(e):
        yield Wait(e)
        order.append("woken")

    @do
    def other():
        for n in range(4):
            order.append(n)
            yield Put("k", n)

    @do
    def main():
        e = yield CreateExternalPromise()
        task = yield Spawn(waiter(e))
        yield turns(2)
        yield Spawn(other())
        e.complete(1)
        yield Wait(task)

    run(main())
    assert order[:2] in ([0, "woken"], ["woken", 0])


def test_ex_5_its_arguments_are_accepted():
    @do
    def main():
        e = yield CreateExternalPromise(deadline=1, source_alive=lambda: True)
        assert isinstance(e, ExternalPromise)
        assert isinstance(e.id, uuid.UUID)
        assert e.id is e.id
        assert e.future is e.future
        e.complete(3)
        with pytest.raises(TypeError):
            e.fail("no exception")
        with pytest.raises(TypeError):
            e.on_cancel(5)
        return (yield Wait(e))

    assert value(main()) == 3


def test_ex_6_not_while_somebody_waits_and_not_after_completion():
    log = []

    @do
    def main():
        e = yield CreateExternalPromise()
        e.on_cancel(lambda: log.append("cancelled"))
        a = yield Spawn(Wait(e))
        b = yield Spawn(Safe(Wait(e)))
        yield turns(2)
        yield a.cancel()
        e.complete(5)
        return (yield Wait(b)).ok()

    assert value(main()) == 5
    assert log == []


def test_ex_6_a_callback_may_do_anything():
    log = []

    @do
    def main():
        e, f = (yield CreateExternalPromise()), (yield CreateExternalPromise())

        def callback():
            log.append(run(Pure(1)).value)
            log.append(e.complete(1))
            f.complete(2)

        e.on_cancel(callback)
        task = yield Spawn(Race(e, (yield CreatePromise()).future))
        yield turns(2)
        yield task.cancel()
        return (yield Wait(f)), type((yield Safe(Wait(e))).error)

    assert value(main()) == (2, TaskCancelledError)
    assert log == [1, False]


def test_an_unsettled_promise_whose_id_was_asked_for_is_not_kept():
    @do
    def main():
        refs = []
        for _ in range(3):
            e = yield CreateExternalPromise()
            assert e.id is not None
            e.on_cancel(lambda refs=refs: None)
            task = yield Spawn(Wait(e))
            yield turns(2)
            yield task.cancel()
            refs.append(len(gc.get_referrers(e)))
        return refs

    counts = value(main())
    assert len(set(counts)) == 1


# ---- callbacks that settle other things ----


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_on_cancel_callback_settles_what_the_same_race_waits_for():
    log = []

    @do
    def main():
        outside, inside = (yield CreateExternalPromise()), (yield CreatePromise())
        outside.on_cancel(lambda: inside.complete("settled"))

        @do
        def races():
            try:
                yield Race(outside, inside.future)
            except TaskCancelledError:
                log.append("cancelled")
            yield turns(2)

        task = yield Spawn(races())
        yield turns(2)
        yield task.cancel()
        yield Safe(Wait(task))
        return inside.value, (yield Wait(inside.future))

    assert value(main()) == ("settled", "settled")
    assert log == ["cancelled"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_collector_settles_a_promise_while_a_gather_is_made():
    @do
    def main():
        promise = yield CreatePromise()

        def settle(phase, info):
            if not promise.is_completed:
                promise.complete("first")

        gc.collect()
        gc.callbacks.append(settle)
        try:
            values = yield Gather(promise.future, *[turns(3) for _ in range(2000)])
        finally:
            gc.callbacks.remove(settle)
        yield turns(3)
        return values[0], (yield Gather(Pure(1), turns(2)))

    assert value(main()) == ("first", [1, None])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_promise_is_settled_by_a_signal_handler_while_the_run_is_idle():
    @do
    def main():
        outside, inside = (yield CreateExternalPromise()), (yield CreatePromise())
        before = signal.signal(signal.SIGALRM, lambda *_: inside.complete("rang"))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            return (yield Race(outside, inside.future)).value
        finally:
            signal.signal(signal.SIGALRM, before)

    assert value(main()) == "rang"


def test_ca_8_a_gather_gives_up_its_external_promise_while_its_members_unwind():
    log = []

    @do
    def member():
        try:
            yield Delay(100)
        finally:
            yield turns(2)
            log.append("member")

    @do
    def main():
        promise = yield CreateExternalPromise()
        promise.on_cancel(lambda: log.append("callback"))
        task = yield Spawn(Gather(promise.future, member()))
        yield turns(3)
        yield task.cancel()
        yield Safe(Wait(task))
        return (yield Safe(Wait(promise))).error, promise.complete("late")

    error, late = value(main())
    assert isinstance(error, TaskCancelledError)
    assert not late
    assert log == ["callback", "member"]


@pytest.mark.parametrize("wait", [Wait, Race, Gather])
def test_a_discarded_task_gives_up_its_external_promise(wait):
    @do
    def main():
        promise = yield CreateExternalPromise()

        def fails():
            raise KeyError("callback")

        promise.on_cancel(fails)
        task, other = (yield Spawn(wait(promise))), (yield Spawn(Delay(100)))
        yield turns(2)
        error = (yield Safe(Discard(task))).error
        return error, promise.complete(1), (yield Cancel(other))

    error, late, cancelled = value(main())
    assert isinstance(error, ExternalPromiseCancelCallbackError)
    assert not late
    assert cancelled


def test_pr_3_a_completer_that_wakes_nobody_keeps_its_place():
    log = []

    @do
    def middle():
        log.append("middle")
        yield turns(1)

    @do
    def main():
        first, second = (yield CreatePromise()), (yield CreatePromise())
        low = yield Spawn(Gather(first.future, second.future), priority=1)
        yield Delay(0.001)
        task = yield Spawn(middle(), priority=5)
        yield CompletePromise(first, 1)  # low goes on waiting for the second
        log.append("main")
        yield Wait(task)
        yield CompletePromise(second, 2)
        yield Wait(low)

    value(main())
    assert log == ["main", "middle"]
