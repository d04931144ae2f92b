"""What effects are made of."""

from __future__ import annotations

from doeff._engine import EffectBase
from doeff._engine import EffectBase as Effect
from doeff.utils import create_effect_with_trace

__all__ = ["Effect", "EffectBase", "create_effect_with_trace"]
