"""The package surface: which names exist, that they are one object, what importing costs."""

from __future__ import annotations

import ast
import importlib
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import doeff
from doeff import _engine

EVERYWHERE = {
    "doeff._vendor": "Ok Err Result Some Nothing NOTHING Maybe FrozenDict TraceError"
    " trace_err WGraph WNode WStep",
    "doeff._types_internal": "EffectBase Effect Program EffectGenerator ListenResult"
    " Ok Err Result Some Nothing NOTHING Maybe FrozenDict TraceError WGraph",
    "doeff.types": "EffectBase Effect Program EffectGenerator ListenResult RunResult"
    " Ok Err Result Some Nothing NOTHING Maybe FrozenDict trace_err WStep",
    "doeff.program": "Program",
    "doeff.kleisli": "KleisliProgram",
    "doeff.do": "do",
    "doeff.run": "run_program ProgramRunResult",
    "doeff.cache": "cache cache_1min cache_5min cache_1hour cache_forever cache_key"
    " CachePolicy CacheLifecycle CacheStorage persistent_cache_path"
    " clear_persistent_cache CACHE_PATH_ENV_KEY",
    "doeff.effects": "Ask ask Local local Get get Put put Modify modify Tell tell Log"
    " StructuredLog slog Listen listen Safe safe Intercept intercept_program_effect"
    " IO io perform Pure GetTime get_time CacheGet cache_get CachePut cache_put"
    " CacheExists cache_exists CacheDelete cache_delete AtomicGet atomic_get"
    " AtomicUpdate atomic_update ProgramCallStack ProgramCallFrame GetDebugContext"
    " Step step Annotate annotate Snapshot snapshot CaptureGraph capture_graph capture"
    " Effect EffectBase",
    "doeff.cesk": "CESKState WithHandler HandlerContext ResumeK UnhandledEffectError"
    " InterpreterInvariantError MissingEnvKeyError sync_run sync_handlers_preset"
    " async_handlers_preset",
    "doeff.cesk.run": "sync_run sync_handlers_preset async_handlers_preset",
    "doeff.cesk.state": "CESKState",
    "doeff.cesk.handler_frame": "WithHandler HandlerContext ResumeK",
    "doeff.cesk.errors": "UnhandledEffectError InterpreterInvariantError"
    " MissingEnvKeyError",
    "doeff.cesk.handlers": "CircularAskError HandlerContext",
    "doeff.cesk.handlers.core": "CircularAskError",
    "doeff.cesk.handlers.core_handler": "CircularAskError",
    "doeff.core": "do Ask Ok WGraph cache",
}

SUBMODULES = {
    "pure": "PureEffect",
    "reader": "Ask ask Local local AskEffect LocalEffect",
    "state": "Get get Put put Modify modify StateGetEffect StatePutEffect"
    " StateModifyEffect",
    "writer": "Tell tell Log StructuredLog slog Listen listen WriterTellEffect"
    " WriterListenEffect",
    "result": "Safe safe ResultSafeEffect",
    "intercept": "Intercept intercept_program_effect InterceptEffect",
    "io": "IO io perform run IOPerformEffect",
    "time": "GetTime get_time GetTimeEffect",
    "cache": "CacheGet cache_get CachePut cache_put CacheExists cache_exists"
    " CacheDelete cache_delete CacheGetEffect CachePutEffect CacheExistsEffect"
    " CacheDeleteEffect",
    "atomic": "AtomicGet atomic_get AtomicUpdate atomic_update AtomicGetEffect"
    " AtomicUpdateEffect",
    "graph": "Step step Annotate annotate Snapshot snapshot CaptureGraph capture"
    " capture_graph GraphStepEffect GraphAnnotateEffect GraphSnapshotEffect"
    " GraphCaptureEffect",
    "callstack": "ProgramCallStack ProgramCallFrame ProgramCallStackEffect"
    " ProgramCallFrameEffect",
    "debug": "GetDebugContext GetDebugContextEffect",
    "base": "Effect EffectBase create_effect_with_trace",
}

OTHERS = {
    "doeff.program": "ProgramBase KleisliProgramCall GeneratorProgram",
    "doeff.kleisli": "PartiallyAppliedKleisliProgram",
    "doeff.types": "EnvKey CallFrame EffectCreationContext REPR_LIMIT_KEY",
    "doeff.utils": "BoundedLog create_effect_with_trace capture_creation_context",
    "doeff.decorators": "do_wrapper",
    "doeff.cesk.result": "DirectState Done Failed PythonAsyncSyntaxEscape"
    " StepResult Terminal",
    "doeff.cesk.step": "step",
    "doeff.cesk.state": "Value Error EffectControl ProgramControl",
    "doeff.cesk.types": "Store Environment empty_environment empty_store",
    "doeff.cesk.frames": "Kontinuation Frame ReturnFrame LocalFrame SafeFrame"
    " ListenFrame InterceptFrame LocalRestoreFrame ListenCaptureFrame AskLazyFrame"
    " GraphCaptureFrame GatherFrame",
    "doeff.cesk.handler_frame": "Handler HandlerFrame HandlerResultFrame",
    "doeff.cesk.handlers.patterns": "with_local with_safe with_listen with_intercept"
    " with_graph_capture",
    "doeff.cesk.kontinuation": "push_frame pop_frame find_frame has_frame"
    " continuation_depth unwind_value unwind_error",
    "doeff.cesk.helpers": "to_generator",
    "doeff.cesk.debug": "DebugContext",
    "doeff.cesk.runtime_result": "RuntimeResult KStackTrace EffectStackTrace"
    " PythonStackTrace KFrame EffectCallNode PythonFrame SourceLocation",
    "doeff.cesk_traceback": "CapturedTraceback EffectFrame PythonFrame CodeLocation"
    " format_traceback format_traceback_short to_dict",
    "doeff.traceback": "EffectTraceback",
}

