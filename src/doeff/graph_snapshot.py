"""Graphs as plain data and as a page to look at.

``build_graph_snapshot`` takes a ``WGraph`` or the nodes that ``Snapshot()``, ``CaptureGraph``
and ``raw_store["__graph__"]`` give. The page needs no network and no library.

Contract: effects, part 3.10.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._engine import CaptureGraph as capture
from ._engine import do
from ._wgraph import WGraph, WNode, WStep

if TYPE_CHECKING:
    from pathlib import Path

__all__ = [
    "build_graph_snapshot",
    "capture",
    "graph_to_html",
    "graph_to_html_async",
    "write_graph_html",
    "write_graph_html_async",
]

__doeff_machinery__ = True  # generators of this file are left out of call stacks

_LABEL = 30
_DX, _DY = 220, 90
_PLAIN = {"background": "#dbeafe", "border": "#3b82f6"}
_LAST = {"background": "#fef3c7", "border": "#d97706"}
_DONE = {"background": "#dcfce7", "border": "#16a34a"}


def _text(value: Any, show: Any = repr) -> str:
    try:
        return str(show(value))
    except Exception:
        return f"<unprintable {type(value).__name__}>"


def _label(meta: Any, value: Any) -> str:
    given = meta.get("label") if isinstance(meta, Mapping) else None
    text = _text(value if given is None else given, str)
    return text if len(text) <= _LABEL else text[: _LABEL - 3] + "..."


def _as_graph(graph: Any) -> WGraph | None:
    if isinstance(graph, WGraph):
        return graph
    if not isinstance(graph, Sequence) or isinstance(graph, (str, bytes)):
        raise TypeError(
            f"graph must be a WGraph or a list of graph nodes, got {type(graph).__name__}"
        )
    last = None
    steps = []
    for row in graph:
        if not isinstance(row, Mapping) or "value" not in row:
            raise TypeError(
                f"a graph node must be a dict with 'value' and 'meta', got {row!r}"
            )
        # A box of its own: equal values of two steps are two nodes of the chain.
        node = WNode(_Box(row["value"]))
        last = WStep(
            () if last is None else (last.output,), node, dict(row.get("meta") or {})
        )
        steps.append(last)
    return None if last is None else WGraph(last, frozenset(steps))


class _Box:
    """A value that is one node of a chain, whatever it is equal or identical to."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


def _ordered(graph: WGraph) -> list[WStep]:
    """The steps in the order in which they were made."""
    return sorted(graph.steps | {graph.last}, key=lambda step: step._unique_id)


def _levels(count: int, edges: list[tuple[int, int]]) -> list[int]:
    """For each node the length of the longest way to it; nodes of a cycle count as met first."""
    followers: list[list[int]] = [[] for _ in range(count)]
    waiting = [0] * count
    for source, target in edges:
        followers[source].append(target)
        waiting[target] += 1
    levels = [0] * count
    ready = [node for node in range(count) if waiting[node] == 0]
    done = [False] * count
    unseen = 0
    while True:
        while ready:
            node = ready.pop(0)
            done[node] = True
            for target in followers[node]:
                if not done[target]:
                    levels[target] = max(levels[target], levels[node] + 1)
                    waiting[target] -= 1
                    if waiting[target] == 0:
                        ready.append(target)
        while unseen < count and done[unseen]:
            unseen += 1
        if unseen == count:
            return levels
        waiting[unseen] = 0
        ready.append(unseen)  # part of a cycle: cut it here


def build_graph_snapshot(graph: Any, *, mark_success: bool = False) -> dict[str, Any]:
    """The graph as ``{"nodes": [...], "edges": [...]}`` of plain dicts.

    graph: a WGraph, or a list of nodes of the graph effects, which is drawn as a chain.
    mark_success: colour the last node as done.

    Nodes have ``id``, ``label``, ``title``, ``color``, ``level``, ``x`` and ``y``; edges
    ``from``, ``to`` and ``arrows``. Equal graphs give equal results. Raises TypeError for
    anything else.

    >>> build_graph_snapshot([{"value": 1, "meta": {}}])["nodes"][0]["label"]
    '1'
    """
    whole = _as_graph(graph)
    if whole is None:
        return {"nodes": [], "edges": []}
    numbers: dict[WNode, int] = {}
    metas: dict[int, Mapping[str, Any]] = {}
    edges: list[tuple[int, int]] = []
    seen: set[tuple[int, int]] = set()
    for step in _ordered(whole):
        target = numbers.setdefault(step.output, len(numbers))
        metas[target] = step.meta
        for node in step.inputs:
            edge = (numbers.setdefault(node, len(numbers)), target)
            if edge not in seen:
                seen.add(edge)
                edges.append(edge)
    levels = _levels(len(numbers), edges)
    last = numbers[whole.last.output]
    taken: dict[int, int] = {}
    nodes = []
    for node, number in numbers.items():
        value = node.value.value if isinstance(node.value, _Box) else node.value
        level = levels[number]
        row = taken[level] = taken.get(level, -1) + 1
        is_last = number == last
        nodes.append(
            {
                "id": number,
                "label": _label(metas.get(number), value),
                "title": _text(value),
                "color": (_DONE if mark_success else _LAST) if is_last else _PLAIN,
                "borderWidth": 3 if is_last else 1,
                "level": level,
                "x": level * _DX,
                "y": row * _DY,
            }
        )
    return {
        "nodes": nodes,
        "edges": [
            {"from": source, "to": target, "arrows": "to"} for source, target in edges
        ],
    }


