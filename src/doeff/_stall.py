"""What runs say of waits for the outside world that take long: the log that ``set_stall_log`` switches on."""

from __future__ import annotations

import logging

from ._tasks import _where

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

logger = logging.getLogger("doeff.stall")

_SHOWN = 20


def _expected(effect: Any, seconds: float) -> str:
    """What the effect that began the wait says of its end."""
    said = ""
    if effect is None:
        return said
    if effect.deadline is not None and seconds > float(effect.deadline):
        said += f", past its deadline of {effect.deadline} s"
    if effect.source_alive is not None:
        try:
            if not effect.source_alive():
                said += ", and what should end it is not alive"
        except Exception as error:
            said += f", and source_alive raised {type(error).__name__}: {error}"
    return said


def log(waits: list[tuple[str, Any, float, Any]]) -> None:
    """A warning for each wait: the name of the task, where it waits, seconds, the effect or None."""
    for name, waiting, seconds, effect in waits[:_SHOWN]:
        logger.warning(
            "task %s has waited for something from outside for %.3g s%s%s",
            name,
            seconds,
            _where(waiting),
            _expected(effect, seconds),
        )
    if len(waits) > _SHOWN:
        logger.warning("%d more waits like these", len(waits) - _SHOWN)
