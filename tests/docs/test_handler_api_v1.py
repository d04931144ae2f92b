"""The samples of the document of the first handler API, executed as written.

``samples/v1_*.py`` are verbatim copies of its code blocks. A block that is a fragment gets the
names it leaves open from the test; nothing in it is changed.
"""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Generator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from doeff import IO, Ask, EffectBase, Get, Local, Program, Pure, Safe, do
from doeff.cesk import SyncRuntime, frames
from doeff.cesk.frames import (
    ContinueError,
    ContinueProgram,
    ContinueValue,
    FrameResult,
    Kontinuation,
)
from doeff.cesk.state import TaskState
from doeff.cesk.types import Environment, Store
from doeff.effects.io import IOPerformEffect
from doeff.effects.pure import PureEffect
from doeff.effects.reader import LocalEffect
from doeff.program import KleisliProgramCall

SAMPLES = Path(__file__).parent / "samples"


def execute(name: str, **names: Any) -> dict[str, Any]:
    """Run one sample with the given open names; returns its namespace."""
    path = SAMPLES / f"{name}.py"
    namespace = {"__name__": f"sample_{name}", "__file__": str(path), **names}
    exec(compile(path.read_text(), str(path), "exec", dont_inherit=True), namespace)
    return namespace


class MyEffectType(EffectBase):
    pass


def test_every_sample_is_run() -> None:
    text = Path(__file__).read_text()
    for path in SAMPLES.glob("v1_*.py"):
        assert re.search(rf'execute\(\s*"{path.stem}"', text), path.stem


def test_handler_signature() -> None:
    names = execute("v1_handler_signature", MyEffectType=MyEffectType)
    handler = names["handle_my_effect"]
    # The body of the sample is a comment, so it gives None, which is no FrameResult.
    outcome = SyncRuntime(handlers={MyEffectType: handler}).run(MyEffectType())
    assert isinstance(outcome.error, TypeError)
    assert "handle_my_effect" in str(outcome.error)


def test_frame_results_have_the_fields_of_the_document() -> None:
    names = execute(
        "v1_frame_results",
        dataclass=dataclasses.dataclass,
        Any=Any,
        BaseException=BaseException,
        Environment=Environment,
        Store=Store,
        Kontinuation=Kontinuation,
        ProgramLike=Program,
        Generator=Generator,
        KleisliProgramCall=KleisliProgramCall,
    )
    for name in (
        "ContinueValue",
        "ContinueProgram",
        "ContinueError",
        "ContinueGenerator",
    ):
        ours, documented = getattr(frames, name), names[name]
        assert issubclass(ours, FrameResult)
        assert [f.name for f in dataclasses.fields(ours)] == [
            f.name for f in dataclasses.fields(documented)
        ]
        made = ours(*range(6)) if name == "ContinueGenerator" else ours(*range(4))
        assert dataclasses.astuple(made) == dataclasses.astuple(
            documented(*range(6 if name == "ContinueGenerator" else 4))
        )
        with pytest.raises(dataclasses.FrozenInstanceError):
            made.env = {}


def test_registering(monkeypatch: pytest.MonkeyPatch) -> None:
    class MyEffect(EffectBase):
        pass

    def handle_my_effect(
        effect: MyEffect, task_state: TaskState, store: Store
    ) -> FrameResult:
        return ContinueValue(
            value="mine",
            env=task_state.env,
            store=store,
            k=task_state.kontinuation,
        )

    package = ModuleType("my_package")
    package.__dict__.update(MyEffect=MyEffect, handle_my_effect=handle_my_effect)
    monkeypatch.setitem(sys.modules, "my_package", package)

    @do
    def my_program() -> Any:
        return (yield MyEffect()), (yield Safe(Get("absent")))

    names = execute("v1_registering", my_program=my_program)
    value, absent = names["result"].value
    assert value == "mine"
    assert isinstance(absent.error, KeyError)


def test_pure() -> None:
    seen = []
    handle_pure = execute("v1_pure")["handle_pure"]

    def watched(effect: PureEffect, task_state: TaskState, store: Store) -> FrameResult:
        seen.append(effect.value)
        result: FrameResult = handle_pure(effect, task_state, store)
        return result

    runtime = SyncRuntime(handlers={PureEffect: watched})
    assert runtime.run(Pure(3).map(str)).value == "3"
    assert seen == [3]


def test_local() -> None:
    handle_local = execute("v1_local")["handle_local"]

    @do
    def inner() -> Any:
        return (yield Ask("a")), (yield Ask("b"))

    @do
    def program() -> Any:
        inside = yield Local({"a": 1}, inner())
        failed = yield Safe(Local({"a": 1}, Get("absent")))
        return inside, failed.is_err(), (yield Ask("a"))

    runtime = SyncRuntime(handlers={LocalEffect: handle_local})
    result = runtime.run(program(), env={"a": 0, "b": 2})
    assert result.value == ((1, 2), True, 0)


def test_io(capsys: pytest.CaptureFixture[str]) -> None:
    handle_io = execute("v1_io")["handle_io"]

    @do
    def program() -> Any:
        yield IO(lambda: print("hello"))
        try:
            yield IO(lambda: 1 // 0)
        except ZeroDivisionError:
            return "caught"

    runtime = SyncRuntime(handlers={IOPerformEffect: handle_io})
    assert runtime.run(program()).value == "caught"
    assert capsys.readouterr().out == "hello\n"


def test_the_names_of_the_migration_table() -> None:
    """What the old names of the table became can be imported from the places it gives."""
    from doeff.cesk.state import AwaitExternal, PerformIO, Request

    assert {ContinueValue, ContinueProgram, ContinueError} <= set(
        FrameResult.__subclasses__()
    )
    assert {PerformIO, AwaitExternal} <= set(Request.__subclasses__())
