from doeff import do, Delay, Await, async_run, async_handlers_preset
import asyncio

@do
def fetch_data():
    yield Delay(1)  # Real asyncio.sleep()
    response = yield Await(http_client.get("/api/data"))
    return response.json()

async def main():
    result = await async_run(fetch_data(), async_handlers_preset)

    if result.is_ok():
        print(result.value)
    else:
        print(f"Error: {result.error}")

asyncio.run(main())
