logs = result.raw_store.get("__log__", [])
graph = result.raw_store.get("__graph__")
