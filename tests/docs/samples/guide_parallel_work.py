from doeff import do, Spawn, Wait, Gather, sync_run, sync_handlers_preset

@do
def parallel_work():
    # Spawn tasks (enqueues them, returns immediately)
    t1 = yield Spawn(compute_a())
    t2 = yield Spawn(compute_b())
    t3 = yield Spawn(compute_c())

    # Wait for results (scheduler interleaves execution)
    result1 = yield Wait(t1)
    result2 = yield Wait(t2)
    result3 = yield Wait(t3)
    return [result1, result2, result3]

result = sync_run(parallel_work(), sync_handlers_preset)
