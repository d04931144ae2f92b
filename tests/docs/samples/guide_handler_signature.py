@do
def my_handler(effect: EffectBase, ctx: HandlerContext) -> CESKState | Any:
    # ctx.store: Current store (mutable state)
    # ctx.env: Current environment (reader context)
    # ctx.k: Full continuation stack
    # ctx.delimited_k: Continuation up to this handler
    ...
