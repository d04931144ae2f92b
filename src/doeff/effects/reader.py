"""Ask and Local: the environment."""

from __future__ import annotations

from doeff._engine import Ask, AskEffect, Local, LocalEffect

__all__ = ["Ask", "AskEffect", "Local", "LocalEffect", "ask", "local"]

ask = Ask
local = Local
