"""Values: Result, Maybe, ListenResult, FrozenDict, BoundedLog, places of origin."""

from __future__ import annotations

import copy
import dataclasses
import gc
import os
import pickle
import subprocess
import sys
import weakref
from collections import ChainMap, OrderedDict
from types import MappingProxyType
from typing import Any

import pytest

import doeff
from doeff import (
    NOTHING,
    Err,
    FrozenDict,
    Get,
    ListenResult,
    Maybe,
    Nothing,
    Ok,
    Program,
    Result,
    Some,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.utils import BoundedLog, capture_creation_context, create_effect_with_trace

BOOM = ValueError("boom")
VALUES = [Ok(1), Err(BOOM), Some(1), NOTHING, ListenResult(1, ["a"])]


def run(program: Any) -> Any:
    return sync_run(program, sync_handlers_preset).value


def raises(value: Any) -> Any:
    raise AssertionError(f"called with {value!r}")


# --- Result -------------------------------------------------------------------


def test_ok_and_err_are_results():
    assert isinstance(Ok(1), Result)
    assert isinstance(Err(BOOM), Result)
    assert not isinstance(Some(1), Result)
    for cls in (Result, Maybe):
        with pytest.raises(TypeError):
            cls()


@pytest.mark.parametrize(
    ("method", "args", "on_ok", "on_err"),
    [
        ("is_ok", (), True, False),
        ("is_err", (), False, True),
        ("ok", (), 1, None),
        ("err", (), None, BOOM),
        ("unwrap_or", (7,), 1, 7),
        ("value_or", (7,), 1, 7),
        ("unwrap_or_else", (repr,), 1, repr(BOOM)),
        ("map", (str,), Ok("1"), Err(BOOM)),
        ("and_then", (lambda v: Ok(v + 1),), Ok(2), Err(BOOM)),
        ("recover", (str,), Ok(1), Ok("boom")),
        ("recover", (lambda e: Err(e),), Ok(1), Err(BOOM)),
        ("__bool__", (), True, False),
    ],
)
def test_result_methods(method, args, on_ok, on_err):
    assert getattr(Ok(1), method)(*args) == on_ok
    assert getattr(Err(BOOM), method)(*args) == on_err


def test_unused_functions_are_not_called():
    assert Ok(1).unwrap_or_else(raises) == 1
    assert Ok(1).map_err(raises) == Ok(1)
    assert Ok(1).recover(raises) == Ok(1)
    assert Err(BOOM).map(raises) == Err(BOOM)
    assert Err(BOOM).and_then(raises) == Err(BOOM)


def test_unwrap():
    assert Ok(1).unwrap() == 1
    assert Ok(1).expect("never said") == 1
    assert Err(BOOM).unwrap_err() is BOOM
    with pytest.raises(ValueError) as caught:
        Err(BOOM).unwrap()
    assert caught.value is BOOM
    with pytest.raises(RuntimeError):
        Ok(1).unwrap_err()
    with pytest.raises(TypeError, match="str"):
        Err("no exception").unwrap()


def test_expect():
    with pytest.raises(RuntimeError, match=r"^reading: boom$") as caught:
        Err(BOOM).expect("reading")
    assert caught.value.__cause__ is BOOM
    with pytest.raises(ValueError) as same:
        Err(BOOM).expect("")
    assert same.value is BOOM


def test_map_err():
    key_error = KeyError("k")
    assert Err(BOOM).map_err(lambda e: key_error) == Err(key_error)
    with pytest.raises(TypeError, match="exception"):
        Err(BOOM).map_err(str)
    assert Err(BOOM, Some("trace")).map_err(
        lambda e: key_error
    ).captured_traceback == Some("trace")


def test_and_then_needs_a_result():
    with pytest.raises(TypeError, match="Result"):
        Ok(1).and_then(str)


def test_errors_of_the_functions_pass():
    for call in (
        lambda: Ok(1).map(lambda v: 1 / 0),
        lambda: Ok(1).and_then(lambda v: 1 / 0),
        lambda: Err(BOOM).recover(lambda e: 1 / 0),
        lambda: Some(1).filter(lambda v: 1 / 0),
        lambda: NOTHING.unwrap_or_else(lambda: 1 / 0),
    ):
        with pytest.raises(ZeroDivisionError):
            call()


def test_first_ok():
    assert Ok(1) | Err(BOOM) == Ok(1)
    assert Err(BOOM) | Ok(2) == Ok(2)
    assert (Err(BOOM) | Err(other := KeyError(1))).err() is other
    for wrong in (lambda: Ok(1) | 2, lambda: 2 | Ok(1), lambda: Ok(1) | Some(1)):
        with pytest.raises(TypeError):
            wrong()


def test_methods_that_give_programs():
    @do
    def half(n):
        yield from ()
        return Ok(n // 2) if n % 2 == 0 else Err(ValueError(n))

    @do
    def plain(v):
        yield from ()
        return v

    assert run(Ok(4).and_then_k(half)) == Ok(2)
    assert run(Ok(3).and_then_k(half)).is_err()
    assert run(Ok(3).and_then_k(plain)) == Ok(3)
    assert run(Err(BOOM).and_then_k(raises)) == Err(BOOM)
    assert run(Err(BOOM).recover_k(plain)) == Ok(BOOM)
    assert run(Ok(1).recover_k(raises)) == Ok(1)
    assert run(Ok(1).or_program(Get("absent"))) == Ok(1)
    assert run(Err(BOOM).or_program(Program.pure(2))) == Ok(2)
    assert run(Err(BOOM).or_program(Program.pure(Err(BOOM)))) == Err(BOOM)
    assert isinstance(Ok(1).and_then_k(half), Program)
    for wrong in (
        lambda: Ok(1).and_then_k(1),
        lambda: Ok(1).recover_k(1),
        lambda: Ok(1).or_program(half),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_captured_traceback_takes_no_part():
    assert Err(BOOM).captured_traceback is NOTHING
    assert Err(BOOM, None).captured_traceback is NOTHING
    traced = Err(BOOM, captured_traceback=Some("trace"))
    assert traced == Err(BOOM)
    assert hash(traced) == hash(Err(BOOM))
    assert repr(traced) == "Err(error=ValueError('boom'))"


# --- Maybe --------------------------------------------------------------------


def test_nothing_is_one():
    assert Nothing() is NOTHING
    assert repr(NOTHING) == "Nothing()"
    assert isinstance(NOTHING, Maybe)
    for again in (copy.copy, copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))):
        assert again(NOTHING) is NOTHING
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps([NOTHING], protocol))[0] is NOTHING
    with pytest.raises(TypeError):
        Nothing(1)


