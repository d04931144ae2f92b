@do
def parallel_fetches():
    # Await is a single-effect program — can be spawned
    t1 = yield Spawn(Await(fetch_url("https://a.com")))
    t2 = yield Spawn(Await(fetch_url("https://b.com")))
    results = yield Gather(t1, t2)
    return results
