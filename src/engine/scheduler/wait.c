#include "scheduler.h"

#include "../effects/effects.h"
#include "../machine/rundata.h"

/* wait: what can be waited for, and Wait, Gather and Race. */

/* ---- handles: what `_handle` gives, equal for one and the same thing ---- */

typedef struct Handle {
    PyObject_HEAD
    PyObject *of; /* a Task or Future; strong */
} Handle;

PyObject *
handle_of(EngineState *st, PyObject *op)
{
    Handle *handle = PyObject_GC_New(Handle, st->Handle_Type);
    if (handle != NULL) {
        handle->of = Py_NewRef(op);
        PyObject_GC_Track(handle);
    }
    return (PyObject *)handle;
}

static int
handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Handle *)op)->of);
    return 0;
}

static int
handle_tp_clear(PyObject *op)
{
    Py_CLEAR(((Handle *)op)->of);
    return 0;
}

static int
handle_release(PyObject *op)
{
    (void)handle_tp_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
handle_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, handle_dealloc, handle_release);
}

static Py_hash_t
identity_hash(PyObject *op)
{
    Py_hash_t hash = (Py_hash_t)((size_t)op >> 4);
    return hash == -1 ? -2 : hash;
}

static Py_hash_t
handle_hash(PyObject *op)
{
    return identity_hash(((Handle *)op)->of);
}

static PyObject *
handle_compare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return PyBool_FromLong((((Handle *)a)->of == ((Handle *)b)->of) == (op == Py_EQ));
}

static PyObject *
handle_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<handle of %R>", ((Handle *)op)->of);
}

static PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, handle_dealloc},
    {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_tp_clear},
    {Py_tp_hash, handle_hash},
    {Py_tp_richcompare, handle_compare},
    {Py_tp_repr, handle_repr},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "doeff._engine.Handle",
    .basicsize = sizeof(Handle),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = handle_slots,
};

/* ---- waitables ---- */

DoeffWaitable *
waitable_of(EngineState *st, PyObject *op)
{
    DoeffWaitable *found = NULL;
    PyObject *held = NULL; /* what the last _handle gave: nobody else may know it */
    for (int depth = 0; depth < 8 && found == NULL; depth++) { /* a _handle may lead to another one */
        if (Py_IS_TYPE(op, st->Task_Type) || Py_IS_TYPE(op, st->Future_Type)) {
            found = (DoeffWaitable *)op;
        }
        else if (Py_IS_TYPE(op, st->ExternalPromise_Type)) {
            found = external_future(op);
        }
        else if (Py_IS_TYPE(op, st->Handle_Type)) {
            found = (DoeffWaitable *)((Handle *)op)->of;
        }
        else if (Py_IS_TYPE(op, st->Promise_Type)) {
            PyErr_SetString(PyExc_TypeError, "a Promise cannot be waited for: wait for its .future");
            break;
        }
        else {
            PyObject *handle;
            if (PyObject_GetOptionalAttr(op, st->str_handle, &handle) <= 0) {
                break;
            }
            Py_XSETREF(held, handle);
            op = handle;
        }
    }
    if (found != NULL) {
        Py_INCREF((PyObject *)found);
        Py_XDECREF(held);
        return found;
    }
    if (!PyErr_Occurred()) {
        const char *hint = Py_IS_TYPE(op, st->rec.Spawn->type)          ? " (yield the Spawn, that gives the Task)"
                           : PyType_IsSubtype(Py_TYPE(op), st->Program_Type) ? " (a program: Spawn it first)"
                           : PyList_Check(op) || PyTuple_Check(op) ? " (several at once: Gather(*tasks) or Race(*tasks))"
                                                                   : "";
        PyErr_Format(PyExc_TypeError, "only tasks, futures and external promises can be waited for, got %s%s",
                     type_name(op), hint);
    }
    Py_XDECREF(held);
    return NULL;
}

static int
check_waitable(EngineState *st, PyObject *op)
{
    if (DOEFF_LIKELY(Py_IS_TYPE(op, st->Task_Type))) {
        return 0;
    }
    DoeffWaitable *w = waitable_of(st, op);
    Py_XDECREF((PyObject *)w);
    return w == NULL ? -1 : 0;
}

