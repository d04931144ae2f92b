"""What the scheduler performs to the handlers outside it, and what an earlier one was made of.

A program that performs one of the ``_Scheduler`` effects gets an answer; the machine needs none of them.
"""

from __future__ import annotations

from doeff._engine import (
    SchedulerIntrospection,
    WaitForExternalCompletion,
    _BlockForExternalCompletion,
    _SchedulerCancelTask,
    _SchedulerCreatePromise,
    _SchedulerCreateTaskHandle,
    _SchedulerDequeueTask,
    _SchedulerEnqueueTask,
    _SchedulerGetCurrentTaskId,
    _SchedulerGetTaskResult,
    _SchedulerIsTaskDone,
    _SchedulerQueueEmpty,
    _SchedulerRegisterWaiter,
    _SchedulerTaskComplete,
    _SchedulerTaskCompleted,
)

__all__ = [
    "SchedulerIntrospection",
    "WaitForExternalCompletion",
    "_BlockForExternalCompletion",
    "_SchedulerCancelTask",
    "_SchedulerCreatePromise",
    "_SchedulerCreateTaskHandle",
    "_SchedulerDequeueTask",
    "_SchedulerEnqueueTask",
    "_SchedulerGetCurrentTaskId",
    "_SchedulerGetTaskResult",
    "_SchedulerIsTaskDone",
    "_SchedulerQueueEmpty",
    "_SchedulerRegisterWaiter",
    "_SchedulerTaskComplete",
    "_SchedulerTaskCompleted",
]
