from doeff import sync_run, async_run, sync_handlers_preset, async_handlers_preset

# Sync
result = sync_run(program, sync_handlers_preset)

# Async
result = await async_run(program, async_handlers_preset)

# Result is RuntimeResult
if result.is_ok():
    value = result.value
