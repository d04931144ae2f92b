"""The cache effects, their backing, and the cache decorator."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta

import pytest

import doeff
from doeff import (
    Ask,
    CacheComputationError,
    CacheDelete,
    CacheExists,
    CacheGet,
    CacheLifecycle,
    CachePolicy,
    CachePut,
    CacheStorage,
    EffectBase,
    Err,
    FrozenDict,
    Get,
    Local,
    Ok,
    Program,
    ProgramCallStack,
    Pure,
    Put,
    Safe,
    WithHandler,
    cache,
    cache_1min,
    cache_5min,
    cache_forever,
    cache_key,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.storage import InMemoryStorage, SQLiteStorage


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def seq(*programs):
    return Program.list(*programs)


# --- backing and keys --------------------------------------------------------------------


def test_the_callers_dict_is_not_changed():
    given = {"k": 1}
    result = run(
        seq(CachePut("l", 2), CacheDelete("k")), store={"__cache_storage__": given}
    )
    assert given == {"k": 1}
    assert result.raw_store["__cache_storage__"] == {"l": 2}


def test_an_unused_cache_does_not_show():
    assert run(CacheExists("k")).raw_store == {}
    assert run(Pure(1)).raw_store == {}
    given = {"__cache_storage__": {}, "x": 1}
    assert run(CacheExists("k"), store=given).raw_store == given


def test_failed_runs_keep_the_cache():
    @do
    def fails():
        yield CachePut("k", 1)
        raise ValueError("after")

    result = run(fails())
    assert result.is_err()
    assert result.raw_store["__cache_storage__"] == {"k": 1}


@pytest.mark.parametrize(
    ("key", "same", "other"),
    [
        ([1, 2], [1, 2], [2, 1]),
        ({"a": 1, "b": [2]}, {"b": [2], "a": 1}, {"a": 1}),
        ({1, 2, 3}, {3, 2, 1}, {1, 2}),
        (("f", [1.0]), ("f", [1]), ("f", [1.5])),
        (FrozenDict({"a": [1]}), FrozenDict({"a": [1]}), FrozenDict({"a": [2]})),
        ([None, b"x", "x"], [None, b"x", "x"], [None, "x", b"x"]),
    ],
    ids=repr,
)
def test_unhashable_keys(key, same, other):
    for storage in ({}, InMemoryStorage()):
        program = seq(
            CachePut(key, 1),
            CacheGet(same),
            CacheExists(other),
            CacheDelete(same),
            CacheExists(key),
        )
        result = run(program, store={"__cache_storage__": storage})
        assert result.value == [None, 1, False, True, False]


def test_equal_keys_serialise_alike_whatever_objects_they_share():
    text = "".join(["sh", "ared"])
    twice, apart = [text, text], ["shared", "".join(["share", "d"])]
    assert run(seq(CachePut(twice, 1), CacheGet(apart))).value == [None, 1]


def test_keys_whose_hash_fails_otherwise_pass_the_error_on():
    class Bad:
        def __hash__(self):
            raise RuntimeError("no hash today")

    assert str(run(CacheGet(Bad())).error) == "no hash today"


def test_key_must_serialise_at_construction():
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        CachePut(("k", (x for x in ())), 1)
    deep = ("x",)
    for _ in range(50):
        deep = (deep,)
    assert CachePut(deep, 1).key == deep


def test_wrong_backing():
    result = run(CacheGet("k"), store={"__cache_storage__": 5})
    assert isinstance(result.error, TypeError)
    assert "__cache_storage__" in str(result.error)
    result = run(CachePut("k", 1), store={"__cache_storage__": [1]})
    assert isinstance(result.error, TypeError)


# --- time ------------------------------------------------------------------------------------


@pytest.mark.parametrize("storage", [dict, InMemoryStorage])
@pytest.mark.parametrize("zone", [None, UTC])
def test_entries_expire_by_the_clock_of_the_store(storage, zone):
    start = datetime(2024, 1, 1, tzinfo=zone)

    def at(second):
        return Put("__current_time__", start + timedelta(seconds=second))

    program = seq(
        at(0),
        CachePut("k", 1, ttl=10),
        at(9.5),
        CacheGet("k"),
        at(10),
        CacheExists("k"),
        CacheDelete("k"),
        Safe(CacheGet("k")),
        CachePut("k", 2, ttl=5),
        CachePut("k", 3),
        at(1000),
        CacheGet("k"),
    )
    result = run(program, store={"__cache_storage__": storage()})
    values = result.value
    assert values[3] == 1
    assert values[5:7] == [False, False]
    assert isinstance(values[7].error, KeyError)
    assert values[-1] == 3
    assert "__cache_expiry__" not in result.raw_store


def test_deadlines_travel_with_the_raw_store():
    def at(second):
        return Put("__current_time__", datetime(2024, 1, 1, 0, 0, second))

    first = run(seq(at(0), CachePut("k", 1, ttl=10)))
    assert set(first.raw_store["__cache_expiry__"]) == {"k"}
    assert run(CacheExists("k"), store=first.raw_store).value is True
    later = run(seq(at(30), CacheExists("k")), store=first.raw_store)
    assert later.value == [None, False]
    assert later.raw_store["__cache_expiry__"] == {}
    assert set(first.raw_store["__cache_expiry__"]) == {"k"}


@pytest.mark.parametrize("ttl", [0, -1, None, float("inf")])
def test_no_expiry(ttl):
    result = run(seq(CachePut("k", 1, ttl=ttl), CacheGet("k")))
    assert result.value == [None, 1]
    assert "__cache_expiry__" not in result.raw_store


def test_wall_clock_when_the_store_has_none():
    store = {"__current_time__": "not a time"}
    for kw in ({}, {"store": store}):
        assert run(seq(CachePut("k", 1, ttl=1000), CacheGet("k")), **kw).value == [
            None,
            1,
        ]


# --- policies ----------------------------------------------------------------------------------


def test_policy_values():
    policy = CachePolicy(60, "persistent", metadata={"a": 1})
    assert policy.lifecycle is CacheLifecycle.PERSISTENT
    assert policy.resolved_storage() is CacheStorage.DISK
    assert CachePolicy().resolved_storage() is CacheStorage.MEMORY
    assert CachePolicy(storage="memory", lifecycle="persistent").resolved_storage() is (
        CacheStorage.MEMORY
    )
    assert hash(policy) == hash(CachePolicy(60, "persistent", metadata={"a": 1}))
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(AttributeError):
        policy.ttl = 5


def test_put_arguments():
    effect = CachePut(key="k", value=1, ttl=5, lifecycle="session", metadata={"a": 1})
    assert effect.policy == CachePolicy(5, CacheLifecycle.SESSION, None, {"a": 1})
    assert CachePut("k", 1).policy == CachePolicy()
    assert CachePut("k", 1) == CachePut("k", 1)
    assert hash(CachePut("k", 1)) == hash(CachePut("k", 1, None))
    for wrong in [
        lambda: CachePut("k"),
        lambda: CachePut("k", 1, 2, 3),
        lambda: CachePut("k", 1, key="k"),
        lambda: CachePut("k", 1, nonsense=1),
        lambda: CachePut("k", 1, ttl="5"),
        lambda: CachePut("k", 1, lifecycle=5),
    ]:
        with pytest.raises(TypeError):
            wrong()
    with pytest.raises(ValueError, match="excludes ttl"):
        CachePut("k", 1, ttl=5, policy={})


# --- the decorator -------------------------------------------------------------------------------


def test_module_and_decorator_share_their_name():
    import doeff.cache

    assert doeff.cache(ttl=1)
    from doeff.cache import cache_1hour

    assert cache_1hour.__doeff_do_wrapper__
    assert doeff.cache.cache_key is cache_key
    assert doeff.cache.cache is cache
    assert cache.__doeff_do_wrapper__


def test_arguments_make_the_key():
    calls = []

    @cache()
    @do
    def f(a, /, b, c=3, *rest, d, e=5, **more):
        calls.append((a, b, c, rest, d, e, more))
        return len(calls)
        yield

    program = seq(
        f(1, 2, d=4),
        f(1, b=2, d=4, e=5),
        f(1, 2, 3, d=4),
        f(1, 2, 3, 9, d=4),
        f(1, 2, d=4, x=1),
        f(1, 2, x=1, d=4),
    )
    assert run(program).value == [1, 1, 1, 2, 3, 3]


def test_wrong_calls_are_type_errors():
    @cache()
    @do
    def f(a):
        return a
        yield

    assert isinstance(run(f()).error, TypeError)
    assert isinstance(run(f(1, b=2)).error, TypeError)


def test_unhashable_arguments():
    calls = []

    @cache()
    @do
    def total(numbers):
        calls.append(numbers)
        return sum(numbers)
        yield

    assert run(seq(total([1, 2]), total([1, 2]), total([3]))).value == [3, 3, 3]
    assert calls == [[1, 2], [3]]


def test_unserialisable_arguments_fail_before_the_work():
    calls = []

    @cache()
    @do
    def f(x):
        calls.append(x)
        yield

    assert run(f(x for x in ())).is_err()
    assert calls == []


def test_hashers_and_key_functions():
    calls = []

    @do
    def length(value):
        yield Put("hashed", value)
        return len(value)

    @cache(key_hashers={"text": length, "extra": str.lower})
    @do
    def f(text, **more):
        calls.append(text)
        return text
        yield

    program = seq(f("ab"), f("cd"), f("abc"), f("ab", extra="X"), f("ab", extra="x"))
    assert run(program).value == ["ab", "ab", "abc", "ab", "ab"]

    seen = []

    def key(name, args, kwargs):
        seen.append((name, args, dict(kwargs)))
        return args[0] % 2

    @cache(key_func=key)
    @do
    def g(n, *, scale=1):
        return n * scale
        yield

    assert run(seq(g(1), g(3), g(2))).value == [1, 1, 2]
    assert seen[0][0].endswith(".g")
    assert seen[0][1:] == ((1,), {"scale": 1})


def test_cache_key_checks_its_names():
    with pytest.raises(ValueError, match="no parameter 'z'"):
        cache(key_func=cache_key("z"))(do(lambda a: a))
    with pytest.raises(TypeError):
        cache_key(1)


def test_methods_and_plain_functions():
    calls = []

    class Account:
        def __init__(self, owner):
            self.owner = owner

        def __eq__(self, other):
            return isinstance(other, Account) and self.owner == other.owner

        def __hash__(self):
            return hash(self.owner)

        def __reduce__(self):
            return str, (self.owner,)

        @cache()
        @do
        def balance(self, currency="EUR"):
            calls.append((self.owner, currency))
            return (yield Ask(currency))

    a, b = Account("a"), Account("b")
    program = seq(a.balance(), a.balance("EUR"), Account("a").balance(), b.balance())
    assert run(program, env={"EUR": 5}).value == [5, 5, 5, 5]
    assert calls == [("a", "EUR"), ("b", "EUR")]

    @cache()
    def plain(x):
        calls.append(x)
        return Pure(x + 1)

    assert run(seq(plain(1), plain(1))).value == [2, 2]
    assert calls[2:] == [1]


def test_fixed_ttls():
    kept = []

    class Recorder(EffectBase):
        pass

    @do
    def recorder(effect: doeff.effects.cache.CachePutEffect, ctx):
        kept.append(effect.policy.ttl)
        return (yield effect)

    def f(x):
        return Pure(x)

    for decorate in (cache_1min, cache_5min, cache_forever, cache_1min(), cache(ttl=7)):
        run(WithHandler(recorder, decorate(f)(1)))
    assert kept == [60, 300, None, 60, 7]


def test_parentheses_are_asked_for():
    with pytest.raises(TypeError, match=r"@cache\(\)"):

        @cache
        def f():
            pass


def test_failures_name_the_call_site():
    @cache()
    @do
    def fails(x):
        yield Get("absent")

    @do
    def caller():
        return (yield Local({}, Safe(fails(1))))

    error = run(caller()).value.error
    assert isinstance(error, CacheComputationError)
    assert isinstance(error.__cause__, KeyError)
    assert error.func_name.endswith("fails")
    assert error.call_args == (1,)
    assert error.call_site.function == "caller"
    assert error.call_site.filename == __file__
    assert error.call_site.format_location() in error.__notes__[0]


def test_the_log_says_what_happened():
    @cache()
    @do
    def f(x):
        if x < 0:
            raise ValueError(x)
        return x
        yield

    log = run(seq(f(1), f(1), Safe(f(-1)))).raw_store["__log__"]
    assert [entry["level"] for entry in log] == ["debug", "debug", "debug", "error"]
    assert all(set(entry) == {"msg", "level"} for entry in log)


def test_results_that_are_results():
    values = {"ok": Ok(1), "err": Err(ValueError("v")), "none": None}

    @cache()
    @do
    def f(name):
        return values[name]
        yield

    for name, value in values.items():
        assert run(seq(f(name), f(name))).value == [value, value]


def test_call_stack_shows_the_function_and_not_the_decorator():
    @cache()
    @do
    def f():
        return [c.function_name for c in (yield ProgramCallStack())]

    @do
    def caller():
        return (yield f())

    assert run(caller()).value == ["f", "caller"]


def test_cached_values_outlive_the_run_in_a_storage(tmp_path):
    calls = []

    @cache(ttl=1000)
    @do
    def f(x, options):
        calls.append(x)
        return {"x": x}
        yield

    path = tmp_path / "cache.db"
    for _ in range(2):
        with SQLiteStorage(path) as storage:
            result = run(f(1, {"deep": [1]}), store={"__cache_storage__": storage})
            assert result.value == {"x": 1}
            assert result.raw_store["__cache_storage__"] is storage
    assert calls == [1]