int
waitable_traverse(DoeffWaitable *w, visitproc visit, void *arg)
{
    Py_VISIT(w->outcome);
    Py_VISIT(w->traceback);
    return 0;
}

void
waitable_clear(DoeffWaitable *w)
{
    Py_CLEAR(w->outcome);
    Py_CLEAR(w->traceback);
}

DoeffStep
waitable_outcome(DoeffWaitable *w, PyObject **out)
{
    if (w->state == WAITABLE_VALUE) {
        *out = Py_NewRef(w->outcome);
        return DOEFF_VALUE;
    }
    if (PyExceptionInstance_Check(w->outcome)) {
        (void)PyException_SetTraceback(w->outcome, w->traceback == NULL ? Py_None : w->traceback);
        PyErr_SetRaisedException(Py_NewRef(w->outcome));
    }
    else { /* the class alone: there was no memory for an object */
        PyErr_SetNone(w->outcome);
    }
    return DOEFF_RAISE;
}

static void
hold(DoeffScheduler *s, Waiter *waiter, int by)
{
    if (waiter->holding == 1) {
        s->external += by;
    }
    else if (waiter->holding == 2) {
        s->external_idle += by;
    }
}

void
waiter_link(DoeffScheduler *s, Waiter *waiter, DoeffWaitable *w, DoeffTask *task, int index)
{
    waiter->on = w;
    waiter->index = index;
    waiter->next = NULL;
    waiter->prev = w->last;
    waiter->linked = 1;
    *(w->last == NULL ? &w->first : &w->last->next) = waiter;
    w->last = waiter;
    w->claimed = 1;
    waiter->holding = !w->external ? 0 : task->idle ? 2 : 1;
    hold(s, waiter, 1);
}

static void
take_off(DoeffScheduler *s, Waiter *waiter)
{
    DoeffWaitable *w = waiter->on;
    *(waiter->prev == NULL ? &w->first : &waiter->prev->next) = waiter->next;
    *(waiter->next == NULL ? &w->last : &waiter->next->prev) = waiter->prev;
    waiter->linked = 0;
    hold(s, waiter, -1);
}

void
waiter_unlink(DoeffScheduler *s, Waiter *waiter)
{
    DoeffWaitable *w = waiter->on;
    if (w == NULL) {
        return;
    }
    if (waiter->linked) {
        take_off(s, waiter);
    }
    waiter->on = NULL;
    Py_DECREF((PyObject *)w);
}

void
waitable_decide(DoeffWaitable *w, WaitableState state, PyObject *outcome)
{
    w->state = (unsigned char)state;
    w->outcome = outcome;
    if (state != WAITABLE_VALUE && PyExceptionInstance_Check(outcome)) {
        w->traceback = PyException_GetTraceback(outcome);
    }
}

void
waitable_wake(DoeffScheduler *s, DoeffWaitable *w)
{
    while (w->first != NULL) {
        Waiter *waiter = w->first;
        take_off(s, waiter);
        if (waiter->index >= 0) {
            row_settled(s, waiter);
            continue;
        }
        DoeffTask *t = waiter_task(waiter);
        DoeffWaitable *on = waiter->on; /* becomes the answer's reference */
        waiter->on = NULL;
        if (DOEFF_UNLIKELY(t->answer != NULL)) { /* cancelled meanwhile: it waited for the end only */
            PyObject *error = t->answer;
            Py_DECREF((PyObject *)on);
            task_wake(s, t, ANSWER_ERROR, error);
        }
        else {
            task_wake(s, t, ANSWER_OUTCOME, (PyObject *)on);
        }
    }
}

void
waitable_settle(DoeffScheduler *s, DoeffWaitable *w, WaitableState state, PyObject *outcome)
{
    waitable_decide(w, state, outcome);
    waitable_wake(s, w);
}

void
waitable_claim(EngineState *st, DoeffWaitable *w)
{
    if (Py_IS_TYPE((PyObject *)w, st->Task_Type)) {
        task_claim((DoeffTask *)w);
    }
}

static DoeffStep
waits_for_itself(EngineState *st)
{
    PyErr_SetString(st->SchedulerDeadlockError, "Deadlock: a task cannot wait for itself");
    return DOEFF_RAISE;
}

