#include "scheduler.h"

#include "../effects/effects.h"

/* internal: the effects that an earlier scheduler, written as handlers, was made of.
 *
 * The machine performs none of them. A program that does gets an answer that fits: what is asked about tasks is
 * answered from the run's own, and the queue of _SchedulerEnqueueTask and its like, in which continuations wait for
 * somebody who resumes them, is a list that belongs to the run. A handle of _SchedulerCreateTaskHandle is a daemon
 * task that waits for _SchedulerTaskComplete.
 *
 * s->internal is a list of three: that queue; who waits for which handle, {handle: [entry, ...]}; {task: future} of
 * the handles. */

enum { INTERNAL_QUEUE, INTERNAL_WAITERS, INTERNAL_HANDLES };

/* Borrowed; NULL with an error. */
static PyObject *
internal_part(DoeffScheduler *s, int part)
{
    if (s->internal == NULL) {
        s->internal = Py_BuildValue("[N,N,N]", PyList_New(0), PyDict_New(), PyDict_New());
    }
    return s->internal == NULL ? NULL : PyList_GET_ITEM(s->internal, part);
}

static DoeffStep
answer_none(int failed, PyObject **out)
{
    if (failed < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

/* What handle_id names, of this run (borrowed, so somebody else must know it); NULL with an error. */
static DoeffWaitable *
named(DoeffContext *cx, DoeffScheduler *s, PyObject *handle_id)
{
    DoeffWaitable *w = s == NULL ? NULL : waitable_of(cx->st, handle_id);
    if (w == NULL) {
        return NULL;
    }
    int known = Py_REFCNT((PyObject *)w) > 1, ours = known && of_this_run(s, w);
    Py_DECREF((PyObject *)w);
    if (!known) {
        PyErr_SetString(PyExc_TypeError, "nothing but its _handle keeps what is to be waited for");
    }
    return ours ? w : NULL;
}

/* ---- the queue ---- */

static int
enqueue(DoeffScheduler *s, PyObject *task_id, PyObject *k, PyObject *store, PyObject *program)
{
    PyObject *queue = internal_part(s, INTERNAL_QUEUE);
    PyObject *entry = queue == NULL ? NULL : PyTuple_Pack(4, task_id, k, store, program);
    int failed = entry == NULL ? -1 : PyList_Append(queue, entry);
    Py_XDECREF(entry);
    return failed;
}

static DoeffStep
enqueue_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    return answer_none(s == NULL ? -1
                                 : enqueue(s, RECORD_FIELD(effect, 0), RECORD_FIELD(effect, 1), RECORD_FIELD(effect, 2),
                                           RECORD_FIELD(effect, 3)),
                       out);
}

static DoeffStep
dequeue_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    PyObject *queue = s == NULL ? NULL : internal_part(s, INTERNAL_QUEUE);
    if (queue == NULL) {
        return DOEFF_RAISE;
    }
    if (PyList_GET_SIZE(queue) == 0) {
        return answer_none(0, out);
    }
    PyObject *entry = Py_NewRef(PyList_GET_ITEM(queue, 0));
    if (PyList_SetSlice(queue, 0, 1, NULL) < 0) {
        Py_DECREF(entry);
        return DOEFF_RAISE;
    }
    *out = entry;
    return DOEFF_VALUE;
}

static DoeffStep
queue_empty_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    PyObject *queue = s == NULL ? NULL : internal_part(s, INTERNAL_QUEUE);
    if (queue == NULL) {
        return DOEFF_RAISE;
    }
    *out = PyBool_FromLong(PyList_GET_SIZE(queue) == 0);
    return DOEFF_VALUE;
}

static DoeffStep
register_waiter_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    DoeffWaitable *w = named(cx, s, RECORD_FIELD(effect, 0));
    PyObject *waiters = w == NULL ? NULL : internal_part(s, INTERNAL_WAITERS);
    if (waiters == NULL) {
        return DOEFF_RAISE;
    }
    if (w->state != WAITABLE_OPEN) {
        return answer_none(enqueue(s, RECORD_FIELD(effect, 1), RECORD_FIELD(effect, 2), RECORD_FIELD(effect, 3), Py_None),
                           out);
    }
    PyObject *fresh = PyList_New(0);
    PyObject *row = fresh == NULL ? NULL : PyDict_SetDefault(waiters, (PyObject *)w, fresh); /* borrowed */
    PyObject *entry =
        row == NULL ? NULL : PyTuple_Pack(3, RECORD_FIELD(effect, 1), RECORD_FIELD(effect, 2), RECORD_FIELD(effect, 3));
    int failed = entry == NULL ? -1 : PyList_Append(row, entry);
    Py_XDECREF(entry);
    Py_XDECREF(fresh);
    return answer_none(failed, out);
}

