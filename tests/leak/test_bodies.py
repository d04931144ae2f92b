"""Every body ends as it should. Under `make leaks` the plugin repeats these tests and counts."""

from __future__ import annotations

import pytest

BODIES = pytest.doeff_bodies.all_bodies()


@pytest.mark.parametrize(
    "body", [function for _, function in BODIES], ids=[name for name, _ in BODIES]
)
def test_body(body):
    body()