DoeffStep
waitable_wait(DoeffContext *cx, DoeffWaitable *w, PyObject **out)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    if (w->state != WAITABLE_OPEN) {
        waitable_claim(cx->st, w);
        return waitable_outcome(w, out);
    }
    if ((DoeffTask *)w == s->current) {
        return waits_for_itself(cx->st);
    }
    s->current->waits = WAITS_ONE;
    waiter_link(s, &s->current->one, (DoeffWaitable *)Py_NewRef((PyObject *)w), s->current, -1);
    return DOEFF_BLOCK;
}

/* ---- the effect Wait ---- */

static int
wait_init(RecordInfo *info, PyObject **f)
{
    return check_waitable(info->st, f[0]) < 0 || priority_of(f[1], 0) == PRIORITY_INVALID ? -1 : 0;
}

static void
wake_at(DoeffTask *t, PyObject *priority)
{
    if (DOEFF_UNLIKELY(priority != Py_None)) {
        t->wake_priority = priority_of(priority, t->priority);
        t->idle = t->wake_priority == PRIORITY_IDLE;
    }
}

static DoeffStep
wait_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    DoeffWaitable *w = s == NULL ? NULL : waitable_of(cx->st, RECORD_FIELD(effect, 0));
    DoeffStep step = DOEFF_RAISE;
    if (w != NULL && of_this_run(s, w)) {
        if (w->state == WAITABLE_OPEN && (DoeffTask *)w != s->current) {
            wake_at(s->current, RECORD_FIELD(effect, 1));
        }
        step = waitable_wait(cx, w, out);
    }
    Py_XDECREF((PyObject *)w);
    return step;
}

static const RecordSpec wait_spec = {
    .name = "doeff.effects.wait.WaitEffect",
    .doc = "WaitEffect(future, priority=None)\n--\n\nWait for a task or future.",
    .fields = {"future", "priority"}, .keywords = {"waitable", "priority"}, .required = 1, .compared = 1, .effect = 1,
    .subclassable = 1, .init = wait_init,
};

static PyMethodDef wait_def = {
    "Wait", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Wait(waitable, priority=None)\n--\n\nWait for a task, a future or an external promise.\n\nTypeError for anything "
              "else, ValueError for one of another run. Gives its value, or raises its\nfailure: the same exception for each who "
              "waits; TaskCancelledError if it was cancelled.\npriority: that of this one wake-up.\n\n"
              ">>> page = yield Wait(task)\n\nContract: concurrency, part 1.4.")};

/* ---- rows: Gather and Race ---- */

