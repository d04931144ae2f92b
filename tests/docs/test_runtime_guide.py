"""The samples of the runtime guide, executed as written.

``samples/`` holds verbatim copies of the guide's code blocks. A block that is a
fragment gets the names it leaves open from the test; nothing in it is changed.
"""

from __future__ import annotations

import ast
import asyncio
import re
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import doeff
from doeff import (
    CESKState,
    Get,
    HandlerContext,
    Pure,
    Put,
    Step,
    Tell,
    async_run,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.types import EffectBase

NOON = datetime(2024, 1, 1, 12)
SAMPLES = Path(__file__).parent / "samples"


def execute(name: str, **names: Any) -> dict[str, Any]:
    """Run one sample with the given open names; returns its namespace."""
    path = SAMPLES / f"{name}.py"
    namespace = {"__name__": f"sample_{name}", "__file__": str(path), **names}
    flags = (
        ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    )  # one fragment has an await outside a function
    code = compile(path.read_text(), str(path), "exec", flags, dont_inherit=True)
    pending = eval(code, namespace)
    if pending is not None:
        asyncio.run(pending)
    return namespace


def test_every_sample_is_run() -> None:
    text = Path(__file__).read_text()
    for path in SAMPLES.glob("guide_*.py"):
        assert re.search(rf'execute\(\s*"{path.stem}"', text), path.stem


def test_counter(capsys: pytest.CaptureFixture[str]) -> None:
    names = execute("guide_counter")
    assert capsys.readouterr().out == "1\n"
    assert names["result"].raw_store == {"counter": 1}


def test_greet(capsys: pytest.CaptureFixture[str]) -> None:
    execute("guide_greet_sync")
    assert capsys.readouterr().out == "Hello, World!\n"


def test_greet_async(capsys: pytest.CaptureFixture[str]) -> None:
    execute("guide_greet_async")
    assert capsys.readouterr().out == "Hello, World!\n"


class Response:
    def json(self) -> Any:
        return {"a": 1}


class Client:
    async def get(self, path: str) -> Response:
        await asyncio.sleep(0)
        if path != "/api/data":
            raise LookupError(path)
        return Response()


class NoNetwork:
    async def get(self, path: str) -> Response:
        raise OSError("no network")


@pytest.mark.usefixtures("no_time_passes")
@pytest.mark.parametrize(
    ("client", "printed"), [(Client, "{'a': 1}\n"), (NoNetwork, "Error: no network\n")]
)
def test_fetch_data(
    client: Any, printed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    execute("guide_fetch_data", http_client=client())
    assert capsys.readouterr().out == printed


def test_risky_operation(capsys: pytest.CaptureFixture[str]) -> None:
    names = execute("guide_risky_operation")
    out = capsys.readouterr().out
    result = names["result"]
    lines = out.splitlines()
    assert lines[0] == "Error: Something went wrong"
    assert lines[1] == "Err(ValueError: Something went wrong)"
    assert "Root Cause: ValueError: Something went wrong" in lines
    titles = [
        "ROOT CAUSE",
        "PYTHON STACK",
        "EFFECT CALL TREE",
        "CONTINUATION STACK (K)",
    ]
    found = [line.strip() for line in lines if line.strip() in [*titles, "STORE"]]
    assert found == [*titles, "STORE"]
    assert "RUNTIME RESULT" in out
    assert out.endswith(
        "\n".join(
            [
                result.python_stack.format(),
                result.effect_stack.format(),
                result.k_stack.format(),
                "",
            ]
        )
    )
    last = result.python_stack.frames[-1]
    assert last.filename.endswith("guide_risky_operation.py")
    assert (last.line, last.function) == (5, "risky_operation")
    assert last.code_context.strip() == 'raise ValueError("Something went wrong")'
    assert all(
        f.filename.endswith("guide_risky_operation.py")
        for f in result.python_stack.frames
    )


def test_logs_and_graph() -> None:
    result = sync_run(Tell("m").then(Step(1, {"a": 1})), sync_handlers_preset)
    names = execute("guide_logs_and_graph", result=result)
    assert names["logs"] == ["m"]
    assert names["graph"] == [{"value": 1, "meta": {"a": 1}}]
    empty = execute(
        "guide_logs_and_graph", result=sync_run(Pure(1), sync_handlers_preset)
    )
    assert (empty["logs"], empty["graph"]) == ([], None)


def test_custom_handler(capsys: pytest.CaptureFixture[str]) -> None:
    names = execute("guide_custom_handler")
    assert capsys.readouterr().out == "[LOG] Starting...\n[LOG] Processing...\n"
    assert names["result"].value == "Done"


def test_handler_signature() -> None:
    names = execute(
        "guide_handler_signature",
        do=do,
        EffectBase=EffectBase,
        HandlerContext=HandlerContext,
        CESKState=CESKState,
        Any=Any,
    )
    # The elided body returns None, which answers every effect.
    result = sync_run(Get("absent"), [*sync_handlers_preset, names["my_handler"]])
    assert result.value is None


def test_controlled_time(capsys: pytest.CaptureFixture[str]) -> None:
    execute("guide_controlled_time")
    assert capsys.readouterr().out == "2024-01-01 12:00:00\n"


@do
def compute(value: Any) -> Any:
    yield Put("x", value)
    return value


def test_parallel_work() -> None:
    names = execute(
        "guide_parallel_work",
        compute_a=lambda: compute("a"),
        compute_b=lambda: compute("b"),
        compute_c=lambda: compute("c"),
    )
    assert names["result"].value == ["a", "b", "c"]


@pytest.fixture
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The samples sleep for real: here their run begins with a clock of its own."""

    def run(program: Any, handlers: Any) -> Any:
        return sync_run(program, handlers, store={"__current_time__": NOON})

    def run_in_a_loop(program: Any, handlers: Any) -> Any:
        return async_run(program, handlers, store={"__current_time__": NOON})

    monkeypatch.setattr(doeff, "sync_run", run)
    monkeypatch.setattr(doeff, "async_run", run_in_a_loop)


@pytest.mark.usefixtures("no_time_passes")
def test_timed_operation(capsys: pytest.CaptureFixture[str]) -> None:
    execute("guide_timed_operation")
    assert capsys.readouterr().out == "Elapsed: 1.0s\n"


@pytest.mark.usefixtures("no_time_passes")
def test_delayed_response() -> None:
    names = execute("guide_delayed_response")
    assert names["result"].value == "Ready!"


def test_removed_runtimes_name_their_successors() -> None:
    with pytest.raises(
        ImportError, match=r"(?s)sync_run.*async_run|async_run.*sync_run"
    ):
        execute("guide_runtimes_before")


def test_runtimes_after() -> None:
    names = execute("guide_runtimes_after", program=Pure(42))
    assert names["value"] == 42


def test_run_safe_after() -> None:
    names = execute(
        "guide_run_safe_after",
        sync_run=sync_run,
        sync_handlers_preset=sync_handlers_preset,
        program=Pure(42),
    )
    assert names["value"] == 42


def test_handler_after() -> None:
    """The unannotated handler of the migration part gets the effect itself."""

    class MyEffect(EffectBase):
        pass

    names = execute("guide_handler_after", MyEffect=MyEffect)

    @do
    def program() -> Any:
        yield Put("x", 1)
        return (yield Get("x"))

    for handlers in (
        [names["my_handler"], *sync_handlers_preset],
        [*sync_handlers_preset, names["my_handler"]],
    ):
        assert sync_run(program(), handlers).value == 1

    # ``result`` is local to the sample and unset here: an ordinary program error.
    outcome = sync_run(MyEffect(), [*sync_handlers_preset, names["my_handler"]])
    assert re.search("result", str(outcome.error))
    assert type(outcome.error) is UnboundLocalError


def test_the_result_api_table() -> None:
    result = sync_run(
        Put("x", 1).then(Pure(2)), sync_handlers_preset, {"e": 1}, {"y": 0}
    )
    assert isinstance(result, doeff.RuntimeResult)
    assert result.result == doeff.Ok(2)
    assert (result.value, result.is_ok(), result.is_err()) == (2, True, False)
    assert result.raw_store == {"x": 1, "y": 0}
    assert result.env == {"e": 1}
    with pytest.raises(ValueError, match="Result is Ok, no error"):
        result.error
    assert result.format() == "Ok(2)"
