"""Bodies for the values: Result, Maybe, FrozenDict, BoundedLog, origins."""

from __future__ import annotations

import copy
import pickle

from doeff import (
    NOTHING,
    Err,
    FrozenDict,
    Get,
    ListenResult,
    Maybe,
    Ok,
    Result,
    Some,
    record_origins,
)
from doeff.utils import BoundedLog, create_effect_with_trace

ERROR = ValueError("refused")


def refusing(*calls):
    for call in calls:
        try:
            call()
        except (TypeError, AttributeError, KeyError, RuntimeError, ValueError):
            pass
        else:
            raise AssertionError("not refused")


def leak_result_methods():
    for r in (Ok([1]), Err(ERROR), Err(ERROR, Some("trace"))):
        r.ok(), r.err(), r.is_ok(), r.is_err(), bool(r), r | Ok(2), hash(Err(ERROR))
        r.unwrap_or([]), r.unwrap_or_else(repr), r.map(repr), r.recover(repr)
        r.map_err(lambda e: KeyError(1)), r.and_then(Ok)
        repr(r), r == Ok([1]), copy.copy(r), pickle.loads(pickle.dumps(r))
    assert Result[int]
    assert Ok[int] | Err


def leak_result_refusals():
    error = ValueError("fresh, because raising one again lengthens its traceback")
    refusing(
        Err(error).unwrap,
        Ok(1).unwrap_err,
        lambda: Err(error).expect("m"),
        lambda: Err(error).expect(""),
        lambda: Err(ERROR).map_err(repr),
        lambda: Err("text").unwrap(),
        lambda: Ok(1).and_then(repr),
        lambda: Ok(1).map(int.missing),
        lambda: Ok(1) | 2,
        lambda: Ok(1).or_program(2),
        lambda: setattr(Ok(1), "value", 2),
        Result,
        Maybe,
    )


def leak_programs_of_results():
    for r in (Ok(1), Err(ERROR)):
        r.and_then_k(lambda v: Get("x")), r.recover_k(lambda v: Get("x"))
        r.or_program(Get("x"))


def leak_maybe_methods():
    for m in (Some([1]), NOTHING):
        m.is_some(), m.is_none(), bool(m), m | Some(2), m | NOTHING
        m.unwrap_or([]), m.unwrap_or_else(list), m.map(repr), m.flat_map(Some)
        m.filter(bool), m.filter(lambda v: False), m.ok_or(ERROR)
        m.ok_or_else(lambda: ERROR), m.to_optional(), Maybe.from_optional(m)
        repr(m), copy.deepcopy(m), pickle.loads(pickle.dumps(m))
    assert Maybe.from_optional(None) is type(NOTHING)()


def leak_maybe_refusals():
    refusing(
        NOTHING.unwrap,
        lambda: NOTHING.expect("m"),
        lambda: Some(1).flat_map(repr),
        lambda: Some(1).filter(int.missing),
        lambda: NOTHING.ok_or(1),
        lambda: NOTHING.ok_or_else(list),
        lambda: NOTHING | 1,
        lambda: type(NOTHING)(1),
    )


def leak_listen_result():
    value, log = ListenResult([1], BoundedLog("ab"))
    copy.deepcopy(ListenResult(value, log))


def leak_frozen_dict():
    d = FrozenDict({"a": [1]}, b=2)
    d.set("c", 3), d.delete("a"), d.copy(), d | {"e": 1}, {"e": 1} | d
    repr(d), d == {}, hash(FrozenDict(a=1)), FrozenDict(d), FrozenDict.fromkeys("ab")
    copy.copy(d), copy.deepcopy(d), pickle.loads(pickle.dumps(d))
    d |= {"f": 1}
    inner = []
    inner.append(FrozenDict(a=inner))
    copy.deepcopy(inner), repr(inner)


def leak_frozen_dict_refusals():
    d = FrozenDict(a=[1])

    def assign():
        d["a"] = 1

    refusing(
        assign,
        lambda: hash(d),
        lambda: d.delete("z"),
        lambda: d.set([], 1),
        lambda: d | 1,
        lambda: d.pop("a"),
        lambda: d.update({}),
        lambda: FrozenDict(1),
        lambda: FrozenDict.fromkeys([[]]),
        lambda: FrozenDict({}, {}),
    )


def leak_bounded_log():
    log = BoundedLog(range(5), max_entries=3)
    log.append([1])
    log.extend([2, 3])
    log += [4]
    log *= 2
    log.insert(-1, 5)
    log[1:1] = [6]
    log.copy(), log.spawn_empty(), copy.copy(log), copy.deepcopy(log)
    pickle.loads(pickle.dumps(log))
    log.set_max_entries(1)
    refusing(
        lambda: log.set_max_entries(-1),
        lambda: BoundedLog(max_entries="1"),
        lambda: BoundedLog(1),
        lambda: log.extend(1),
        lambda: log.insert("a", 1),
    )


def leak_origins():
    before = record_origins(True)
    effect = Get("k")
    record_origins(before)
    effect.created_at.format_full(), effect.created_at.stack_trace
    create_effect_with_trace(effect)
    copy.copy(effect), pickle.loads(pickle.dumps(effect))
