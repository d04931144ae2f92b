"""Who runs when: contract/concurrency.md 1.11 and 2.2 with the traces of 2.3."""

from __future__ import annotations

import pytest

from doeff import (
    PRIORITY_HIGH,
    PRIORITY_IDLE,
    PRIORITY_NORMAL,
    CompletePromise,
    CreateExternalPromise,
    CreatePromise,
    Delay,
    Gather,
    Get,
    Intercept,
    Listen,
    Local,
    Pure,
    Put,
    Race,
    Safe,
    Spawn,
    Tell,
    Wait,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.types import EffectBase


class Trace(list):
    def __call__(self, text):
        self.append(text)

    def __str__(self):
        return " ".join(self)


@pytest.fixture
def log():
    return Trace()


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


EFF = Put("k", 1)


@do
def worker(log, name, n=3):
    for i in range(n):
        log(f"{name}{i}")
        yield EFF


# ---- the traces of 2.3 ----


def test_2_3_first_trace(log):
    @do
    def main():
        log("m0")
        a = yield Spawn(worker(log, "a"))
        log("m1")
        b = yield Spawn(worker(log, "b"))
        log("m2")
        yield EFF
        log("m3")
        yield Wait(a)
        log("m4")
        yield Wait(b)
        log("m5")

    run(main())
    assert str(log) == "m0 m1 m2 a0 b0 m3 a1 b1 a2 b2 m4 m5"


def test_2_3_second_trace(log):
    @do
    def waiter(name, p):
        log(f"{name}?")
        yield Wait(p.future)
        log(f"{name}!")

    @do
    def completer(p0, p1):
        log("k0")
        yield CompletePromise(p1, None)
        log("k1")
        yield CompletePromise(p0, None)
        log("k2")

    @do
    def main():
        p0, p1 = (yield CreatePromise()), (yield CreatePromise())
        log("main")
        tasks = []
        for name, p in (("a", p0), ("b", p0), ("c", p1)):
            tasks.append((yield Spawn(waiter(name, p))))
        tasks.append((yield Spawn(completer(p0, p1))))
        yield Gather(*tasks)

    run(main())
    assert str(log) == "main a? b? c? k0 c! k1 a! b! k2"


def test_2_3_third_trace(log):
    @do
    def member(name):
        n = yield Get("n")
        log(f"{name}-read")
        yield EFF
        yield Put("n", n + 1)
        log(f"{name}-write")
        return n

    @do
    def logger():
        for i in range(30):
            log(f"t{i}")
            yield EFF

    @do
    def main():
        yield Spawn(logger())
        values = yield Gather(member("A"), member("B"))
        return values, (yield Get("n"))

    assert run(main(), store={"n": 0}).value == ([0, 1], 2)
    members = [entry for entry in log if "-" in entry]
    assert members == ["A-read", "A-write", "B-read", "B-write"]
    t = [entry for entry in log if entry.startswith("t")]
    assert t == [f"t{i}" for i in range(30)]
    a_read, a_write = log.index("A-read"), log.index("A-write")
    assert a_write - a_read > 1, "the spawned logger alternates with the group"


# ---- 1.11 ----


def test_1_11_priorities_are_strict(log):
    @do
    def main():
        low = yield Spawn(worker(log, "l", 2), priority=PRIORITY_IDLE)
        high = yield Spawn(worker(log, "h", 2), priority=PRIORITY_HIGH)
        log("m0")
        yield EFF
        log("m1")
        yield Gather(low, high)

    run(main())
    assert str(log) == "m0 h0 h1 m1 l0 l1"


def test_1_11_any_int(log):
    @do
    def main():
        tasks = []
        for n in (-5, 7, 10**30, -(10**30), 0):
            tasks.append((yield Spawn(worker(log, f"{n:.0e}:", 1), priority=n)))
        yield Gather(*tasks)

    run(main())
    assert [entry.split(":")[0] for entry in log] == [
        "1e+30",
        "7e+00",
        "0e+00",
        "-5e+00",
        "-1e+30",
    ]
    with pytest.raises(TypeError):
        Spawn(Pure(1), priority="high")
    assert (PRIORITY_IDLE, PRIORITY_NORMAL, PRIORITY_HIGH) == (0, 10, 20)


def test_1_11_a_task_keeps_its_priority_across_waits(log):
    @do
    def child(p):
        yield Wait(p.future)
        log("c0")
        yield EFF
        log("c1")

    @do
    def main():
        p = yield CreatePromise()
        task = yield Spawn(child(p), priority=PRIORITY_IDLE)
        yield Wait((yield Spawn(Pure(1), priority=PRIORITY_IDLE)))
        yield CompletePromise(p, None, yield_to_woken=False)
        yield worker(log, "m", 3)
        yield Wait(task)

    run(main())
    assert str(log) == "m0 m1 m2 c0 c1"


def test_1_11_wait_with_a_priority_for_one_wake_up(log):
    @do
    def child(name, p, priority):
        yield Wait(p.future, priority=priority)
        log(f"{name}0")
        yield EFF
        log(f"{name}1")

    @do
    def raced(name, p, priority):
        yield Race(p.future, priority=priority)
        log(f"{name}0")

    @do
    def main():
        p = yield CreatePromise()
        tasks = [
            (yield Spawn(child("a", p, None))),
            (yield Spawn(child("b", p, PRIORITY_HIGH))),
            (yield Spawn(raced("r", p, 15))),
        ]
        yield EFF
        yield CompletePromise(p, None, yield_to_woken=False)
        log("m0")
        yield EFF
        yield Gather(*tasks)

    run(main())
    assert str(log) == "m0 b0 r0 a0 b1 a1"


# ---- SO ----


def test_so_1_and_so_8_equal_priorities_in_turn(log):
    @do
    def main():
        tasks = []
        for name in "abcd":
            tasks.append((yield Spawn(worker(log, name, 4))))
        yield Gather(*tasks)

    run(main())
    assert str(log) == " ".join(f"{name}{i}" for i in range(4) for name in "abcd")


def test_so_2_sub_programs_are_part_of_the_turn(log):
    @do
    def inner(name):
        log(f"{name}0")
        yield EFF
        log(f"{name}1")
        return (yield Pure(1))

    @do
    def nested(name):
        yield inner(name)
        log(f"{name}2")
        yield inner(name)

    @do
    def main():
        yield Gather((yield Spawn(nested("a"))), (yield Spawn(nested("b"))))

    run(main())
    assert str(log) == "a0 b0 a1 a2 a0 b1 b2 b0 a1 b1"


@pytest.mark.parametrize(
    ("keeps", "make"),
    [
        (True, lambda t, p: Spawn(Pure(1))),
        (True, lambda t, p: CompletePromise(p, 1, yield_to_woken=False)),
        (False, lambda t, p: CompletePromise(p, 1)),
        (False, lambda t, p: t.is_done()),
        (False, lambda t, p: t.cancel()),
        (False, lambda t, p: Wait(t)),
        (False, lambda t, p: Gather()),
        (False, lambda t, p: CreatePromise()),
        (False, lambda t, p: Get("k")),
    ],
)
def test_so_3_what_keeps_the_turn(log, keeps, make):
    @do
    def other():
        log("other")
        yield EFF

    @do
    def main():
        t = yield Spawn(EFF)
        yield Wait(t)
        p = yield CreatePromise()
        yield Spawn(other())
        yield make(t, p)
        log("main")
        yield EFF

    run(main(), store={"k": 0})
    assert log[:2] == (["main", "other"] if keeps else ["other", "main"])


@do
def passes(effect, ctx):
    return (yield effect)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: p,
        lambda p: WithHandler(passes, p),
        lambda p: Local({"a": 1}, p),
        Safe,
        Listen,
        lambda p: Intercept(p, lambda effect: None),
        lambda p: p.map(lambda x: x),
    ],
)
def test_so_4_scopes_end_no_turn(log, wrap):
    @do
    def body():
        log("in")
        return 1
        yield

    @do
    def one():
        log("a0")
        yield wrap(body())
        log("a1")
        yield EFF
        log("a2")

    @do
    def main():
        yield Gather((yield Spawn(one())), (yield Spawn(worker(log, "b", 2))))

    run(main())
    assert str(log) == "a0 in a1 b0 a2 b1"


