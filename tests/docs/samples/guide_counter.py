from doeff import do, Get, Put, sync_run, sync_handlers_preset

@do
def counter():
    count = yield Get("counter")
    yield Put("counter", count + 1)
    return count + 1

result = sync_run(counter(), sync_handlers_preset, store={"counter": 0})

if result.is_ok():
    print(result.value)  # 1
