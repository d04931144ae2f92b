#include "events.h"

#include "../effects/effects.h"
#include "scheduler.h"

typedef struct Noted {
    EventKind kind;
    PyObject *task; /* label, strong or NULL */
    PyObject *what; /* str, strong or NULL */
} Noted;

struct DoeffEvents {
    Noted *noted;
    Py_ssize_t told, len, cap;
    PyObject *labels; /* dict: address of a live task or open promise -> label; strong */
    unsigned tasks, promises; /* labelled so far */
    int telling;
};

static const char *const event_names[EVENTS] = {
    "start",      "spawned",          "enqueued",           "task-enter",         "resumed",       "blocked",
    "task-leave", "external-created", "external-completed", "external-cancelled", "external-wait",
};

/* ---- labels ---- */

static PyObject *
new_label(DoeffEvents *e, DoeffTask *t)
{
    if (t == NULL) {
        return PyUnicode_FromFormat("promise#%u", ++e->promises);
    }
    if (t->main) {
        return PyUnicode_FromString("main");
    }
    PyObject *name = task_name(t);
    PyObject *label = name == NULL ? NULL : PyUnicode_FromFormat("%U#%u", name, ++e->tasks);
    Py_XDECREF(name);
    return label;
}

/* Of a task or promise: made when it is first asked for, or fresh (the address may have had another owner), and given
 * up when it is the last. Strong; NULL without an error. */
static PyObject *
label_of(DoeffEvents *e, DoeffTask *t, PyObject *op, int fresh, int last)
{
    PyObject *key = PyLong_FromVoidPtr(op);
    PyObject *label = key == NULL || fresh ? NULL : PyDict_GetItemWithError(e->labels, key);
    Py_XINCREF(label);
    if (label == NULL && key != NULL && !PyErr_Occurred()) {
        label = new_label(e, t);
        if (label != NULL && !last && PyDict_SetItem(e->labels, key, label) < 0) {
            PyErr_Clear();
        }
    }
    else if (label != NULL && last && PyDict_DelItem(e->labels, key) < 0) {
        PyErr_Clear();
    }
    Py_XDECREF(key);
    PyErr_Clear();
    return label;
}

/* ---- writing down ---- */

static void
append(DoeffEvents *e, EventKind kind, PyObject *task /* stolen */, PyObject *what /* stolen */)
{
    if (e->len == e->cap) {
        Py_ssize_t cap = e->cap == 0 ? 32 : e->cap * 2;
        Noted *grown = PyMem_Realloc(e->noted, sizeof(Noted) * (size_t)cap);
        if (grown == NULL) { /* one event less */
            Py_XDECREF(task);
            Py_XDECREF(what);
            return;
        }
        e->noted = grown;
        e->cap = cap;
    }
    e->noted[e->len++] = (Noted){kind, task, what};
}

/* how: what is said of it, stolen or NULL. */
static void
note(DoeffScheduler *s, EventKind kind, DoeffTask *t, PyObject *about, PyObject *how)
{
    DoeffEvents *e = s->events;
    PyObject *task =
        t == NULL ? NULL : label_of(e, t, (PyObject *)t, kind == EVENT_SPAWNED || kind == EVENT_START, kind == EVENT_TASK_LEAVE);
    PyObject *what = how;
    if (about != NULL) {
        int last = kind == EVENT_EXTERNAL_COMPLETED || kind == EVENT_EXTERNAL_CANCELLED;
        PyObject *label = label_of(e, NULL, about, kind == EVENT_EXTERNAL_CREATED, last);
        what = label == NULL || how == NULL ? Py_XNewRef(label) : PyUnicode_FromFormat("%U: %U", label, how);
        Py_XDECREF(label);
        Py_XDECREF(how);
    }
    else if (kind == EVENT_SPAWNED && s->current != NULL) {
        Py_XDECREF(how);
        PyObject *by = label_of(e, s->current, (PyObject *)s->current, 0, 0);
        what = by == NULL ? NULL : PyUnicode_FromFormat("by %U", by);
        Py_XDECREF(by);
    }
    append(e, kind, task, what);
    s->machine->cx.attention = 1; /* so that it is told after the effect */
}

void
events_note(DoeffScheduler *s, EventKind kind, DoeffTask *t, PyObject *about, const char *what)
{
    PyObject *pending = PyErr_GetRaisedException();
    note(s, kind, t, about, what == NULL ? NULL : PyUnicode_InternFromString(what));
    PyErr_Clear(); /* no memory: it is told with less */
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

void
events_note_outcome(DoeffScheduler *s, EventKind kind, DoeffTask *t, PyObject *about, int state, PyObject *outcome)
{
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *how = state == WAITABLE_VALUE       ? PyUnicode_InternFromString("value")
                    : state == WAITABLE_CANCELLED ? PyUnicode_InternFromString("cancelled")
                                                  : PyType_GetName(Py_TYPE(outcome));
    note(s, kind, t, about, how);
    PyErr_Clear();
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* ---- telling ---- */

static PyObject *
event_new(DoeffScheduler *s, Noted *noted)
{
    PyObject *name = PyUnicode_InternFromString(event_names[noted->kind]);
    PyObject *run = PyLong_FromUnsignedLong(s->run);
    if (name == NULL || run == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(run);
        return NULL;
    }
    PyObject *fields[] = {name, noted->task != NULL ? noted->task : Py_NewRef(Py_None),
                          noted->what != NULL ? noted->what : Py_NewRef(Py_None), run};
    noted->task = noted->what = NULL;
    return record_new(s->machine->cx.st->rec.SchedulerEvent, fields);
}

/* What a sink raises is reported, but for an interrupt: that is the run's. */
static void
sink_failed(PyObject *sink, PyObject **interrupt)
{
    if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) || PyErr_ExceptionMatches(PyExc_SystemExit)) {
        Py_XSETREF(*interrupt, PyErr_GetRaisedException());
        return;
    }
    PyErr_WriteUnraisable(sink);
}

