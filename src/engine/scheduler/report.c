#include "scheduler.h"

#include "../effects/effects.h"
#include "../report/trace.h"
#include "../support/imports.h"

/* report: what is said about tasks. The texts are made in doeff._tasks; nothing here changes how a run ends. */

#define SPELLED_OUT 10 /* failures nobody asked for; of the rest there is a count */

static PyObject *
call_texts(const char *name, PyObject *args /* tuple, stolen, or NULL */)
{
    PyObject *fn = args == NULL ? NULL : import_attr("doeff._tasks", name);
    PyObject *result = fn == NULL ? NULL : PyObject_Call(fn, args, NULL);
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

/* Where it waits: the innermost generator, or if it has none a str, where it was spawned, or None. Strong. */
static PyObject *
waiting_place(DoeffTask *t)
{
    PyObject *generator = t->node != NULL ? t->generator : NULL;
    for (DoeffFiber *fiber = t->node != NULL ? NULL : t->fiber; fiber != NULL && generator == NULL; fiber = fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0 && generator == NULL; i--) {
            generator = is_return(&fiber->frames[i - 1]) ? fiber->frames[i - 1].a : NULL;
        }
    }
    return generator != NULL ? Py_NewRef(generator) : spawn_place(t);
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
    PyObject *entry = what == NULL ? NULL : Py_BuildValue("ONNl", name, what, waiting_place(t), (long)((size_t)t >> 4));
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

/* ---- what takes long ---- */

/* (task, generator, seconds, effect) for a wait that has lasted since then. */
static int
add_stalled(PyObject *list, DoeffScheduler *s, DoeffTask *t, DoeffWaitable *w, long long now)
{
    PyObject *promise = w->external && w->state == WAITABLE_OPEN ? ((DoeffFuture *)w)->promise : NULL;
    if (promise == NULL) {
        return 0;
    }
    PyObject *effect;
    long long waited = now - external_since(promise, &effect);
    if (waited < s->machine->cx.st->stall_ns) {
        return 0;
    }
    PyObject *name = task_name(t);
    PyObject *entry =
        name == NULL ? NULL : Py_BuildValue("(ONdO)", name, waiting_place(t), (double)waited / 1e9, effect);
    Py_XDECREF(name);
    int failed = entry == NULL ? -1 : PyList_Append(list, entry);
    Py_XDECREF(entry);
    return failed;
}

static int
add_stalled_waits(PyObject *list, DoeffScheduler *s, DoeffTask *t, long long now)
{
    if (t->waits == WAITS_ONE) {
        return add_stalled(list, s, t, t->one.on, now);
    }
    int failed = 0;
    for (int i = 0; t->waits == WAITS_ROW && i < t->row->count && !failed; i++) {
        failed = t->row->waiter[i].linked ? add_stalled(list, s, t, t->row->waiter[i].on, now) : 0;
    }
    return failed;
}

void
report_stall(DoeffScheduler *s)
{
    long long now = queue_clock_ns();
    if (s->external == 0 && s->external_idle == 0) {
        s->stall_at = 0; /* it sleeps until a deadline of its own */
        return;
    }
    if (s->stall_at != 0 && now < s->stall_at) {
        return;
    }
    int first = s->stall_at == 0;
    s->stall_at = now + s->machine->cx.st->stall_ns;
    PyObject *list = PyList_New(0);
    int failed = list == NULL || add_stalled_waits(list, s, s->main, now) < 0;
    for (DoeffTask *t = s->oldest; t != NULL && !failed; t = t->newer) {
        failed = add_stalled_waits(list, s, t, now) < 0;
    }
    PyObject *done = failed                                     ? NULL
                     : first || PyList_GET_SIZE(list) == 0 ? Py_NewRef(Py_None)
                                                                : import_call("doeff._stall", "log", "(O)", list);
    Py_XDECREF(list);
    if (done == NULL) {
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
            scheduler_throw_at_main(s, PyErr_GetRaisedException());
            return;
        }
        PyErr_WriteUnraisable(NULL);
    }
    Py_XDECREF(done);
}

/* set_stall_log(seconds) */
static PyObject *
set_stall_log(PyObject *module, PyObject *seconds)
{
    EngineState *st = PyModule_GetState(module);
    long long ns = 0;
    if (seconds != Py_None) {
        double given = PyFloat_AsDouble(seconds);
        if (given == -1.0 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyErr_Format(PyExc_TypeError, "seconds must be a number or None, got %s", type_name(seconds));
            }
            return NULL;
        }
        if (!(given > 0)) {
            PyErr_Format(PyExc_ValueError, "seconds must be > 0, got %R", seconds);
            return NULL;
        }
        ns = queue_seconds_to_ns(given);
        ns = ns == 0 ? 1 : ns;
    }
    long long before = st->stall_ns;
    st->stall_ns = ns;
    if (before == 0) {
        Py_RETURN_NONE;
    }
    return PyFloat_FromDouble((double)before / 1e9);
}

static PyMethodDef functions[] = {
    {"set_stall_log", set_stall_log, METH_O,
     PyDoc_STR("set_stall_log(seconds)\n--\n\nLog what runs await from outside for longer than that, each time it has passed "
               "again, as warnings of the\nlogger \"doeff.stall\"; None, as at first, logs nothing. Gives the setting "
               "before, or None.\n\nTypeError for what is no number, ValueError for 0 and below. Only runs that are idle "
               "look.\n\n>>> before = set_stall_log(30)\n\nContract: concurrency, part 7.")},
    {NULL},
};

int
report_room_init(PyObject *module, EngineState *Py_UNUSED(st))
{
    return PyModule_AddFunctions(module, functions);
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
    if (name != NULL && t->spawned_in != NULL) {
        PyObject *place = spawn_place(t);
        Py_SETREF(name, place == NULL ? NULL : PyUnicode_FromFormat("%U (spawned at %U)", name, place));
        Py_XDECREF(place);
    }
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