HANDLERS = [
    "scheduler_state_handler",
    "task_scheduler_handler",
    "sync_external_wait_handler",
    "async_external_wait_handler",
    "python_async_syntax_escape_handler",
    "sync_await_handler",
    "core_handler",
]


@pytest.mark.parametrize("module", EVERYWHERE)
def test_one_object_under_every_path(module):
    there = importlib.import_module(module)
    for name in EVERYWHERE[module].split():
        assert getattr(there, name) is getattr(doeff, name), name


@pytest.mark.parametrize("module", SUBMODULES)
def test_submodules_of_effects(module):
    there = importlib.import_module(f"doeff.effects.{module}")
    for name in SUBMODULES[module].split():
        assert getattr(there, name) is getattr(doeff.effects, name), name


@pytest.mark.parametrize("module", OTHERS)
def test_other_names(module):
    there = importlib.import_module(module)
    missing = [n for n in OTHERS[module].split() if not hasattr(there, n)]
    assert not missing


@pytest.mark.parametrize("name", HANDLERS)
def test_handlers_are_those_of_the_presets(name):
    package = importlib.import_module("doeff.cesk.handlers")
    module = importlib.import_module(f"doeff.cesk.handlers.{name}")
    handler = getattr(module, name)
    assert getattr(package, name) is handler
    assert handler in doeff.sync_handlers_preset + doeff.async_handlers_preset


def modules():
    found = [
        info.name
        for info in pkgutil.walk_packages(doeff.__path__, "doeff.")
        if info.name not in ("doeff.__main__", "doeff.runtimes")
    ]
    return sorted(found)


@pytest.mark.parametrize("module", modules())
def test_all_is_honest(module):
    there = importlib.import_module(module)
    names = getattr(there, "__all__", [])
    assert len(set(names)) == len(names)
    for name in names:
        getattr(there, name)


def test_the_top_level_is_complete_and_honest():
    for name in doeff.__all__:
        assert getattr(doeff, name) is getattr(doeff, name)
    assert set(doeff.__all__) <= set(dir(doeff))
    scope: dict[str, object] = {}
    exec("from doeff import *", scope)
    assert set(doeff.__all__) <= set(scope)
    with pytest.raises(AttributeError, match="no attribute 'absent'"):
        _ = doeff.absent


def test_effect_classes_and_constructors_are_reachable():
    for name in dir(_engine):
        if name.startswith("_"):
            continue
        value = getattr(_engine, name)
        if isinstance(value, type) and issubclass(value, doeff.EffectBase):
            home = importlib.import_module(value.__module__)
            assert getattr(home, value.__name__) is value
        elif getattr(value, "__module__", "") == "doeff.effects":
            assert getattr(doeff, name) is value
            assert getattr(doeff.effects, name) is value


def test_classes_live_where_they_say():
    for name in dir(_engine):
        value = getattr(_engine, name)
        if isinstance(value, type) and not name.startswith("_"):
            home = importlib.import_module(value.__module__)
            if value.__module__ != "doeff._engine" and value.__name__ in dir(home):
                assert getattr(home, value.__name__) is value


def test_names_that_are_modules_as_well():
    code = """
import doeff
first = doeff.do, doeff.cache
import doeff.do, doeff.cache, doeff.effects.io
from doeff.do import do
from doeff.cache import cache, CacheComputationError
assert (doeff.do, doeff.cache) == (do, cache) == first, doeff.do
assert not isinstance(doeff.do, type(doeff))
from doeff.effects import io
assert io is doeff.IO
import doeff.effects.io
assert doeff.effects.io is doeff.IO
"""
    subprocess.run([sys.executable, "-c", code], env=environment(), check=True)


def test_twins():
    assert doeff.Log is doeff.Tell is doeff.tell
    assert doeff.capture is doeff.capture_graph is doeff.CaptureGraph
    assert doeff.Program is doeff.program.ProgramBase
    assert doeff.Effect is doeff.EffectBase
    assert doeff.RunResult is doeff.RuntimeResult
    assert doeff.effects.run is doeff.io is doeff.IO


def test_runtimes_say_what_to_use():
    for statement in (
        "import doeff.runtimes",
        "from doeff.runtimes import SyncRuntime",
    ):
        with pytest.raises(ImportError, match=r"sync_run.*async_run"):
            exec(statement)


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": ":".join(filter(None, sys.path))}