# ---- the page ----------------------------------------------------------------------------------

_WIDTH, _HEIGHT, _MARGIN = 180, 44, 30

_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; margin: 1.5rem; color: #111827; background: #ffffff; }}
.graph {{ overflow: auto; border: 1px solid #e5e7eb; border-radius: 6px; }}
text {{ font-size: 13px; text-anchor: middle; dominant-baseline: middle; }}
</style>
</head>
<body>
<h1>{title}</h1>
<div class="graph">
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" role="img">
<defs><marker id="arrow" viewBox="0 0 10 10" refX="10" refY="5" markerWidth="8" markerHeight="8"
orient="auto-start-reverse"><path d="M0 0 L10 5 L0 10 z" fill="#6b7280"/></marker></defs>
{body}
</svg>
</div>
</body>
</html>
"""


def _escape(text: str) -> str:
    """Safe in HTML text and attributes, and free of what XML cannot hold."""
    import html

    shown = "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)
    return html.escape(shown, quote=True)


def _page(graph: Any, title: str, mark_success: bool) -> str:
    if not isinstance(title, str):
        raise TypeError(f"title must be str, got {type(title).__name__}")
    data = build_graph_snapshot(graph, mark_success=mark_success)
    nodes = data["nodes"]
    parts = []
    for edge in data["edges"]:
        source, target = nodes[edge["from"]], nodes[edge["to"]]
        parts.append(
            f'<line x1="{source["x"] + _MARGIN + _WIDTH}" y1="{source["y"] + _MARGIN + _HEIGHT // 2}" '
            f'x2="{target["x"] + _MARGIN}" y2="{target["y"] + _MARGIN + _HEIGHT // 2}" '
            'stroke="#6b7280" marker-end="url(#arrow)"/>'
        )
    for node in nodes:
        x, y, color = node["x"] + _MARGIN, node["y"] + _MARGIN, node["color"]
        parts.append(
            f"<g><title>{_escape(node['title'])}</title>"
            f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="8" '
            f'fill="{color["background"]}" stroke="{color["border"]}" '
            f'stroke-width="{node["borderWidth"]}"/>'
            f'<text x="{x + _WIDTH // 2}" y="{y + _HEIGHT // 2}">{_escape(node["label"])}</text></g>'
        )
    width = max((node["x"] for node in nodes), default=0) + _WIDTH + 2 * _MARGIN
    height = max((node["y"] for node in nodes), default=0) + _HEIGHT + 2 * _MARGIN
    return _PAGE.format(
        title=_escape(title), width=width, height=height, body="\n".join(parts)
    )


def _write(
    graph: Any, path: str | os.PathLike[str], title: str, mark_success: bool
) -> Path:
    from pathlib import Path

    page = _page(graph, title, mark_success)
    target = Path(path).expanduser().resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(page, encoding="utf-8")
    return target


@do
def graph_to_html(
    graph: Any, *, title: str = "doeff Graph Snapshot", mark_success: bool = False
) -> str:
    """A program that gives the graph as an HTML page without any outside parts."""
    return _page(graph, title, mark_success)


@do
def write_graph_html(
    graph: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "doeff Graph Snapshot",
    mark_success: bool = False,
) -> Path:
    """A program that writes the page to a file and gives its resolved path.

    path: ``~`` is expanded, folders are made.
    """
    return _write(graph, path, title, mark_success)


async def graph_to_html_async(
    graph: Any, *, title: str = "doeff Graph Snapshot", mark_success: bool = False
) -> str:
    """The same as :func:`graph_to_html`, as a coroutine."""
    return _page(graph, title, mark_success)


async def write_graph_html_async(
    graph: Any,
    path: str | os.PathLike[str],
    *,
    title: str = "doeff Graph Snapshot",
    mark_success: bool = False,
) -> Path:
    """The same as :func:`write_graph_html`, as a coroutine; a thread writes the file."""
    import asyncio

    return await asyncio.to_thread(_write, graph, path, title, mark_success)
