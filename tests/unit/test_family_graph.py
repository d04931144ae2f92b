"""Step, Annotate, Snapshot and CaptureGraph; graphs as data and as a page."""

from __future__ import annotations

import asyncio
import collections
import json
import types
import xml.etree.ElementTree as ElementTree

import pytest

import doeff
from doeff import (
    Annotate,
    CaptureGraph,
    EffectBase,
    FrozenDict,
    Get,
    Intercept,
    Local,
    Program,
    Put,
    Safe,
    Snapshot,
    Step,
    WGraph,
    WithHandler,
    WNode,
    WStep,
    do,
    sync_handlers_preset,
    sync_run,
)
from doeff.analysis import EffectCallTree
from doeff.graph_snapshot import (
    build_graph_snapshot,
    graph_to_html,
    graph_to_html_async,
    write_graph_html,
    write_graph_html_async,
)
from doeff.types import CallFrame


def run(program, **kw):
    return sync_run(program, sync_handlers_preset, **kw)


def seq(*programs):
    return Program.list(*programs)


def node(value, **meta):
    return {"value": value, "meta": meta}


@do
def fail(error):
    raise error
    yield


# --- the effects ---------------------------------------------------------------------------


def test_what_was_given_out_does_not_change():
    program = seq(
        Step(1),
        Get("__graph__"),
        Snapshot(),
        Annotate({"a": 1}),
        Get("__graph__"),
        Step(2),
        Snapshot(),
    )
    values = run(program).value
    assert values[1] == values[2] == [node(1)]
    assert values[4] == [node(1, a=1)]
    assert values[6] == [node(1, a=1), node(2)]


def test_the_callers_graph_does_not_change():
    given = [node(0, old=True)]
    program = seq(Annotate({"new": 1}), Step(1), Annotate({"x": 1}))
    result = run(program, store={"__graph__": given})
    assert given == [node(0, old=True)]
    assert result.raw_store["__graph__"] == [node(0, old=True, new=1), node(1, x=1)]


def test_steps_that_nobody_looks_at_cost_no_copies():
    @do
    def many():
        yield Step("first")
        before = id((yield Get("__graph__")))
        for i in range(200):
            yield Step(i)
        return before == id((yield Get("__graph__")))

    # The list that Get gave is dead by the time of the next step, so it is still the same one.
    assert run(many()).value


def test_changing_a_snapshot_changes_nothing_else():
    @do
    def program():
        yield Step(1)
        snapshot = yield Snapshot()
        snapshot.clear()
        return (yield Snapshot())

    assert run(program()).value == [node(1)]


@pytest.mark.parametrize(
    "meta",
    [
        {"a": 1},
        FrozenDict(a=1),
        types.MappingProxyType({"a": 1}),
        collections.ChainMap({"a": 1}),
        collections.UserDict(a=1),
    ],
    ids=lambda m: type(m).__name__,
)
def test_meta_may_be_any_mapping(meta):
    assert run(seq(Step(1, meta), Snapshot())).value[1] == [node(1, a=1)]
    assert hash(Step(1, meta)) == hash(Step(1, {"a": 1}))
    assert Step(1, meta) == Step(1, {"a": 1})


@pytest.mark.parametrize("meta", [5, "ab", [("a", 1)], {1: 2}, iter([])], ids=repr)
def test_other_metas_are_type_errors(meta):
    for make in (lambda: Step(1, meta), lambda: Annotate(meta)):
        with pytest.raises(TypeError, match="meta must be a mapping with str keys"):
            make()


def test_nodes_have_metas_of_their_own():
    effect = Step(1, {"a": 1})
    nodes = run(seq(effect, effect, Annotate({"b": 2}), Snapshot())).value[-1]
    assert nodes == [node(1, a=1), node(1, a=1, b=2)]
    assert type(nodes[0]["meta"]) is dict


def test_broken_graphs_are_reported():
    for wrong in (5, "text", {"a": 1}):
        for effect in (Step(1), Annotate({}), Snapshot()):
            error = run(effect, store={"__graph__": wrong}).error
            assert isinstance(error, TypeError)
            assert "__graph__" in str(error)
    for wrong in ([5], [{}], [{"value": 1, "meta": 5}]):
        assert isinstance(
            run(Annotate({}), store={"__graph__": wrong}).error, TypeError
        )


# --- CaptureGraph ----------------------------------------------------------------------------


def test_annotations_outside_and_inside():
    inside = seq(Annotate({"outer": 1}), Step(1), Annotate({"x": 1}))
    program = seq(Step(0), CaptureGraph(inside), Annotate({"later": 1}), Snapshot())
    values = run(program).value
    assert values[1][1] == [node(1, x=1)]
    assert values[3] == [node(0, outer=1), node(1, x=1, later=1)]


