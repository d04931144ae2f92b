"""``run_program``: the command line's steps, from Python."""

from __future__ import annotations

import asyncio
import copy
import pickle
import sys

import pytest

from doeff import (
    Ask,
    Get,
    Local,
    Program,
    ProgramRunResult,
    RuntimeResult,
    do,
    run_program,
    sync_handlers_preset,
    sync_run,
)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home, so that the dot file of whoever runs the tests stays out."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    return tmp_path


@do
def greet():
    return f"hello {(yield Ask('name'))}"


@do
def doubled(text):
    return text * 2


def shout(program):
    return program.map(str.upper)


ADA = {"name": "Ada"}


class TestInputs:
    def test_defaults(self):
        done = run_program(Program.pure(3))
        assert (done.value, done.interpreter_path) == (3, "<default sync_run>")
        assert isinstance(done.run_result, RuntimeResult)
        assert (done.env_sources, done.applied_kleisli, done.applied_transforms) == (
            [],
            None,
            [],
        )

    @pytest.mark.parametrize("program", [greet, greet(), lambda: greet()])
    def test_program_or_callable(self, program):
        assert run_program(program, envs=[ADA]).value == "hello Ada"

    def test_envs_merge_in_order(self):
        @do
        def more():
            return {"name": (yield Ask("name")) + " Lovelace"}

        done = run_program(greet, envs=[ADA, more(), more, lambda: {"other": 1}])
        assert done.value == "hello Ada Lovelace Lovelace"
        assert done.env_sources == [
            "<dict>",
            "<Program[dict]>",
            "<KleisliProgram: more>",
            "<callable: <lambda>>",
        ]

    def test_local_inside_the_program_wins(self):
        assert (
            run_program(Local({"name": "Grace"}, greet()), envs=[ADA]).value
            == "hello Grace"
        )

    def test_env_is_not_changed(self):
        env = dict(ADA)
        run_program(greet, envs=[env, {"name": "Grace"}])
        assert env == ADA

    def test_steps_in_order(self):
        done = run_program(
            greet, envs=[ADA], apply=doubled, transform=[shout, lambda p: p.map(len)]
        )
        assert done.value == 18
        assert done.applied_kleisli == "<KleisliProgram: doubled>"
        assert done.applied_transforms == ["<callable: shout>", "<callable: <lambda>>"]

    def test_failing_program_raises_its_error(self):
        error = ValueError("out of stock")

        @do
        def fails():
            yield Get("x")

        @do
        def raises():
            raise error

        with pytest.raises(KeyError):
            run_program(fails)
        with pytest.raises(ValueError) as caught:
            run_program(raises)
        assert caught.value is error

    def test_failing_environment_raises_its_error(self):
        with pytest.raises(KeyError):
            run_program(greet, envs=[Ask("absent").map(dict)])


class TestInterpreters:
    def test_runtime_result_is_unwrapped(self):
        def interpreter(program):
            return sync_run(program, sync_handlers_preset, store={"n": 5})

        done = run_program(Get("n"), interpreter=interpreter)
        assert done.value == 5
        assert done.interpreter_path == "<callable: interpreter>"
        assert done.run_result.raw_store["n"] == 5

    def test_plain_value(self):
        done = run_program(Get("n"), interpreter=lambda program: "canned")
        assert (done.value, done.run_result) == ("canned", None)

    def test_program(self):
        def wrapped(program):
            return Local(ADA, program)

        assert run_program(greet, interpreter=wrapped).value == "hello Ada"

    def test_run_functions(self):
        assert run_program(greet, envs=[ADA], interpreter=sync_run).value == "hello Ada"

    @pytest.mark.once
    def test_awaitable(self):
        async def interpreter(program):
            await asyncio.sleep(0)
            return sync_run(program, sync_handlers_preset)

        assert run_program(Program.pure(1), interpreter=interpreter).value == 1

        async def inside_a_loop():
            return run_program(Program.pure(2), interpreter=interpreter).value

        assert asyncio.run(inside_a_loop()) == 2

    def test_failed_runtime_result(self):
        def interpreter(program):
            return sync_run(program, sync_handlers_preset)

        with pytest.raises(KeyError):
            run_program(Get("absent"), interpreter=interpreter)


