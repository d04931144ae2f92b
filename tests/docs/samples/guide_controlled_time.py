from datetime import datetime
from doeff import do, GetTime, sync_run, sync_handlers_preset

@do
def get_current_time():
    current = yield GetTime()
    return current

# Control time via store
result = sync_run(
    get_current_time(),
    sync_handlers_preset,
    store={"__current_time__": datetime(2024, 1, 1, 12, 0)}
)
print(result.value)  # datetime(2024, 1, 1, 12, 0)