static Waiting *
row_new(RowKind kind, DoeffTask *task, PyObject *effect, Py_ssize_t n)
{
    Waiting *row = PyMem_Calloc(1, sizeof(Waiting) + sizeof(Waiter) * (size_t)n);
    if (row == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    row->kind = kind;
    row->count = (int)n;
    row->winner = -1;
    row->task = task;
    row->effect = Py_NewRef(effect);
    return row;
}

static void
row_unlink(DoeffScheduler *s, Waiting *row)
{
    for (int i = 0; i < row->count; i++) {
        waiter_unlink(s, &row->waiter[i]);
    }
    row->left = 0;
}

void
row_dispose(DoeffScheduler *s, Waiting *row)
{
    row_unlink(s, row);
    Py_DECREF(row->effect);
    Py_XDECREF(row->error);
    PyMem_Free(row);
}

void
row_free(DoeffScheduler *s, DoeffTask *t)
{
    Waiting *row = t->row;
    t->row = NULL;
    row_dispose(s, row);
}

static void
row_wake(DoeffScheduler *s, DoeffTask *t)
{
    task_wake(s, t, ANSWER_ROW, NULL);
}

/* A Gather fails with error (stolen): what it owns is cancelled and unwound, only then is its task woken. 1 if
 * that is so already. A member may gather as well, any number of levels deep: rows wait in a list. */
static int
gather_close(DoeffScheduler *s, Waiting *row, PyObject *error)
{
    Py_XSETREF(row->error, error);
    if (row->closing) {
        return 0;
    }
    row->closing = 1;
    for (int i = 0; i < row->count; i++) {
        if (row->waiter[i].linked && !row->waiter[i].owned) {
            take_off(s, &row->waiter[i]);
            row->left--;
        }
    }
    row->next = NULL;
    *(s->closing == NULL ? &s->closing : &s->closing_last->next) = row;
    s->closing_last = row;
    if (s->at_closing) {
        return 0;
    }
    s->at_closing = 1;
    int closed = 0;
    while (s->closing != NULL) {
        Waiting *next = s->closing;
        s->closing = next->next;
        for (int i = 0; i < next->count; i++) {
            if (next->waiter[i].linked && task_cancel(s, (DoeffTask *)next->waiter[i].on) < 0) {
                PyErr_Clear();
                task_discard(s, (DoeffTask *)next->waiter[i].on);
            }
        }
        next->closing = 2;
        if (next->left == 0) {
            if (next == row) {
                closed = 1;
            }
            else {
                row_wake(s, next->task);
            }
        }
    }
    s->at_closing = 0;
    return closed;
}

void
row_settled(DoeffScheduler *s, Waiter *waiter)
{
    DoeffTask *t = waiter_task(waiter);
    Waiting *row = t->row;
    DoeffWaitable *w = waiter->on;
    row->left--;
    if (row->kind == ROW_RACE) {
        row->winner = waiter->index;
        for (int i = 0; i < row->count; i++) {
            if (row->waiter[i].linked) {
                take_off(s, &row->waiter[i]);
            }
        }
        row_wake(s, t);
        return;
    }
    if (row->error != NULL) {
        if (row->left == 0 && row->closing == 2) {
            row_wake(s, t);
        }
        return;
    }
    if (w->state != WAITABLE_VALUE) {
        row->winner = waiter->index;
        if (!gather_close(s, row, Py_NewRef(w->outcome))) {
            return;
        }
        row_wake(s, t);
        return;
    }
    if (row->left == 0) {
        row_wake(s, t);
    }
}

int
row_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error)
{
    Waiting *row = t->row;
    int ended = 1;
    if (row->kind == ROW_GATHER && error != NULL) {
        row->winner = -1;
        ended = gather_close(s, row, Py_NewRef(error));
    }
    for (int i = 0; i < row->count; i++) { /* an external promise that nobody waits for any more */
        Waiter *waiter = &row->waiter[i];
        DoeffWaitable *w = waiter->on;
        if (waiter->linked && ended) {
            take_off(s, waiter);
        }
        if (w != NULL && w->external && w->state == WAITABLE_OPEN && w->first == NULL) {
            external_abandoned(s, w);
        }
    }
    if (!ended) {
        Py_DECREF(error);
        return 0;
    }
    if (row->kind == ROW_GATHER && error == NULL) { /* discarded: whoever does that goes on with its members */
        t->row = NULL;
        row->scope = nursery_hold(t);
        row->next = s->doomed;
        s->doomed = row;
    }
    else {
        row_free(s, t);
    }
    return 1;
}

