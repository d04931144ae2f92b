"""The graph of computed values."""

from __future__ import annotations

from doeff._engine import (
    Annotate,
    CaptureGraph,
    GraphAnnotateEffect,
    GraphCaptureEffect,
    GraphSnapshotEffect,
    GraphStepEffect,
    Snapshot,
    Step,
)

__all__ = [
    "Annotate",
    "CaptureGraph",
    "GraphAnnotateEffect",
    "GraphCaptureEffect",
    "GraphSnapshotEffect",
    "GraphStepEffect",
    "Snapshot",
    "Step",
    "annotate",
    "capture",
    "capture_graph",
    "snapshot",
    "step",
]

annotate = Annotate
capture = CaptureGraph
capture_graph = CaptureGraph
snapshot = Snapshot
step = Step
