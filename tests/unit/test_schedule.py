"""The order of tasks by a seed, and by the record of an earlier run."""

from __future__ import annotations

import pytest

from doeff import (
    PRIORITY_HIGH,
    Gather,
    Get,
    Put,
    Safe,
    Spawn,
    Wait,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.testing import Schedule, with_schedule


@do
def worker(log, name, turns=3):
    for i in range(turns):
        log.append(f"{name}{i}")
        yield Put("x", i)
    return name


@do
def main(log, names="abc", **options):
    tasks = []
    for name in names:
        tasks.append((yield Spawn(worker(log, name), **options)))
    return (yield Gather(*tasks))


def order(schedule=None, program=main):
    log = []
    handlers = sync_handlers_preset
    if schedule is not None:
        handlers = with_schedule(handlers, schedule)
    result = sync_run(program(log), handlers)
    assert result.is_ok(), result.error
    return "".join(log), result.schedule


def test_first_in_first_out_is_the_default():
    text, schedule = order()
    assert text == "a0b0c0a1b1c1a2b2c2"
    assert schedule is None


def test_a_seed_gives_one_order():
    first, record = order(7)
    assert order(7)[0] == first
    assert record.seed == 7
    assert all(isinstance(choice, int) for choice in record.choices)


def test_seeds_give_other_orders():
    assert len({order(seed)[0] for seed in range(30)}) > 10


def splitmix(state):
    mask = 2**64 - 1
    while True:
        state = z = (state + 0x9E3779B97F4A7C15) & mask
        z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 & mask
        z = (z ^ z >> 27) * 0x94D049BB133111EB & mask
        yield z ^ z >> 31


def test_random_numbers_are_the_same_everywhere():
    numbers = splitmix(1)
    choices = order(1, lambda log: main(log, "abcde"))[1].choices
    ready = next(n for n in range(2, 7) if next(splitmix(1)) % n == choices[0])
    assert choices[:3] == [next(numbers) % ready for _ in range(3)]


def test_large_and_negative_seeds():
    for seed in (-1, 2**70):
        assert order(seed)[1].seed == seed


def test_a_record_repeats_its_run():
    text, record = order(5)
    again, copy = order(record.choices)
    assert again == text
    assert copy.choices == record.choices
    assert copy.seed is None
    assert order(Schedule(choices=record.choices))[0] == text


def test_no_choices_left_means_the_first():
    assert order([])[0] == order()[0]
    assert order([0, 1])[1].choices[:2] == [0, 1]


def test_choices_beyond_the_row_count_around():
    assert order([7, 7, 7])[1].choices[:3] == [7 % 3, 7 % 3, 7 % 3]


def test_nothing_to_choose_is_not_written_down():
    @do
    def alone(log):
        yield Wait((yield Spawn(worker(log, "a"))))

    assert order(3, alone)[1].choices == []


def test_runs_of_one_handler_do_not_disturb_each_other():
    handlers = with_schedule(sync_handlers_preset, 11)
    records = []
    for _ in range(2):
        records.append(sync_run(main([]), handlers).schedule)
    assert records[0] is not records[1]
    assert records[0].choices == records[1].choices


def test_priorities_stay_strict():
    @do
    def both(log):
        yield Spawn(worker(log, "l"))
        yield Spawn(worker(log, "h"), priority=PRIORITY_HIGH)
        yield Put("x", 0)

    for seed in range(20):
        assert order(seed, both)[0].startswith("h0h1h2")


def test_groups_count_as_one():
    """Members of a Gather share a store: in no order can they lose an update."""

    @do
    def count():
        n = yield Get("n")
        yield Put("other", n)
        yield Put("n", n + 1)

    @do
    def counted(log):
        yield Spawn(worker(log, "t"))
        yield Put("n", 0)
        yield Gather(count(), count(), count())
        log.append(str((yield Get("n"))))

    for seed in range(20):
        assert "3" in order(seed, counted)[0]


def test_the_seed_of_a_failing_run_is_in_its_result():
    @do
    def failing():
        yield Wait((yield Spawn(Put("x", 1))))
        raise ValueError("x")

    result = sync_run(failing(), with_schedule(sync_handlers_preset, 99))
    assert result.schedule.seed == 99
    assert "Schedule(seed=99, choices=[" in result.format()
    assert "Schedule(seed=99, choices=[" in result.format(verbose=True)


def test_results_without_a_schedule_do_not_speak_of_it():
    text = sync_run(Safe(Put("x", 1)), sync_handlers_preset).format(verbose=True)
    assert "chosen" not in text


def test_a_search_finds_a_lost_update():
    """What a seed is for: two tasks that share an object without a lock."""

    @do
    def add(cell):
        n = cell[0]
        yield Put("x", n)
        cell[0] = n + 1

    @do
    def race(cell):
        tasks = []
        for _ in range(2):
            tasks.append((yield Spawn(add(cell))))
        yield Gather(*tasks)
        return cell[0]

    def final(schedule):
        result = sync_run(race([0]), with_schedule(sync_handlers_preset, schedule))
        return result.value, result.schedule.choices

    results = [final(seed) for seed in range(20)]
    assert {value for value, _ in results} == {1, 2}
    for value, choices in results:
        assert final(choices)[0] == value


def test_turns_that_end_by_blocking_only():
    text, record = order(Schedule(by_blocking=True))
    assert text == "a0a1a2b0b1b2c0c1c2"
    assert record.by_blocking


def test_the_schedule_as_a_value():
    schedule = Schedule(3, [0, 1])
    assert repr(schedule) == "Schedule(seed=3, choices=[0, 1])"
    assert repr(Schedule(by_blocking=True)).endswith("by_blocking=True)")
    schedule.choices.append(5)
    assert schedule.choices == [0, 1]


def test_wrong_schedules():
    with pytest.raises(TypeError, match="seed must be int"):
        Schedule("x")
    with pytest.raises(TypeError, match="choices must be ints"):
        Schedule(choices=[1, "x"])
    with pytest.raises(TypeError, match="choices must be ints"):
        Schedule(choices=[-1])
    with pytest.raises(TypeError):
        Schedule(choices=5)
    with pytest.raises(ValueError, match="not among the handlers"):
        with_schedule([], 1)