static DoeffStep
race_result(DoeffScheduler *s, PyObject *effect, int winner, PyObject *value, PyObject **out)
{
    PyObject *items = RECORD_FIELD(effect, 0);
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    PyObject *rest = PyTuple_New(n - 1);
    if (rest == NULL) {
        return DOEFF_RAISE;
    }
    for (Py_ssize_t i = 0, at = 0; i < n; i++) {
        if (i != winner) {
            PyTuple_SET_ITEM(rest, at++, Py_NewRef(PyTuple_GET_ITEM(items, i)));
        }
    }
    PyObject *f[3] = {Py_NewRef(PyTuple_GET_ITEM(items, winner)), Py_NewRef(value), rest};
    *out = record_new(s->machine->cx.st->rec.RaceResult, f);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

DoeffStep
row_answer(DoeffScheduler *s, DoeffTask *t, PyObject **out)
{
    Waiting *row = t->row;
    DoeffStep step;
    if (row->error != NULL && row->winner < 0) {
        PyErr_SetRaisedException(Py_NewRef(row->error));
        step = DOEFF_RAISE;
    }
    else if (row->winner >= 0) {
        step = waitable_outcome(row->waiter[row->winner].on, out);
        if (step == DOEFF_VALUE) { /* of a race */
            PyObject *value = *out;
            step = race_result(s, row->effect, row->winner, value, out);
            Py_DECREF(value);
        }
    }
    else {
        PyObject *list = PyList_New(row->count);
        for (int i = 0; list != NULL && i < row->count; i++) {
            PyList_SET_ITEM(list, i, Py_NewRef(row->waiter[i].on->outcome));
        }
        *out = list;
        step = list == NULL ? DOEFF_RAISE : DOEFF_VALUE;
    }
    row_free(s, t);
    return step;
}

/* ---- Gather ---- */

/* Programs become members, and Spawn effects are spawned. */
static int
is_handle(EngineState *st, PyObject *item)
{
    return DOEFF_LIKELY(Py_IS_TYPE(item, st->Task_Type)) || !PyType_IsSubtype(Py_TYPE(item), st->Program_Type);
}

/* The items of an effect as a tuple, in place. */
static int
items_init(PyObject **items)
{
    if (PyTuple_Check(*items)) {
        return 0;
    }
    PyObject *tuple = PySequence_Tuple(*items);
    if (tuple == NULL) {
        return -1;
    }
    Py_SETREF(*items, tuple);
    return 0;
}

/* Each handle among the items is looked at once: what it stands for is in its waiter from here on. */
static int
row_resolve(DoeffScheduler *s, Waiting *row, PyObject *items)
{
    EngineState *st = s->machine->cx.st;
    for (int i = 0; i < row->count; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        DoeffWaitable *w = (DoeffWaitable *)item;
        if (DOEFF_LIKELY(Py_IS_TYPE(item, st->Task_Type))) {
            Py_INCREF(item);
        }
        else if (row->kind == ROW_GATHER && !is_handle(st, item)) {
            continue;
        }
        else {
            w = waitable_of(st, item);
        }
        row->waiter[i].on = w;
        if (w == NULL || !of_this_run(s, w)) {
            return -1;
        }
        waitable_claim(st, w);
    }
    return 0;
}

static int
gather_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    if (items_init(&f[0]) < 0) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(f[0]); i++) {
        PyObject *item = PyTuple_GET_ITEM(f[0], i);
        if (is_handle(st, item) && check_waitable(st, item) < 0) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyErr_Format(PyExc_TypeError, "items[%zd] of Gather must be a program, a task or a future, got %s%s", i,
                             type_name(item), Py_IS_TYPE(item, st->Kleisli_Type) ? " (call the @do function)"
                             : Py_IS_TYPE(item, st->Promise_Type)                ? " (wait for its .future)"
                             : PyList_Check(item) || PyTuple_Check(item)         ? " (spread it: Gather(*items))"
                                                                                 : "");
            }
            return -1;
        }
    }
    return 0;
}

/* The item at an index could not be started: what was before it is dropped. The error is set. */
static DoeffStep
gather_unmade(DoeffScheduler *s, DoeffTask *t, Py_ssize_t index)
{
    PyObject *error = PyErr_GetRaisedException();
    for (Py_ssize_t i = index; i < t->row->count; i++) { /* nobody has waited for these yet */
        t->row->waiter[i].owned = 0;
        waiter_unlink(s, &t->row->waiter[i]);
    }
    t->waits = WAITS_ROW;
    if (row_withdraw(s, t, Py_NewRef(error))) { /* members have not started: they are dropped at once */
        Py_DECREF(error);
    }
    else {
        row_free(s, t);
    }
    t->waits = WAITS_NOT;
    PyErr_SetRaisedException(error);
    return DOEFF_RAISE;
}

