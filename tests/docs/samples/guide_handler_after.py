from doeff import do
from doeff.cesk.handler_frame import HandlerContext
from doeff.cesk.state import CESKState

@do
def my_handler(effect, ctx: HandlerContext):
    if isinstance(effect, MyEffect):
        return CESKState.with_value(result, ctx.env, ctx.store, ctx.k)
    # Forward unhandled effects
    result = yield effect
    return result
