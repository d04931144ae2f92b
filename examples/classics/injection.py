"""Dependency injection: a program names what it needs, whoever runs it chooses.

Two environments, one program: nothing is imported, patched or passed through.

Law: injecting is substituting. The program gives what it would give with the services
written in; the innermost provider of a name wins, and a name that it lacks is looked
for further out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from doeff import EffectBase, EffectGenerator, HandlerContext, Program, WithHandler, do


@dataclass(frozen=True)
class Need(EffectBase):
    """Gives the service of that name."""

    name: str


def provide(services: Mapping[str, Any], body: Program[Any]) -> Program[Any]:
    """``body``, its needs served from a mapping."""

    @do
    def handler(effect: Need, ctx: HandlerContext) -> EffectGenerator[Any]:
        if effect.name in services:
            return services[effect.name]
        return (yield effect)

    return WithHandler(handler, body)


@do
def welcome(user: str) -> EffectGenerator[str]:
    send: Callable[[str], str] = yield Need("mail")
    today: Callable[[], str] = yield Need("today")
    return send(f"Welcome, {user}! It is {today()}.")


def production() -> dict[str, Any]:
    import datetime

    return {
        "mail": lambda text: f"sent: {text}",
        "today": lambda: datetime.date.today().isoformat(),
    }


def for_tests(outbox: list[str]) -> dict[str, Any]:
    return {"mail": outbox.append, "today": lambda: "Tuesday"}


@do
def program() -> EffectGenerator[list[Any]]:
    outbox: list[str] = []
    sent = yield provide(production(), welcome("Ann"))
    yield provide(for_tests(outbox), welcome("Bob"))
    return [sent, outbox]


if __name__ == "__main__":
    from classics import interpret

    print(interpret(program()).value)
