from doeff import do, Delay, GetTime, sync_run, sync_handlers_preset

@do
def timed_operation():
    start = yield GetTime()
    yield Delay(1)  # Real 1 second delay
    end = yield GetTime()
    return f"Elapsed: {(end - start).total_seconds()}s"

result = sync_run(timed_operation(), sync_handlers_preset)
print(result.value)  # "Elapsed: ~1.0s"
