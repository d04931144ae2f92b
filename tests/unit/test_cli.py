"""The ``doeff`` command: paths, environments, formats, discovery, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pytest

from doeff.cli import main
from doeff.cli.discovery import interpreter_near, read_markers

# Every test imports modules of its own folder, which a repeated body would count as growth.
pytestmark = pytest.mark.once

SHOP = """
    from doeff import Ask, Program, do, sync_handlers_preset, sync_run

    def interpreter(program):  # doeff: interpreter, default
        return sync_run(program, sync_handlers_preset)

    base: dict = {"name": "Ada", "tax": 7}  # doeff: default
    other = {"name": "Grace"}

    @do
    def greet():
        return f"hello {(yield Ask('name'))}"

    greeting = greet()

    @do
    def fails():
        yield Ask("name")
        raise ValueError("out of stock")

    @do
    def leaves():
        yield Ask("name")
        raise SystemExit(3)

    @do
    def needs(name):
        return name

    def plain():
        return 3

    def shout(program):
        return program.map(str.upper)

    def twice(program):
        return program.map(lambda text: text * 2)

    @do
    def length(text):
        return len(text)

    class Namespace:
        class Inner:
            program = Program.pure("deep")

    listed = Program.pure([1, 2])
    odd = Program.pure(object)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty working directory and home; modules imported from it are forgotten."""
    home = tmp_path / "home"
    here = tmp_path / "work"
    home.mkdir()
    here.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.delenv("DOEFF_PROFILE", raising=False)
    monkeypatch.delenv("DOEFF_DISABLE_PROFILE", raising=False)
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    before = set(sys.modules)
    yield here
    assert str(here) not in sys.path, "the command left its folder on sys.path"
    for name in set(sys.modules) - before:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if file.startswith(str(tmp_path)):
            del sys.modules[name]


def write(path: Path, source: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source).strip() + "\n", encoding="utf-8")


@pytest.fixture
def shop(folder):
    write(folder / "shop.py", SHOP)
    return folder


@pytest.fixture
def run(capsys):
    """Call ``doeff run`` in this process; gives exit code, stdout and stderr."""

    def call(*words: str) -> tuple[int, str, str]:
        code = main(["run", *words])
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture
def run_json(run):
    def call(*words: str) -> dict:
        _, out, _ = run(*words, "--format", "json")
        assert out.count("\n") == 1
        return json.loads(out)

    return call


def in_subprocess(*words: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "doeff", *words],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


class TestPaths:
    @pytest.mark.parametrize(
        "words",
        [
            ["shop:greet"],
            ["shop.greet"],
            ["--program", "shop:greet"],
            ["--program", "shop.greeting"],
        ],
    )
    def test_program_forms(self, shop, run, words):
        assert run(*words) == (0, "hello Ada\n", "")

    def test_attribute_of_attribute(self, shop, run):
        assert run("shop:Namespace.Inner.program")[:2] == (0, "deep\n")

    def test_working_directory_wins_over_path(self, shop, run, tmp_path, monkeypatch):
        write(
            tmp_path / "elsewhere" / "shop.py", "raise AssertionError('wrong module')"
        )
        monkeypatch.syspath_prepend(str(tmp_path / "elsewhere"))
        assert run("shop:greet")[:2] == (0, "hello Ada\n")

    @pytest.mark.parametrize(
        ("path", "said"),
        [
            ("shopp:greet", "there is no module 'shopp'"),
            ("shop.deep:greet", "there is no module 'shop.deep'"),
            ("shop:gret", "has no attribute 'gret'; did you mean 'greet'?"),
            ("shop:zzz", "programs in it: greet, greeting, fails"),
            ("shop.Namespace.Inner", "write 'shop:Namespace.Inner'"),
            ("shop", "write MODULE:NAME, e.g. 'shop:main'"),
            ("shop.py", "'shop:NAME'"),
            ("./stock/shop.py", "from the folder './stock'"),
            ("shop:", "MODULE:NAME"),
            ("shop:plain", "calling it gave int 3, not a program"),
            ("shop:other", "is dict {'name': 'Grace'}, not a program"),
            ("shop:needs", "parameters that have no default: name"),
            ("shop:Namespace", "is the class 'Namespace', not a program"),
        ],
    )
    def test_wrong_path_says_what_to_do(self, shop, run, path, said):
        code, out, err = run(path)
        assert (code, out) == (1, "")
        assert said in err
        assert "Traceback" not in err
        assert err.startswith("doeff: error: ")

    def test_module_in_a_folder_below(self, folder, run):
        write(folder / "examples" / "tour.py", "x = 1")
        assert "there is examples/tour.py" in run("tour:x")[2]

    def test_a_module_is_not_a_program(self, folder, run):
        write(folder / "pkg" / "__init__.py", "")
        write(folder / "pkg" / "orders.py", SHOP)
        code, _, err = run("pkg.orders")
        assert code == 1
        assert "the module 'pkg.orders'" in err
        assert "programs in it: greet" in err

    def test_error_while_importing_shows_the_users_lines(self, folder, run):
        write(folder / "broken.py", "import no_such_module_anywhere")
        code, _, err = run("broken:main")
        assert code == 1
        assert 'broken.py", line 1' in err
        assert "No module named 'no_such_module_anywhere'" in err
        assert "raised while importing 'broken' for the program 'broken:main'" in err
        assert "loading.py" not in err


class TestSteps:
    def test_env_replaces_discovered_ones(self, shop, run, run_json):
        assert run("shop:greet", "--env", "shop:other")[1] == "hello Grace\n"
        assert run_json("shop:greet", "--env", "shop:other")["envs"] == ["shop:other"]

    def test_envs_in_order_and_programs_see_earlier_keys(self, folder, run):
        write(
            folder / "app.py",
            """
            from doeff import Ask, Program, do, sync_handlers_preset, sync_run

            first = {"a": 1, "b": 1}

            @do
            def second():
                return {"b": (yield Ask("a")) + 1}

            def third():
                return {"lazy": Program.pure("later").map(str.upper)}

            @do
            def main():
                return (yield Ask("a")), (yield Ask("b")), (yield Ask("lazy"))
            """,
        )
        envs = ["--env", "app:first", "--env", "app:second", "--env", "app:third"]
        done = run("app:main", *envs, "--interpreter", "doeff:sync_run")
        assert done == (0, "(1, 2, 'LATER')\n", "")

    def test_wrong_env(self, shop, run):
        code, _, err = run("shop:greet", "--env", "shop:plain")
        assert code == 1
        assert (
            "environment 'shop:plain' is the function 'plain', which gave int 3" in err
        )

    def test_apply_then_transforms(self, shop, run, run_json):
        words = ["shop:greet", "--transform", "shop:shout", "--transform", "shop:twice"]
        assert run(*words)[1] == "HELLO ADAHELLO ADA\n"
        payload = run_json(*words, "--apply", "shop:shout")
        assert payload["transformers"] == ["shop:shout", "shop:twice"]
        assert payload["apply"] == "shop:shout"

    def test_apply_of_a_do_function_gets_the_value(self, shop, run):
        assert run("shop:greet", "--apply", "shop:length")[1] == "9\n"

    def test_transform_that_gives_no_program(self, shop, run):
        code, _, err = run("shop:greet", "--transform", "builtins:str")
        assert code == 1
        assert "transform 'builtins:str' gave str" in err

    @pytest.mark.parametrize("path", ["doeff:sync_run", "doeff.sync_run"])
    def test_run_function_as_interpreter(self, shop, run, path):
        assert run("shop:greet", "--interpreter", path)[1] == "hello Ada\n"

    def test_interpreter_answers(self, folder, run):
        write(folder / "app.py", "from doeff import Program\nmain = Program.pure(1)")
        write(
            folder / "ways.py",
            """
            from doeff import Program, do

            def value(program, *, depth=1):
                return "plain"

            async def later(program):
                return "awaited"

            def another(program):
                return Program.pure("of a program")

            @do
            def wrapped(program: Program):
                return (yield program) + 1

            def two(program, other):
                return None

            def keyword(*, program):
                return None
            """,
        )

        def with_interpreter(name):
            return run("app:main", "--interpreter", f"ways:{name}")

        assert with_interpreter("value")[1] == "plain\n"
        assert with_interpreter("later")[1] == "awaited\n"
        assert with_interpreter("another")[1] == "of a program\n"
        assert with_interpreter("wrapped")[1] == "2\n"
        for name in ("two", "keyword"):
            code, _, err = with_interpreter(name)
            assert code == 1
            assert "cannot be called with the program alone" in err


class TestOutput:
    def test_json_of_success(self, shop, run_json):
        assert run_json("shop:listed") == {
            "status": "ok",
            "program": "shop:listed",
            "interpreter": "shop.interpreter",
            "envs": ["shop.base"],
            "apply": None,
            "transformers": [],
            "result": [1, 2],
            "result_type": "list",
        }

    def test_json_falls_back_to_repr(self, shop, run_json):
        payload = run_json("shop:odd")
        assert (payload["result"], payload["result_type"]) == (
            "<class 'object'>",
            "type",
        )

    def test_json_of_error(self, shop, run, run_json):
        payload = run_json("shop:fails")
        assert payload["status"] == "error"
        assert payload["error"] == "ValueError"
        assert payload["message"] == "out of stock"
        assert "in fails" in payload["traceback"]
        assert run("shop:fails", "--format", "json")[0] == 1

    def test_text_error_shows_the_users_frames_only(self, shop, run):
        code, out, err = run("shop:fails")
        assert (code, out) == (1, "")
        assert 'shop.py", line' in err
        assert err.endswith("ValueError: out of stock\n")
        assert "pipeline.py" not in err

    def test_report_of_success(self, shop, run, run_json):
        out = run("shop:greet", "--report")[1]
        assert out.startswith("hello Ada\n\nOk('hello Ada')")
        assert "RUNTIME RESULT" in run("shop:greet", "--report-verbose")[1]
        payload = run_json("shop:greet", "--report")
        assert payload["report"].startswith("Ok('hello Ada')")
        assert "call_tree" in payload

    def test_report_of_failure(self, shop, run, run_json):
        code, out, err = run("shop:fails", "--report")
        assert (code, out) == (1, "")
        assert "Root Cause: ValueError: out of stock" in err
        payload = run_json("shop:fails", "--report-verbose")
        assert "RUNTIME RESULT" in payload["report"]
        assert "fails" in payload["call_tree"]

    def test_report_without_runtime_result(self, folder, run, run_json):
        write(folder / "app.py", "from doeff import Program\nmain = Program.pure(1)")
        write(folder / "ways.py", "def value(program):\n    return 5")
        words = ["app:main", "--interpreter", "ways:value", "--report"]
        assert "no run report: the interpreter gave int" in run(*words)[1]
        assert run_json(*words)["report"] is None

    def test_profile(self, shop, run, monkeypatch):
        monkeypatch.setenv("DOEFF_PROFILE", "1")
        assert "load program" in run("shop:greet")[2]
        monkeypatch.setenv("DOEFF_DISABLE_PROFILE", "1")
        assert run("shop:greet")[2] == ""


class TestHomeFile:
    def test_default_env_comes_first(self, shop, run, run_json, tmp_path):
        write(
            tmp_path / "home" / ".doeff.py",
            "__default_env__ = {'name': 'home', 'z': 1}",
        )
        assert run("shop:greet", "--env", "shop:other")[1] == "hello Grace\n"
        payload = run_json("shop:greet", "--env", "shop:other")
        assert payload["envs"] == ["~/.doeff.py:__default_env__", "shop:other"]

    def test_program_as_default_env(self, folder, run, tmp_path):
        write(
            tmp_path / "home" / ".doeff.py",
            "from doeff import Program\n__default_env__ = Program.pure({'z': 26})",
        )
        assert run("-c", "from doeff import Ask\nyield Ask('z')")[1] == "26\n"

    def test_error_in_it_fails_the_command(self, shop, run, tmp_path):
        write(tmp_path / "home" / ".doeff.py", "raise RuntimeError('no key')")
        code, out, err = run("shop:greet")
        assert (code, out) == (1, "")
        assert "no key" in err
        assert "raised while reading ~/.doeff.py" in err


class TestInlineCode:
    def test_yield_and_final_expression(self, shop, run):
        code = "from doeff import Ask\nname = yield Ask('name')\nname.upper()"
        assert run("-c", code, "--env", "shop:base") == (0, "ADA\n", "")

    def test_final_program_is_run(self, folder, run):
        assert run("-c", "Program.pure(4)")[1] == "4\n"

    def test_do_needs_no_import(self, folder, run):
        code = "@do\ndef f():\n    return (yield Program.pure(2)) + 1\nf()"
        assert run("-c", code)[1] == "3\n"

    def test_without_final_expression(self, folder, run):
        assert run("-c", "x = 1")[1] == "None\n"
        assert run("-c", "import sys")[1] == "None\n"

    def test_json_has_no_program_path(self, folder, run_json):
        payload = run_json("-c", "1")
        assert payload["program"] is None
        assert payload["interpreter"] == "<default sync_run>"

    @pytest.mark.parametrize("code", ["", "  \n", "# nothing"])
    def test_empty_code(self, folder, run, code):
        done, out, err = run("-c", code)
        assert (done, out) == (1, "")
        assert "no code" in err

    def test_syntax_error(self, folder, run):
        code, _, err = run("-c", "x =")
        assert code == 1
        assert err.startswith('  File "<doeff -c>", line 1')

    def test_error_shows_the_line(self, folder, run):
        err = run("-c", "x = 0\n1 / x")[2]
        assert "1 / x" in err
        assert err.endswith("ZeroDivisionError: division by zero\n")

    def test_stdin(self, folder):
        done = in_subprocess("run", "-c", "-", input="Program.pure('in')")
        assert (done.returncode, done.stdout) == (0, "in\n")

    def test_interpreter_of_the_package_below(self, folder, run_json):
        marked = "def run(program):\n    '''doeff: interpreter, default'''\n    return 'mine'"
        write(folder / "pkg" / "__init__.py", "")
        write(folder / "pkg" / "inner" / "__init__.py", marked)
        write(folder / "pkg" / "top.py", marked)
        payload = run_json("-c", "1")
        assert (payload["interpreter"], payload["result"]) == ("pkg.top.run", "mine")

    def test_interpreter_of_the_package_around(self, folder):
        marked = "def run(program):  # doeff: default interpreter\n    return 'mine'"
        write(folder / "pkg" / "__init__.py", marked)
        write(folder / "pkg" / "inner" / "__init__.py", "")
        assert interpreter_near(folder / "pkg" / "inner") == ("pkg.run", folder)
        done = in_subprocess("run", "-c", "1", cwd=folder / "pkg" / "inner")
        assert (done.returncode, done.stdout, done.stderr) == (0, "mine\n", "")


class TestScript:
    def test_script_sees_program_and_value(self, shop, run):
        write(
            shop / "after.py",
            """
            print(value, isinstance(program, Program), sync_run(program, sync_handlers_preset).value)
            print(interpreter(program).value, RunResult.__name__, json.dumps(1), sys is not None)
            """,
        )
        code, out, _ = run("shop:greet", "after.py")
        assert code == 0
        assert out == "hello Ada True hello Ada\nhello Ada RuntimeResult 1 True\n"

    def test_options_between_program_and_script(self, shop, run):
        write(shop / "after.py", "print(value)")
        assert (
            run("shop:greet", "--env", "shop:other", "after.py")[1] == "hello Grace\n"
        )
        assert run("--program", "shop:greet", "after.py")[1] == "hello Ada\n"

    def test_script_on_stdin(self, shop):
        done = in_subprocess(
            "run", "shop:greet", "-", input="print(value); sys.exit(5)"
        )
        assert (done.returncode, done.stdout) == (5, "hello Ada\n")

    def test_error_in_script(self, shop, run):
        write(shop / "after.py", "1 / 0")
        code, _, err = run("shop:greet", "after.py")
        assert code == 1
        assert 'after.py", line 1' in err

    def test_missing_script(self, shop, run):
        code, _, err = run("shop:greet", "nowhere.py")
        assert code == 1
        assert "nowhere.py" in err


class TestDiscovery:
    def test_deepest_interpreter_wins_and_envs_accumulate(self, folder, run, run_json):
        marked = (
            "def run(program):  # doeff: interpreter, default\n    return {name!r}\n"
        )
        plain = """
            from doeff import Ask, do, sync_handlers_preset, sync_run

            env = {"x": "c", "last": "c"}  # doeff: default

            def run(program):  # doeff: interpreter, default
                return sync_run(program, sync_handlers_preset)

            @do
            def main():
                return [(yield Ask("x")), (yield Ask("y")), (yield Ask("last"))]
        """
        write(
            folder / "a" / "__init__.py",
            marked.format(name="a")
            + "env: dict = {'x': 'a', 'y': 'a'}  # doeff: default",
        )
        write(
            folder / "a" / "b" / "__init__.py",
            marked.format(name="b") + "# doeff: default\nenv = {'last': 'b'}",
        )
        write(folder / "a" / "b" / "c.py", plain)
        payload = run_json("a.b.c.main")
        assert payload["result"] == ["c", "a", "c"]
        assert payload["interpreter"] == "a.b.c.run"
        assert payload["envs"] == ["a.env", "a.b.env", "a.b.c.env"]
        write(
            folder / "a" / "b" / "d.py",
            "from doeff import Program\nmain = Program.pure(1)",
        )
        assert run("a.b.d:main")[1] == "b\n"

    def test_no_interpreter_names_the_marker(self, folder, run):
        write(folder / "app.py", "from doeff import Program\nmain = Program.pure(1)")
        code, out, err = run("app:main")
        assert (code, out) == (1, "")
        assert "# doeff: interpreter, default" in err
        assert "--interpreter" in err

    @pytest.mark.parametrize(
        "source",
        [
            "def run(p):  # doeff: interpreter, default\n    pass",
            "def run(p): pass  # doeff: default interpreter",
            "# DOEFF: Interpreter Default\ndef run(p):\n    pass",
            "# doeff: interpreter\n# and\n# doeff: default\ndef run(p):\n    pass",
            "# doeff: interpreter, default\n@wrap  # why\ndef run(p):\n    pass",
            "@wrap  # doeff: interpreter, default\ndef run(p):\n    pass",
            "def run(\n    p,  # doeff: interpreter\n    q=1,  # doeff: default\n):\n    pass",
            'def run(p):\n    """Run.\n\n    doeff: interpreter, default\n    """',
            'def run(p):\n    """# doeff: interpreter, default"""',
        ],
    )
    def test_interpreter_markers(self, source):
        assert read_markers(source).interpreters == ("run",)

    @pytest.mark.parametrize(
        "source",
        [
            "async def run(p):  # doeff: interpreter, default\n    pass",
            "def run(p):  # doeff: interpreter\n    pass",
            "# doeff: interpreter, default\n\ndef run(p):\n    pass",
            "x = 1  # doeff: interpreter, default\ndef run(p):\n    pass",
            "s = '# doeff: interpreter, default'\ndef run(p):\n    pass",
            "def run(p):\n    pass  # later\n    # doeff: interpreter, default",
            "def run(p:  # doeff: interpreter, default",
            "",
        ],
    )
    def test_no_interpreter_markers(self, source):
        assert read_markers(source).interpreters == ()

    @pytest.mark.parametrize(
        ("source", "names"),
        [
            ("a: dict = {}  # doeff: default\nb: dict = {}", ("a",)),
            ("# doeff: default\na: dict = {}", ("a",)),
            ("a = {}  # doeff: default\nb = {}  # DOEFF: default", ("a", "b")),
            ("a: dict  # doeff: default", ()),
            ("a = {  # doeff: default\n}", ("a",)),
            ("a = {}  # doeff: interpreter, default", ()),
        ],
    )
    def test_env_markers(self, source, names):
        assert read_markers(source).envs == names


