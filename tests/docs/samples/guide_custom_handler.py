from dataclasses import dataclass
from doeff import do, sync_run, sync_handlers_preset
from doeff._types_internal import EffectBase
from doeff.cesk.handler_frame import HandlerContext
from doeff.cesk.state import CESKState

@dataclass(frozen=True)
class CustomLog(EffectBase):
    message: str

@do
def custom_log_handler(effect: EffectBase, ctx: HandlerContext):
    """Custom handler for CustomLog effect."""
    if isinstance(effect, CustomLog):
        print(f"[LOG] {effect.message}")
        return CESKState.with_value(None, ctx.env, ctx.store, ctx.k)

    # Forward unhandled effects to outer handlers
    result = yield effect
    return result

@do
def program_with_logging():
    yield CustomLog(message="Starting...")
    yield CustomLog(message="Processing...")
    return "Done"

# Prepend custom handler to preset (handlers are outermost to innermost)
handlers = [custom_log_handler, *sync_handlers_preset]
result = sync_run(program_with_logging(), handlers)
