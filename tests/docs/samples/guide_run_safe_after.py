# Functions always return RuntimeResult
result = sync_run(program, sync_handlers_preset)

# NOTE: is_ok() is a METHOD now!
if result.is_ok():
    value = result.value  # .value, not .unwrap()
