"""Effects by the calls that performed them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class _Node:
    __slots__ = ("children", "count", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.children: dict[tuple[bool, str], _Node] = {}

    def child(self, name: str, effect: bool) -> _Node:
        return self.children.setdefault((effect, name), _Node(name))


class EffectCallTree:
    """A tree of calls with the effects under them; equal paths are one path.

    >>> print(EffectCallTree.from_observations([]).visualize_ascii())
    (no effects)

    Contract: effects, part 2.3.
    """

    def __init__(self, root: Any) -> None:
        self._root = root

    @classmethod
    def from_observations(cls, observations: Iterable[Any]) -> EffectCallTree:
        """A tree of observations: objects with ``effect_type``, ``key`` (or None) and
        ``call_stack_snapshot``, the CallFrames pending then, innermost first."""
        root = _Node("")
        for seen in observations:
            node = root
            for frame in reversed(
                tuple(getattr(seen, "call_stack_snapshot", None) or ())
            ):
                node = node.child(f"{frame.function_name}()", effect=False)
            key = getattr(seen, "key", None)
            name = str(seen.effect_type)
            leaf = node.child(name if key is None else f"{name}({key!r})", effect=True)
            leaf.count += 1
        return cls(root)

    def visualize_ascii(self) -> str:
        """The tree, one line for each call and effect, ``xN`` behind what happened N times."""
        if not self._root.children:
            return "(no effects)"
        lines = []
        todo: list[tuple[Any, str, bool | None]] = [
            (node, "", None) for node in reversed(self._root.children.values())
        ]
        while todo:
            node, indent, is_last = todo.pop()
            branch = "" if is_last is None else "└─ " if is_last else "├─ "
            times = f" x{node.count}" if node.count > 1 else ""
            lines.append(f"{indent}{branch}{node.name}{times}")
            below = indent + ("" if is_last is None else "   " if is_last else "│  ")
            children = list(node.children.values())
            todo += [
                (child, below, index == 0)
                for index, child in enumerate(reversed(children))
            ]
        return "\n".join(lines)