def test_annotation_of_a_node_of_an_outer_scope():
    program = CaptureGraph(seq(Step(0), CaptureGraph(Annotate({"x": 1}))))
    values, nodes = run(program).value
    assert nodes == [node(0, x=1)]
    assert values[1] == (None, [])


def test_capture_survives_an_overwritten_graph():
    program = CaptureGraph(seq(Step(1), Put("__graph__", []), Step(2)))
    result = run(seq(Step(0), program))
    assert result.value[1][1] == [node(1), node(2)]
    assert result.raw_store["__graph__"] == [node(2)]


def test_captured_nodes_are_the_callers_own():
    @do
    def program():
        _, nodes = yield CaptureGraph(Step(1))
        nodes.clear()
        yield Step(2)
        return (yield Snapshot())

    assert run(program()).value == [node(1), node(2)]


def test_errors_close_the_scope():
    program = seq(
        Safe(CaptureGraph(seq(Step(1), fail(ValueError("e"))))), CaptureGraph(Step(2))
    )
    result = run(program)
    assert result.value[1] == (2, [node(2)])
    assert result.raw_store["__graph__"] == [node(1), node(2)]


@do
def forward(effect, ctx):
    return (yield effect)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: WithHandler(forward, p),
        lambda p: WithHandler(forward, WithHandler(forward, p)),
        lambda p: Intercept(p, lambda e: None),
        lambda p: Local({"k": 1}, p),
    ],
    ids=["forwarding", "forwarding twice", "Intercept", "Local"],
)
def test_capture_under_scopes(wrap):
    inner = wrap(seq(Step(1), Annotate({"a": 1})))
    _, nodes = run(wrap(CaptureGraph(inner))).value
    assert nodes == [node(1, a=1)]


def test_capture_records_what_reaches_the_graph():
    def rewrite(effect):
        if (
            isinstance(effect, doeff.effects.graph.GraphStepEffect)
            and effect.value == 1
        ):
            return Step("one")
        return None

    assert run(Intercept(CaptureGraph(Step(1)), rewrite)).value == (
        "one",
        [node("one")],
    )

    @do
    def swallow(effect: doeff.effects.graph.GraphStepEffect, ctx):
        return "swallowed"

    assert run(WithHandler(swallow, CaptureGraph(Step(1)))).value == ("swallowed", [])


def test_an_abandoned_capture_is_closed():
    class Stop(EffectBase):
        pass

    @do
    def stop(effect: Stop, ctx):
        return ctx.abandon("stopped")

    program = WithHandler(stop, CaptureGraph(seq(Step(1), Stop())))
    result = run(seq(program, CaptureGraph(Step(2))))
    assert result.value == ["stopped", (2, [node(2)])]


# --- graphs as data ----------------------------------------------------------------------------


def test_wgraph():
    value = [1]
    assert WNode(value) == WNode(value)
    assert WNode(value) != WNode([1])
    assert len({WNode(value), WNode(value), WNode([1])}) == 2
    step = WStep((), WNode(1), {"a": 1})
    assert step == step
    assert step != WStep((), WNode(1), {"a": 1})
    graph = WGraph.single(1).with_last_meta({"a": 1})
    again = graph.with_last_meta({"b": 2})
    assert again.last.meta == {"a": 1, "b": 2}
    assert graph.last.meta == {"a": 1}
    assert again.steps == frozenset([again.last])


def diamond():
    a, b, c, d = (WNode(name) for name in "abcd")
    steps = [
        WStep((), a, {"label": "start"}),
        WStep((a,), b, {}),
        WStep((a,), c, {}),
        WStep((b, c), d, {}),
    ]
    return WGraph(steps[-1], frozenset(steps))


def test_snapshot_of_a_graph():
    data = build_graph_snapshot(diamond())
    assert data == build_graph_snapshot(diamond())
    assert [(n["label"], n["level"]) for n in data["nodes"]] == [
        ("start", 0),
        ("b", 1),
        ("c", 1),
        ("d", 2),
    ]
    assert len({(n["x"], n["y"]) for n in data["nodes"]}) == 4
    ids = {n["label"]: n["id"] for n in data["nodes"]}
    arrows = {(e["from"], e["to"]) for e in data["edges"]}
    assert arrows == {
        (ids[x], ids[y])
        for x, y in [("start", "b"), ("start", "c"), ("b", "d"), ("c", "d")]
    }
    assert {e["arrows"] for e in data["edges"]} == {"to"}
    last, others = data["nodes"][3], data["nodes"][:3]
    assert all(last["color"] != n["color"] for n in others)
    done = build_graph_snapshot(diamond(), mark_success=True)["nodes"][3]
    assert done["color"] != last["color"]
    json.dumps(data)


