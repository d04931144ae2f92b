from doeff import do, Delay, sync_run, sync_handlers_preset

@do
def delayed_response():
    yield Delay(0.1)  # Short delay for testing
    return "Ready!"

result = sync_run(delayed_response(), sync_handlers_preset)

assert result.is_ok()
assert result.value == "Ready!"