static int
enqueue_waiters(DoeffScheduler *s, DoeffWaitable *w)
{
    PyObject *waiters = internal_part(s, INTERNAL_WAITERS);
    PyObject *row = waiters == NULL ? NULL : PyDict_GetItemWithError(waiters, (PyObject *)w);
    if (row == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(row);
    int failed = PyDict_DelItem(waiters, (PyObject *)w);
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(row); i++) {
        PyObject *entry = PyList_GET_ITEM(row, i);
        failed = enqueue(s, PyTuple_GET_ITEM(entry, 0), PyTuple_GET_ITEM(entry, 1), PyTuple_GET_ITEM(entry, 2), Py_None);
    }
    Py_DECREF(row);
    return failed;
}

/* ---- handles ---- */

static DoeffStep
create_handle_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    EngineState *st = cx->st;
    DoeffScheduler *s = scheduler_of(cx);
    PyObject *handles = s == NULL ? NULL : internal_part(s, INTERNAL_HANDLES);
    PyObject *future = handles == NULL ? NULL : future_new(st, s);
    PyObject *wait = future == NULL ? NULL : record_new2(st->rec.Wait, Py_NewRef(future), Py_NewRef(Py_None));
    PyObject *spawn = wait == NULL ? NULL : PyObject_CallOneArg((PyObject *)st->rec.Spawn->type, wait);
    DoeffTask *t = NULL;
    if (spawn != NULL) {
        Py_SETREF(RECORD_FIELD(spawn, 4), Py_NewRef(Py_True)); /* a daemon; nobody else has seen it */
        t = task_spawn(cx, spawn);
    }
    if (t != NULL && PyDict_SetItem(handles, (PyObject *)t, future) == 0) {
        *out = Py_NewRef((PyObject *)t);
    }
    Py_XDECREF(spawn);
    Py_XDECREF(wait);
    Py_XDECREF(future);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

/* handle_id's thing ends with error, or with value if that is None. */
static int
complete(DoeffContext *cx, PyObject *handle_id, PyObject *value, PyObject *error)
{
    DoeffScheduler *s = scheduler_of(cx);
    DoeffWaitable *w = named(cx, s, handle_id);
    PyObject *handles = w == NULL ? NULL : internal_part(s, INTERNAL_HANDLES);
    if (handles == NULL) {
        return -1;
    }
    if (error != Py_None && !PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception or None, got %s", type_name(error));
        return -1;
    }
    DoeffWaitable *settled = w;
    if (Py_IS_TYPE((PyObject *)w, cx->st->Task_Type)) {
        settled = (DoeffWaitable *)PyDict_GetItemWithError(handles, (PyObject *)w);
    }
    if (settled == NULL || settled->external || settled->state != WAITABLE_OPEN) {
        if (!PyErr_Occurred()) {
            PyErr_Format(PyExc_RuntimeError, "%R cannot be completed: it is complete, or something else completes it",
                         (PyObject *)w);
        }
        return -1;
    }
    if (enqueue_waiters(s, w) < 0) {
        return -1;
    }
    Py_INCREF((PyObject *)settled);
    if (settled != w && PyDict_DelItem(handles, (PyObject *)w) < 0) {
        Py_DECREF((PyObject *)settled);
        return -1;
    }
    waitable_settle(s, settled, error == Py_None ? WAITABLE_VALUE : WAITABLE_ERROR,
                    Py_NewRef(error == Py_None ? value : error));
    Py_DECREF((PyObject *)settled);
    return 0;
}

static DoeffStep
task_complete_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return answer_none(complete(cx, RECORD_FIELD(effect, 0), RECORD_FIELD(effect, 2), RECORD_FIELD(effect, 3)), out);
}

