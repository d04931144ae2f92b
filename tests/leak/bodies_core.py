"""Bodies for the machine: programs, combinators, handlers, continuations, errors."""

from __future__ import annotations

from doeff import (
    Ask,
    CESKState,
    EffectBase,
    Get,
    Program,
    Pure,
    Put,
    ResumeK,
    WithHandler,
    do,
    sync_handlers_preset,
    sync_run,
)


class Ping(EffectBase):
    def __init__(self, number=0):
        self.number = number


class Refused(Exception):
    pass


def run(program, handlers=sync_handlers_preset):
    return sync_run(program, handlers, env={"one": 1}, store={"count": 0})


def error_of(program, kind, handlers=sync_handlers_preset):
    """The kind of error that the program must end with; any other is raised."""
    try:
        value = run(program, handlers).value
    except kind as error:
        return type(error).__name__
    raise AssertionError(f"{value!r} instead of an error")


@do
def add(x, y):
    return x + y + (yield Ask("one"))


@do
def refuse(text="no"):
    yield Ask("one")
    raise Refused(text)


# ---- programs ------------------------------------------------------------------------------------
@do
def counting():
    for i in range(5):
        yield Put("count", (yield Get("count")) + i)
    return (yield Get("count"))


def leak_effects():
    return run(counting()).value


def leak_result_read():
    result = run(counting())
    return result.value, result.is_ok(), result.is_err(), dict(result.raw_store)


def leak_program_argument_unwrapped():
    return run(add(add(1, 2), add(3, add(4, 5)))).value


@do
def down(depth):
    if depth == 0:
        return 0
    return 1 + (yield down(depth - 1))


def leak_nested():
    return run(down(100)).value


@do
def fail_below(depth):
    if depth == 0:
        raise Refused("at the bottom")
    try:
        return (yield fail_below(depth - 1))
    finally:
        yield Put("count", (yield Get("count")) + 1)


def leak_nested_failure_with_finally():
    return error_of(fail_below(30), Refused)


def leak_program_never_run():
    add(1, add(2, 3)).map(str).flat_map(lambda s: Program.pure(s))


def leak_program_run_twice():
    program = add(1, 2).map(str)
    return run(program).value, run(program).value


def leak_combinators():
    program = add(1, 2).map(lambda x: x * 2).flat_map(lambda x: add(x, x))
    return run(program).value


def leak_combinator_that_raises():
    def bad(x):
        raise Refused(str(x))

    return error_of(add(1, 2).map(bad), Refused)


def leak_long_chain_of_maps():
    program = add(1, 2)
    for _ in range(50):
        program = program.map(abs)
    return run(program).value


def leak_run_inside_a_run():
    @do
    def outer():
        inner = run(counting()).value
        return inner + (yield Get("count"))

    return run(outer()).value


# ---- handlers ------------------------------------------------------------------------------------
@do
def pings():
    total = 0
    for i in range(4):
        total += yield Ping(i)
    return total


@do
def doubling(effect, ctx):
    if isinstance(effect, Ping):
        return effect.number * 2
    return (yield effect)


@do
def forwarding(effect, ctx):
    return (yield effect)


def leak_handler_answers():
    return run(WithHandler(handler=doubling, program=pings())).value


def leak_handler_forwards():
    program = WithHandler(handler=forwarding, program=pings())
    return run(WithHandler(handler=doubling, program=program)).value


def leak_handlers_in_the_run_list():
    return run(pings(), [*sync_handlers_preset, doubling, forwarding]).value


@do
def asking(effect, ctx):
    if isinstance(effect, Ping):
        yield Put("count", (yield Get("count")) + effect.number)
        return (yield add(effect.number, 1))
    return (yield effect)


def leak_handler_performs_effects():
    return run(WithHandler(handler=asking, program=pings())).value


@do
def abandoning(effect, ctx):
    if isinstance(effect, Ping) and effect.number == 2:
        return ResumeK(k=ctx.outer_k, value="left")
    if isinstance(effect, Ping):
        return 0
    return (yield effect)


@do
def pings_with_finally():
    try:
        return (yield pings())
    finally:
        yield Put("count", 7)


def leak_continuation_abandoned():
    result = run(WithHandler(handler=abandoning, program=pings_with_finally()))
    return result.value


@do
def stating(effect, ctx):
    if isinstance(effect, Ping):
        return CESKState.with_value(effect.number, ctx.env, ctx.store, ctx.k)
    return (yield effect)


def leak_handler_returns_a_state():
    return run(WithHandler(handler=stating, program=pings())).value


@do
def looking(effect, ctx):
    if isinstance(effect, Ping):
        seen = list(ctx.k), list(ctx.delimited_k), ctx.env, ctx.store, ctx.handler_depth
        return len(seen)
    return (yield effect)


def leak_context_looked_at():
    return run(WithHandler(handler=looking, program=pings())).value


def leak_context_kept_in_a_cycle():
    kept = []

    @do
    def keeping(effect, ctx):
        if isinstance(effect, Ping):
            kept.append((ctx, kept, effect))
            return 1
        return (yield effect)

    return run(WithHandler(handler=keeping, program=pings())).value


