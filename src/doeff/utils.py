"""Helpers for authors of effects and handlers."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, TypeVar

from ._engine import BoundedLog

if TYPE_CHECKING:
    from ._engine import EffectBase
    from ._origin import EffectCreationContext

    E = TypeVar("E", bound=EffectBase[Any])

__all__ = ["BoundedLog", "capture_creation_context", "create_effect_with_trace"]


def capture_creation_context(skip_frames: int = 2) -> EffectCreationContext:
    """Where this was called from: 1 is the caller, 2 (an effect's constructor asks) its caller.

    Records whatever ``record_origins`` says, because somebody asked.
    """
    from ._origin import _from_frame

    frame = sys._getframe(0)
    for _ in range(skip_frames):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return _from_frame(frame)


def create_effect_with_trace(effect: E, skip_frames: int = 3) -> E:
    """A copy of the effect whose ``created_at`` is the caller of the function that calls this.

    Example::

        def LookUp(sku):
            return create_effect_with_trace(LookUpEffect(sku))
    """
    return effect.with_created_at(capture_creation_context(skip_frames))