static DoeffStep
gather_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    EngineState *st = cx->st;
    PyObject *items = RECORD_FIELD(effect, 0);
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    if (n == 0) {
        *out = PyList_New(0);
        return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
    }
    DoeffScheduler *s = scheduler_of(cx);
    Waiting *row = s == NULL ? NULL : row_new(ROW_GATHER, s->current, effect, n);
    if (row == NULL) {
        return DOEFF_RAISE;
    }
    DoeffTask *t = s->current;
    t->row = row;
    if (row_resolve(s, row, items) < 0) {
        goto error;
    }
    for (int i = 0; i < row->count; i++) {
        DoeffWaitable *w = row->waiter[i].on;
        if (w == NULL) {
            continue;
        }
        if ((DoeffTask *)w == t) {
            (void)waits_for_itself(st);
            goto error;
        }
        if (row->winner < 0 && w->state != WAITABLE_OPEN && w->state != WAITABLE_VALUE) {
            row->winner = i;
        }
    }
    if (row->winner >= 0) { /* failed already */
        return row_answer(s, t, out);
    }
    HandlerNode *node;
    PyObject *env;
    task_origin(cx, &node, &env);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        Waiter *waiter = &row->waiter[i];
        if (waiter->on == NULL) {
            waiter->owned = !RECORD_IS(item, st->rec.Spawn);
            DoeffTask *child = waiter->owned ? task_new(cx, Py_NewRef(item), node, env, 1, t->priority) : task_spawn(cx, item);
            if (child == NULL) {
                return gather_unmade(s, t, i);
            }
            waiter->on = (DoeffWaitable *)Py_NewRef((PyObject *)child);
        }
        if (waiter->on->state == WAITABLE_OPEN) {
            waiter_link(s, waiter, waiter->on, t, (int)i);
            row->left++;
        }
    }
    if (row->left == 0) {
        return row_answer(s, t, out);
    }
    t->waits = WAITS_ROW;
    return DOEFF_BLOCK;
error:
    row_free(s, t);
    return DOEFF_RAISE;
}

/* Gather(*items) */
static PyObject *
gather_construct(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (kwnames != NULL && PyTuple_GET_SIZE(kwnames) > 0) {
        PyErr_Format(PyExc_TypeError, "%s() takes no keyword arguments", ((RecordInfo *)info)->constructor);
        return NULL;
    }
    PyObject *items = PyTuple_New(nargs);
    if (items == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(items, i, Py_NewRef(args[i]));
    }
    PyObject *effect = record_construct(info, &items, 1, NULL);
    Py_DECREF(items);
    return effect;
}

static PyObject *
row_items(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(RECORD_FIELD(op, 0));
}

static PyGetSetDef gather_getset[] = {
    {"futures", row_items, NULL, PyDoc_STR("The same as items."), NULL},
    {NULL},
};

static PyType_Slot gather_slots[] = {{Py_tp_getset, gather_getset}, {0, NULL}};

static const RecordSpec gather_spec = {
    .name = "doeff.effects.gather.GatherEffect",
    .doc = "GatherEffect(items)\n--\n\nRun or wait for several things at once.",
    .fields = {"items"}, .required = 1, .effect = 1, .subclassable = 1, .init = gather_init, .slots = gather_slots,
};

static PyMethodDef gather_def = {
    "Gather", (PyCFunction)(void (*)(void))gather_construct, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Gather(*items)\n--\n\nRun programs and wait for tasks and futures, all at once.\n\nitems: programs (members: they "
              "share this task's store), Spawn effects, tasks, futures; TypeError\nnames the index of anything else. Gives the list "
              "of values in argument order. The first failure is\nraised as soon as the members have been cancelled and unwound; "
              "tasks go on.\n\n>>> pages = yield Gather(fetch(a), fetch(b), task)\n\nContract: concurrency, part 1.5.")};

/* ---- Race ---- */

static int
race_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    if (items_init(&f[0]) < 0) {
        return -1;
    }
    if (PyTuple_GET_SIZE(f[0]) == 0) {
        PyErr_SetString(PyExc_ValueError, "Race needs at least one task or future");
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(f[0]); i++) {
        if (check_waitable(st, PyTuple_GET_ITEM(f[0], i)) < 0) {
            return -1;
        }
    }
    return priority_of(f[1], 0) == PRIORITY_INVALID ? -1 : 0;
}