@pytest.mark.parametrize(
    ("method", "args", "on_some", "on_nothing"),
    [
        ("is_some", (), True, False),
        ("is_none", (), False, True),
        ("unwrap_or", (7,), 1, 7),
        ("value_or", (7,), 1, 7),
        ("map", (str,), Some("1"), NOTHING),
        ("flat_map", (lambda v: Some(v + 1),), Some(2), NOTHING),
        ("flat_map", (lambda v: NOTHING,), NOTHING, NOTHING),
        ("filter", (bool,), Some(1), NOTHING),
        ("filter", (lambda v: False,), NOTHING, NOTHING),
        ("ok_or", (BOOM,), Ok(1), Err(BOOM)),
        ("ok_or_else", (lambda: BOOM,), Ok(1), Err(BOOM)),
        ("to_optional", (), 1, None),
        ("unwrap_or_else", (lambda: 8,), 1, 8),
        ("__bool__", (), True, False),
    ],
)
def test_maybe_methods(method, args, on_some, on_nothing):
    assert getattr(Some(1), method)(*args) == on_some
    assert getattr(NOTHING, method)(*args) == on_nothing


def test_maybe_errors():
    assert Some(1).unwrap() == Some(1).expect("never said") == 1
    with pytest.raises(RuntimeError):
        NOTHING.unwrap()
    with pytest.raises(RuntimeError, match=r"^missing$"):
        NOTHING.expect("missing")
    for wrong in (
        lambda: Some(1).flat_map(str),
        lambda: Some(1).ok_or("text"),
        lambda: NOTHING.ok_or("text"),
        lambda: NOTHING.ok_or_else(str),
        lambda: Some(1) | 2,
        lambda: NOTHING | None,
        lambda: 2 | NOTHING,
    ):
        with pytest.raises(TypeError):
            wrong()


def test_maybe_from_optional():
    assert Maybe.from_optional(None) is NOTHING
    assert Maybe.from_optional(0) == Some(0)


def test_first_some():
    assert Some(0) | Some(1) == Some(0)
    assert NOTHING | Some(1) == Some(1)
    assert NOTHING | NOTHING is NOTHING