static void
tell(DoeffScheduler *s, PyObject **interrupt)
{
    EngineState *st = s->machine->cx.st;
    DoeffEvents *e = s->events;
    while (e->told < e->len) { /* whatever the sink makes happen is told as well */
        Noted noted = e->noted[e->told++];
        PyObject *sink = Py_XNewRef(st->scheduler_trace);
        PyObject *event = sink == NULL ? NULL : event_new(s, &noted);
        PyObject *done = event == NULL ? NULL : PyObject_CallOneArg(sink, event);
        if (sink != NULL && done == NULL) {
            sink_failed(sink, interrupt);
        }
        Py_XDECREF(done);
        Py_XDECREF(event);
        Py_XDECREF(sink);
        Py_XDECREF(noted.task);
        Py_XDECREF(noted.what);
    }
    e->told = e->len = 0;
}

void
events_tell(DoeffScheduler *s)
{
    DoeffEvents *e = s->events;
    if (e->telling || e->len == 0) {
        return;
    }
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *interrupt = NULL;
    /* in a context of its own: what a sink sets does not become the task's */
    PyObject *context = PyContext_CopyCurrent();
    int entered = context != NULL && PyContext_Enter(context) == 0;
    PyErr_Clear();
    e->telling = 1;
    tell(s, &interrupt);
    e->telling = 0;
    if (entered && PyContext_Exit(context) < 0) {
        PyErr_WriteUnraisable(context);
    }
    Py_XDECREF(context);
    if (s->machine->cx.st->scheduler_trace == NULL) {
        events_free(s);
    }
    if (interrupt != NULL) {
        scheduler_throw_at_main(s, interrupt);
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* ---- the object ---- */

void
events_begin(DoeffScheduler *s)
{
    if (s->machine->cx.st->scheduler_trace == NULL) {
        return;
    }
    DoeffEvents *e = PyMem_Calloc(1, sizeof(DoeffEvents));
    if (e != NULL && (e->labels = PyDict_New()) == NULL) {
        PyErr_Clear();
        PyMem_Free(e);
        e = NULL;
    }
    s->events = e;
    if (e != NULL) {
        events_note(s, EVENT_START, s->main, NULL, NULL);
    }
}

void
events_free(DoeffScheduler *s)
{
    DoeffEvents *e = s->events;
    s->events = NULL;
    for (Py_ssize_t i = e->told; i < e->len; i++) {
        Py_XDECREF(e->noted[i].task);
        Py_XDECREF(e->noted[i].what);
    }
    Py_DECREF(e->labels);
    PyMem_Free(e->noted);
    PyMem_Free(e);
}

static PyObject *
event_str(PyObject *op)
{
    PyObject *task = RECORD_FIELD(op, 1), *what = RECORD_FIELD(op, 2);
    PyObject *head = task == Py_None ? Py_NewRef(RECORD_FIELD(op, 0))
                                     : PyUnicode_FromFormat("%S %S", RECORD_FIELD(op, 0), task);
    PyObject *text = head == NULL || what == Py_None ? Py_XNewRef(head) : PyUnicode_FromFormat("%U (%S)", head, what);
    Py_XDECREF(head);
    return text;
}

static PyType_Slot event_slots[] = {
    {Py_tp_str, event_str},
    {0, NULL},
};

static const RecordSpec event_spec = {
    .name = "doeff.testing.SchedulerEvent",
    .doc = "SchedulerEvent(name, task=None, what=None, run=None)\n--\n\nWhat a scheduler tells the sink of "
           "set_scheduler_trace: what happened, to which task, and the number\nof the run. str() gives a line to print.",
    .fields = {"name", "task", "what", "run"}, .required = 1, .slots = event_slots,
};

/* set_scheduler_trace(sink) */
static PyObject *
set_scheduler_trace(PyObject *module, PyObject *sink)
{
    EngineState *st = PyModule_GetState(module);
    if (sink != Py_None && !PyCallable_Check(sink)) {
        PyErr_Format(PyExc_TypeError, "sink must be callable or None, got %s", type_name(sink));
        return NULL;
    }
    PyObject *before = st->scheduler_trace;
    st->scheduler_trace = sink == Py_None ? NULL : Py_NewRef(sink);
    return before != NULL ? before : Py_NewRef(Py_None);
}

static PyMethodDef functions[] = {
    {"set_scheduler_trace", set_scheduler_trace, METH_O,
     PyDoc_STR("set_scheduler_trace(sink)\n--\n\nCall sink(event) with a SchedulerEvent for whatever happens to the tasks of "
               "runs that begin to have tasks from now on;\nNone ends it for all runs. Gives the sink before, or "
               "None.\n\nEvents come in order, each before the task that it is about goes on. What the sink raises goes to\n"
               "sys.unraisablehook and changes nothing; only KeyboardInterrupt and SystemExit go to the run.\n\n"
               ">>> before = set_scheduler_trace(print)\n\nContract: concurrency, part 7.")},
    {NULL},
};

int
events_room_init(PyObject *module, EngineState *st)
{
    st->rec.SchedulerEvent = record_type_new(module, st, &event_spec);
    return st->rec.SchedulerEvent == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