static DoeffStep
race_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *items = RECORD_FIELD(effect, 0);
    Py_ssize_t n = PyTuple_GET_SIZE(items);
    DoeffScheduler *s = scheduler_of(cx);
    if (s == NULL) {
        return DOEFF_RAISE;
    }
    DoeffTask *t = s->current;
    Waiting *row = row_new(ROW_RACE, t, effect, n);
    if (row == NULL) {
        return DOEFF_RAISE;
    }
    t->row = row;
    if (row_resolve(s, row, items) < 0) {
        row_free(s, t);
        return DOEFF_RAISE;
    }
    int others = 0;
    for (int i = 0; i < row->count; i++) {
        DoeffWaitable *w = row->waiter[i].on;
        others += (DoeffTask *)w != t;
        if (row->winner < 0 && w->state != WAITABLE_OPEN) {
            row->winner = i;
        }
    }
    if (row->winner >= 0) { /* over already */
        return row_answer(s, t, out);
    }
    if (others == 0) {
        row_free(s, t);
        return waits_for_itself(cx->st);
    }
    wake_at(t, RECORD_FIELD(effect, 1));
    for (int i = 0; i < row->count; i++) {
        waiter_link(s, &row->waiter[i], row->waiter[i].on, t, i);
        row->left++;
    }
    t->waits = WAITS_ROW;
    return DOEFF_BLOCK;
}

/* Race(*waitables, priority=None) */
static PyObject *
race_construct(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *priority = Py_None;
    for (Py_ssize_t i = 0; kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        if (PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, i), "priority") != 0) {
            PyErr_Format(PyExc_TypeError, "Race() got an unexpected keyword argument '%U'", PyTuple_GET_ITEM(kwnames, i));
            return NULL;
        }
        priority = args[nargs + i];
    }
    PyObject *f[2] = {PyTuple_New(nargs), priority};
    if (f[0] == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        PyTuple_SET_ITEM(f[0], i, Py_NewRef(args[i]));
    }
    PyObject *effect = PyObject_Vectorcall((PyObject *)((RecordInfo *)info)->type, f, 2, NULL);
    Py_DECREF(f[0]);
    return effect;
}

static const RecordSpec race_spec = {
    .name = "doeff.effects.race.RaceEffect",
    .doc = "RaceEffect(futures, priority=None)\n--\n\nWait for the first of several.",
    .fields = {"futures", "priority"}, .required = 1, .compared = 1, .effect = 1, .subclassable = 1, .init = race_init,
};

static PyMethodDef race_def = {
    "Race", (PyCFunction)(void (*)(void))race_construct, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Race(*waitables, priority=None)\n--\n\nWait for the first of several tasks and futures to end.\n\nTypeError for "
              "programs (spawn them first) and other things, ValueError for none. Gives\nRaceResult(first, value, rest), or raises "
              "the failure of the first. The others run on.\n\n>>> first, value, rest = yield Race(a, b)\n\n"
              "Contract: concurrency, part 1.6.")};

static PyObject *
race_result_iter(PyObject *op)
{
    PyObject *tuple = PyTuple_Pack(3, RECORD_FIELD(op, 0), RECORD_FIELD(op, 1), RECORD_FIELD(op, 2));
    PyObject *iterator = tuple == NULL ? NULL : PyObject_GetIter(tuple);
    Py_XDECREF(tuple);
    return iterator;
}

static PyType_Slot race_result_slots[] = {{Py_tp_iter, race_result_iter}, {0, NULL}};

static const RecordSpec race_result_spec = {
    .name = "doeff.effects.race.RaceResult",
    .doc = "RaceResult(first, value, rest)\n--\n\nWho won a Race, its value, and the others in argument order.",
    .fields = {"first", "value", "rest"}, .required = 3, .slots = race_result_slots,
};

/* ---- Gather without a scheduler: one after another, on the task's own store ---- */

/* a: the items, b: the values so far. */
static DoeffStep gather_next(DoeffContext *cx, PyObject *items, PyObject *values, PyObject **out);

static DoeffStep
gather_row_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    return PyList_Append(frame->b, value) < 0 ? DOEFF_RAISE : gather_next(cx, frame->a, frame->b, out);
}

static const DoeffFrameKind gather_row_frame = {
    .name = "GatherFrame",
    .on_value = gather_row_value,
};

