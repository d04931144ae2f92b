"""The effect that gives its value."""

from __future__ import annotations

from doeff._engine import Pure, PureEffect

__all__ = ["Pure", "PureEffect"]
