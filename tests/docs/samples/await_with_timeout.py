import asyncio

@do
def with_timeout(program, seconds):
    task = yield Spawn(program)
    try:
        result = yield Await(asyncio.wait_for(
            asyncio.shield(asyncio.sleep(seconds)),
            timeout=seconds
        ))
        yield Cancel(task)
        raise TimeoutError()
    except asyncio.TimeoutError:
        raise TimeoutError()