def test_so_4_a_handlers_own_effects_are_atomic(log):
    class Increment(EffectBase):
        pass

    @do
    def handler(effect, ctx):
        if isinstance(effect, Increment):
            log("h0")
            n = yield Get("n")
            log("h1")
            yield Put("n", n + 1)
            log("h2")
            yield Tell("x")
            return n
        return (yield effect)

    @do
    def body(name):
        log(f"{name}0")
        yield Increment()
        log(f"{name}1")

    @do
    def main():
        a = yield Spawn(WithHandler(handler, body("a")))
        b = yield Spawn(worker(log, "b", 2))
        yield Gather(a, b)

    run(main(), store={"n": 0})
    assert str(log) == "a0 h0 h1 h2 b0 a1 b1"


def test_so_4_programs_that_a_handler_runs_take_turns(log):
    class Start(EffectBase):
        pass

    @do
    def handler(effect, ctx):
        if isinstance(effect, Start):
            yield worker(log, "p", 2)
            return None
        return (yield effect)

    @do
    def main():
        a = yield Spawn(WithHandler(handler, Start()))
        b = yield Spawn(worker(log, "b", 2))
        yield Gather(a, b)

    run(main())
    assert str(log) == "p0 b0 p1 b1"


def test_so_5_the_completer_after_those_it_woke(log):
    @do
    def waiter(p):
        yield Wait(p.future)
        log("woken")

    @do
    def main():
        p = yield CreatePromise()
        tasks = [(yield Spawn(waiter(p))), (yield Spawn(waiter(p)))]
        yield EFF
        yield CompletePromise(p, None)
        log("completer")
        yield Gather(*tasks)

    run(main())
    assert str(log) == "woken woken completer"