def test_snapshot_of_a_list_is_a_chain():
    nodes = run(seq(Step(1), Step(1), Step("x" * 100, {"label": None}))).raw_store[
        "__graph__"
    ]
    data = build_graph_snapshot(nodes)
    assert [n["level"] for n in data["nodes"]] == [0, 1, 2]
    assert [(e["from"], e["to"]) for e in data["edges"]] == [(0, 1), (1, 2)]
    assert len(data["nodes"][2]["label"]) == 30
    assert data["nodes"][2]["title"] == repr("x" * 100)
    assert build_graph_snapshot([]) == {"nodes": [], "edges": []}


def test_snapshot_of_cycles_and_odd_values():
    class Silent:
        def __repr__(self):
            raise RuntimeError("no")

    a, b = WNode(Silent()), WNode("b")
    steps = [WStep((b,), a, {}), WStep((a,), b, {}), WStep((b,), b, {})]
    data = build_graph_snapshot(WGraph(steps[-1], frozenset(steps)))
    assert len(data["nodes"]) == 2
    assert len(data["edges"]) == 3
    assert "unprintable" in data["nodes"][0]["title"]
    for wrong in (5, "text", [5], [{}]):
        with pytest.raises(TypeError):
            build_graph_snapshot(wrong)


# --- the page --------------------------------------------------------------------------------------

EVIL = "</script></svg><script>alert(1)</script>&\"'"


def test_page_is_self_contained_and_escaped():
    nodes = [node(EVIL, label=EVIL), node(2)]
    page = run(graph_to_html(nodes, title=EVIL)).value
    assert "<script" not in page
    assert "http" not in page.replace('xmlns="http://www.w3.org/2000/svg"', "")
    body = page.partition("<html")[2]
    tree = ElementTree.fromstring("<html" + body.replace('<meta charset="utf-8">', ""))
    texts = "".join(tree.itertext())
    assert EVIL in texts
    assert asyncio.run(graph_to_html_async(nodes, title=EVIL)) == page
    assert "<rect" not in run(graph_to_html([])).value


def test_pages_need_no_handlers():
    assert sync_run(graph_to_html(WGraph.single(1)), []).value.startswith(
        "<!DOCTYPE html>"
    )


def test_writing(tmp_path, monkeypatch, capsys):
    path = tmp_path / "a" / "b.html"
    assert (
        run(write_graph_html(diamond(), str(path), mark_success=True)).value
        == path.resolve()
    )
    text = path.read_text(encoding="utf-8")
    assert "start" in text
    monkeypatch.setenv("HOME", str(tmp_path))
    written = asyncio.run(
        write_graph_html_async(diamond(), "~/c.html", mark_success=True)
    )
    assert written == (tmp_path / "c.html").resolve()
    assert written.read_text(encoding="utf-8") == text
    assert capsys.readouterr() == ("", "")


# --- EffectCallTree ----------------------------------------------------------------------------------


def seen(effect_type, key, *functions):
    frames = tuple(
        CallFrame(None, name, (), FrozenDict(), depth, None)
        for depth, name in enumerate(reversed(functions))
    )
    return types.SimpleNamespace(
        effect_type=effect_type, key=key, call_stack_snapshot=frames
    )


def test_call_tree():
    tree = EffectCallTree.from_observations(
        [
            seen("Ask", "k", "main", "load"),
            seen("Ask", "k", "main", "load"),
            seen("Tell", None, "main", "load"),
            seen("Put", "x", "main"),
            seen("Get", "y"),
        ]
    )
    assert tree.visualize_ascii().splitlines() == [
        "main()",
        "├─ load()",
        "│  ├─ Ask('k') x2",
        "│  └─ Tell",
        "└─ Put('x')",
        "Get('y')",
    ]
    assert EffectCallTree.from_observations(()).visualize_ascii() == "(no effects)"


def test_a_capture_that_a_handler_keeps_goes_on_where_it_is_resumed():
    """The scope leaves with its continuation and opens again inside those in force there."""
    from doeff import EffectBase, ResumeK, WithHandler

    class Park(EffectBase):
        pass

    class Unpark(EffectBase):
        pass

    kept = []

    @do
    def keeper(effect, ctx):
        if isinstance(effect, Park):
            kept.append(ctx.k)
            return ResumeK(ctx.outer_k, "parked")
        if isinstance(effect, Unpark):
            return ResumeK(kept.pop(), None)
        return (yield effect)

    @do
    def inner():
        yield Step("before")
        yield Park()
        yield Step("after")
        return "inner"

    @do
    def main():
        first = yield WithHandler(keeper, CaptureGraph(inner()))
        if first == "parked":
            yield Step("between")
            return (yield CaptureGraph(WithHandler(keeper, Unpark())))
        return first

    value, nodes = sync_run(main(), sync_handlers_preset).value
    # The outer capture records what is stepped while it is open; the inner one is the value.
    assert [n["value"] for n in nodes] == ["after"]
    assert value[0] == "inner"
    assert [n["value"] for n in value[1]] == ["before", "after"]
