"""What can be waited for, as a protocol."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Waitable(Protocol):
    """A task, a future, an external promise, or anything else whose ``_handle`` leads to one."""

    @property
    def _handle(self) -> Any: ...