class TestWrongKinds:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"program": 5}, "program is int 5, not a program"),
            ({"program": doubled}, "parameters that have no default: text"),
            ({"program": lambda: 5}, "gave int 5, not a program"),
            ({"interpreter": 5}, "is int 5, not an interpreter"),
            ({"interpreter": lambda: None}, "cannot be called with the program alone"),
            ({"envs": [5]}, "is int 5: it must be a mapping"),
            ({"envs": [Program.pure(5)]}, "which gave int 5: it must be a mapping"),
            ({"envs": ADA}, "envs must be a list"),
            ({"envs": "shop:env"}, "envs must be a list"),
            ({"apply": 5}, "is int 5: it must be a function"),
            ({"apply": lambda program: 5}, "gave int 5: it must give a program"),
            ({"transform": shout}, "transform must be a list"),
            (
                {"transform": [lambda program: None]},
                "gave None: it must give a program",
            ),
        ],
    )
    def test_type_error_names_it(self, options, said):
        with pytest.raises(TypeError) as caught:
            run_program(**{"program": Program.pure(1), **options})
        assert said in str(caught.value)

    def test_generator_function_without_do(self):
        def forgotten():
            yield Ask("name")

        with pytest.raises(TypeError, match="decorate the generator function with @do"):
            run_program(forgotten)

    def test_missing_module_and_attribute(self):
        with pytest.raises(ImportError, match="no module 'no_such_module_anywhere'"):
            run_program("no_such_module_anywhere:program")
        with pytest.raises(AttributeError, match="did you mean 'dumps'"):
            run_program("json:dunps")


@pytest.mark.once
class TestPathsAndFiles:
    @pytest.fixture
    def module(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "dont_write_bytecode", True)
        (tmp_path / "run_program_shop.py").write_text(
            "from doeff import Ask, sync_handlers_preset, sync_run\n"
            "env = {'name': 'Ada'}  # doeff: default\n"
            "program = Ask('name')\n"
            "def interpreter(program):  # doeff: interpreter, default\n"
            "    return sync_run(program, sync_handlers_preset)\n"
        )
        yield "run_program_shop"
        sys.modules.pop("run_program_shop", None)

    def test_paths_use_discovery(self, module):
        done = run_program(f"{module}:program")
        assert done.value == "Ada"
        assert done.interpreter_path == f"{module}.interpreter"
        assert done.env_sources == [f"{module}.env"]

    def test_any_object_skips_discovery(self, module):
        done = run_program(f"{module}:program", envs=[{"name": "Grace"}])
        assert (done.value, done.interpreter_path) == ("Grace", "<default sync_run>")

    def test_default_env(self, home):
        (home / ".doeff.py").write_text("__default_env__ = {'name': 'home'}")
        done = run_program(greet)
        assert (done.value, done.env_sources) == (
            "hello home",
            ["~/.doeff.py:__default_env__"],
        )
        with pytest.raises(KeyError):
            run_program(greet, load_default_env=False)

    def test_default_env_can_be_left_out_with_paths(self, home, module):
        (home / ".doeff.py").write_text("raise AssertionError('read')")
        assert run_program(f"{module}:program", load_default_env=False).value == "Ada"

    def test_quiet_silences_discovery_not_the_program(self, monkeypatch, capsys):
        monkeypatch.setenv("DOEFF_PROFILE", "1")

        @do
        def prints():
            print("mine", file=sys.stderr)

        run_program(prints, quiet=True)
        assert capsys.readouterr().err == "mine\n"
        run_program(prints)
        assert "load program" in capsys.readouterr().err

    def test_report(self, capsys):
        run_program(Program.pure(1), report=True)
        assert capsys.readouterr().err.startswith("Ok(1)")
        with pytest.raises(KeyError):
            run_program(Get("absent"), report_verbose=True)
        assert "RUNTIME RESULT" in capsys.readouterr().err


class TestResult:
    def test_is_a_read_only_value(self):
        done = run_program(Program.pure(1))
        with pytest.raises(AttributeError, match="read-only"):
            done.value = 2
        with pytest.raises(AttributeError, match="read-only"):
            del done.value
        assert repr(done).startswith("ProgramRunResult(value=1, run_result=")

    def test_equality_copy_pickle_and_match(self):
        done = ProgramRunResult(1, None, "i", ["<dict>"], None, [])
        assert done == ProgramRunResult(1, None, "i", ["<dict>"], None, [])
        assert done != ProgramRunResult(2, None, "i", ["<dict>"], None, [])
        assert copy.copy(done) == done
        assert pickle.loads(pickle.dumps(done)) == done
        match done:
            case ProgramRunResult(value, None, path):
                assert (value, path) == (1, "i")
            case _:
                raise AssertionError("no match")
