from doeff.runtimes import AsyncioRuntime, SyncRuntime

# Async
runtime = AsyncioRuntime()
result = await runtime.run(program)

# Sync
runtime = SyncRuntime()
result = runtime.run(program)