def test_so_5_external_completions_in_call_order(log):
    @do
    def waiter(e, name):
        yield Wait(e)
        log(name)

    @do
    def main():
        es, tasks = [], []
        for name in "abc":
            es.append((yield CreateExternalPromise()))
            tasks.append((yield Spawn(waiter(es[-1], name))))
        yield EFF
        for n in (2, 0, 1):
            es[n].complete(None)
        yield Gather(*tasks)

    run(main())
    assert str(log) == "c a b"


def test_so_6_a_group_switches_only_when_a_member_blocks(log):
    @do
    def member(name, p, waits):
        log(f"{name}0")
        yield EFF
        log(f"{name}1")
        if waits:
            yield Wait(p.future)
        else:
            yield CompletePromise(p, None)
        log(f"{name}2")
        yield EFF
        log(f"{name}3")

    @do
    def main():
        p = yield CreatePromise()
        yield Gather(member("a", p, True), member("b", p, False), member("c", p, True))

    run(main())
    assert str(log) == "a0 a1 b0 b1 b2 b3 c0 c1 c2 c3 a2 a3"


def test_so_6_read_modify_write_is_safe_between_blocking_points():
    @do
    def adds():
        for _ in range(10):
            n = yield Get("n")
            yield EFF
            yield Put("n", n + 1)

    @do
    def main():
        yield Gather(*[adds() for _ in range(10)])
        return (yield Get("n"))

    assert run(main(), store={"n": 0}).value == 100


def test_so_7_the_same_schedule_every_time():
    def once():
        log = Trace()

        @do
        def main():
            tasks = []
            for n in range(20):
                tasks.append(
                    (yield Spawn(worker(log, f"{n}.", 1 + n % 4), priority=n % 3))
                )
                yield Delay(0)
            yield Gather(*tasks, worker(log, "g", 3), worker(log, "h", 2))

        run(main())
        return str(log)

    assert len({once() for _ in range(5)}) == 1


def test_so_8_polling_does_not_starve(log):
    @do
    def flag(box):
        for _ in range(10):
            yield EFF
        box.append(1)

    @do
    def polls_flag(box):
        while not box:
            yield EFF
        log("seen")

    @do
    def main():
        box = []
        poll = yield Spawn(polls_flag(box))
        task = yield Spawn(flag(box))
        while not (yield task.is_done()):
            pass
        yield Wait(poll)

    run(main())
    assert str(log) == "seen"


def test_rows_of_many_priorities_leave_nothing():
    @do
    def main():
        for n in range(3000):
            task = yield Spawn(Pure(1), priority=100 + n)
            if n % 2:
                yield task.cancel()
        yield Delay(0)
        return (yield Gather(*[(Pure(n)) for n in range(10)]))

    assert run(main()).value == list(range(10))