@do
def refusing(effect, ctx):
    if isinstance(effect, Ping):
        raise Refused("by the handler")
    return (yield effect)


def leak_handler_raises():
    return error_of(WithHandler(handler=refusing, program=pings()), Refused)


@do
def catching():
    try:
        yield Ping(1)
    except Refused as error:
        return str(error)


def leak_handler_raises_and_program_catches():
    return run(WithHandler(handler=refusing, program=catching())).value


# ---- errors --------------------------------------------------------------------------------------
def leak_program_raises():
    return error_of(refuse(), Refused)


@do
def catching_below():
    try:
        yield refuse("caught")
    except Refused as error:
        return str(error)


def leak_error_caught():
    return run(catching_below()).value


def leak_error_formatted():
    result = run(fail_below(5))
    return type(result.error).__name__, len(result.format(verbose=True)) > 0


def leak_stacks_of_an_error():
    result = run(WithHandler(handler=refusing, program=pings()))
    assert result.is_err()
    return (
        type(result.k_stack).__name__,
        type(result.effect_stack).__name__,
        type(result.python_stack).__name__,
    )


@do
def missing_key():
    return (yield Get("absent"))


def leak_missing_key():
    return error_of(missing_key(), KeyError)


@do
def missing_environment_key():
    return (yield Ask("absent"))


def leak_missing_environment_key():
    return error_of(missing_environment_key(), KeyError)


@do
def wrong_yield():
    yield 42


def leak_wrong_yield():
    return error_of(wrong_yield(), TypeError)


@do
def unhandled_and_caught():
    try:
        yield Ping(1)
    except MemoryError:
        raise
    except Exception as error:
        return type(error).__name__


def leak_unhandled_effect():
    return run(unhandled_and_caught()).value


class Hostile:
    def __eq__(self, other):
        raise Refused("eq")

    __hash__ = None


@do
def asks_for_the_unhashable():
    try:
        yield Ask(Hostile())
    except TypeError:
        return "unhashable"


def leak_unhashable_key():
    return run(asks_for_the_unhashable()).value


def leak_wrong_arguments_of_the_run():
    found = []
    for arguments in ((42,), (counting(), 42)):
        try:
            sync_run(*arguments)
        except TypeError:
            found.append("TypeError")
    return found


# ---- continuations that go away with their holder ------------------------------------------------
@do
def hand_out(effect: Ping, ctx):
    return ResumeK(k=ctx.outer_k, value=ctx.delimited_k)


@do
def closing():
    try:
        yield Ping()
    finally:
        yield Put("count", (yield Get("count")) + 1)


@do
def holding(fail=False):
    kept = []
    for _ in range(2):
        kept.append((yield WithHandler(hand_out, closing())))
    if fail:
        kept.clear()
        raise Refused("held")
    return (yield Get("count"))


def leak_dropped_by_a_return():
    return run(holding()).value


def leak_dropped_by_an_error():
    return error_of(holding(fail=True), Refused)


@do
def to_outer(effect: Ping, ctx):
    return CESKState.with_program(Pure(1), {**ctx.env, "x": 1}, ctx.store, ctx.outer_k)


def leak_program_at_outer_k():
    result = run(WithHandler(to_outer, closing()))
    return result.value, result.raw_store["count"]


@do
def returns_a_resumption(effect: Ping, ctx):
    return ctx.resume([ctx])


def leak_resumption_that_is_returned():
    return error_of(WithHandler(returns_a_resumption, closing()), TypeError)


@do
def keeping_itself(effect: Ping, ctx):
    effect.number = (ctx, ctx.resume(0))
    kept = ctx.resume(effect)
    return (yield kept)


@do
def pinging_on(fail=False, n=3):
    for _ in range(n):
        yield Ping()
    if fail:
        raise Refused("at the end")
    return "end"


def leak_resumed_in_the_middle_by_what_is_kept():
    return run(WithHandler(keeping_itself, pinging_on())).value


def leak_failed_below_bodies_that_wait():
    return error_of(WithHandler(keeping_itself, pinging_on(fail=True)), Refused)


def leak_many_bodies_that_wait():
    return run(WithHandler(keeping_itself, pinging_on(n=80))).value


def leak_failed_below_many_bodies():
    return error_of(WithHandler(keeping_itself, pinging_on(fail=True, n=80)), Refused)


@do
def resuming_and_holding(effect: Ping, ctx):
    effect.number = [ctx]
    rest = yield ctx.resume(effect.number)
    return rest, effect


class Again(EffectBase):
    k = None


@do
def keeping_the_rest(effect: Again, ctx):
    effect.k = [ctx.k, effect]
    return ResumeK(k=ctx.outer_k, value="dropped")


@do
def pinging_then_again():
    for _ in range(80):
        yield Ping()
    return (yield Again())


def leak_many_bodies_in_a_kept_continuation():
    inside = WithHandler(resuming_and_holding, pinging_then_again())
    return run(WithHandler(keeping_the_rest, inside)).value