# --- all of them ----------------------------------------------------------------


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_values_are_frozen_and_travel(value):
    with pytest.raises(AttributeError):
        value.value = 2
    for again in (copy.copy(value), copy.deepcopy(value)):
        assert again == value or isinstance(value, Err)
        assert type(again) is type(value)
    back = pickle.loads(pickle.dumps(value))
    assert type(back) is type(value)
    assert back == value or repr(back) == repr(value)


def test_values_hash_by_their_fields():
    assert len({Ok(1), Ok(1), Some(1), Err(BOOM), Err(BOOM), NOTHING}) == 4
    assert Ok(1) != Some(1) != 1
    with pytest.raises(TypeError):
        hash(Ok([]))


def test_patterns():
    def shape(value):
        match value:
            case Ok(v):
                return "ok", v
            case Err(ValueError() as e):
                return "err", e
            case Some(v):
                return "some", v
            case Nothing():
                return "nothing"
            case ListenResult(v, log):
                return v, log

    assert [shape(v) for v in VALUES] == [
        ("ok", 1),
        ("err", BOOM),
        ("some", 1),
        "nothing",
        (1, ["a"]),
    ]


def test_they_look_like_dataclasses():
    assert [f.name for f in dataclasses.fields(Ok)] == ["value"]
    assert dataclasses.replace(Some(1), value=2) == Some(2)
    assert dataclasses.replace(Err(BOOM), captured_traceback=Some(1)) == Err(BOOM)


def test_annotations():
    assert Result[int].__origin__ is Result
    assert Ok[int] | Err
    assert Maybe[int].__origin__ is Maybe
    assert ListenResult[int].__origin__ is ListenResult
    assert FrozenDict[str, int].__origin__ is FrozenDict


def test_methods_without_fields_are_refused():
    class Odd(Result, dict):
        pass

    class OddMaybe(Maybe, dict):
        pass

    for wrong in (
        Odd().unwrap,
        lambda: Odd().map(str),
        lambda: bool(Odd()),
        lambda: Odd() | Ok(1),
        lambda: Ok(1) | Odd(),
        OddMaybe().unwrap,
        lambda: OddMaybe() | NOTHING,
    ):
        with pytest.raises(TypeError):
            wrong()


def test_listen_result_unpacks():
    value, log = ListenResult(1, ["a"])
    assert (value, log) == (1, ["a"])
    assert ListenResult(value=1, log=[]).log == []


# --- FrozenDict -----------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: FrozenDict({"a": 1, "b": 2}),
        lambda: FrozenDict([("a", 1), ("b", 2)]),
        lambda: FrozenDict(a=1, b=2),
        lambda: FrozenDict({"a": 1}, b=2),
        lambda: FrozenDict(MappingProxyType({"a": 1, "b": 2})),
        lambda: FrozenDict(zip("ab", (1, 2), strict=True)),
        lambda: FrozenDict(FrozenDict(a=1, b=2)),
    ],
)
def test_frozen_dict_constructors(make):
    d = make()
    assert d == {"a": 1, "b": 2}
    assert isinstance(d, dict)
    assert list(d) == ["a", "b"]
    assert (d["a"], d.get("c", 3), "b" in d, len(d)) == (1, 3, True, 2)
    assert repr(d) == "FrozenDict({'a': 1, 'b': 2})"
    assert {**d} == dict(d) == d


