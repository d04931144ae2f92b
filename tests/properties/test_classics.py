"""The classic handlers of examples/classics, each held to the law that its docstring states."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import classics
from classics import (
    early_exit,
    exceptions,
    generators,
    injection,
    logging,
    retry,
    state,
    threads,
    transactions,
    undo,
)
from doeff import (
    Err,
    Get,
    Listen,
    Local,
    Modify,
    Ok,
    Program,
    Pure,
    Put,
    Safe,
    Tell,
    UnhandledEffectError,
    do,
    run_program,
    sync_handlers_preset,
    sync_run,
)

NUMBERS = st.integers(-9, 9)
KEYS = st.sampled_from("abc")
STORES = st.fixed_dictionaries({}, optional={key: NUMBERS for key in "abc"})


def run(program: Any, **initial: Any) -> Any:
    result = sync_run(program, sync_handlers_preset, **initial)
    return result.value


def outcome(program: Any, store: dict[str, Any]) -> tuple[Any, Any]:
    """Value or error, comparable, and the store without the log."""
    result = sync_run(program, sync_handlers_preset, store=store)
    kept = {k: v for k, v in result.raw_store.items() if not k.startswith("__")}
    if result.is_err():
        return (type(result.error), str(result.error)), kept
    return result.value, kept


# --- all of them ---------------------------------------------------------------------------

MODULES = sorted(
    path.stem
    for path in Path(classics.__file__).parent.glob("*.py")
    if path.stem != "__init__"
)


@pytest.mark.parametrize("name", MODULES)
def test_each_module_runs_and_states_its_law(name: str) -> None:
    module = importlib.import_module(f"classics.{name}")
    assert "Law:" in module.__doc__
    assert run_program(f"classics.{name}:program").value == run(module.program())


@pytest.mark.parametrize("name", MODULES)
def test_each_handler_is_short(name: str) -> None:
    source = Path(importlib.import_module(f"classics.{name}").__file__).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno < 30, node.name


# --- state -----------------------------------------------------------------------------------

OPERATIONS = st.lists(st.one_of(st.none(), NUMBERS), max_size=8)


@do
def reads_and_writes(operations: list[Any], read: Any, write: Any) -> Any:
    """None reads, a number writes."""
    seen = []
    for value in operations:
        seen.append((yield read() if value is None else write(value)))
    return seen


def in_a_cell(initial: Any, body: Any) -> Any:
    return run(state.with_state(initial, body))


@do
def get_put() -> Any:
    yield state.Write((yield state.Read()))


@do
def put_get(value: Any) -> Any:
    yield state.Write(value)
    return (yield state.Read())


@given(NUMBERS, NUMBERS, NUMBERS)
def test_state_get_put_laws(initial: int, first: int, second: int) -> None:
    assert in_a_cell(initial, get_put()) == (None, initial)
    assert in_a_cell(initial, put_get(first)) == (first, first)
    twice = state.Write(first).then(state.Write(second))
    assert in_a_cell(initial, twice) == in_a_cell(initial, state.Write(second))


@given(NUMBERS, OPERATIONS)
def test_state_agrees_with_the_built_in(initial: int, operations: list[Any]) -> None:
    own = reads_and_writes(operations, state.Read, state.Write)
    built_in = reads_and_writes(
        operations, lambda: Get("x"), lambda value: Put("x", value)
    )
    seen, cell = in_a_cell(initial, own)
    result = sync_run(built_in, sync_handlers_preset, store={"x": initial})
    assert (seen, cell) == (result.value, result.raw_store["x"])


@given(NUMBERS, NUMBERS)
def test_state_of_two_runs_and_of_nested_cells_is_separate(a: int, b: int) -> None:
    program = state.with_state(a, put_get(b))
    assert run(program) == run(program) == (b, b)
    assert in_a_cell(a, state.with_state(b, state.count_up(1))) == (("done", b + 1), a)


# --- exceptions ------------------------------------------------------------------------------

# A tree: a number is told, ("raise", n), ("try", body, told in the handler), ("finally", body, n)
BLOCKS = st.recursive(
    st.lists(st.one_of(NUMBERS, st.tuples(st.just("raise"), NUMBERS)), max_size=3),
    lambda blocks: st.lists(
        st.one_of(
            NUMBERS,
            st.tuples(st.just("raise"), NUMBERS),
            st.tuples(st.just("try"), blocks, NUMBERS),
            st.tuples(st.just("finally"), blocks, NUMBERS),
        ),
        max_size=4,
    ),
    max_leaves=8,
)


class Raised(Exception):
    pass


def in_python(block: list[Any], told: list[Any]) -> str:
    for item in block:
        match item:
            case int():
                told.append(item)
            case ("raise", reason):
                raise Raised(reason)
            case ("try", body, note):
                try:
                    told.append(in_python(body, told))
                except Raised as error:
                    told.append((note, error.args[0]))
            case ("finally", body, note):
                try:
                    told.append(in_python(body, told))
                finally:
                    told.append(note)
    return "end"


@do
def in_effects(block: list[Any]) -> Any:
    for item in block:
        match item:
            case int():
                yield Tell(item)
            case ("raise", reason):
                yield exceptions.Raise(reason)
            case ("try", body, note):
                caught = exceptions.catching(
                    in_effects(body),
                    lambda reason, note=note: Pure({"got": (note, reason)}),
                )
                yield Tell((yield caught))
            case ("finally", body, note):
                try:
                    yield Tell((yield in_effects(body)))
                finally:
                    yield Tell(note)
    return "end"


@given(BLOCKS)
def test_exceptions_are_those_of_python(block: list[Any]) -> None:
    expected: list[Any] = []
    try:
        value = in_python(block, expected)
    except Raised as error:
        value = ("raised", error.args[0])
    program = exceptions.catching(
        in_effects(block), lambda reason: Pure(("raised", reason))
    )
    found = run(Listen(program))
    log = [item["got"] if isinstance(item, dict) else item for item in found.log]
    assert (found.value, log) == (value, expected)


def test_exceptions_in_the_recovery_go_outward() -> None:
    again = exceptions.catching(exceptions.Raise(1), lambda reason: exceptions.Raise(2))
    assert run(exceptions.catching(again, lambda reason: Pure(reason))) == 2
    with pytest.raises(UnhandledEffectError):
        run(again)


# --- generators ------------------------------------------------------------------------------


@do
def emitter(values: list[Any]) -> Any:
    try:
        for value in values:
            yield Tell(value)
            yield generators.Emit(value)
        return "end"
    finally:
        yield Tell("closed")


@given(st.lists(NUMBERS, max_size=6), st.integers(0, 7))
def test_generators_run_no_further_than_asked(values: list[int], most: int) -> None:
    found = sync_run(generators.take(most, emitter(values)), sync_handlers_preset)
    log = found.raw_store.get("__log__", [])
    assert found.value == values[:most]
    assert [item for item in log if item != "closed"] == values[:most]
    assert log.count("closed") == (most > 0)


@do
def alternate(first: Program, second: Program) -> Any:
    """Two programs, consumed side by side."""
    left, right, found = generators.start(first), generators.start(second), []
    while isinstance(paused := (yield left), generators.Paused):
        found.append(paused.value)
        left, right = right, paused.rest
    return found


@given(st.lists(NUMBERS, max_size=5))
def test_generators_do_not_disturb_each_other(values: list[int]) -> None:
    found = run(alternate(emitter(values), emitter([-n for n in values])))
    assert found == [n for value in values for n in (value, -value)]


def test_a_long_generator() -> None:
    values = run(generators.take(20_000, emitter(list(range(30_000)))))
    assert values == list(range(20_000))


def test_the_rest_of_a_generator_runs_once() -> None:
    @do
    def twice() -> Any:
        paused = yield generators.start(emitter([1, 2]))
        after = yield paused.rest
        again = yield Safe(paused.rest)
        return after.value, str(again.error)

    value, text = run(twice())
    assert value == 2
    assert text.startswith("continuation already resumed")


# --- early exit ------------------------------------------------------------------------------


@do
def nested(depth: int, leave: int, labels: tuple[Any, ...]) -> Any:
    """Blocks in blocks; the innermost leaves the one at depth ``leave``."""
    if depth == 0:
        yield early_exit.Leave(labels[leave], "left")
    try:
        value = yield early_exit.block(
            lambda label: nested(depth - 1, leave, (*labels, label))
        )
        yield Tell(f"after {len(labels)}")
        return value
    finally:
        yield Tell(f"finally {len(labels)}")


@given(st.integers(1, 6), st.data())
def test_early_exit_leaves_the_named_block(depth: int, data: st.DataObject) -> None:
    leave = data.draw(st.integers(0, depth - 1))
    found = run(Listen(nested(depth, leave, ())))
    assert found.value == "left"
    skipped = [f"finally {n}" for n in range(depth - 1, leave, -1)]
    run_on = [
        f"{what} {n}" for n in range(leave, -1, -1) for what in ("after", "finally")
    ]
    assert found.log == skipped + run_on


@given(st.lists(st.lists(NUMBERS, max_size=4), max_size=4), NUMBERS)
def test_early_exit_finds_what_loops_find(rows: list[list[int]], wanted: int) -> None:
    places = [
        (row, column)
        for row, numbers in enumerate(rows)
        for column, number in enumerate(numbers)
        if number == wanted
    ]
    assert run(early_exit.find(rows, wanted)) == next(iter(places), None)


# --- transactions ----------------------------------------------------------------------------

CHANGES = st.recursive(
    st.lists(
        st.one_of(
            st.tuples(st.just("put"), KEYS, NUMBERS),
            st.tuples(st.just("get"), KEYS),
            st.tuples(st.just("modify"), KEYS),
            st.just(("fail",)),
        ),
        max_size=4,
    ),
    lambda inner: st.lists(
        st.one_of(
            st.tuples(st.just("put"), KEYS, NUMBERS),
            st.tuples(st.just("get"), KEYS),
            st.tuples(st.just("try"), inner),
        ),
        max_size=4,
    ),
    max_leaves=10,
)


def change(value: Any) -> int:
    return (value or 0) * 2 + 1


@do
def changing(changes: list[Any]) -> Any:
    seen = []
    for item in changes:
        match item:
            case ("put", key, value):
                yield Put(key, value)
            case ("get", key):
                seen.append((yield Get(key)))
            case ("modify", key):
                seen.append((yield Modify(key, change)))
            case ("fail",):
                raise ValueError("fail")
            case ("try", inner):
                done = yield Safe(transactions.transaction(changing(inner)))
                seen.append(done.value if isinstance(done, Ok) else repr(done.error))
    return seen


def on_copies(changes: list[Any], store: dict[str, Any]) -> Any:
    """What ``changing`` means: each transaction works on a copy, which replaces the store."""
    seen = []
    for item in changes:
        match item:
            case ("put", key, value):
                store[key] = value
            case ("get", key):
                seen.append(store[key])
            case ("modify", key):
                store[key] = change(store.get(key))
                seen.append(store[key])
            case ("fail",):
                raise ValueError("fail")
            case ("try", inner):
                copy = dict(store)
                try:
                    seen.append(on_copies(inner, copy))
                except (ValueError, KeyError) as error:
                    seen.append(repr(error))
                else:
                    store.update(copy)
    return seen


@given(CHANGES, STORES)
def test_transactions_happen_as_a_whole(
    changes: list[Any], store: dict[str, Any]
) -> None:
    found = outcome(transactions.transaction(changing(changes)), store)
    expected = dict(store)
    try:
        value: Any = on_copies(changes, expected)
    except (ValueError, KeyError) as error:
        value, expected = (type(error), str(error)), store
    assert found == (value, expected)


# --- retry -----------------------------------------------------------------------------------


@given(st.integers(0, 8), st.integers(0, 8), st.sampled_from([0.5, 1.0, 3.0]))
def test_retry_sends_and_waits(failures: int, retries: int, wait: float) -> None:
    waits: list[float] = []
    server = retry.flaky_server(
        failures, retry.retrying(retries, wait, retry.Request("/a"))
    )
    found = run(Safe(retry.virtual_clock(waits, server)))
    assert waits == [wait * 2**n for n in range(min(failures, retries))]
    if failures <= retries:
        assert found == Ok("content of /a")
    else:
        assert isinstance(found.error, ConnectionError)
        assert found.error.args == ("/a",)


@given(st.integers(0, 5))
def test_retry_lets_other_errors_through(retries: int) -> None:
    sent = []

    @do
    def broken(effect: retry.Request, ctx: Any) -> Any:
        sent.append(effect.path)
        raise PermissionError(effect.path)

    program = retry.retrying(retries, 1.0, retry.Request("/a"))
    result = sync_run(program, [*sync_handlers_preset, broken])
    assert isinstance(result.error, PermissionError)
    assert sent == ["/a"]


# --- logging ---------------------------------------------------------------------------------


@do
def state_only(changes: list[Any]) -> Any:
    """Changes without transactions, in two nested programs."""
    seen = []
    for item in changes:
        match item:
            case ("try", inner):
                safe = yield Safe(state_only(inner))
                seen.append(safe.value if isinstance(safe, Ok) else repr(safe.error))
            case _:
                seen.append((yield changing([item])))
    return seen


@given(CHANGES, STORES)
def test_logging_is_transparent(changes: list[Any], store: dict[str, Any]) -> None:
    plain = outcome(state_only(changes), store)
    assert outcome(logging.logged(state_only(changes)), store) == plain


@given(st.lists(st.tuples(KEYS, NUMBERS), max_size=6))
def test_logging_notes_each_effect_in_order(puts: list[tuple[str, int]]) -> None:
    program = changing([("put", key, value) for key, value in puts])
    log = run(Listen(logging.logged(program))).log
    assert log == [repr(Put(key, value)) for key, value in puts]
    twice = run(Listen(logging.logged(logging.logged(program)))).log
    assert [note for note in twice if note.startswith("StatePut")] == log


# --- injection -------------------------------------------------------------------------------

SERVICES = st.dictionaries(KEYS, NUMBERS)


@do
def needs(names: list[str]) -> Any:
    found = []
    for name in names:
        found.append((yield injection.Need(name)))
    return found


@given(st.lists(KEYS, max_size=5), st.lists(SERVICES, max_size=3))
def test_injection_is_substitution(names: list[str], layers: list[Any]) -> None:
    """The innermost provider of a name wins, as in dicts laid over each other."""
    program: Any = needs(names)
    merged: dict[str, int] = {}
    for services in layers:  # the first one is innermost
        program = injection.provide(services, program)
        merged = {**services, **merged}
    if all(name in merged for name in names):
        assert run(program) == [merged[name] for name in names]
    else:
        with pytest.raises(UnhandledEffectError):
            run(program)


@given(st.lists(KEYS, min_size=1, max_size=5), NUMBERS, NUMBERS)
def test_two_environments_one_program(names: list[str], a: int, b: int) -> None:
    program = needs(names)
    for value in (a, b):
        served = injection.provide(dict.fromkeys("abc", value), program)
        assert run(served) == [value] * len(names)


@given(st.text(max_size=5))
def test_the_test_environment_collects(user: str) -> None:
    outbox: list[str] = []
    run(injection.provide(injection.for_tests(outbox), injection.welcome(user)))
    assert outbox == [f"Welcome, {user}! It is Tuesday."]


# --- threads ---------------------------------------------------------------------------------

STEPS = st.lists(st.integers(0, 4), max_size=5)


@do
def fork_all(steps: list[int]) -> Any:
    for number, count in enumerate(steps):
        yield threads.Fork(threads.worker(f"{number}:", count))
    return len(steps)


@given(STEPS)
def test_threads_do_their_steps_in_order_and_all_end(steps: list[int]) -> None:
    found = run(Listen(threads.threads(fork_all(steps))))
    assert found.value == len(steps)
    for number, count in enumerate(steps):
        own = [item for item in found.log if item.startswith(f"{number}:")]
        assert own == [f"{number}:{step}" for step in range(count)]
    assert len(found.log) == sum(steps)


@given(STEPS)
def test_threads_take_turns(steps: list[int]) -> None:
    """The same as generators in a queue: a fork and a pause go to the end of it."""
    queue: list[Any] = []
    log: list[str] = []

    def worker(name: str, count: int) -> Any:
        for step in range(count):
            log.append(f"{name}{step}")
            yield None

    def main() -> Any:
        for number, count in enumerate(steps):
            yield worker(f"{number}:", count)

    current: Any = main()
    while current is not None:
        for forked in current:
            queue.append(current)
            current = forked if forked is not None else queue.pop(0)
            break
        else:
            current = queue.pop(0) if queue else None
    assert run(Listen(threads.threads(fork_all(steps)))).log == log


@given(STEPS, NUMBERS)
def test_threads_in_threads_and_under_local(steps: list[int], value: int) -> None:
    inner = threads.threads(fork_all(steps))
    outer = threads.threads(Local({"x": value}, inner.map(lambda n: n + 1)))
    assert run(outer) == len(steps) + 1


def test_a_thread_that_fails_fails_them_all() -> None:
    @do
    def waiting() -> Any:
        try:
            while True:
                yield threads.Pause()
        finally:
            yield Tell("closed")

    @do
    def failing() -> Any:
        yield threads.Fork(waiting())
        yield threads.Pause()
        raise ValueError("down")

    result = sync_run(Safe(threads.threads(failing())), sync_handlers_preset)
    assert isinstance(result.value, Err)
    assert str(result.value.error) == "down"
    assert result.raw_store["__log__"] == ["closed"]


def test_many_threads_and_turns() -> None:
    found = run(Listen(threads.threads(fork_all([20] * 500))))
    assert len(found.log) == 20 * 500


# --- undo ------------------------------------------------------------------------------------

EDITS = st.recursive(
    st.lists(
        st.one_of(st.tuples(KEYS, NUMBERS), st.just("fail"), st.just("undo")),
        max_size=4,
    ),
    lambda inner: st.lists(
        st.one_of(st.tuples(KEYS, NUMBERS), st.just("undo"), inner), max_size=4
    ),
    max_leaves=10,
)
FULL = {"a": 0, "b": 0, "c": 0}


@do
def editing(edits: list[Any]) -> Any:
    """A tuple puts, a list is a group that may fail."""
    for edit in edits:
        match edit:
            case "undo":
                yield undo.Undo()
            case "fail":
                raise ValueError("fail")
            case (str(key), value) if isinstance(edit, tuple):
                yield undo.put(key, value)
            case _:
                yield Safe(undo.group(editing(edit)))


def histories(edits: list[Any], store: dict[str, int]) -> list[dict[str, int]]:
    """What ``editing`` means: all the stores that there were, the current one last."""
    kept = [store]
    for edit in edits:
        match edit:
            case "undo":
                if len(kept) > 1:
                    kept.pop()
            case "fail":
                raise ValueError("fail")
            case (str(key), value) if isinstance(edit, tuple):
                kept.append({**kept[-1], key: value})
            case _:
                try:
                    kept.append(histories(edit, kept[-1])[-1])
                except ValueError:
                    pass
    return kept


@do
def then_undo_all(body: Program) -> Any:
    yield body
    seen = [dict((yield undo_snapshot()))]
    while (yield undo.Undo()):
        seen.append((yield undo_snapshot()))
    return seen[::-1]


@do
def undo_snapshot() -> Any:
    found = {}
    for key in FULL:
        found[key] = yield Get(key)
    return found


@given(EDITS)
def test_undo_walks_back_through_all_that_was(edits: list[Any]) -> None:
    program = undo.undoable(then_undo_all(editing(edits)))
    value, store = outcome(program, FULL)
    try:
        expected = histories(edits, FULL)
    except ValueError:
        assert (value, store) == ((ValueError, "fail"), FULL)
    else:
        assert (value[0], store) == (expected, FULL)


@given(EDITS)
def test_undo_of_the_whole_is_one_program(edits: list[Any]) -> None:
    @do
    def there_and_back() -> Any:
        _, inverse = yield undo.undoable(editing(edits))
        yield inverse

    _, store = outcome(there_and_back(), FULL)
    assert store == FULL
