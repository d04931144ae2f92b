"""Driving a program by hand."""

from __future__ import annotations

from doeff._engine import step

__all__ = ["step"]