class TestUsage:
    @pytest.mark.parametrize(
        "words",
        [
            [],
            ["run"],
            ["walk"],
            ["run", "shop:greet", "--format", "xml"],
            ["run", "-c", "1", "--program", "shop:greet"],
            ["run", "-c", "1", "after.py"],
            ["run", "shop:greet", "after.py", "more"],
            ["run", "shop:greet", "--unknown"],
        ],
    )
    def test_wrong_usage_is_2(self, folder, capsys, words):
        assert main(words) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "usage: doeff" in err

    def test_help(self, capsys):
        assert main(["run", "--help"]) == 0
        out = capsys.readouterr().out
        for option in ("--program", "-c CODE", "--interpreter", "--env", "--apply"):
            assert option in out
        assert "runbox" not in out

    def test_version(self, capsys):
        from importlib.metadata import version

        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"doeff {version('doeff-c')}\n"

    def test_no_runbox_is_accepted(self, shop, run):
        assert run("--no-runbox", "shop:greet")[0] == 0

    def test_exit_of_the_program(self, shop, run):
        assert run("shop:leaves")[0] == 3

    def test_exit_with_a_message(self, folder, run):
        assert run("-c", "raise SystemExit('enough')") == (1, "", "enough\n")

    def test_module_and_console_script(self, shop):
        done = in_subprocess("run", "shop:greet")
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello Ada\n", "")
        script = Path(sysconfig.get_path("scripts"), "doeff")
        done = subprocess.run(
            [str(script), "run", "shop:greet"],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "hello Ada\n", "")

    def test_closed_pipe_is_quiet(self, folder):
        read, write_end = os.pipe()
        os.close(read)
        done = subprocess.run(
            [sys.executable, "-m", "doeff", "run", "-c", "'x' * 1_000_000"],
            stdout=write_end,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
        )
        os.close(write_end)
        assert (done.returncode, done.stderr) == (1, "")

    def test_import_of_the_package_loads_no_command(self):
        code = "import sys, doeff; print('argparse' in sys.modules, 'doeff.cli' in sys.modules)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout == "False False\n"