static DoeffStep
task_completed_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return answer_none(complete(cx, RECORD_FIELD(effect, 1), RECORD_FIELD(effect, 2), RECORD_FIELD(effect, 3)), out);
}

static DoeffStep
create_promise_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    *out = PyObject_CallNoArgs((PyObject *)cx->st->rec.CreatePromise->type);
    return *out == NULL ? DOEFF_RAISE : DOEFF_PROGRAM;
}

/* ---- questions ---- */

static DoeffStep
current_id_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    if (s == NULL) {
        return DOEFF_RAISE;
    }
    *out = s->current->main ? Py_NewRef(Py_None) : handle_of(cx->st, (PyObject *)s->current);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
task_result_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    EngineState *st = cx->st;
    DoeffWaitable *w = named(cx, scheduler_of(cx), RECORD_FIELD(effect, 0));
    if (w == NULL) {
        return DOEFF_RAISE;
    }
    if (w->state == WAITABLE_OPEN) {
        return answer_none(0, out);
    }
    waitable_claim(st, w);
    *out = w->state == WAITABLE_VALUE ? record_new1(st->rec.Ok, Py_NewRef(w->outcome))
                                      : record_new2(st->rec.Err, Py_NewRef(w->outcome), Py_NewRef(st->nothing));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
cancel_task_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffWaitable *w = named(cx, scheduler_of(cx), RECORD_FIELD(effect, 0));
    if (w == NULL) {
        return DOEFF_RAISE;
    }
    if (!Py_IS_TYPE((PyObject *)w, cx->st->Task_Type)) {
        *out = Py_NewRef(Py_False);
        return DOEFF_VALUE;
    }
    *out = record_new1(cx->st->rec.TaskCancel, Py_NewRef((PyObject *)w));
    return *out == NULL ? DOEFF_RAISE : DOEFF_PROGRAM;
}

static DoeffStep
is_task_done_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffWaitable *w = named(cx, scheduler_of(cx), RECORD_FIELD(effect, 0));
    if (w == NULL) {
        return DOEFF_RAISE;
    }
    *out = PyBool_FromLong(w->state != WAITABLE_OPEN);
    return DOEFF_VALUE;
}

/* ---- introspection ---- */

typedef struct Counts {
    Py_ssize_t waiters;
    PyObject *promises, *semaphores; /* sets */
} Counts;

static int
count_on(EngineState *st, Counts *counts, Waiter *waiter)
{
    if (!waiter->linked) {
        return 0;
    }
    counts->waiters++;
    return Py_IS_TYPE((PyObject *)waiter->on, st->Task_Type) ? 0 : PySet_Add(counts->promises, (PyObject *)waiter->on);
}

static int
count_task(EngineState *st, Counts *counts, DoeffTask *t)
{
    int failed = 0;
    switch (t->waits) {
    case WAITS_ONE:
        return count_on(st, counts, &t->one);
    case WAITS_ROW:
        for (int i = 0; i < t->row->count && !failed; i++) {
            failed = count_on(st, counts, &t->row->waiter[i]);
        }
        return failed;
    case WAITS_PERMIT:
        counts->waiters++;
        return PySet_Add(counts->semaphores, t->semaphore);
    case WAITS_SCOPE:
        counts->waiters++;
        return 0;
    default:
        return 0;
    }
}

static DoeffStep
introspection_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    if (s == NULL) {
        return DOEFF_RAISE;
    }
    Counts counts = {0, PySet_New(NULL), PySet_New(NULL)};
    int failed = counts.promises == NULL || counts.semaphores == NULL || count_task(cx->st, &counts, s->main) < 0;
    for (DoeffTask *t = s->oldest; t != NULL && !failed; t = t->newer) {
        failed = count_task(cx->st, &counts, t) < 0;
    }
    if (!failed) {
        *out = Py_BuildValue("{s:i,s:n,s:n,s:n,s:i,s:n,s:i}", "tasks", s->live, "promises", PySet_GET_SIZE(counts.promises),
                             "semaphores", PySet_GET_SIZE(counts.semaphores), "waiters", counts.waiters, "ready", s->ready,
                             "timers", s->timers, "external", s->external + s->external_idle);
    }
    Py_XDECREF(counts.promises);
    Py_XDECREF(counts.semaphores);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

