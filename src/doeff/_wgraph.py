"""Graphs as data for the HTML view: values, and steps that make values from values."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["WGraph", "WNode", "WStep"]

_numbers = itertools.count(1)


@dataclass(frozen=True, eq=False)
class WNode:
    """A value in a graph. Two nodes are equal if they hold the very same object."""

    value: Any

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WNode):
            return NotImplemented
        return self.value is other.value

    def __hash__(self) -> int:
        return hash((WNode, id(self.value)))


@dataclass(frozen=True, eq=False)
class WStep:
    """A step from some nodes to one, with what is known about it; equal to itself only."""

    inputs: tuple[WNode, ...]
    output: WNode
    meta: Mapping[str, Any] = field(default_factory=dict)
    _unique_id: int = field(default_factory=lambda: next(_numbers), repr=False)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, WStep):
            return NotImplemented
        return self._unique_id == other._unique_id

    def __hash__(self) -> int:
        return hash((WStep, self._unique_id))


@dataclass(frozen=True)
class WGraph:
    """Some steps and the one that came last.

    >>> graph = WGraph.single("rows").with_last_meta({"label": "load"})
    >>> graph.last.meta
    {'label': 'load'}
    """

    last: WStep
    steps: frozenset[WStep]

    @staticmethod
    def single(value: Any) -> WGraph:
        """A graph of one step without inputs."""
        step = WStep((), WNode(value), {})
        return WGraph(step, frozenset((step,)))

    def with_last_meta(self, meta: Mapping[str, Any]) -> WGraph:
        """This graph with meta laid over that of the last step."""
        old = self.last
        step = WStep(old.inputs, old.output, {**old.meta, **meta})
        return WGraph(step, (self.steps - {old}) | {step})
