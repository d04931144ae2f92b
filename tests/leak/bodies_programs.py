"""Bodies for programs: combinators, @do functions, annotations, async programs."""

from __future__ import annotations

import copy

from doeff import (
    Ask,
    EffectBase,
    Get,
    Modify,
    Program,
    Pure,
    Put,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Ping(EffectBase):
    pass


class Pong(EffectBase):
    pass


class Refused(Exception):
    pass


def run(program):
    return sync_run(program, sync_handlers_preset, env={"one": 1}, store={"n": 0})


def error_of(program, kind):
    try:
        value = run(program).value
    except kind as error:
        return type(error).__name__
    raise AssertionError(f"{value!r} instead of an error")


@do
def add(a, b=0):
    return a + b + (yield Get("n"))


@do
def refuse():
    raise Refused
    yield


def give(value):
    return Pure(value)


def leak_builders():
    return run(
        Program.list(
            Program.sequence([Pure(1), add(1)]),
            Program.traverse([1, 2], give),
            Program.tuple(1, add(2)),
            Program.set(1, Pure(2)).map(sorted),
            Program.dict(a=Pure(1), b=2),
        )
    ).value


def leak_builders_that_fail():
    return [
        error_of(program, (Refused, TypeError))
        for program in (
            Program.list(Pure(1), refuse(), Pure(2)),
            Program.traverse([1], lambda v: 5),
            Program.set(Pure([])),
        )
    ]


def leak_first():
    some = Program.first_some(Pure(None), add(1), Pure(2))
    success = Program.first_success(refuse(), add(1))
    return (
        run(some).value.unwrap(),
        run(success).value,
        error_of(Program.first_success(refuse(), refuse()), Refused),
    )


def leak_projections():
    program = Pure([1, 2])
    return (
        run(program[0].real).value,
        run(program.index(Pure(2))).value,
        error_of(program.absent, AttributeError),
        error_of(program[0](), TypeError),
    )


def leak_printed_and_copied():
    program = add(1, b=2).map(str).then(Pure(1))[0](add(1), k=2)
    texts = repr(program), repr(copy.copy(program))
    if any("<unprintable " in text for text in texts):
        raise MemoryError("a part is not shown")
    return len(texts[0]) == len(texts[1])


def leak_wrong_combinators():
    found = []
    for make in (
        lambda: Pure(1).map(1),
        lambda: Pure(1).then(1),
        lambda: Program.sequence([1]),
        lambda: Program.first_some(),
        lambda: Program.dict(1),
        lambda: add >> 1,
    ):
        try:
            make()
        except (TypeError, ValueError) as error:
            found.append(type(error).__name__)
    return found


def leak_partial_and_composition():
    k = add.partial(1).partial(b=Ask("one")) >> give << str
    return run(k()).value, run(k(b=5)).value, repr(k)


def leak_annotations():
    Here = Ping  # made outside: CPython 3.12 and 3.13 crash in a class statement without memory

    @do
    def function(other: Here, value: int):
        return type(other).__name__, value
        yield

    return run(function(Here(), Pure(1))).value


def leak_narrowed_handler():
    Here = Pong

    @do
    def handler(effect: Here | Ping, ctx):
        return "handled"
        yield

    return run(WithHandler(handler, Program.list(Here(), Ping(), Get("n")))).value


def leak_async_program():
    @do
    async def program(value):
        try:
            await Get("absent")
        except KeyError:
            await Put("n", value)
        return await add(1), await Modify("n", lambda n: n + 1)

    return run(program(Pure(5))).value


class Foreign:
    def __await__(self):
        yield self


def leak_async_program_that_fails():
    @do
    async def program():
        await Foreign()

    return error_of(program(), TypeError)
