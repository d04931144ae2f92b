from doeff.cesk.frames import FrameResult
from doeff.cesk.state import TaskState
from doeff.cesk.types import Store

def handle_my_effect(
    effect: MyEffectType,
    task_state: TaskState,
    store: Store,
) -> FrameResult:
    """Handle a specific effect type."""
    # ... implementation ...
