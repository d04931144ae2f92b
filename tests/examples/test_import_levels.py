"""Levels of import graphs from memory, with cycles and unreadable modules."""

from __future__ import annotations

import import_levels as demo
from doeff import do, sync_handlers_preset, sync_run


def levels_of(imports):
    return sync_run(
        demo.program(), [*sync_handlers_preset, *demo.in_memory(imports)]
    ).value


def test_levels():
    found = levels_of({"a": [], "b": ["a"], "c": ["a", "b"], "d": ["c"], "e": []})
    assert found.levels == {"a": 0, "b": 1, "c": 2, "d": 3, "e": 0}
    assert (found.cycles, found.unreadable) == ([], [])


def test_a_cycle_is_told_and_not_followed():
    found = levels_of({"a": ["b"], "b": ["c"], "c": ["a"], "d": ["a"]})
    assert found.cycles == [demo.Cycle("c", "a")]
    assert found.levels == {"c": 0, "b": 1, "a": 2, "d": 3}


def test_each_module_is_read_once():
    asked = []
    listing, _ = demo.in_memory({"a": [], "b": [], "c": [], "d": []})

    @do
    def diamond(effect: demo.ImportsOf, ctx):
        asked.append(effect.module)
        return {"a": ["b", "c"], "b": ["d"], "c": ["d"], "d": []}[effect.module]

    result = sync_run(demo.program(), [*sync_handlers_preset, listing, diamond])
    assert result.value.levels["a"] == 2
    assert sorted(asked) == ["a", "b", "c", "d"]


def test_an_unreadable_module_has_level_0():
    def sources(name):
        if name == "broken":
            return "import ("
        return "import broken" if name == "user" else None

    handlers = demo.handlers_for(sources, ["broken", "in_c", "user"])
    found = sync_run(demo.program(), [*sync_handlers_preset, *handlers]).value
    assert found.levels == {"broken": 0, "in_c": 0, "user": 1}
    assert [item.module for item in found.unreadable] == ["broken"]
    assert "not readable: broken (SyntaxError" in str(found)


def test_a_chain_far_deeper_than_the_recursion_limit():
    depth = 5000
    chain = {f"m{number:05}": [f"m{number + 1:05}"] for number in range(depth)}
    found = levels_of({**chain, f"m{depth:05}": []})
    assert found.levels["m00000"] == depth


def test_imports_outside_functions():
    source = """
import os.path, sys as system
from json import decoder
from . import sibling
if True:
    import re
try:
    import tomllib
except ImportError:
    import fallback
def later():
    import never
"""
    assert demo.top_level_imports(source) == {
        "os",
        "sys",
        "json",
        "re",
        "tomllib",
        "fallback",
    }


def test_the_standard_library_itself():
    found = demo.interpret(demo.program()).value
    assert len(found.levels) > 100
    assert found.levels["sys"] == 0
    assert found.levels["json"] > 0
    assert "modules of the standard library, by level" in str(found)
