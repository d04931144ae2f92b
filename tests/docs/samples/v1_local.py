from doeff.cesk.frames import ContinueProgram, FrameResult, LocalFrame
from doeff.cesk.state import TaskState
from doeff.cesk.types import Store
from doeff._vendor import FrozenDict
from doeff.effects.reader import LocalEffect

def handle_local(
    effect: LocalEffect,
    task_state: TaskState,
    store: Store,
) -> FrameResult:
    # Update environment
    new_env = task_state.env | FrozenDict(effect.env_update)
    
    # Push LocalFrame to restore environment after sub_program completes
    new_k = [LocalFrame(task_state.env)] + task_state.kontinuation
    
    return ContinueProgram(
        program=effect.sub_program,
        env=new_env,
        store=store,
        k=new_k,
    )
