import aiohttp

@do
def fetch_json(url):
    session = aiohttp.ClientSession()
    try:
        response = yield Await(session.get(url))
        data = yield Await(response.json())
        return data
    finally:
        yield Await(session.close())
