"""What ``GetDebugContext()`` gives: the pending calls and frames, with texts for people.

Contract: effects, part 3.11.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["DebugContext", "EffectCallNode", "KFrameInfo", "KleisliStackEntry"]


@dataclass(frozen=True)
class KleisliStackEntry:
    """A pending ``@do`` call and the line at which it waits; depth 0 is the innermost."""

    function_name: str
    filename: str
    lineno: int
    depth: int


@dataclass(frozen=True)
class KFrameInfo:
    """A frame of the continuation; depth 0 is the innermost."""

    frame_type: str
    description: str
    depth: int


@dataclass(frozen=True)
class EffectCallNode:
    """A call (``effect_type`` is None) with what it performed, or an effect."""

    function_name: str
    filename: str
    lineno: int
    effect_type: str | None
    children: tuple[EffectCallNode, ...] = ()


@dataclass(frozen=True)
class DebugContext:
    """Everything that the task has pending at one effect.

    kleisli_stack: the pending ``@do`` calls, innermost first.
    k_frames: the frames of the machine, innermost first; which ones is no promise.
    effect_call_tree: from the outermost call down to the effect.
    current_effect: the effect.
    """

    kleisli_stack: tuple[KleisliStackEntry, ...]
    k_frames: tuple[KFrameInfo, ...]
    effect_call_tree: EffectCallNode | None = None
    current_effect: Any = None

    def format_kleisli_stack(self) -> str:
        """The pending calls, one to a line."""
        lines = ["Kleisli stack (innermost first):"]
        lines += [
            f"  {e.depth}: {e.function_name} at {e.filename}:{e.lineno}"
            for e in self.kleisli_stack
        ]
        return "\n".join(lines if self.kleisli_stack else [*lines, "  (empty)"])

    def format_k_frames(self) -> str:
        """The frames of the machine, one to a line."""
        lines = ["Continuation (innermost first):"]
        lines += [
            f"  {f.depth}: {f.frame_type} {f.description}".rstrip()
            for f in self.k_frames
        ]
        return "\n".join(lines if self.k_frames else [*lines, "  (empty)"])

    def format_effect_tree(self) -> str:
        """The way from the outermost call to the effect."""
        lines = ["Effect call tree:"]
        todo = [] if self.effect_call_tree is None else [(self.effect_call_tree, 1)]
        while todo:
            node, depth = todo.pop()
            place = f" at {node.filename}:{node.lineno}" if node.filename else ""
            lines.append(f"{'  ' * depth}{node.function_name}{place}")
            todo += [(child, depth + 1) for child in reversed(node.children)]
        return "\n".join(lines if len(lines) > 1 else [*lines, "  (empty)"])

    def format_all(self) -> str:
        """All three, with the current effect in front."""
        return "\n\n".join(
            (
                f"Current effect: {self.current_effect!r}",
                self.format_kleisli_stack(),
                self.format_k_frames(),
                self.format_effect_tree(),
            )
        )
