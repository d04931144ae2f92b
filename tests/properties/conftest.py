"""Hypothesis profiles and the import path of the reference interpreter."""

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)

_COMMON = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
settings.register_profile("dev", max_examples=40, **_COMMON)
settings.register_profile(
    "ci", max_examples=40, derandomize=True, database=None, **_COMMON
)
settings.register_profile("long", max_examples=2000, print_blob=True, **_COMMON)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


def pytest_itemcollected(item):
    """A property repeats its body by itself; the leak hunt leaves it out."""
    item.add_marker("once")
    if os.environ.get("HYPOTHESIS_PROFILE") == "long":
        item.add_marker(pytest.mark.timeout(0))