/* ---- the classes ---- */

#define INTERNAL_SPEC(Name, count, what, ...)                                                                         \
    {                                                                                                                 \
        .name = "doeff.effects.scheduler_internal." Name, .doc = what, .fields = {__VA_ARGS__}, .required = count,    \
        .effect = 1, .subclassable = 1,                                                                               \
    }

static const RecordSpec specs[] = {
    INTERNAL_SPEC("_SchedulerEnqueueTask", 4, "_SchedulerEnqueueTask(task_id, k, store_snapshot, program)\n--\n\nPut an entry "
                  "into the run's own list.", "task_id", "k", "store_snapshot", "program"),
    INTERNAL_SPEC("_SchedulerDequeueTask", 0, "_SchedulerDequeueTask()\n--\n\nTake the first entry off that list, as a tuple, or "
                  "None.", NULL),
    INTERNAL_SPEC("_SchedulerQueueEmpty", 0, "_SchedulerQueueEmpty()\n--\n\nTrue if that list is empty.", NULL),
    INTERNAL_SPEC("_SchedulerRegisterWaiter", 4, "_SchedulerRegisterWaiter(handle_id, waiter_task_id, waiter_k, waiter_store)"
                  "\n--\n\nPut an entry into that list as soon as the handle is complete.", "handle_id", "waiter_task_id",
                  "waiter_k", "waiter_store"),
    INTERNAL_SPEC("_SchedulerTaskComplete", 5, "_SchedulerTaskComplete(handle_id, task_id, result, error, store_snapshot)\n--\n\n"
                  "Complete a handle.", "handle_id", "task_id", "result", "error", "store_snapshot"),
    INTERNAL_SPEC("_SchedulerTaskCompleted", 4, "_SchedulerTaskCompleted(task_id, handle_id, result, error)\n--\n\nComplete a "
                  "handle.", "task_id", "handle_id", "result", "error"),
    INTERNAL_SPEC("_SchedulerCreateTaskHandle", 3, "_SchedulerCreateTaskHandle(task_id, env_snapshot, store_snapshot)\n--\n\n"
                  "Make a Task that _SchedulerTaskComplete ends.", "task_id", "env_snapshot", "store_snapshot"),
    INTERNAL_SPEC("_SchedulerCreatePromise", 0, "_SchedulerCreatePromise()\n--\n\nCreatePromise.", NULL),
    INTERNAL_SPEC("_SchedulerGetCurrentTaskId", 0, "_SchedulerGetCurrentTaskId()\n--\n\nThe running task's handle; None in the "
                  "main program.", NULL),
    INTERNAL_SPEC("_SchedulerGetTaskResult", 1, "_SchedulerGetTaskResult(handle_id)\n--\n\nOk or Err of what has ended, or None.",
                  "handle_id"),
    INTERNAL_SPEC("_SchedulerCancelTask", 1, "_SchedulerCancelTask(handle_id)\n--\n\nCancel.", "handle_id"),
    INTERNAL_SPEC("_SchedulerIsTaskDone", 1, "_SchedulerIsTaskDone(handle_id)\n--\n\nTrue if it has ended.", "handle_id"),
    INTERNAL_SPEC("SchedulerIntrospection", 0, "SchedulerIntrospection()\n--\n\nGives a dict of counts: tasks that live beside "
                  "main, promises and semaphores that\nsomebody waits for, waiters, ready tasks, timers, waits for what comes "
                  "from outside (external).", NULL),
};

int
internal_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    static const DoeffEffectFn functions[] = {
        enqueue_perform,        dequeue_perform,       queue_empty_perform,    register_waiter_perform,
        task_complete_perform,  task_completed_perform, create_handle_perform,  create_promise_perform,
        current_id_perform,     task_result_perform,   cancel_task_perform,    is_task_done_perform,
        introspection_perform,
    };
    for (size_t i = 0; i < sizeof(specs) / sizeof(specs[0]); i++) {
        if (effect_define(module, st, handler, &(EffectDef){&specs[i], NULL, functions[i]}) == NULL) {
            return -1;
        }
    }
    return 0;
}
