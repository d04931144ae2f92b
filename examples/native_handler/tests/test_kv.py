"""The Kv effects and their native handler."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import pytest

from doeff import (
    Ask,
    Gather,
    Get,
    Local,
    Put,
    Safe,
    Spawn,
    UnhandledEffectError,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff_kv import (
    KvAwait,
    KvAwaitEffect,
    KvFetch,
    KvGet,
    KvGetEffect,
    KvPaused,
    KvPut,
    KvPutEffect,
    KvResume,
    KvScan,
    kv_handler,
)


def run(program, handler=None, **kwargs):
    handlers = [*sync_handlers_preset, *([] if handler is None else [handler])]
    return sync_run(program, handlers, **kwargs)


# ---- in place -----------------------------------------------------------------------------------
@do
def count(key):
    yield KvPut(key, (yield KvGet(key)) + 1)
    return (yield KvGet(key))


def test_answers_in_place():
    table = {"n": 1}
    assert run(count("n"), kv_handler(table)).value == 2
    assert table == {"n": 2}


def test_a_table_of_its_own():
    @do
    def program():
        yield KvPut("a", 1)
        return (yield KvScan())

    assert run(program(), kv_handler()).value == [("a", 1)]


def test_scans_by_prefix():
    table = {"user:2": "b", "user:1": "a", "group:1": "c", 7: "d"}
    assert run(KvScan("user:"), kv_handler(table)).value == [
        ("user:1", "a"),
        ("user:2", "b"),
    ]
    assert len(run(KvScan(), kv_handler(table)).value) == 3


def test_the_innermost_of_two_tables_answers():
    @do
    def both():
        inner = yield WithHandler(kv_handler({"n": "inner"}), KvGet("n"))
        return inner, (yield KvGet("n"))

    assert run(both(), kv_handler({"n": "outer"})).value == ("inner", "outer")


def test_without_its_handler():
    with pytest.raises(UnhandledEffectError, match="KvGet"):
        run(KvGet("n"))


# ---- raising ------------------------------------------------------------------------------------
def test_raises_where_the_effect_stands():
    @do
    def program():
        try:
            yield KvGet("nobody")
        except KeyError as error:
            return error.args

    assert run(program(), kv_handler()).value == ("nobody",)
    failed = run(Safe(KvGet("nobody")), kv_handler()).value
    assert isinstance(failed.error, KeyError)


# ---- evaluating a program -----------------------------------------------------------------------
@do
def greeting(key):
    yield Put("computed", ((yield Get("computed")) or 0) + 1)
    return f"{yield Ask('hello')}, {key}"


def test_a_missing_value_is_computed_once():
    @do
    def program():
        first = yield KvGet("Ada")
        return first, (yield KvGet("Ada")), (yield Get("computed"))

    table = {}
    result = run(
        program(),
        kv_handler(table, missing=greeting),
        env={"hello": "Hello"},
        store={"computed": 0},
    )
    assert result.value == ("Hello, Ada", "Hello, Ada", 1)
    assert table == {"Ada": "Hello, Ada"}


def test_it_is_computed_where_the_effect_stands():
    @do
    def program():
        return (yield Local({"hello": "Salut"}, KvGet("Ada")))

    handler = kv_handler(missing=greeting)
    result = run(program(), handler, env={"hello": "Hello"}, store={"computed": 0})
    assert result.value == "Salut, Ada"


def test_also_where_another_handler_forwards_it():
    @do
    def log(effect: KvGetEffect, ctx):
        value = yield effect
        return value.upper()

    @do
    def program():
        inner = WithHandler(log, KvGet("Ada"))
        return (yield Local({"hello": "Salut"}, inner))

    handler = kv_handler(missing=greeting)
    result = run(program(), handler, env={"hello": "Hello"}, store={"computed": 0})
    assert result.value == "SALUT, ADA"


def test_an_error_of_the_program_leaves_the_table_alone():
    @do
    def failing(key):
        yield Get("computed")

    table = {}
    result = run(Safe(KvGet("x")), kv_handler(table, missing=failing)).value
    assert isinstance(result.error, KeyError)
    assert table == {}


def test_missing_must_give_a_program():
    result = run(Safe(KvGet("x")), kv_handler(missing=lambda key: 1)).value
    assert str(result.error) == "what missing(key) gives must be Program, got int"


# ---- waiting for another thread -----------------------------------------------------------------
def test_fetched_by_another_thread():
    def fetch(key, completion):
        threads.append(threading.Thread(target=completion.complete, args=(key * 2,)))
        threads[-1].start()

    @do
    def program():
        return (yield KvFetch("a")), (yield KvFetch("a")), (yield KvGet("a"))

    threads = []
    table = {}
    assert run(program(), kv_handler(table, fetch=fetch)).value == ("aa", "aa", "aa")
    assert table == {"a": "aa"}
    assert len(threads) == 1
    threads[0].join()


def test_several_are_fetched_at_a_time():
    waiting = {}

    def fetch(key, completion):
        waiting[key] = completion
        if len(waiting) == 3:  # all of them wait by now
            for name, one in reversed(waiting.items()):
                one.complete(name.upper())

    @do
    def program():
        tasks = []
        for key in "abc":
            tasks.append((yield Spawn(KvFetch(key))))
        return (yield Gather(*tasks))

    assert run(program(), kv_handler(fetch=fetch)).value == ["A", "B", "C"]


def test_what_cannot_be_fetched():
    def fetch(key, completion):
        if key == "now":
            raise OSError("at once")
        completion.fail(OSError("later"))

    table = {}
    for key, message in (("now", "at once"), ("then", "later")):
        error = run(Safe(KvFetch(key)), kv_handler(table, fetch=fetch)).value.error
        assert repr(error) == f"OSError('{message}')"
    assert table == {}
    assert isinstance(run(Safe(KvFetch("x")), kv_handler()).value.error, KeyError)


# ---- keeping the continuation -------------------------------------------------------------------
@do
def questions():
    first = yield KvAwait("first")
    second = yield KvAwait("second")
    return f"{first} and {second}"


def test_the_scope_gives_what_waits():
    @do
    def program():
        paused = yield WithHandler(kv_handler(), questions())
        return paused.key

    assert run(program(), kv_handler()).value == "first"


def test_resumed_later():
    @do
    def program():
        answers = {"first": "one", "second": "two"}
        outcome = yield WithHandler(kv_handler(), questions())
        asked = []
        while isinstance(outcome, KvPaused):
            asked.append(outcome.key)
            outcome = yield KvResume(outcome, answers[outcome.key])
        return asked, outcome

    assert run(program(), kv_handler()).value == (["first", "second"], "one and two")


def test_what_is_there_does_not_wait():
    assert run(questions(), kv_handler({"first": 1, "second": 2})).value == "1 and 2"


def test_resumed_in_another_order():
    @do
    def asker(name):
        return name, (yield KvAwait(name))

    @do
    def program():
        waiting = []
        for name in "abc":
            waiting.append((yield WithHandler(kv_handler(), asker(name))))
        results = []
        for paused in reversed(waiting):
            results.append((yield KvResume(paused, paused.key.upper())))
        return results

    expected = [("c", "C"), ("b", "B"), ("a", "A")]
    assert run(program(), kv_handler()).value == expected


def test_it_goes_on_in_its_own_environment():
    @do
    def inner():
        before = yield Ask("who")
        yield KvAwait("go")
        return before, (yield Ask("who"))

    @do
    def program():
        paused = yield WithHandler(kv_handler(), Local({"who": "inner"}, inner()))
        here = yield Ask("who")
        rest = yield Local({"who": "later"}, KvResume(paused, None))
        return here, rest, (yield Ask("who"))

    result = run(program(), kv_handler(), env={"who": "outer"})
    assert result.value == ("outer", ("inner", "inner"), "outer")


def test_an_error_after_resuming_arrives_at_the_resume():
    @do
    def failing():
        yield KvAwait("go")
        raise ValueError("after")

    @do
    def program():
        paused = yield WithHandler(kv_handler(), failing())
        return (yield Safe(KvResume(paused, 1)))

    error = run(program(), kv_handler()).value.error
    assert isinstance(error, ValueError)


def test_resumed_once():
    @do
    def program():
        paused = yield WithHandler(kv_handler(), KvAwait("go"))
        first = yield KvResume(paused, 1)
        return first, (yield Safe(KvResume(paused, 2)))

    first, second = run(program(), kv_handler()).value
    assert first == 1
    assert str(second.error).startswith("continuation already resumed: ")


def test_dropped_unfinished():
    ended = []

    @do
    def waiting():
        try:
            yield KvAwait("never")
        finally:
            ended.append((yield Ask("who")))

    @do
    def program():
        paused = yield WithHandler(kv_handler(), waiting())
        assert ended == []
        del paused
        yield KvPut("any", "effect")
        return list(ended)

    assert run(program(), kv_handler(), env={"who": "me"}).value == ["me"]


def test_another_run_cannot_resume_it():
    paused = run(WithHandler(kv_handler(), KvAwait("go")), kv_handler()).value
    error = run(Safe(KvResume(paused, 1)), kv_handler()).value.error
    assert isinstance(error, RuntimeError)


def test_called_by_a_handler_it_cannot_keep():
    native = kv_handler()

    @do
    def calls(effect: KvAwaitEffect, ctx):
        return (yield native(effect, ctx))

    result = run(WithHandler(calls, Safe(KvAwait("go")))).value
    assert "kv_handler takes the continuation of" in str(result.error)


def test_called_by_a_handler_it_answers():
    native = kv_handler({"n": 1})

    @do
    def calls(effect: KvGetEffect, ctx):
        return (yield native(effect, ctx))

    assert run(WithHandler(calls, KvGet("n"))).value == 1


# ---- the classes --------------------------------------------------------------------------------
def test_effects_are_values():
    assert KvPut("a", 1) == KvPutEffect("a", 1) == KvPutEffect(key="a", value=1)
    assert KvGet("a") != KvGet("b")
    assert repr(KvPut("a", 1)) == "KvPutEffect(key='a', value=1)"
    assert hash(KvGet("a")) == hash(KvGet("a"))
    assert KvScan().prefix == ""


def test_effects_and_constructors_are_pickled():
    for effect in (KvGet("a"), KvPut("a", [1]), KvScan("x")):
        assert pickle.loads(pickle.dumps(effect)) == effect
        assert copy.deepcopy(effect) == effect
    assert pickle.loads(pickle.dumps(KvGet)) is KvGet


def test_subclasses_are_answered():
    class Mine(KvGetEffect):
        pass

    assert run(Mine("n"), kv_handler({"n": 1})).value == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: KvGet([]), "unhashable type"),
        (lambda: KvScan(1), "prefix must be str, got int"),
        (lambda: KvResume(1, 2), "paused must be KvPaused, got int"),
        (lambda: kv_handler([]), "table must be dict, got list"),
        (lambda: kv_handler(missing=1), "missing must be callable, got int"),
        (lambda: kv_handler(what=1), "unexpected keyword argument 'what'"),
    ],
)
def test_wrong_arguments(make, message):
    with pytest.raises(TypeError, match=message):
        make()


def test_a_handler_and_its_table_are_collected():
    class Table(dict):
        pass

    table = Table(n=1)
    table["handler"] = kv_handler(table)
    run(KvGet("n"), table["handler"])
    gone = weakref.ref(table)
    del table
    gc.collect()
    assert gone() is None
