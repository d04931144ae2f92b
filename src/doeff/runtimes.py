"""Was removed; importing it says what to use."""

raise ModuleNotFoundError(
    "doeff.runtimes was removed: use sync_run(program, sync_handlers_preset) "
    "or await async_run(program, async_handlers_preset), both from doeff",
    name=__name__,
)