static DoeffStep
gather_next(DoeffContext *cx, PyObject *items, PyObject *values, PyObject **out)
{
    Py_ssize_t done = PyList_GET_SIZE(values);
    if (done == PyTuple_GET_SIZE(items)) {
        *out = Py_NewRef(values);
        return DOEFF_VALUE;
    }
    PyObject *item = PyTuple_GET_ITEM(items, done);
    if (is_handle(cx->st, item)) {
        PyErr_Format(PyExc_RuntimeError, "items[%zd] of Gather is a handle: waiting for it needs task_scheduler_handler", done);
        return DOEFF_RAISE;
    }
    if (context_push(cx, &gather_row_frame, Py_NewRef(items), Py_NewRef(values)) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(item);
    return DOEFF_PROGRAM;
}

/* Is there a scheduler further out, which does it properly? */
static int
scheduler_outside(DoeffContext *cx, PyTypeObject *type)
{
    DoeffMachine *m = MACHINE_OF(cx);
    HandlerNode *node = m->at != NULL ? m->at->parent : m->fiber->node; /* called by a handler's body: no node */
    for (; node->handler != NULL; node = node->parent) {
        if (Py_IS_TYPE(node->handler, cx->st->NativeHandler_Type)
            && native_handler_case((NativeHandler *)node->handler, type) == gather_perform) {
            return 1;
        }
    }
    return 0;
}

static DoeffStep
gather_in_row(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (scheduler_outside(cx, Py_TYPE(effect))) {
        return DOEFF_PASS;
    }
    PyObject *values = context_begin(cx) < 0 ? NULL : PyList_New(0);
    if (values == NULL) {
        return DOEFF_RAISE;
    }
    DoeffStep step = gather_next(cx, RECORD_FIELD(effect, 0), values, out);
    Py_DECREF(values);
    return step;
}

int
gather_core_init(PyObject *module, EngineState *st)
{
    PyObject *core = PyObject_GetAttrString(module, "core_handler");
    int failed = core == NULL ? -1 : native_handler_serve((NativeHandler *)core, st->rec.Gather->type, gather_in_row);
    Py_XDECREF(core);
    return failed;
}

/* ---- events of a run: what families let tasks wait for ---- */

/* Their futures by event; borrowed. Not under a str: the result does not show them. */
static PyObject *
events(DoeffContext *cx)
{
    PyObject *key = PyLong_FromVoidPtr((void *)(uintptr_t)&Doeff_WaitForEvent);
    PyObject *dict = key == NULL ? NULL : run_data_dict(cx, key);
    Py_XDECREF(key);
    return dict;
}

DoeffStep
Doeff_WaitForEvent(DoeffContext *cx, PyObject *event, PyObject **out)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    if (s == NULL || s->current == NULL || (s->live == 0 && s->current == s->main)) {
        return DOEFF_PASS;
    }
    PyObject *waiting = events(cx);
    PyObject *future = waiting == NULL ? NULL : PyDict_GetItemWithError(waiting, event);
    if (future != NULL) {
        return waitable_wait(cx, (DoeffWaitable *)future, out);
    }
    future = waiting == NULL || PyErr_Occurred() ? NULL : future_new(cx->st, s);
    if (future == NULL || PyDict_SetItem(waiting, event, future) < 0) {
        Py_XDECREF(future);
        return DOEFF_RAISE;
    }
    DoeffStep step = waitable_wait(cx, (DoeffWaitable *)future, out);
    Py_DECREF(future);
    return step;
}

int
Doeff_WakeEvent(DoeffContext *cx, PyObject *event)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    if (s == NULL) {
        return 0;
    }
    PyObject *waiting = events(cx);
    PyObject *future = waiting == NULL ? NULL : PyDict_GetItemWithError(waiting, event);
    if (future == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(future);
    int failed = PyDict_DelItem(waiting, event);
    waitable_settle(s, (DoeffWaitable *)future, WAITABLE_VALUE, Py_NewRef(Py_None));
    Py_DECREF(future);
    return failed;
}

int
wait_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->Handle_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &handle_spec, NULL);
    if (st->Handle_Type == NULL) {
        return -1;
    }
    st->rec.Wait = effect_define(module, st, handler, &(EffectDef){&wait_spec, &wait_def, wait_perform});
    st->rec.Gather = effect_define(module, st, handler, &(EffectDef){&gather_spec, &gather_def, gather_perform});
    st->rec.Race = effect_define(module, st, handler, &(EffectDef){&race_spec, &race_def, race_perform});
    st->rec.RaceResult = record_type_new(module, st, &race_result_spec);
    return st->rec.Wait == NULL || st->rec.Gather == NULL || st->rec.Race == NULL || st->rec.RaceResult == NULL ? -1 : 0;
}
