"""Every effect of the tables as a value: construction, validation, fields, equality."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import re

import pytest

import doeff
from doeff import FrozenDict, Pure, do
from doeff import effects as fx


def func(value=None):
    return value


@do
def kleisli():
    yield


P, Q = Pure(1), Pure(2)

# constructor names (top level or doeff.effects), class name, field names, arguments, other arguments
TABLE = [
    ("Ask ask", "AskEffect", "key", ("k",), ("l",)),
    (
        "Local local",
        "LocalEffect",
        "env_update sub_program",
        (FrozenDict(a=1), P),
        (FrozenDict(), P),
    ),
    ("Get get", "StateGetEffect", "key", ("k",), ("l",)),
    ("Put put", "StatePutEffect", "key value", ("k", 1), ("k", 2)),
    ("Modify modify", "StateModifyEffect", "key func", ("k", func), ("k", len)),
    ("Tell tell Log", "WriterTellEffect", "message", ("m",), (None,)),
    ("Listen listen", "WriterListenEffect", "sub_program", (P,), (Q,)),
    ("Safe safe", "ResultSafeEffect", "sub_program", (P,), (Q,)),
    ("IO io perform run", "IOPerformEffect", "action", (func,), (dict,)),
    ("Pure", "PureEffect", "value", (1,), (2,)),
    ("GetTime get_time", "GetTimeEffect", "", (), None),
    ("CacheGet cache_get", "CacheGetEffect", "key", ("k",), (("k", 1),)),
    ("CacheExists cache_exists", "CacheExistsEffect", "key", ("k",), ("l",)),
    ("CacheDelete cache_delete", "CacheDeleteEffect", "key", ("k",), ("l",)),
    ("AtomicGet atomic_get", "AtomicGetEffect", "key default_factory", ("k",), ("l",)),
    (
        "AtomicUpdate atomic_update",
        "AtomicUpdateEffect",
        "key updater default_factory",
        ("k", func),
        ("k", len),
    ),
    ("ProgramCallStack", "ProgramCallStackEffect", "", (), None),
    ("ProgramCallFrame", "ProgramCallFrameEffect", "depth", (1,), (2,)),
    ("GetDebugContext", "GetDebugContextEffect", "", (), None),
    ("Annotate annotate", "GraphAnnotateEffect", "meta", ({"a": 1},), ({},)),
    ("Snapshot snapshot", "GraphSnapshotEffect", "", (), None),
    ("CaptureGraph capture_graph capture", "GraphCaptureEffect", "program", (P,), (Q,)),
    ("Step step", "GraphStepEffect", "value meta", (1, {"a": 1}), (2,)),
    ("CachePut cache_put", "CachePutEffect", "key value policy", ("k", 1), ("k", 2)),
]
IDS = [row[1] for row in TABLE]


def lookup(name):
    return getattr(fx, name)


@pytest.mark.parametrize(("names", "cls", "fields", "args", "others"), TABLE, ids=IDS)
def test_constructors_and_classes(names, cls, fields, args, others):
    kind = lookup(cls)
    made = [lookup(name)(*args) for name in names.split()]
    for effect in made:
        assert type(effect) is kind
        assert effect == made[0]
        assert isinstance(effect, doeff.EffectBase)
        assert isinstance(effect, doeff.Program)
        assert repr(effect).startswith(cls + "(")
        assert "created_at" not in repr(effect)
        assert effect.created_at is None
    assert list(kind.__match_args__) == fields.split()
    assert [f.name for f in dataclasses.fields(kind)] == fields.split()
    for field in fields.split():
        assert f"{field}={getattr(made[0], field)!r}" in repr(made[0])
    for name in names.split():
        if name != "run" and hasattr(doeff, name):  # doeff.run is a module
            assert getattr(doeff, name) is lookup(name)
    capital = names.split()[0]
    assert getattr(doeff, capital) is lookup(capital)


@pytest.mark.parametrize(("names", "cls", "fields", "args", "others"), TABLE, ids=IDS)
def test_value_semantics(names, cls, fields, args, others):
    make = lookup(names.split()[0])
    effect, twin = make(*args), make(*args)
    assert effect == twin
    assert not effect != twin  # noqa: SIM202
    if others is not None:
        assert effect != make(*others)
    assert effect != 5
    assert effect != fx.StateGetEffect("a key that nothing else has")
    values = tuple(getattr(effect, f) for f in fields.split())
    try:
        hash(values)
    except TypeError:
        with pytest.raises(TypeError):
            hash(effect)
    else:
        assert hash(effect) == hash(twin)
    kind = type(effect)
    assert kind(*values) == effect
    assert kind(**dict(zip(fields.split(), values, strict=True))) == effect
    assert dataclasses.replace(effect) == effect
    assert copy.copy(effect) == effect
    assert copy.deepcopy(effect) == effect
    assert pickle.loads(pickle.dumps(effect)) == effect
    for field in fields.split():
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(effect, field, 1)
        with pytest.raises(dataclasses.FrozenInstanceError):
            delattr(effect, field)
    with pytest.raises(dataclasses.FrozenInstanceError):
        effect.brand_new = 1
    assert effect == twin


@pytest.mark.parametrize(("names", "cls", "fields", "args", "others"), TABLE, ids=IDS)
def test_wrong_argument_counts(names, cls, fields, args, others):
    for name in names.split():
        with pytest.raises(TypeError):
            lookup(name)(*([1] * 9))
        with pytest.raises(TypeError):
            lookup(name)(*args, no_such_field=1)
    with pytest.raises(TypeError):
        lookup(cls)(*([1] * 9))
    if names.split()[0] not in (
        "GetTime",
        "ProgramCallStack",
        "GetDebugContext",
        "Snapshot",
        "ProgramCallFrame",
    ):
        with pytest.raises(TypeError):
            lookup(names.split()[0])()


def test_matching_on_fields():
    match fx.Put("k", [1, 2]):
        case fx.StatePutEffect("k", [a, b]):
            assert (a, b) == (1, 2)
        case _:
            pytest.fail("no match")
    match fx.Modify("k", func):
        case fx.StateModifyEffect(key="k", func=f):
            assert f is func
        case _:
            pytest.fail("no match")


def test_constructor_keywords_equal_field_names_but_modify():
    assert fx.Modify(key="k", f=func) == fx.StateModifyEffect(key="k", func=func)
    assert fx.Put(key="k", value=1) == fx.Put("k", 1)
    assert fx.Local(env_update={"a": 1}, sub_program=P).sub_program is P
    assert fx.Intercept(P, func).program is P
    assert fx.IO(action=func).action is func
    assert fx.Step(value=1, meta=None).value == 1


def test_unhashable_fields_make_an_unhashable_effect():
    with pytest.raises(TypeError):
        hash(fx.Put("k", []))
    assert fx.Put("k", []) == fx.Put("k", [])


def test_equality_needs_the_same_class():
    assert fx.CacheGet("k") != fx.CacheExists("k")
    assert fx.Get("k") != fx.Ask("k")


def test_replace_changes_one_field():
    assert dataclasses.replace(fx.Put("k", 1), value=2) == fx.Put("k", 2)
    with pytest.raises(TypeError):
        dataclasses.replace(fx.Put("k", 1), nothing=2)


def test_asdict():
    assert dataclasses.asdict(fx.Put("k", 1)) == {"key": "k", "value": 1}
    assert dataclasses.is_dataclass(fx.Put("k", 1))


def test_log_is_tell():
    assert fx.Log is fx.Tell
    assert fx.StructuredLog(b=1, a=2).message == {"b": 1, "a": 2}
    assert list(fx.slog(b=1, a=2).message) == ["b", "a"]
    assert type(fx.slog(a=1)) is fx.WriterTellEffect
    with pytest.raises(TypeError):
        fx.StructuredLog("positional")


# --- validation -----------------------------------------------------------------

NOT_PROGRAMS = [5, None, "p", [P], kleisli, lambda: P, (x for x in ())]


@pytest.mark.parametrize("wrong", NOT_PROGRAMS, ids=lambda w: type(w).__name__)
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda p: fx.Local({}, p), "sub_program"),
        (fx.Listen, "sub_program"),
        (fx.Safe, "sub_program"),
        (lambda p: fx.Intercept(p, func), "program"),
        (lambda p: fx.intercept_program_effect(p, ()), "program"),
        (fx.CaptureGraph, "program"),
    ],
    ids=[
        "Local",
        "Listen",
        "Safe",
        "Intercept",
        "intercept_program_effect",
        "CaptureGraph",
    ],
)
def test_program_fields(make, field, wrong):
    with pytest.raises(
        TypeError, match=rf"^{field} must be .*, got {type(wrong).__name__}"
    ):
        make(wrong)


@pytest.mark.parametrize("wrong", [5, None, b"k", ("k",)], ids=repr)
@pytest.mark.parametrize(
    "make",
    [
        fx.Get,
        lambda k: fx.Put(k, 1),
        lambda k: fx.Modify(k, func),
        fx.AtomicGet,
        lambda k: fx.AtomicUpdate(k, func),
        fx.StateGetEffect,
        lambda k: fx.StatePutEffect(k, 1),
    ],
    ids=[
        "Get",
        "Put",
        "Modify",
        "AtomicGet",
        "AtomicUpdate",
        "StateGetEffect",
        "StatePutEffect",
    ],
)
def test_str_keys(make, wrong):
    with pytest.raises(
        TypeError, match=f"^key must be str, got {type(wrong).__name__}"
    ):
        make(wrong)


class StrKey(str):
    pass


def test_a_str_subclass_is_a_key():
    assert fx.Get(StrKey("k")) == fx.Get("k")


@pytest.mark.parametrize("wrong", [5, None, "f"], ids=repr)
@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda f: fx.Modify("k", f), "f|func"),
        (fx.IO, "action"),
        (lambda f: fx.AtomicUpdate("k", f), "updater"),
    ],
    ids=["Modify", "IO", "AtomicUpdate"],
)
def test_callable_fields(make, field, wrong):
    with pytest.raises(
        TypeError, match=rf"^({field}) must be .*, got {type(wrong).__name__}"
    ):
        make(wrong)


@pytest.mark.parametrize(
    "make", [fx.AtomicGet, lambda k, **kw: fx.AtomicUpdate(k, func, **kw)]
)
def test_default_factories(make):
    make("k", default_factory=None)
    make("k", default_factory=list)
    with pytest.raises(TypeError, match=r"^default_factory must be .*, got int"):
        make("k", default_factory=5)


@pytest.mark.parametrize("key", [[], {}, set()], ids=repr)
def test_ask_keys_are_hashable(key):
    with pytest.raises(TypeError, match=r"^key must be .*hashable.*, got|unhashable"):
        fx.Ask(key)


class BadHash:
    def __hash__(self):
        raise ValueError("no hash")


def test_ask_tries_the_hash():
    with pytest.raises((TypeError, ValueError)):
        fx.Ask(BadHash())


@pytest.mark.parametrize("wrong", [5, None, [("a", 1)], "env"], ids=repr)
def test_local_needs_a_mapping(wrong):
    with pytest.raises(
        TypeError, match=f"^env_update must be .*, got {type(wrong).__name__}"
    ):
        fx.Local(wrong, P)


def test_intercept_needs_transforms():
    with pytest.raises(ValueError):
        fx.Intercept(P)
    for wrong in (5, None, "f"):
        with pytest.raises(TypeError):
            fx.Intercept(P, func, wrong)
    assert fx.Intercept(P, func, len).transforms == (func, len)
    assert type(fx.Intercept(P, func)) is fx.InterceptEffect
    assert fx.intercept_program_effect(P, ()).transforms == ()
    assert fx.InterceptEffect.__match_args__ == ("program", "transforms")


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", None], ids=repr)
def test_call_frame_depth(wrong):
    with pytest.raises((TypeError, ValueError)):
        fx.ProgramCallFrame(wrong)
    assert fx.ProgramCallFrame() == fx.ProgramCallFrame(0)
    assert fx.ProgramCallFrame(True).depth == 1


@pytest.mark.parametrize("wrong", [5, "text", [("a", 1)], {1: 2}, {None: 1}], ids=repr)
@pytest.mark.parametrize(
    "make", [fx.Annotate, lambda m: fx.Step(1, m)], ids=["Annotate", "Step"]
)
def test_graph_meta(make, wrong):
    with pytest.raises(TypeError, match="meta"):
        make(wrong)


def test_graph_meta_is_copied():
    meta = {"a": 1}
    step, annotate = fx.Step(1, meta), fx.Annotate(meta)
    meta["b"] = 2
    assert dict(step.meta) == dict(annotate.meta) == {"a": 1}
    with pytest.raises(TypeError):
        fx.Annotate(None)


def test_cache_policy_rules():
    policy = doeff.CachePolicy(ttl=5)
    assert fx.CachePut("k", 1, policy=policy).policy == policy
    assert fx.CachePut("k", 1, 5).policy.ttl == 5
    assert fx.CachePut("k", 1, policy={"ttl": 5}).policy == policy
    assert fx.CachePut("k", 1, lifecycle="session").policy.lifecycle is (
        doeff.CacheLifecycle.SESSION
    )
    assert fx.CachePut("k", 1, storage="disk").policy.storage is doeff.CacheStorage.DISK
    with pytest.raises(ValueError):
        fx.CachePut("k", 1, 5, policy=policy)
    with pytest.raises(ValueError):
        fx.CachePut("k", 1, lifecycle="nonsense")
    with pytest.raises(ValueError):
        fx.CachePut("k", 1, storage="nonsense")
    with pytest.raises(TypeError):
        fx.CachePut("k", 1, policy=5)
    with pytest.raises(TypeError):
        fx.CachePut("k", 1, metadata=5)
    with pytest.raises(TypeError):
        fx.CachePut("k", 1, policy={"nonsense": 1})


def test_cache_put_key_must_serialise():
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        fx.CachePut(("k", (x for x in ())), 1)


@pytest.mark.parametrize("name", ["Ask", "Get", "Tell"])
def test_constructors_say_what_is_missing(name):
    with pytest.raises(TypeError, match=re.escape(name) + "|key|message"):
        lookup(name)()


@pytest.mark.parametrize("name", ["Get", "Put", "Ask", "Safe", "Tell", "CachePut"])
def test_constructors_pickle_by_name(name):
    constructor = getattr(doeff, name)
    assert pickle.loads(pickle.dumps(constructor)) is constructor


def test_a_combination_of_constructors_pickles():
    program = pickle.loads(pickle.dumps(doeff.Pure("n").flat_map(doeff.Get)))
    result = doeff.sync_run(program, doeff.sync_handlers_preset, store={"n": 3})
    assert result.value == 3
