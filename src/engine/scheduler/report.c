#include "scheduler.h"

#include "../report/trace.h"

/* report: what is said about tasks. The texts are made in doeff._tasks; nothing here changes how a run ends. */

#define SPELLED_OUT 10 /* failures nobody asked for; of the rest there is a count */

static PyObject *
call_texts(const char *name, PyObject *args /* tuple, stolen, or NULL */)
{
    PyObject *module = args == NULL ? NULL : PyImport_ImportModule("doeff._tasks");
    PyObject *fn = module == NULL ? NULL : PyObject_GetAttrString(module, name);
    PyObject *result = fn == NULL ? NULL : PyObject_Call(fn, args, NULL);
    Py_XDECREF(module);
    Py_XDECREF(fn);
    Py_XDECREF(args);
    return result;
}

/* A warning that a filter turns into an exception, or that fails, never changes the outcome; an interrupt is none. */
static void
warn(DoeffScheduler *s, const char *name, PyObject *args)
{
    PyObject *done = call_texts(name, args);
    if (done == NULL && !PyErr_ExceptionMatches(PyExc_Exception)) {
        scheduler_interrupted(s, PyErr_GetRaisedException());
    }
    else if (done == NULL) {
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(done);
}

static PyObject *
spawn_place(DoeffTask *t)
{
    if (t->spawned_in == NULL) {
        return Py_NewRef(Py_None);
    }
    int line = PyCode_Addr2Line(t->spawned_in, t->spawned_at);
    return PyUnicode_FromFormat("%U:%d in %U", t->spawned_in->co_filename, line, t->spawned_in->co_name);
}

/* The generator that waits, innermost; borrowed; None if there is none. */
static PyObject *
waiting_generator(DoeffTask *t)
{
    if (t->node != NULL) {
        return t->generator != NULL ? t->generator : Py_None;
    }
    for (DoeffFiber *fiber = t->fiber; fiber != NULL; fiber = fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0; i--) {
            if (fiber->frames[i - 1].kind == &return_frame) {
                return fiber->frames[i - 1].a;
            }
        }
    }
    return Py_None;
}

/* What a task waits for: a str and a tuple of objects. */
static PyObject *
waits_for(DoeffTask *t)
{
    switch (t->waits) {
    case WAITS_ONE:
        return Py_BuildValue("s(O)", "Wait", (PyObject *)t->one.on);
    case WAITS_ROW: {
        PyObject *open = PyList_New(0);
        for (int i = 0; open != NULL && i < t->row->count; i++) {
            if (t->row->waiter[i].linked && PyList_Append(open, (PyObject *)t->row->waiter[i].on) < 0) {
                Py_CLEAR(open);
            }
        }
        return open == NULL ? NULL : Py_BuildValue("sN", t->row->kind == ROW_RACE ? "Race" : "Gather", open);
    }
    case WAITS_PERMIT:
        return Py_BuildValue("s(O)", "AcquireSemaphore", t->semaphore);
    case WAITS_SCOPE:
        return Py_BuildValue("s()", "the end of its Scope");
    default:
        return Py_BuildValue("s()", "nothing");
    }
}

static int
add_waiter(PyObject *list, DoeffTask *t)
{
    if (t->waits == WAITS_NOT) {
        return 0;
    }
    PyObject *name = task_name(t);
    PyObject *what = name == NULL ? NULL : waits_for(t);
    PyObject *entry = what == NULL ? NULL : Py_BuildValue("ONOl", name, what, waiting_generator(t), (long)((size_t)t >> 4));
    Py_XDECREF(name);
    int failed = entry == NULL ? -1 : PyList_Append(list, entry);
    Py_XDECREF(entry);
    return failed;
}

PyObject *
report_deadlock(DoeffScheduler *s)
{
    PyObject *list = PyList_New(0);
    int failed = list == NULL || add_waiter(list, s->main) < 0;
    for (DoeffTask *t = s->oldest; t != NULL && !failed; t = t->newer) {
        failed = add_waiter(list, t) < 0;
    }
    PyObject *error = failed ? NULL : call_texts("deadlock", PyTuple_Pack(1, list));
    Py_XDECREF(list);
    return error != NULL ? error : PyErr_GetRaisedException();
}

void
report_failure(DoeffScheduler *s, DoeffTask *t)
{
    PyObject *pending = PyErr_GetRaisedException();
    t->w.claimed = 1;
    if (s->reported++ < SPELLED_OUT) {
        PyObject *place = spawn_place(t);
        warn(s, "failed", place == NULL ? NULL : PyTuple_Pack(2, place, t->w.outcome));
        Py_XDECREF(place);
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

void
report_swept(DoeffScheduler *s, DoeffTask *t)
{
    PyObject *name = task_name(t);
    if (name == NULL || (s->swept == NULL && (s->swept = PyList_New(0)) == NULL)
        || PyList_Append(s->swept, name) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(name);
}

void
report_end(DoeffScheduler *s)
{
    PyObject *pending = PyErr_GetRaisedException();
    while (s->failures != NULL) {
        DoeffTask *t = (DoeffTask *)Py_NewRef((PyObject *)s->failures);
        task_claim(t);
        report_failure(s, t);
        Py_DECREF((PyObject *)t);
    }
    if (s->reported > SPELLED_OUT) {
        warn(s, "failed_more", Py_BuildValue("(i)", s->reported - SPELLED_OUT));
    }
    s->reported = 0;
    PyObject *swept = s->swept;
    s->swept = NULL;
    if (swept != NULL) {
        warn(s, "swept", PyTuple_Pack(1, swept));
        Py_DECREF(swept);
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* ---- in traces ---- */

static PyObject *
spawned_describe(const DoeffFrame *frame)
{
    return spawn_place((DoeffTask *)frame->a);
}

static const DoeffFrameKind spawned_frame = {
    .name = "SpawnedAt",
    .describe = spawned_describe,
};

void
task_note_spawn(DoeffMachine *m, DoeffTask *t, PyObject *error)
{
    if (t->spawned_in != NULL) {
        trace_note(m, &(DoeffFrame){&spawned_frame, (PyObject *)t, NULL}, error);
    }
}
