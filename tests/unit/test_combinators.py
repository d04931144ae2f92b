"""Programs made of programs: map, flat_map, builders, projections, and chains of a million."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref

import pytest

from doeff import (
    NOTHING,
    Ask,
    EffectBase,
    Get,
    Modify,
    Program,
    Pure,
    Put,
    Some,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)

MILLION = 1_000_000
MANY = 100_000
COUNT = Modify("n", lambda n: (n or 0) + 1)


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


@do
def add(a, b):
    return a + b
    yield


@do
def boom(text="boom"):
    raise ValueError(text)
    yield


def added(value):
    return add(value, 1)


class Stop(BaseException):
    pass


@do
def stop():
    raise Stop
    yield


# --- map, flat_map, then ------------------------------------------------------------


def test_the_three_tell_at_once_what_they_cannot_take():
    with pytest.raises(TypeError, match="mapper must be callable, got int"):
        Pure(1).map(1)
    with pytest.raises(TypeError, match="binder must be callable, got int"):
        Pure(1).flat_map(1)
    with pytest.raises(TypeError, match="next must be Program, got int"):
        Pure(1).then(1)


@pytest.mark.parametrize("combine", ["map", "flat_map"])
def test_stop_iteration_from_a_function_is_a_runtime_error(combine):
    stop = StopIteration(1)

    def f(value):
        raise stop

    @do
    def around():
        yield getattr(Pure(1), combine)(f)

    for program in (getattr(Pure(1), combine)(f), around()):
        error = run(program).error
        assert type(error) is RuntimeError
        assert error.__cause__ is stop


def test_a_binder_runs_at_the_place_of_the_call():
    @do
    def handler(effect, ctx):
        if isinstance(effect, Named):
            return (yield Ask("who"))
        return (yield effect)

    program = Pure(1).flat_map(lambda _: Named())
    assert run(WithHandler(handler, program), env={"who": "outer"}).value == "outer"


class Named(EffectBase):
    pass


def test_a_program_that_is_dropped_while_it_runs():
    assert (
        run(Pure(1).map(lambda v: Pure(v)).flat_map(lambda p: p.map(str))).value == "1"
    )


def test_what_a_call_shows_is_kept_and_what_others_lack_is_projected():
    call = add(1, b=2)
    for program in (call.map(str), call.map(str).flat_map(Pure), call.then(Pure(1))):
        assert program.kleisli_source is add
        assert program.function_name == "add"
        assert program.args == (1,)
        assert program.kwargs == {"b": 2}
        assert program.created_at is None

    class Command:
        args = ["x"]

    assert run(Pure(Command()).map(lambda c: c).args).value == ["x"]


def test_programs_are_hashable_and_compare_by_identity():
    p = Pure(1).map(str)
    assert {p: 1}[p] == 1
    assert p != Pure(1).map(str)
    with pytest.raises(AttributeError):
        p.function = 1


def test_combined_programs_are_immutable_and_not_made_directly():
    with pytest.raises(TypeError):
        type(Pure(1).map(str))()


# --- builders -----------------------------------------------------------------------


def test_builders_copy_what_they_are_given():
    programs = [Pure(1)]
    pairs = {"a": Pure(1)}
    sequence, mapping = Program.sequence(programs), Program.dict(pairs)
    programs.append(Pure(2))
    pairs["b"] = 2
    assert run(sequence).value == [1]
    assert run(mapping).value == {"a": 1}


def test_each_run_gets_fresh_collections():
    for program in (
        Program.list(1),
        Program.set(1),
        Program.dict(a=1),
        Program.sequence([]),
    ):
        first, second = run(program).value, run(program).value
        assert first == second
        assert first is not second


def test_sequence_wants_programs_and_says_which_is_none():
    with pytest.raises(TypeError, match=r"programs\[1\] must be Program, got int"):
        Program.sequence([Pure(1), 2])


def test_traverse_calls_the_function_in_turn():
    log = []

    def visit(item):
        log.append(item)
        return Modify("n", lambda n: (n or 0) + item)

    program = Program.traverse((i for i in (1, 2, 3)), visit)
    assert log == []
    assert run(program).value == [1, 3, 6]
    assert log == [1, 2, 3]
    error = run(Program.traverse([1, 2], lambda v: v)).error
    assert type(error) is TypeError
    assert str(error) == "binder must return a Program; got int"


def test_traverse_stops_at_the_first_error():
    seen = []

    def visit(item):
        seen.append(item)
        return boom() if item == 2 else COUNT

    result = run(Program.traverse([1, 2, 3], visit))
    assert type(result.error) is ValueError
    assert seen == [1, 2]
    assert result.raw_store == {"n": 1}


def test_dict_takes_what_dict_takes():
    assert run(Program.dict([("a", 1), ("b", Pure(2))], a=Pure(3))).value == {
        "a": 3,
        "b": 2,
    }
    with pytest.raises(TypeError):
        Program.dict(1)
    with pytest.raises(TypeError):
        Program.dict({}, {})


def test_a_set_of_what_cannot_be_hashed_fails_when_it_runs():
    program = Program.set(Pure([]), COUNT)
    result = run(program)
    assert type(result.error) is TypeError
    assert result.raw_store == {"n": 1}


def test_programs_in_containers_are_left_alone():
    inner = Pure(1)
    assert run(Program.list([inner])).value[0][0] is inner


def test_constructors_work_on_subclasses():
    assert run(EffectBase.sequence([Pure(1)])).value == [1]
    assert run(Named.lift(2)).value == 2


# --- first_some, first_success --------------------------------------------------------


def test_first_some_runs_no_more_than_it_needs():
    result = run(Program.first_some(COUNT.map(lambda _: None), Pure(0), COUNT))
    assert result.value == Some(0)
    assert result.raw_store == {"n": 1}
    assert run(Program.first_some(Pure(NOTHING), Pure(None))).value is NOTHING


def test_first_some_lets_an_error_through():
    assert type(run(Program.first_some(boom(), Pure(1))).error) is ValueError


def test_first_success_raises_the_last_error_with_notes_of_the_others():
    result = run(Program.first_success(boom("a"), COUNT.then(boom("b")), boom("c")))
    assert str(result.error) == "c"
    assert result.error.__notes__ == [
        "first_success: program 1 failed with ValueError: ValueError('a')",
        "first_success: program 2 failed with ValueError: ValueError('b')",
    ]
    assert result.raw_store == {"n": 1}


def test_first_success_of_one_adds_nothing():
    error = run(Program.first_success(boom("a"))).error
    assert not hasattr(error, "__notes__")


def test_first_success_catches_exceptions_only():
    ran = []

    @do
    def program():
        try:
            return (yield Program.first_success(stop(), Pure(1)))
        except Stop:
            ran.append("seen")
            return "stopped"

    assert run(program()).value == "stopped"
    assert ran == ["seen"]


# --- projections ----------------------------------------------------------------------


class Machine:
    name = "machine"

    @property
    def broken(self):
        raise AttributeError("from inside")

    def add(self, a, b=0):
        return a + b

    def stop(self):
        raise StopIteration

    def make(self, value):
        return Put("made", value)


def test_projections_are_lazy_and_chain():
    program = Get("x").items[0].name
    assert (
        run(program, store={"x": type("Box", (), {"items": [Machine()]})()}).value
        == "machine"
    )


def test_a_projected_call_evaluates_callee_and_arguments_from_left_to_right():
    order = []

    @do
    def note(name, value):
        order.append(name)
        return value
        yield

    program = note("callee", Machine()).add(note("a", 1), b=note("b", 2))
    assert run(program).value == 3
    assert order == ["callee", "a", "b"]
    order.clear()
    error = run(note("callee", 5)(note("a", 1))).error
    assert str(error) == "Program result int is not callable"
    assert order == ["callee"]


def test_a_program_from_a_projected_call_is_run():
    assert run(Pure(Machine()).make(Pure(3))).raw_store == {"made": 3}
    assert run(Pure(add)(1, b=Pure(2))).value == 3


def test_errors_of_projections():
    error = run(Pure(Machine()).broken).error
    assert type(error) is AttributeError
    assert str(error) == "from inside"
    assert (
        str(run(Pure(Machine()).absent).error)
        == "Machine object has no attribute 'absent'"
    )
    assert type(run(Pure(Machine()).stop()).error) is RuntimeError


def test_private_names_and_protocols_are_not_projected():
    p = Pure(1).map(str)
    for name in ("_x", "__len__", "__array__", "to_generator"):
        assert not hasattr(p, name)


# --- repr, copies -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "text"),
    [
        (add(1, 2).map(str), "<add(...).map(str)>"),
        (Pure(1).flat_map(Pure), "<PureEffect(...).flat_map(Pure)>"),
        (Pure(1).then(add(1, 2)), "<PureEffect(...).then(add(...))>"),
        (Pure(1).name, "<PureEffect(...).name>"),
        (Pure(1)["k"], "<PureEffect(...)['k']>"),
        (Pure(1)(add(1, 2), k=3), "<PureEffect(...)(<add>, k=3)>"),
        (Program.list(1, 2), "<Program.list of 2>"),
        (Program.dict(a=1), "<Program.dict of 1>"),
    ],
)
def test_repr(program, text):
    assert repr(program) == text


def test_repr_is_short_whatever_is_inside():
    class Bad:
        def __repr__(self):
            raise ValueError

    deep = [add(1, 2)]
    for _ in range(50):
        deep = [deep, add(deep, 1)]
    for program in (
        add(deep, "x" * 10_000),
        add(Bad(), {i: i for i in range(10_000)}),
        add(*range(10_000)),
        Pure(1)["x" * 10_000],
    ):
        assert len(repr(program)) < 400
    assert repr(add(Bad(), 1)) == "<add(<unprintable Bad>, 1)>"


@pytest.mark.parametrize(
    "program",
    [
        add(1, b=2),
        add(1, 2).map(str),
        add(1, 2).flat_map(added),
        add(1, 2).then(Pure(3)),
        Program.sequence([Pure(1), add(1, 2)]),
        Program.traverse([1, 2], added),
        Program.list(1, Pure(2)),
        Program.tuple(1, Pure(2)),
        Program.set(1, Pure(2)),
        Program.dict(a=Pure(1), b=2),
        Program.first_some(Pure(None), Pure(1)),
        Program.first_success(Pure(1)),
        Pure(1).real,
        Pure([1, 2])[0],
        Pure(dict)([("a", 1)], b=Pure(2)),
    ],
    ids=repr,
)
def test_copies_are_equal_programs(program):
    value = run(program).value
    assert run(copy.copy(program)).value == value
    assert run(copy.deepcopy(program)).value == value
    assert run(pickle.loads(pickle.dumps(program))).value == value


# --- depth -------------------------------------------------------------------------------


def chain(extend, length, bottom=None):
    program = Pure(0) if bottom is None else bottom
    for _ in range(length):
        program = extend(program)
    return program


CHAINS = {
    "map": lambda p: p.map(increment),
    "flat_map": lambda p: p.flat_map(lambda v: Pure(v + 1)),
    "then": lambda p: p.then(Pure(1)),
    "mixed": lambda p: add(p.map(increment), 0),
    "attribute": lambda p: p.real,
    "call": lambda p: p(p, k=p),
    "list": lambda p: Program.list(p),
    "first": lambda p: Program.first_some(p, p),
}


def increment(value):
    return value + 1


@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "length"), [("map", MILLION), ("flat_map", MANY), ("mixed", MANY)]
)
def test_long_chains_run_and_fail(name, length):
    assert sync_run(chain(CHAINS[name], length), []).value == length
    result = sync_run(chain(CHAINS[name], length, bottom=boom()), [])
    assert str(result.error) == "boom"


@pytest.mark.deep
@pytest.mark.parametrize("name", CHAINS)
def test_long_chains_are_printed_and_dropped(name):
    program = chain(CHAINS[name], MILLION if name == "map" else MANY)
    assert len(repr(program)) < 400
    del program


@pytest.mark.deep
def test_a_long_chain_is_collected():
    class Cell:
        pass

    cell = Cell()
    cell.program = chain(lambda p: p.map(lambda v: cell), MANY)  # noqa: F821
    gone = weakref.ref(cell)
    del cell
    gc.collect()
    assert gone() is None


@pytest.mark.deep
def test_right_nested_binds_are_tail_calls():
    def loop(n):
        return Pure(n - 1).flat_map(loop) if n else Pure("done")

    def then(n):
        return COUNT.then(Pure(n - 1)).flat_map(then) if n else Get("n")

    assert sync_run(loop(MANY), []).value == "done"
    assert run(then(MANY)).value == MANY


@pytest.mark.deep
def test_wide_builders():
    assert run(Program.list(*[COUNT] * 100_000)).value[-1] == 100_000
    assert run(Program.first_success(*[boom()] * 1_000, Pure(1))).value == 1
