@do
def python_async_syntax_escape_handler(effect: EffectBase, ctx: HandlerContext):
    if isinstance(effect, PythonAsyncioAwaitEffect):
        # Create external promise for scheduler coordination
        promise = yield CreateExternalPromise()

        # Wrap awaitable with promise completion
        async def fire_task():
            try:
                result = await effect.awaitable
                promise.complete(result)
            except BaseException as e:
                promise.fail(e)

        # Escape to async_run to create the task
        yield PythonAsyncSyntaxEscape(
            action=lambda: asyncio.create_task(fire_task())
        )

        # Wait on promise (scheduler handles coordination)
        result = yield Wait(promise.future)
        return result

    # Forward unhandled effects
    result = yield effect
    return result
