"""An old path for what ``doeff`` exports."""

from __future__ import annotations

from doeff import *  # noqa: F403
from doeff import __all__  # noqa: F401
