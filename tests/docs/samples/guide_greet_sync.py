from doeff import do, Ask, sync_run, sync_handlers_preset

@do
def greet():
    name = yield Ask("name")
    return f"Hello, {name}!"

result = sync_run(greet(), sync_handlers_preset, env={"name": "World"})

if result.is_ok():
    print(result.value)  # "Hello, World!"
