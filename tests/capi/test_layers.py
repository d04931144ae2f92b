"""The built-in families are written against the public C header and nothing more."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ENGINE = Path(__file__).parents[2] / "src" / "engine"
FAMILY_H = ENGINE / "effects" / "family.h"
FAMILIES = re.findall(
    r"X\((\w+)\)\s*\\?\n", FAMILY_H.read_text().split("ENGINE_FAMILIES(X)")[1]
)


def included(path: Path) -> list[str]:
    return re.findall(r'^\s*#\s*include\s*(["<][^">]+[">])', path.read_text(), re.M)


def test_the_list_of_families_is_read():
    assert {"reader", "state", "writer", "control", "callstack"} <= set(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_includes_the_public_header_only(family):
    ours = [i for i in included(ENGINE / "effects" / f"{family}.c") if i[0] == '"']
    assert ours == ['"family.h"']


def test_what_families_include_leads_to_the_public_header_only():
    assert included(FAMILY_H) == ['"../capi/builtin.h"']
    builtin = ENGINE / "capi" / "builtin.h"
    assert included(builtin) == ['"../../../include/doeff.h"']
    header = (builtin.parent / "../../../include/doeff.h").resolve()
    assert header == ENGINE.parents[1] / "include" / "doeff.h"
    assert included(header) == ["<Python.h>"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_declares_no_function_of_the_engine(family):
    text = (ENGINE / "effects" / f"{family}.c").read_text()
    assert not re.search(r"^\s*extern\b", text, re.M)
    outside = re.findall(r"^(?:int|PyObject \*|DoeffStep)\s+(\w+)\(", text, re.M)
    assert outside == [f"effects_{family}_init"]
