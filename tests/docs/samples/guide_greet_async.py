import asyncio
from doeff import do, Ask, async_run, async_handlers_preset

@do
def greet():
    name = yield Ask("name")
    return f"Hello, {name}!"

async def main():
    result = await async_run(greet(), async_handlers_preset, env={"name": "World"})

    if result.is_ok():
        print(result.value)  # "Hello, World!"

asyncio.run(main())
