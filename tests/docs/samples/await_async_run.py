async def async_run(program, handlers):
    state = initial_state(program, handlers)

    while True:
        result = step(state)

        if isinstance(result, PythonAsyncSyntaxEscape):
            # Action returns CESKState directly (step() wraps handler's action)
            state = await result.action()
            continue

        if isinstance(result, Done):
            return result.value

        if isinstance(result, Failed):
            raise result.exception

        await asyncio.sleep(0)  # Yield to let asyncio tasks progress
        state = result  # CESKState
