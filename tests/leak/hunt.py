"""Repeats a function and compares reference and block counts.

The readings go into a list made beforehand and hold integers made beforehand: a fresh integer in
a list would itself read as one block more in each run.
"""

from __future__ import annotations

import gc
import sys

from doeff import _engine

WARM_UPS = 3
RUNS = 5
LIMIT = 20_000
POOL = {value: value for value in range(-LIMIT, LIMIT + 1)}
KINDS = (
    ("references", sys.gettotalrefcount),
    ("blocks", sys.getallocatedblocks),
)


def settle():
    _engine._drain()
    sys._clear_type_cache()
    gc.collect()
    gc.collect()
    _engine._drain()


def pooled(value):
    return POOL[max(-LIMIT, min(LIMIT, value))]


def growth(function):
    """Growth of each measured run: {"references": [...], "blocks": [...]}."""
    readings = {name: [0] * RUNS for name, _ in KINDS}
    references, blocks = readings["references"], readings["blocks"]
    total, allocated = sys.gettotalrefcount, sys.getallocatedblocks
    for run in range(-WARM_UPS, RUNS):
        settle()
        refs_before = total()
        blocks_before = allocated()
        function()
        settle()
        refs_after = total()  # same order as above: a reading is itself an object
        blocks_after = allocated()
        if run >= 0:
            references[run] = pooled(refs_after - refs_before)
            blocks[run] = pooled(blocks_after - blocks_before)
    return readings


def leaks(readings):
    """The kinds that grew in every single run; noise does not."""
    return {kind: values for kind, values in readings.items() if min(values) > 0}


def complain(name, found):
    lines = "; ".join(f"{kind} grew by {values}" for kind, values in found.items())
    return f"{name} leaks: {lines} in {RUNS} runs after {WARM_UPS} warm-ups"
