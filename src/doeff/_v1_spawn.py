"""The backends of ``CreateSpawn``: a run of its own, on a thread or in a process.

Each start function returns at once and settles the external promise when the run has ended, with
its value or with the error that it ended with. The run has the synchronous preset, the v1 handlers
of the runtime, and snapshots of environment and store.

Contract: programs, part 5; concurrency, part 4.
"""

from __future__ import annotations

import pickle
from threading import Thread
from typing import TYPE_CHECKING, Any

from ._engine import _v1_handlers, _v1_layer, sync_handlers_preset, sync_run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from multiprocessing.connection import Connection

    from ._engine import ExternalPromise, ProgramBase

    Start = Callable[
        [
            ProgramBase[Any],
            Any,
            Mapping[Any, Any] | None,
            Mapping[str, Any] | None,
            ExternalPromise[Any],
        ],
        None,
    ]


def _own_run(
    program: ProgramBase[Any],
    layer: Any,
    env: Mapping[Any, Any] | None,
    store: Mapping[str, Any] | None,
) -> Any:
    return sync_run(program, [*sync_handlers_preset, layer], env, store).value


def _settle(promise: ExternalPromise[Any], work: Callable[[], Any]) -> None:
    try:
        promise.complete(work())
    except BaseException as error:  # it belongs to whoever waits, not to this thread
        promise.fail(error)


def start_thread(
    program: ProgramBase[Any],
    layer: Any,
    env: Mapping[Any, Any] | None,
    store: Mapping[str, Any] | None,
    promise: ExternalPromise[Any],
) -> None:
    """A thread cannot be stopped: if nobody waits any more, it runs on and its outcome is dropped."""
    snapshot = dict(store or {})

    def work() -> Any:
        return _own_run(program, layer, env, snapshot)

    Thread(
        target=_settle, args=(promise, work), name="doeff-spawn", daemon=True
    ).start()


def start_process(
    program: ProgramBase[Any],
    layer: Any,
    env: Mapping[Any, Any] | None,
    store: Mapping[str, Any] | None,
    promise: ExternalPromise[Any],
) -> None:
    """A child process, which is killed if nobody waits for it any more."""
    try:
        job = pickle.dumps((program, _v1_handlers(layer), env, dict(store or {})))
    except Exception as error:  # raised at the wait
        promise.fail(error)
        return
    from multiprocessing import get_context

    context = get_context("spawn")
    ours, theirs = context.Pipe()
    child = context.Process(target=_child, args=(theirs,), daemon=True)
    child.start()
    theirs.close()

    def work() -> Any:
        with ours:
            try:
                ours.send_bytes(job)
                ok, outcome = pickle.loads(ours.recv_bytes())
            except (EOFError, OSError) as error:
                child.join()
                raise RuntimeError(
                    f"the process ended without an answer, exit code {child.exitcode}"
                ) from error
        child.join()
        if not ok:
            raise outcome
        return outcome

    promise.on_cancel(child.kill)
    Thread(
        target=_settle, args=(promise, work), name="doeff-spawn", daemon=True
    ).start()


def _child(connection: Connection) -> None:
    """In the child: runs the job and answers with (whether it went well, value or error)."""
    with connection:
        try:
            program, handlers, env, store = pickle.loads(connection.recv_bytes())
            answer = (True, _own_run(program, _v1_layer(handlers), env, store))
        except BaseException as error:
            answer = (False, error)
        try:
            packed = pickle.dumps(answer)
        except Exception as error:
            packed = pickle.dumps((False, error))
        connection.send_bytes(packed)


BACKENDS: dict[str, Start] = {"process": start_process, "thread": start_thread}