def test_frozen_dict_refuses_wrong_items():
    for wrong in (
        lambda: FrozenDict(1),
        lambda: FrozenDict({}, {}),
        lambda: FrozenDict([1]),
        lambda: FrozenDict({}).set(1),
        lambda: FrozenDict({}).set([], 1),
        lambda: FrozenDict.fromkeys(),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_frozen_dict_never_changes():
    d = FrozenDict(a=1)
    with pytest.raises(TypeError):
        d["a"] = 2
    with pytest.raises(TypeError):
        del d["a"]
    for name in ("clear", "pop", "popitem", "setdefault", "update"):
        assert not hasattr(d, name)
        with pytest.raises(AttributeError):
            getattr(d, name)
    with pytest.raises(AttributeError):
        d.attribute = 1
    with pytest.raises(AttributeError):
        d.keys = 1
    d.__init__({"b": 2})
    d.__init__()
    assert d == {"a": 1}
    with pytest.raises(TypeError):
        FrozenDict.keys = 1


def test_frozen_dict_changed_copies():
    d = FrozenDict(a=1)
    assert d.set("b", 2) == {"a": 1, "b": 2}
    assert d.set("a", 3) == {"a": 3}
    assert d.delete("a") == {}
    assert d.copy() == d
    assert d == {"a": 1}
    with pytest.raises(KeyError):
        d.delete("b")
    keyed = FrozenDict.fromkeys("ab", 0)
    assert keyed == {"a": 0, "b": 0}
    assert FrozenDict.fromkeys("a") == {"a": None}
    for made in (d.set("b", 2), d.delete("a"), d.copy(), keyed):
        assert type(made) is FrozenDict


@pytest.mark.parametrize(
    "kind", [dict, FrozenDict, OrderedDict, MappingProxyType, ChainMap]
)
def test_frozen_dict_union(kind):
    d = FrozenDict(a=1, b=1)
    other = kind({"b": 2, "c": 2})
    assert type(d | other) is FrozenDict
    assert d | other == {"a": 1, "b": 2, "c": 2}
    assert dict(other | d) == {"a": 1, "b": 1, "c": 2}
    if kind is not ChainMap and kind is not OrderedDict:
        assert type(other | d) is FrozenDict
    before = d
    d |= other
    assert type(d) is FrozenDict
    assert d == {"a": 1, "b": 2, "c": 2}
    assert before == {"a": 1, "b": 1}


def test_frozen_dict_union_with_something_else():
    for wrong in (
        lambda: FrozenDict(a=1) | [("b", 2)],
        lambda: FrozenDict(a=1) | 1,
        lambda: None | FrozenDict(a=1),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_frozen_dict_hash():
    assert hash(FrozenDict(a=1, b=2)) == hash(FrozenDict(b=2, a=1))
    assert len({FrozenDict(a=1), FrozenDict(a=1), FrozenDict()}) == 2
    with pytest.raises(TypeError):
        hash(FrozenDict(a=[]))


def test_frozen_dict_equality():
    assert FrozenDict(a=1) == {"a": 1} == FrozenDict(a=1)
    assert FrozenDict(a=1) != {"a": 2}
    assert FrozenDict() != []


def test_frozen_dict_travels():
    d = FrozenDict(a=[1], b=FrozenDict(c=2))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        back = pickle.loads(pickle.dumps(d, protocol))
        assert type(back) is type(back["b"]) is FrozenDict
        assert back == d
    deep = copy.deepcopy(d)
    assert deep == d
    assert deep["a"] is not d["a"]
    assert copy.copy(d)["a"] is d["a"]


def test_frozen_dict_that_contains_itself():
    inner: list[Any] = []
    d = FrozenDict(a=inner)
    inner.append(d)
    assert repr(d) == "FrozenDict({'a': [FrozenDict({...})]})"
    deep = copy.deepcopy(d)
    assert deep["a"][0] is deep


class Env(FrozenDict):
    pass


def test_frozen_dict_subclass():
    d = Env(a=1)
    d.note = "kept"
    assert type(d.set("b", 2)) is Env
    assert type(Env.fromkeys("a")) is Env
    assert type(d | {"b": 2}) is FrozenDict
    back = pickle.loads(pickle.dumps(d))
    assert (type(back), back, back.note) == (Env, {"a": 1}, "kept")
    assert repr(d) == "Env({'a': 1})"
    with pytest.raises(TypeError):
        d["a"] = 2


def test_frozen_dict_is_collected():
    class Cell:
        pass

    cell = Cell()
    cell.d = FrozenDict(cell=cell)
    ref = weakref.ref(cell)
    del cell
    gc.collect()
    assert ref() is None


# --- BoundedLog -----------------------------------------------------------------


def grow(log: BoundedLog) -> None:
    log.append(1)
    log.extend([2, 3])
    log += (4,)
    log.insert(0, 0)
    log[1:1] = [9, 9]
    log[0] = 5


def test_an_unbounded_log_is_a_list():
    log, plain = BoundedLog(), []
    grow(log)
    grow(plain)  # type: ignore[arg-type]
    assert log == plain
    assert isinstance(log, list)
    assert log.max_entries is None


@pytest.mark.parametrize("bound", range(4))
def test_a_bounded_log_keeps_the_newest(bound):
    log = BoundedLog(range(5), max_entries=bound)
    assert list(log) == list(range(5))[5 - bound :]
    for step in (
        lambda: log.append("a"),
        lambda: log.extend("bcd"),
        lambda: log.insert(0, "e"),
        lambda: log.insert(-1, "e"),
        lambda: log.__iadd__("fg"),
        lambda: log.__imul__(3),
        lambda: log.__setitem__(slice(0, 0), "hijk"),
    ):
        before = list(log)
        step()
        assert len(log) <= bound
        if bound == 0:
            assert before == list(log) == []
    log = BoundedLog("ab", max_entries=2)
    log.append("c")
    assert log == ["b", "c"]
    log.insert(0, "x")
    assert log == ["b", "c"]
    log[:] = "xyz"
    assert log == ["y", "z"]


def test_a_log_copies_and_travels_with_its_bound():
    log = BoundedLog("abc", max_entries=2)
    others = [
        log.copy(),
        copy.copy(log),
        copy.deepcopy(log),
        *(
            pickle.loads(pickle.dumps(log, p))
            for p in range(pickle.HIGHEST_PROTOCOL + 1)
        ),
    ]
    for other in others:
        assert type(other) is BoundedLog
        assert other is not log
        assert other == log
        assert other.max_entries == 2
    empty = log.spawn_empty()
    assert (empty, empty.max_entries) == ([], 2)
    assert pickle.loads(pickle.dumps(BoundedLog("ab"))) == ["a", "b"]


def test_the_bound_can_change():
    log = BoundedLog("abc")
    log.set_max_entries(1)
    assert log == ["c"]
    log.set_max_entries(None)
    log.extend("de")
    assert log == ["c", "d", "e"]


def test_wrong_bounds():
    with pytest.raises(ValueError):
        BoundedLog(max_entries=-1)
    with pytest.raises(ValueError):
        BoundedLog().set_max_entries(-2)
    with pytest.raises(TypeError):
        BoundedLog(max_entries="2")
    with pytest.raises(TypeError):
        BoundedLog(5)
    with pytest.raises(TypeError):
        BoundedLog([], 5)


# --- where an effect was made -----------------------------------------------------


def make_here() -> Any:
    return Get("k")  # the line


@pytest.fixture
def origins():
    before = doeff.record_origins(True)
    yield
    doeff.record_origins(before)


def test_origins_are_off_by_default():
    assert make_here().created_at is None


def test_an_origin_describes_the_caller(origins):
    here = make_here().created_at
    code = make_here.__code__
    assert here.filename == __file__
    assert here.function == "make_here"
    assert here.line == code.co_firstlineno + 1
    assert here.code == 'return Get("k")  # the line'
    assert here.frame_info is None
    assert here.without_frames() == here
    assert here.format_location() == f"{__file__}:{here.line} in make_here"
    functions = [entry["function"] for entry in here.stack_trace]
    assert functions[:2] == ["make_here", "test_an_origin_describes_the_caller"]
    for text in (here.format_full(), here.build_traceback()):
        assert f'File "{__file__}", line {here.line}, in make_here' in text
        assert here.code in text
        assert text.index("in test_an_origin") < text.rindex("in make_here")


def test_recording_takes_no_part_in_equality(origins):
    effect = make_here()
    doeff.record_origins(False)
    assert effect == make_here()
    assert hash(effect) == hash(make_here())
    assert repr(effect) == repr(make_here())


def test_classes_are_not_stamped(origins):
    assert type(make_here())("k").created_at is None


def test_calls_are_stamped(origins):
    @do
    def program():
        yield from ()

    assert program().created_at.function == "test_calls_are_stamped"


def test_an_origin_keeps_no_locals_alive(origins):
    class Cell:
        pass

    def make():
        cell = Cell()
        return Get("k"), weakref.ref(cell)

    effect, ref = make()
    gc.collect()
    assert ref() is None
    assert effect.created_at.stack_trace


def test_an_origin_travels(origins):
    here = make_here().created_at
    for back in (copy.deepcopy(here), pickle.loads(pickle.dumps(here))):
        assert back == here
        assert back.code == here.code
        assert back.stack_trace == here.stack_trace
        assert hash(back) == hash(here)


def test_effect_authors_can_stamp():
    def constructor():
        return create_effect_with_trace(Get("k"))

    def context():
        return capture_creation_context()

    line = sys._getframe().f_lineno + 1
    effect = constructor()
    assert effect.created_at.function == "test_effect_authors_can_stamp"
    assert effect.created_at.line == line
    assert effect == Get("k")
    assert context().function == "test_effect_authors_can_stamp"
    assert capture_creation_context(skip_frames=1).line == line + 5
    assert capture_creation_context(skip_frames=10_000).line > 0


def test_origins_by_environment_variable():
    program = "import doeff; print(doeff.Get('k').created_at.line)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "DOEFF_ORIGINS": "1",
            "PYTHONPATH": ":".join(filter(None, sys.path)),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "1\n"
