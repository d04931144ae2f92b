from doeff.cesk.frames import ContinueValue, ContinueError, FrameResult
from doeff.cesk.state import TaskState
from doeff.cesk.types import Store
from doeff.effects.io import IOPerformEffect

def handle_io(
    effect: IOPerformEffect,
    task_state: TaskState,
    store: Store,
) -> FrameResult:
    try:
        # Perform the I/O action
        result = effect.action()
        return ContinueValue(
            value=result,
            env=task_state.env,
            store=store,
            k=task_state.kontinuation,
        )
    except Exception as ex:
        # Propagate the error through the continuation stack
        return ContinueError(
            error=ex,
            env=task_state.env,
            store=store,
            k=task_state.kontinuation,
        )