def loaded_by(statement: str) -> set[str]:
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


def test_importing_is_cheap():
    extra = loaded_by("import doeff") - loaded_by("pass")
    assert extra == {
        "__future__",
        "doeff",
        "doeff._engine",
        "doeff._errors",
    }


def test_using_the_core_stays_cheap():
    program = (
        "from doeff import do, Get, Safe, Local, sync_run, sync_handlers_preset as p; "
        "sync_run(do(lambda: Get)().map(str), p).value"
    )
    heavy = {"dataclasses", "typing", "inspect", "enum", "asyncio", "datetime"}
    assert not heavy & (loaded_by(program) - loaded_by("pass"))


def test_do_wrapper_gives_the_factory():
    def factory(f):
        return f

    assert doeff.decorators.do_wrapper(factory) is factory


# --- the stub -----------------------------------------------------------------------

STUB = Path(doeff.__file__).with_name("_engine.pyi")
IGNORED = {"__init__", "__hash__", "__match_args__", "__getattr__", "__name__"}
IGNORED |= {"__qualname__", "__wrapped__", "original_func", "original_generator"}


def declared(body):
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node


def test_the_stub_names_what_exists():
    stub = dict(declared(ast.parse(STUB.read_text()).body))
    there = {n for n in dir(_engine) if not n.startswith("_")}
    assert {n for n in stub if not n.startswith("_")} == there


def test_the_stub_names_the_members_that_exist():
    for name, node in declared(ast.parse(STUB.read_text()).body):
        if not isinstance(node, ast.ClassDef):
            continue
        cls = getattr(_engine, name)
        members = {member for member, _ in declared(node.body)} - IGNORED
        assert not [m for m in members if m not in dir(cls)], name
        own = {m for m in vars(cls) if not m.startswith("_")}
        inherited = {m for base in cls.__mro__[1:] for m in vars(base)}
        assert not own - members - inherited, name


def test_the_package_is_typed():
    assert Path(doeff.__file__).with_name("py.typed").exists()


# --- small helpers of doeff.cesk -----------------------------------------------------


def test_kontinuation_helpers():
    from doeff.cesk import kontinuation as k
    from doeff.cesk.frames import LocalFrame, SafeFrame

    local, safe = LocalFrame(doeff.FrozenDict()), SafeFrame(doeff.FrozenDict())
    stack = k.push_frame(k.push_frame([], local), safe)
    assert k.continuation_depth(stack) == 2
    assert k.pop_frame(stack) == (safe, [local])
    assert k.pop_frame([]) == (None, [])
    assert k.find_frame(stack, LocalFrame) == (local, 1)
    assert k.find_frame([], LocalFrame) == (None, -1)
    assert k.has_frame(stack, SafeFrame)
    error = ValueError()
    assert doeff.cesk.Value(1) == k.unwind_value(1, {}, {}, stack).C
    assert doeff.cesk.Error(error) == k.unwind_error(error, {}, {}, stack).C


def test_frames_are_recognised_by_their_methods():
    from doeff.cesk.frames import Frame, LocalFrame, ReturnFrame

    class Mine:
        def on_value(self, value, env, store, k): ...

        def on_error(self, error, env, store, k): ...

    assert isinstance(Mine(), Frame)
    assert not isinstance(object(), Frame)
    assert issubclass(LocalFrame, Frame)
    assert issubclass(ReturnFrame, Frame)


def test_to_generator():
    from doeff.cesk.helpers import to_generator

    class Own(doeff.Program):
        def to_generator(self):
            return "own"

    effect = doeff.Get("k")
    generator = to_generator(effect)
    assert next(generator) is effect
    with pytest.raises(StopIteration) as stop:
        generator.send(3)
    assert stop.value.value == 3
    assert to_generator(Own()) == "own"
    with pytest.raises(TypeError, match="Cannot convert int to generator"):
        to_generator(5)


def test_types_of_environments():
    from doeff.cesk.types import Environment, Store, empty_environment, empty_store

    assert Environment is doeff.FrozenDict
    assert Store is dict
    assert (empty_environment(), empty_store()) == ({}, {})


# --- data of graphs and errors ---------------------------------------------------------


def test_graph_data():
    value = object()
    assert doeff.WNode(value) == doeff.WNode(value)
    assert hash(doeff.WNode(value)) == hash(doeff.WNode(value))
    assert doeff.WNode([]) != doeff.WNode([])
    graph = doeff.WGraph.single(value)
    assert graph.last.output.value is value
    assert graph.steps == {graph.last}
    marked = graph.with_last_meta({"a": 1}).with_last_meta({"b": 2})
    assert marked.last.meta == {"a": 1, "b": 2}
    assert marked.steps == {marked.last}
    assert marked.last != graph.last
    assert graph.last.meta == {}


def test_trace_err():
    with pytest.raises(ValueError) as caught:
        raise ValueError("boom")
    traced = doeff.trace_err(caught.value)
    assert traced.exc is caught.value
    assert "test_trace_err" in traced.tb
    assert "ValueError: boom" in str(traced)
    assert traced.created_at is None
    assert doeff.trace_err(traced) is traced
    assert isinstance(traced, Exception)
