"""The end of a run, failures nobody asks for, the run functions, and what must survive: contract/concurrency.md
1.13, 1.14, 4 (AR-4 to AR-9), 5.2 (RU-1 to RU-7) and 6."""

from __future__ import annotations

import gc
import re
import signal
import threading
import time
import warnings
import weakref
from contextlib import suppress

import pytest

from doeff import (
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    Discard,
    Gather,
    Get,
    Pure,
    Put,
    Race,
    Safe,
    Spawn,
    Tell,
    UnhandledEffectError,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.cesk import handlers as public
from doeff.effects.scheduler_internal import WaitForExternalCompletion
from doeff.types import EffectBase


def run(program, handlers=sync_handlers_preset, **kw):
    return sync_run(program, handlers, **kw)


def value(program, **kw):
    return run(program, **kw).value


@do
def turns(n):
    for _ in range(n):
        yield Put("turn", 0)


@do
def parked(log, name="parked"):
    try:
        yield Wait((yield CreatePromise()).future)
    finally:
        yield Put("k", 1)
        log.append(name)


class Unknown(EffectBase):
    pass


# ---- 1.13 ----


def test_en_1_ready_work_is_finished():
    log = []

    @do
    def child(n):
        yield turns(n)
        log.append(n)
        if n:
            yield Spawn(child(n - 1))

    @do
    def main():
        yield Spawn(child(3))
        return "main"

    assert value(main()) == "main"
    assert log == [3, 2, 1, 0]


def test_en_2_the_rest_is_cancelled_in_order_of_creation():
    log = []

    @do
    def main():
        yield Spawn(parked(log, "a"))
        yield Spawn(parked(log, "b"), daemon=True)
        yield Spawn(parked(log, "c"))

    place = rf"parked \(spawned at {re.escape(__file__)}:\d+ in main\)"
    with pytest.warns(
        RuntimeWarning, match=f"2 tasks still waited: {place}, {place}; "
    ):
        run(main())
    assert log == ["a", "b", "c"]


def test_en_5_tasks_of_one_place_are_counted():
    @do
    def main():
        for _ in range(3):
            yield Spawn(parked([]))
        yield turns(2)

    with pytest.warns(RuntimeWarning, match="3 tasks still waited: 3 times parked"):
        run(main())


def test_en_2_the_last_task_to_block_as_the_run_drains():
    log = []

    @do
    def main():
        yield Spawn(parked(log))
        return 1

    with pytest.warns(RuntimeWarning, match="parked"):
        assert value(main()) == 1
    assert log == ["parked"]


def test_en_2_daemons_that_never_block():
    log = []

    @do
    def daemon():
        try:
            while True:
                yield Put("k", 1)
        finally:
            log.append("daemon")

    @do
    def main():
        yield Spawn(daemon(), daemon=True)
        yield turns(5)
        return 1

    assert value(main()) == 1
    assert log == ["daemon"]


@pytest.mark.parametrize("how", ["effects", "delays", "waits", "swallows"])
def test_en_2_for_so_long_and_no_longer(how):
    log = []

    @do
    def stubborn():
        try:
            yield Wait((yield CreatePromise()).future)
        finally:
            log.append("cleanup")
            try:
                while True:
                    if how == "effects":
                        yield Put("k", 1)
                    elif how == "delays":
                        yield Delay(0.001)
                    elif how == "waits":
                        yield Wait((yield CreateExternalPromise()))
                    else:
                        yield Safe(Delay(3600))
            except GeneratorExit:
                log.append("discarded")
                raise

    @do
    def main():
        yield Spawn(stubborn(), daemon=True)
        yield turns(3)
        return 1

    assert value(main(), close_timeout=0.02) == 1
    assert log == ["cleanup", "discarded"]


def test_en_2_what_cleanup_spawns_is_cancelled_as_well():
    log = []

    @do
    def spawns():
        try:
            yield Wait((yield CreatePromise()).future)
        finally:
            yield Spawn(parked(log, "late"), daemon=True)

    @do
    def main():
        yield Spawn(spawns(), daemon=True)
        yield turns(3)

    run(main())
    assert log == ["late"]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("daemon", [False, True])
def test_en_2_what_cleanup_leaves_behind_does_not_use_up_the_time(daemon):
    log = []

    @do
    def spins():
        try:
            while True:
                yield turns(1)
        finally:
            yield turns(1)
            log.append("spins")

    @do
    def sleeps(n):
        try:
            yield Delay(1000)
        finally:
            log.append(n)
            if n > 0:
                yield Spawn(spins() if daemon else sleeps(n - 1), daemon=daemon)
                yield turns(1)

    @do
    def main():
        yield Spawn(sleeps(2))
        yield turns(2)

    begun = time.monotonic()
    run(main(), close_timeout=100)
    assert time.monotonic() - begun < 50
    assert log == ([2, "spins"] if daemon else [2, 1, 0])


def test_close_timeout_is_checked():
    with pytest.raises(ValueError):
        run(Pure(1), close_timeout=-1)
    with pytest.raises(ValueError):
        run(Pure(1), close_timeout=float("nan"))
    with pytest.raises(TypeError):
        run(Pure(1), close_timeout="5")


def test_en_3_main_failed():
    log = []

    @do
    def ready():
        log.append("ready")
        yield Pure(1)

    @do
    def fails_in_cleanup():
        try:
            yield Wait((yield CreatePromise()).future)
        finally:
            log.append("unwound")
            raise KeyError("cleanup")

    @do
    def main():
        yield Spawn(fails_in_cleanup(), daemon=True)
        yield turns(3)
        yield Spawn(ready(), daemon=True)
        raise ValueError("main")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = run(main())
    assert isinstance(result.error, ValueError)
    assert log == ["unwound"]


def test_en_4_the_result_is_mains():
    @do
    def child():
        try:
            yield Wait((yield CreatePromise()).future)
        finally:
            yield Put("k", "child")
            yield Tell("child")

    @do
    def main():
        yield Put("k", "main")
        yield Spawn(child(), daemon=True)
        yield turns(2)
        return 1

    result = run(main())
    assert (result.value, result.raw_store["k"]) == (1, "main")
    assert result.raw_store.get("__log__", []) == []


def test_en_5_asked_for_or_daemon_is_not_named():
    @do
    def main():
        asked = yield Spawn(parked([]))
        yield Spawn(parked([]), daemon=True)
        watcher = yield Spawn(Wait(asked), daemon=True)
        yield turns(3)
        return watcher

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(main())


def test_en_6_nothing_is_left():
    class Thing:
        pass

    refs = []

    @do
    def child(e):
        thing = Thing()
        refs.append(weakref.ref(thing))
        yield Safe(Race(e, e.future, (yield Spawn(Delay(100), daemon=True))))
        yield Gather(Wait(e), Delay(1000))

    @do
    def main():
        e = yield CreateExternalPromise()
        yield Spawn(child(e), daemon=True)
        yield Spawn(Gather(child(e), child(e)), daemon=True)
        yield turns(5)

    before = threading.active_count()
    run(main())
    assert threading.active_count() == before
    assert [ref() for ref in refs] == [None] * 3


# ---- 1.14 ----


@do
def fails(text="on purpose"):
    yield Pure(1)
    raise KeyError(text)


def warned(program, **kw):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = run(program, **kw)
        gc.collect()
    return [str(w.message) for w in caught if w.category is RuntimeWarning], result


def test_1_14_reported_once_with_places():
    @do
    def main():
        yield Spawn(fails())
        yield turns(5)
        return 1

    texts, result = warned(main())
    assert result.value == 1
    assert len(texts) == 1
    for part in ("fails", "on purpose", "KeyError", "main", "test_run_end.py"):
        assert part in texts[0]


def test_1_14_when_the_handle_dies_or_at_the_end():
    seen = []

    @do
    def main():
        task = yield Spawn(fails("dies"))
        yield turns(4)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            del task
            seen.extend(str(w.message) for w in caught)
        return (yield Spawn(fails("kept")))

    texts, _ = warned(main())
    assert len(seen) == 1
    assert "dies" in seen[0]
    assert len(texts) == 1
    assert "kept" in texts[0]


def test_1_14_a_failed_task_in_a_cycle():
    """The collector clears the exception of a cycle before it frees the task."""

    @do
    def child(box):
        box.append(box)
        yield Pure(1)
        raise KeyError("in a cycle")

    @do
    def main():
        for _ in range(3):
            box = []
            box.append((yield Spawn(child(box))))
            del box
            yield turns(3)
        gc.collect()
        yield turns(1)

    texts, _ = warned(main())
    assert len(texts) == 3
    assert all("in a cycle" in text for text in texts)


@pytest.mark.parametrize(
    "claim",
    [
        lambda t: Safe(Wait(t)),
        lambda t: Safe(Gather(t)),
        lambda t: Safe(Race(t)),
        lambda t: t.cancel(),
        Discard,
    ],
)
def test_1_14_asked_for(claim):
    @do
    def main():
        task = yield Spawn(fails())
        yield turns(4)
        yield claim(task)

    assert warned(main())[0] == []


def test_1_14_is_done_is_no_claim():
    @do
    def main():
        task = yield Spawn(fails())
        yield turns(4)
        return (yield task.is_done())

    assert len(warned(main())[0]) == 1


def test_1_14_at_most_ten_are_spelled_out():
    @do
    def main():
        for _ in range(25):
            yield Spawn(fails())
        yield turns(5)

    texts, _ = warned(main())
    assert len(texts) == 11
    assert "15 more" in texts[-1]


def test_1_14_a_filter_never_changes_the_outcome(monkeypatch):
    unraisable = []
    monkeypatch.setattr(
        "sys.unraisablehook", lambda what: unraisable.append(what.exc_type)
    )

    @do
    def main():
        yield Spawn(fails())
        yield Spawn(parked([]))
        yield turns(5)
        return 1

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert value(main()) == 1
    assert unraisable == [RuntimeWarning, RuntimeWarning]


# ---- AR ----


def replaced(handler):
    return [
        handler if known is public.sync_external_wait_handler else known
        for known in sync_handlers_preset
    ]


@do
def waits_for_outside(results, slept=None, woken=None):
    e, f = (yield CreateExternalPromise()), (yield CreateExternalPromise())

    def outside():
        if slept is not None:
            slept.wait(30)
        e.complete("e")
        if woken is not None:
            woken.wait(30)
        f.fail(KeyError("f"))

    threading.Thread(target=outside).start()
    results.append((yield Gather(Wait(e), Delay(0.001))))
    results.append((yield Safe(Wait(f))).error.args)
    yield Delay(0.001)
    return results


def test_ar_4_and_5_an_own_wait_handler():
    calls = []

    @do
    def waits(effect, ctx):
        if isinstance(effect, WaitForExternalCompletion):
            item = effect.queue.get()
            calls.append(item)
            (slept if item[1] is None else woken).set()
            return item
        return (yield effect)

    slept, woken = threading.Event(), threading.Event()
    program = waits_for_outside([], slept, woken)
    assert run(program, replaced(waits)).value == [["e", None], ("f",)]
    assert len(calls) == 4
    assert calls[0] == (None, None, None)
    assert calls[1][1:] == ("e", None)


def test_ar_5_never_while_a_task_can_run():
    calls = []

    @do
    def waits(effect, ctx):
        if isinstance(effect, WaitForExternalCompletion):
            calls.append(effect)
            return effect.queue.get()
        return (yield effect)

    @do
    def main():
        e = yield CreateExternalPromise()
        task = yield Spawn(Wait(e))
        yield turns(20)
        e.complete(1)
        yield Wait(task)
        p = yield CreatePromise()
        yield Spawn(CompletePromise(p, 1))
        yield Wait(p.future)

    run(main(), replaced(waits))
    assert calls == []


def test_ar_6_the_queue():
    import queue as stdlib

    seen = []

    @do
    def waits(effect, ctx):
        if isinstance(effect, WaitForExternalCompletion):
            q = effect.queue
            with pytest.raises(stdlib.Empty):
                q.get_nowait()
            with pytest.raises(stdlib.Empty):
                q.get(block=False)
            with pytest.raises(stdlib.Empty):
                q.get(timeout=0.0001)
            with pytest.raises(ValueError):
                q.get(timeout=-1)
            seen.append((q.empty(), q.qsize()))
            box[0].complete("x")
            seen.append((q.empty(), q.qsize()))
            item = q.get()
            q.put(item)
            return "look again"
        return (yield effect)

    box = []

    @do
    def main():
        box.append((yield CreateExternalPromise()))
        return (yield Wait(box[0]))

    assert run(main(), replaced(waits)).value == "x"
    assert seen == [(True, 0), (False, 1)]


@pytest.mark.parametrize(
    "answer", ["nothing", "raises", "names", "names wrongly", "unhashable"]
)
def test_ar_7_and_8_what_is_taken_is_applied(answer):
    box = []

    @do
    def waits(effect, ctx):
        if isinstance(effect, WaitForExternalCompletion):
            if answer == "names":
                return (box[0].id, "value", None)
            if len(box) == 1 and answer in ("names wrongly", "unhashable"):
                box.append(1)
                return ("no id" if answer == "names wrongly" else [], 1, None)
            box[0].complete("value")
            effect.queue.get()
            if answer == "raises":
                raise ValueError("of the wait handler")
            return 5
        return (yield effect)

    @do
    def main():
        box.append((yield CreateExternalPromise()))
        task = yield Spawn(Wait(box[0]))
        first = yield Safe(Wait(task))
        return first, (yield Wait(task))

    first, after = run(main(), replaced(waits)).value
    assert after == "value"
    if answer == "raises":
        assert isinstance(first.error, ValueError)
    else:
        assert first.ok() == "value"


def test_ar_9_without_a_wait_handler():
    handlers = [
        h for h in sync_handlers_preset if h is not public.sync_external_wait_handler
    ]
    assert run(waits_for_outside([]), handlers).value == [["e", None], ("f",)]
    nobody = [h for h in handlers if h is not public.scheduler_state_handler]

    @do
    def main():
        caught = None
        try:
            yield Delay(0.001)
        except UnhandledEffectError as error:
            caught = error
        return caught

    assert isinstance(run(main(), nobody).value, UnhandledEffectError)


def test_the_wait_handler_works_on_mains_store():
    @do
    def waits(effect, ctx):
        if isinstance(effect, WaitForExternalCompletion):
            yield Put("idle", 1)
            return effect.queue.get()
        return (yield effect)

    @do
    def child():
        yield Delay(0.002)
        return (yield Safe(Get("idle"))).is_err()

    @do
    def main():
        task = yield Spawn(child())
        yield Delay(0.001)
        return (yield Wait(task)), (yield Get("idle"))

    handlers = [public.core_handler, *replaced(waits)]
    assert run(main(), handlers).value == (True, 1)


# ---- RU ----


def test_ru_1_arguments_are_not_modified():
    env, store, handlers = {"a": 1}, {"k": 0}, list(sync_handlers_preset)

    @do
    def main():
        yield Put("k", 1)
        yield Gather(Put("k", 2), (yield Spawn(Put("k", 3))))

    run(main(), handlers, env=env, store=store)
    assert (env, store, handlers) == ({"a": 1}, {"k": 0}, list(sync_handlers_preset))


def test_ru_2_an_unhandled_effect_fails_the_task_that_performs_it():
    log = []

    @do
    def child():
        try:
            yield Unknown()
        finally:
            yield Put("k", 1)
            log.append("cleanup")

    @do
    def main():
        caught = yield Safe(Wait((yield Spawn(child()))))
        return caught.error

    assert isinstance(value(main()), UnhandledEffectError)
    assert log == ["cleanup"]
    with pytest.raises(UnhandledEffectError):
        run(in_a_task(Unknown()))


@do
def in_a_task(program):
    return (yield Wait((yield Spawn(program))))


def test_ru_4_a_base_exception_fails_the_child():
    class Odd(BaseException):
        pass

    @do
    def child():
        yield Pure(1)
        raise Odd("x")

    @do
    def main():
        task = yield Spawn(child())
        try:
            yield Wait(task)
        except Odd as error:
            return error.args

    assert value(main()) == ("x",)


def test_ru_5_nested_runs_and_other_threads():
    @do
    def inner(n):
        task = yield Spawn(Delay(0.001))
        yield Wait(task)
        return n

    @do
    def child(n):
        yield turns(2)
        return value(inner(n))

    @do
    def main():
        tasks = []
        for n in range(5):
            tasks.append((yield Spawn(child(n))))
        return (yield Gather(*tasks))

    results = []
    threads = [
        threading.Thread(target=lambda: results.append(value(main()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    results.append(value(main()))
    for thread in threads:
        thread.join()
    assert results == [[0, 1, 2, 3, 4]] * 5


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_ru_6_an_interrupt_of_a_task_is_raised_where_main_is(kind):
    log = []

    @do
    def child():
        yield turns(2)
        raise kind("child")

    @do
    def main(catch):
        yield Spawn(parked(log), daemon=True)
        task = yield Spawn(child())
        try:
            yield Wait((yield CreateExternalPromise()))
        except kind:
            log.append("main")
            if not catch:
                raise
        return (yield task.is_done())

    assert value(main(True)) is True
    assert log == ["main", "parked"]
    with pytest.raises(kind):
        run(main(False))


def test_ru_6_while_idle():
    log = []

    @do
    def main():
        yield Spawn(parked(log), daemon=True)
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        try:
            yield Wait((yield CreateExternalPromise()))
        finally:
            yield Put("k", 1)
            log.append("main")

    def interrupt(*_):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(main())
    finally:
        signal.signal(signal.SIGALRM, before)
    assert log == ["main", "parked"]


def test_ru_6_the_first_interrupt_after_main_ends_the_rest_gently():
    log = []

    @do
    def cleans_up():
        try:
            yield Delay(1000)
        finally:
            yield turns(3)
            log.append("clean")

    @do
    def interrupts():
        yield turns(3)
        raise KeyboardInterrupt

    @do
    def main():
        yield Spawn(cleans_up(), daemon=True)
        yield Spawn(interrupts())
        yield turns(1)

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log == ["clean"]


def test_ru_6_an_interrupt_while_a_failure_is_told(monkeypatch):
    def interrupted(place, error):
        raise KeyboardInterrupt

    monkeypatch.setattr("doeff._tasks.failed", interrupted)
    log = []

    @do
    def fails():
        yield turns(1)
        raise ValueError

    @do
    def main():
        yield Spawn(fails())
        try:
            yield turns(5)
        except KeyboardInterrupt:
            log.append("main")
        yield Spawn(fails())

    with pytest.raises(KeyboardInterrupt):  # of the second one, when main is over
        run(main())
    assert log == ["main"]


def test_ru_6_a_second_interrupt_discards_what_is_left():
    log = []

    @do
    def child(name):
        try:
            yield Wait((yield CreatePromise()).future)
        finally:
            log.append(name)
            if name == "a":
                raise KeyboardInterrupt("second")
            yield Delay(0.001)
            log.append("performed")

    @do
    def main():
        for name in "abc":
            yield Spawn(child(name), daemon=True)
        yield turns(3)
        raise KeyboardInterrupt("first")

    with pytest.raises(KeyboardInterrupt):
        run(main())
    assert log[0] == "a"
    assert "performed" not in log


def test_ru_7_a_signal_handler_that_returns():
    log = []

    @do
    def main():
        e = yield CreateExternalPromise()
        threading.Timer(0.03, lambda: e.complete("later")).start()
        signal.setitimer(signal.ITIMER_REAL, 0.005)
        return (yield Wait(e))

    before = signal.signal(signal.SIGALRM, lambda *_: log.append("handler"))
    try:
        assert value(main()) == "later"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert log == ["handler"]


# ---- RO ----


def test_ro_2_released_by_a_barrier_right_before_the_yield():
    @do
    def main():
        count = 0
        for _ in range(200):
            e = yield CreateExternalPromise()
            barrier = threading.Barrier(2)

            def completes(e=e, barrier=barrier):
                barrier.wait()
                e.complete(1)

            thread = threading.Thread(target=completes)
            thread.start()
            barrier.wait()
            count += yield Wait(e)
            thread.join()
        return count

    assert value(main()) == 200


def test_ro_8_runs_in_a_loop_leave_no_objects():
    @do
    def child(p):
        yield Safe(Race(p.future, (yield Spawn(Delay(100), daemon=True))))

    @do
    def main():
        p = yield CreatePromise()
        t = yield Spawn(child(p), daemon=True)
        yield turns(2)
        yield t.cancel()
        yield Spawn(Pure(1))

    for _ in range(10):
        run(main())
    gc.collect()
    before = len(gc.get_objects())
    for _ in range(100):
        run(main())
    gc.collect()
    assert len(gc.get_objects()) - before < 50


def test_ro_9_complete_from_del_and_gc_at_any_point():
    @do
    def main():
        got = 0
        for _ in range(50):
            e = yield CreateExternalPromise()

            class Cycle:
                def __init__(self, e=e):
                    self.me, self.e = self, e

                def __del__(self):
                    self.e.complete(run(Pure(1)).value)

            Cycle()
            task = yield Spawn(Wait(e))
            gc.collect()
            got += yield Wait(task)
        return got

    assert value(main()) == 50


def test_ro_9_the_deprecated_complete_from_a_del_in_the_middle_of_things():
    @do
    def main():
        log = []
        for n in range(30):
            p = yield CreatePromise()

            class Settles:
                def __init__(self, p):
                    self.p, self.me = p, self

                def __del__(self):
                    with warnings.catch_warnings(), suppress(RuntimeError):
                        warnings.simplefilter("ignore")
                        self.p.complete(5)

            @do
            def holds(thing):
                yield Wait((yield CreatePromise()).future)

            @do
            def member(i):
                yield turns(1)
                if i == 1:
                    raise KeyError(i)

            victim = yield Spawn(holds(Settles(p)))
            yield turns(2)
            if n % 2:
                yield Spawn(Discard(victim))
            else:
                yield Discard(victim)
            gc.collect()
            log.append(
                (yield Safe(Gather(p.future, member(0), member(1), p.future))).is_err()
            )
        return log

    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:
        assert value(main()) == [True] * 30
    finally:
        gc.set_threshold(*threshold)


class Hostile:
    def __eq__(self, other):
        raise ValueError("eq")

    def __hash__(self):
        raise ValueError("hash")

    def __bool__(self):
        raise ValueError("bool")

    def __repr__(self):
        raise ValueError("repr")


def test_ro_10_hostile_values_travel_untouched():
    @do
    def child(thing):
        yield Put("k", thing)
        return (yield Get("k"))

    @do
    def main():
        thing = Hostile()
        p, e = (yield CreatePromise()), (yield CreateExternalPromise())
        task = yield Spawn(child(thing))
        yield CompletePromise(p, thing)
        e.complete(thing)
        values = yield Gather(task, p.future, e, Pure(thing))
        raced = yield Race(task, p.future)
        return all(v is thing for v in [*values, raced.value])

    assert value(main()) is True


def test_ro_10_an_exception_that_cannot_be_shown():
    class Unprintable(Exception):
        def __str__(self):
            raise ValueError("str")

        __repr__ = __str__

    @do
    def child():
        yield Pure(1)
        raise Unprintable

    @do
    def main():
        yield Spawn(child())
        yield turns(4)
        return 1

    texts, result = warned(main())
    assert result.value == 1
    assert len(texts) == 1


def test_ro_10_a_generator_that_ignores_its_end(monkeypatch):
    unraisable = []
    monkeypatch.setattr(
        "sys.unraisablehook", lambda what: unraisable.append(str(what.exc_value))
    )

    @do
    def stubborn():
        while True:
            try:
                yield Wait((yield CreatePromise()).future)
            except BaseException:
                pass

    @do
    def main():
        task = yield Spawn(stubborn())
        yield turns(3)
        yield Discard(task)
        yield Spawn(stubborn(), daemon=True)
        yield turns(3)
        return (yield task.is_done())

    assert value(main(), close_timeout=0.01) is True


def test_ro_10_context_of_one_task_resumed_in_another():
    kept = []

    class Ask_(EffectBase):
        pass

    @do
    def keeps(effect, ctx):
        if isinstance(effect, Ask_):
            kept.append(ctx)
            yield Wait((yield CreatePromise()).future)
        return (yield effect)

    @do
    def body():
        try:
            return (yield Ask_())
        finally:
            yield Put("k", 1)

    @do
    def resumes():
        return (yield kept[0].resume("answer"))

    @do
    def main():
        task = yield Spawn(WithHandler(keeps, body()), daemon=True)
        yield turns(3)
        outcome = yield Safe(in_a_task(resumes()))
        yield Discard(task)
        return outcome

    result = run(main())
    assert result.value.is_ok() or isinstance(result.value.error, RuntimeError)
    kept.clear()
