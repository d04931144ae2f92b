#include "scheduler.h"

#include "../effects/effects.h"
#include "../machine/scopes.h"
#include "../report/trace.h"

/* structure: Scope, Timeout and Shield.
 *
 * Each is a frame around a program and a nursery, an object that knows what belongs to it. Open ones are scopes of the
 * continuation (machine/scopes.h), so that jumps take them along; the innermost Scope among them is where spawned
 * tasks belong, which hand it on to what they spawn.
 *
 * What ends a program early is an error of its own, raised at the yield of the task that has the frame in its
 * continuation, like a cancellation: n->cancel. The frame knows it again by identity. A Shield in between keeps it
 * until its program is over (n->due).
 *
 *   Scope     a child fails: the others and the body are cancelled. The body is over: the task waits at the frame
 *             until the last child is (WAITS_SCOPE). Then the failures count, else what the body ended with.
 *   Timeout   its deadline lies in the heap of timers.
 */

typedef enum { NURSERY_SCOPE, NURSERY_TIMEOUT, NURSERY_SHIELD } NurseryKind;

typedef struct DoeffNursery {
    PyObject_HEAD
    NurseryKind kind;
    DoeffScheduler *scheduler; /* borrowed; only looked at while the run goes on */
    DoeffTask *task;           /* who opened it; strong */
    PyObject *cancel;          /* the error that ends its program early; strong or NULL */
    unsigned char closed;      /* its program is over */
    unsigned char lost;        /* its task was killed: outer has got its children */
    unsigned char closing;     /* its children have been cancelled: those that still come are waited for */
    /* of a Scope */
    PyObject *children; /* dict, in order of creation: task -> None; strong or NULL */
    Py_ssize_t regular; /* those of them that are no daemons */
    Py_ssize_t held;    /* killed tasks whose members are being killed: these may leave children to it */
    struct DoeffNursery *outer; /* strong or NULL */
    PyObject **errors;  /* failures, each once, each strong; with room for one of the body and of each child */
    Py_ssize_t failures, room;
    DoeffTask *failed;  /* the first child that failed; strong or NULL */
    PyObject *value;    /* of the body; strong or NULL */
    PyObject *ending;   /* the cancellation or jump that has ended it; strong or NULL */
    DoeffTask *waiting; /* waits for the children to end; borrowed */
    /* of a Timeout */
    PyObject *seconds;  /* strong or NULL */
    Py_ssize_t timer;   /* its place in the heap, or -1 */
    unsigned char fired;
    /* of a Shield */
    PyObject *due;      /* the cancellation that waits for it; strong or NULL */
    struct DoeffNursery *due_for; /* whose it is; strong; NULL: the task's own */
} DoeffNursery;

/* ---- the object ---- */

static int
nursery_traverse(PyObject *op, visitproc visit, void *arg)
{
    DoeffNursery *n = (DoeffNursery *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(n->task);
    Py_VISIT(n->cancel);
    Py_VISIT(n->children);
    for (Py_ssize_t i = 0; i < n->failures; i++) {
        Py_VISIT(n->errors[i]);
    }
    Py_VISIT(n->failed);
    Py_VISIT(n->value);
    Py_VISIT(n->ending);
    Py_VISIT(n->seconds);
    Py_VISIT(n->due);
    Py_VISIT(n->due_for);
    Py_VISIT(n->outer);
    return 0;
}

static int
nursery_tp_clear(PyObject *op)
{
    DoeffNursery *n = (DoeffNursery *)op;
    Py_CLEAR(n->task);
    Py_CLEAR(n->cancel);
    Py_CLEAR(n->children);
    while (n->failures > 0) {
        Py_DECREF(n->errors[--n->failures]);
    }
    Py_CLEAR(n->failed);
    Py_CLEAR(n->value);
    Py_CLEAR(n->ending);
    Py_CLEAR(n->seconds);
    Py_CLEAR(n->due);
    Py_CLEAR(n->due_for);
    Py_CLEAR(n->outer);
    return 0;
}

static void
stop_timer(DoeffNursery *n)
{
    if (n->timer >= 0) {
        timer_remove(n->scheduler, n->timer);
        n->timer = -1;
    }
}

static void
nursery_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    stop_timer((DoeffNursery *)op);
    (void)nursery_tp_clear(op);
    PyMem_Free(((DoeffNursery *)op)->errors);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyType_Slot nursery_slots[] = {
    {Py_tp_dealloc, nursery_dealloc},
    {Py_tp_traverse, nursery_traverse},
    {Py_tp_clear, nursery_tp_clear},
    {0, NULL},
};

static PyType_Spec nursery_spec = {
    .name = "doeff._engine.Nursery",
    .basicsize = sizeof(DoeffNursery),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = nursery_slots,
};

static Py_ssize_t
count_children(DoeffNursery *n)
{
    return n->children == NULL ? 0 : PyDict_GET_SIZE(n->children);
}

/* Room for the failures of all that live, of the body, and of so many more; -1 with an error. */
static int
reserve(DoeffNursery *n, Py_ssize_t more)
{
    Py_ssize_t wanted = n->failures + count_children(n) + 1 + more;
    if (wanted <= n->room) {
        return 0;
    }
    Py_ssize_t room = wanted < 8 ? wanted + 1 : wanted + wanted / 4;
    PyObject **grown = PyMem_Realloc(n->errors, sizeof(PyObject *) * (size_t)room);
    if (grown == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    n->errors = grown;
    n->room = room;
    return 0;
}

/* Opens one around the program that is started next. Borrowed: its frame holds it. */
static DoeffNursery *
nursery_open(DoeffContext *cx, NurseryKind kind, const DoeffFrameKind *frame)
{
    if (context_begin(cx) < 0) {
        return NULL;
    }
    DoeffScheduler *s = scheduler_of(cx);
    DoeffNursery *n = s == NULL ? NULL : PyObject_GC_New(DoeffNursery, cx->st->Nursery_Type);
    if (n == NULL) {
        return NULL;
    }
    memset((char *)n + sizeof(PyObject), 0, sizeof(DoeffNursery) - sizeof(PyObject));
    n->kind = kind;
    n->scheduler = s;
    n->task = (DoeffTask *)Py_NewRef((PyObject *)s->current);
    n->timer = -1;
    if (kind == NURSERY_SCOPE && reserve(n, 0) < 0) {
        Py_DECREF((PyObject *)n);
        return NULL;
    }
    PyObject_GC_Track((PyObject *)n);
    return scope_open(cx, (PyObject *)cx->st->Nursery_Type, frame, (PyObject *)n) < 0 ? NULL : n;
}

/* The program of a popped frame is over. NULL: another run goes on with it, in which there is nothing to do. */
static DoeffNursery *
nursery_close(DoeffContext *cx, DoeffFrame *frame)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    DoeffNursery *n = (DoeffNursery *)frame->a;
    scope_close(cx, frame);
    n->closed = 1;
    stop_timer(n);
    return s == NULL || s->run != n->task->w.run ? NULL : n;
}

/* ---- which are open ---- */

/* A walk over the open ones of a task, from the innermost outward. */
typedef struct Walk {
    PyObject *at, *base, *topic;
} Walk;

static Walk
walk_of(DoeffScheduler *s, DoeffTask *t)
{
    DoeffContext *cx = &s->machine->cx;
    return (Walk){t == s->current ? cx->scopes : t->scopes, t->scope_base, (PyObject *)cx->st->Nursery_Type};
}

static DoeffNursery *
walk_next(Walk *walk)
{
    while (walk->at != NULL && walk->at != walk->base) {
        PyObject *scope = walk->at;
        PyObject *outer = PyList_GET_ITEM(scope, 1);
        walk->at = outer == Py_None ? NULL : outer;
        if (PyList_GET_ITEM(scope, 2) == walk->topic) {
            return (DoeffNursery *)PyList_GET_ITEM(scope, 0);
        }
    }
    return NULL;
}

static int
is_open_in(DoeffScheduler *s, DoeffTask *t, DoeffNursery *n)
{
    Walk walk = walk_of(s, t);
    DoeffNursery *at;
    while ((at = walk_next(&walk)) != NULL && at != n) {
    }
    return at == n;
}

/* The task that has n in its continuation; NULL: none has, a handler keeps that. */
static DoeffTask *
task_inside(DoeffScheduler *s, DoeffNursery *n)
{
    if (is_open_in(s, n->task, n)) {
        return n->task;
    }
    if (is_open_in(s, s->main, n)) {
        return s->main;
    }
    DoeffTask *t = s->oldest;
    while (t != NULL && !is_open_in(s, t, n)) {
        t = t->newer;
    }
    return t;
}

/* The outermost Shield of t inside n; of all of t if n is NULL. */
static DoeffNursery *
shield_inside(DoeffScheduler *s, DoeffTask *t, DoeffNursery *n)
{
    Walk walk = walk_of(s, t);
    DoeffNursery *at, *shield = NULL;
    while ((at = walk_next(&walk)) != NULL && at != n) {
        shield = at->kind == NURSERY_SHIELD ? at : shield;
    }
    return shield;
}

/* error ends more than n does: the task that n is open in is cancelled by it, or something around n. */
static int
ends_more(DoeffScheduler *s, DoeffTask *t, DoeffNursery *n, PyObject *error)
{
    if (error == NULL || task_is_cancel_of(t, error)) {
        return error != NULL;
    }
    PyObject *cancelled = s->machine->cx.st->TaskCancelledError;
    if (!PyErr_GivenExceptionMatches(error, cancelled) && !PyErr_GivenExceptionMatches(error, PyExc_MemoryError)) {
        return 0; /* nobody has cancelled anything with it: see end_program */
    }
    Walk walk = walk_of(s, t);
    DoeffNursery *at;
    int outside = n->closed || !is_open_in(s, t, n);
    while ((at = walk_next(&walk)) != NULL) {
        if (outside && at->cancel == error) {
            return 1;
        }
        outside |= at == n;
    }
    return 0;
}

int
nursery_own_cancel(DoeffScheduler *s, PyObject *error)
{
    Walk walk = walk_of(s, s->current);
    DoeffNursery *at;
    while ((at = walk_next(&walk)) != NULL && at->cancel != error) {
    }
    return at != NULL;
}

/* ---- ending a program early ---- */

PyObject *
nursery_pending_error(DoeffTask *t)
{
    DoeffNursery *n = t->nursery;
    return n->ending != NULL || n->failures == 0 ? n->ending : n->errors[n->failures - 1];
}

static void
keep_due(DoeffScheduler *s, DoeffNursery *shield, PyObject *error /* stolen */, DoeffNursery *whose)
{
    if (shield->due != NULL
        && (shield->due_for == NULL || (whose != NULL && ends_more(s, shield->task, whose, shield->due)))) {
        Py_DECREF(error); /* what waits already ends more */
        return;
    }
    Py_XSETREF(shield->due, error);
    Py_XSETREF(shield->due_for, (DoeffNursery *)Py_XNewRef((PyObject *)whose));
}

int
nursery_shields(DoeffScheduler *s, DoeffTask *t, PyObject *error)
{
    DoeffNursery *shield = shield_inside(s, t, NULL);
    if (shield != NULL && error != NULL) {
        keep_due(s, shield, error, NULL);
    }
    return shield != NULL;
}

/* n's program is to end: why is raised in it, unless something that ends more is on its way there. */
static void
end_program(DoeffScheduler *s, DoeffNursery *n, const char *why)
{
    DoeffTask *t = n->closed ? NULL : task_inside(s, n);
    if (t == NULL || n->cancel != NULL || ends_more(s, t, n, task_pending_error(s, t))) {
        return;
    }
    PyObject *error = PyObject_CallFunction(s->machine->cx.st->TaskCancelledError, "s", why);
    if (error == NULL) {
        error = PyErr_GetRaisedException(); /* no memory: that ends it as well */
    }
    n->cancel = Py_NewRef(error);
    DoeffNursery *shield = shield_inside(s, t, n);
    if (shield != NULL) {
        keep_due(s, shield, error, n);
        return;
    }
    (void)task_throw(s, t, error);
}

/* ---- Scope ---- */

static int
add_child(DoeffNursery *n, DoeffTask *t)
{
    if (reserve(n, 1) < 0) { /* nothing may be lost for want of memory when it fails */
        return -1;
    }
    if (n->children == NULL && (n->children = PyDict_New()) == NULL) {
        return -1;
    }
    if (PyDict_SetItem(n->children, (PyObject *)t, Py_None) < 0) {
        return -1;
    }
    n->regular++;
    return 0;
}

/* Where what belonged to n belongs now; NULL: nowhere. */
static DoeffNursery *
still_there(DoeffNursery *n)
{
    while (n != NULL && n->lost) {
        n = n->outer;
    }
    return n;
}

int
nursery_child_new(DoeffScheduler *s, DoeffTask *t)
{
    Walk walk = walk_of(s, s->current);
    DoeffNursery *n;
    while ((n = walk_next(&walk)) != NULL && n->kind != NURSERY_SCOPE) {
    }
    n = n != NULL ? n : still_there(s->current->scope);
    if (n == NULL) {
        return 0;
    }
    if (!t->member) { /* members belong to their Gather */
        if (add_child(n, t) < 0) {
            return -1;
        }
        t->w.claimed = 1;
    }
    t->scope = (DoeffNursery *)Py_NewRef((PyObject *)n);
    return 0;
}

void
nursery_child_is_daemon(DoeffTask *t)
{
    if (t->scope != NULL) {
        t->scope->regular--;
    }
}

/* Nobody is left that a Scope has to wait for. */
static int
is_empty(DoeffNursery *n)
{
    return count_children(n) == 0 && n->held == 0;
}

/* Without memory for anything better. */
static void
discard_children(DoeffScheduler *s, DoeffNursery *n)
{
    PyObject *child, *unused;
    for (Py_ssize_t at = 0; PyDict_Next(n->children, &at, &child, &unused);) {
        if ((DoeffTask *)child != s->current) {
            task_discard(s, (DoeffTask *)child);
            at = 0; /* it has left the dict, and may have taken others along */
        }
    }
}

static void
cancel_children(DoeffScheduler *s, DoeffNursery *n)
{
    n->closing = 1;
    if (count_children(n) == 0 || s->phase == RUN_ENDS) {
        return;
    }
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *list = PyDict_Keys(n->children); /* those that have not started leave it at once */
    for (Py_ssize_t i = 0; list != NULL && i < PyList_GET_SIZE(list); i++) {
        DoeffTask *t = (DoeffTask *)PyList_GET_ITEM(list, i);
        if (t->w.state == WAITABLE_OPEN && task_cancel(s, t) < 0) {
            PyErr_Clear();
            if (t != s->current) {
                task_discard(s, t);
            }
        }
    }
    if (list == NULL) {
        PyErr_Clear();
        discard_children(s, n);
    }
    Py_XDECREF(list);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* Two errors, and room for one: the one of them (borrowed) that has the other among its contexts. */
static PyObject *
joined(PyObject *later, PyObject *earlier)
{
    if (later == earlier) { /* the last MemoryError that there is */
        return later;
    }
    PyObject *ends[2] = {later, earlier};
    for (int i = 0; i < 2; i++) {
        PyObject *next = later;
        for (int depth = 0; next != NULL && depth < 10000; depth++) { /* a program may make a ring of contexts */
            ends[i] = next;
            next = PyException_GetContext(next);
            Py_XDECREF(next); /* held by what it was asked of */
            if (next == earlier) {
                return later;
            }
        }
        PyObject *other = later;
        later = earlier;
        earlier = other;
    }
    PyException_SetContext(ends[0], Py_NewRef(earlier));
    return later;
}

/* A failure that the Scope raises; one that several tasks died of counts once. */
static void
add_failure(DoeffNursery *n, PyObject *error)
{
    for (Py_ssize_t i = 0; Py_REFCNT(error) > 1 && i < n->failures; i++) { /* nobody else knows most of them */
        if (n->errors[i] == error) {
            return;
        }
    }
    if (n->failures == n->room && reserve(n, 1) < 0) { /* more errors were thrown at the task as it waits than one */
        PyErr_Clear();
        PyObject **last = &n->errors[n->failures - 1];
        Py_SETREF(*last, Py_NewRef(joined(error, *last)));
        return;
    }
    n->errors[n->failures++] = Py_NewRef(error);
}

/* All the failures as one; without memory for that, a MemoryError that has them among its contexts. */
static PyObject *
failures_as_one(DoeffNursery *n)
{
    PyObject *text = PyUnicode_FromFormat("%zd failures in a Scope", n->failures);
    PyObject *list = text == NULL ? NULL : PyList_New(n->failures);
    for (Py_ssize_t i = 0; list != NULL && i < n->failures; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef(n->errors[i]));
    }
    PyObject *group = list == NULL ? NULL : PyObject_CallFunctionObjArgs(PyExc_BaseExceptionGroup, text, list, NULL);
    Py_XDECREF(text);
    Py_XDECREF(list);
    if (group == NULL) {
        group = PyErr_GetRaisedException();
        for (Py_ssize_t i = n->failures; i > 0; i--) {
            Py_SETREF(group, Py_NewRef(joined(group, n->errors[i - 1])));
        }
    }
    return group;
}

/* The Scope's outcome, once nothing of it is left. */
static DoeffStep
scope_outcome(DoeffNursery *n, PyObject **out)
{
    int several = n->failures > 1;
    if (n->failures == 0) {
        if (n->ending != NULL) {
            PyErr_SetRaisedException(Py_NewRef(n->ending));
            return DOEFF_RAISE;
        }
        *out = Py_NewRef(n->value);
        return DOEFF_VALUE;
    }
    PyObject *first = n->errors[0];
    for (Py_ssize_t i = 0; i < n->failures; i++) { /* an interrupt is raised as it is */
        if (PyErr_GivenExceptionMatches(n->errors[i], PyExc_KeyboardInterrupt)
            || PyErr_GivenExceptionMatches(n->errors[i], PyExc_SystemExit)) {
            first = n->errors[i];
            several = 0;
        }
    }
    if (several) {
        PyErr_SetRaisedException(failures_as_one(n));
        return DOEFF_RAISE;
    }
    if (n->failed != NULL && n->failed->w.outcome == first) {
        return waitable_outcome(&n->failed->w, out);
    }
    PyErr_SetRaisedException(Py_NewRef(first));
    return DOEFF_RAISE;
}

/* The last child is over, and the body has been. */
static void
scope_over(DoeffScheduler *s, DoeffNursery *n)
{
    DoeffTask *t = n->waiting;
    n->waiting = NULL;
    t->nursery = NULL;
    PyObject *value = NULL;
    PyObject *pending = PyErr_GetRaisedException();
    DoeffStep step = scope_outcome(n, &value);
    task_wake(s, t, step == DOEFF_VALUE ? ANSWER_VALUE : ANSWER_ERROR,
              step == DOEFF_VALUE ? value : PyErr_GetRaisedException());
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    Py_DECREF((PyObject *)n); /* t's */
}

void
nursery_child_over(DoeffScheduler *s, DoeffNursery *n, DoeffTask *t)
{
    if (t->member) {
        Py_DECREF((PyObject *)n);
        return;
    }
    PyObject *pending = PyErr_GetRaisedException();
    if (PyDict_DelItem(n->children, (PyObject *)t) < 0) {
        PyErr_WriteUnraisable((PyObject *)t);
    }
    n->regular -= !t->daemon;
    if (t->w.state == WAITABLE_ERROR) {
        if (n->failed == NULL) {
            n->failed = (DoeffTask *)Py_NewRef((PyObject *)t);
        }
        int first = n->failures == 0;
        add_failure(n, t->w.outcome);
        if (first) {
            end_program(s, n, "a task of this Scope has failed");
        }
        if (!n->closing) {
            cancel_children(s, n);
        }
    }
    if (n->waiting != NULL) {
        if (is_empty(n)) {
            scope_over(s, n);
        }
        else if (n->regular == 0 && !n->closing) {
            cancel_children(s, n); /* daemons */
        }
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    Py_DECREF((PyObject *)n);
}

/* An error has ended the body, or comes while its task waits for the children. */
static void
scope_ended_by(DoeffScheduler *s, DoeffNursery *n, DoeffTask *t, PyObject *error)
{
    if (error == n->cancel) {
        return;
    }
    if (PyErr_GivenExceptionMatches(error, PyExc_GeneratorExit) || ends_more(s, t, n, error)) {
        Py_XSETREF(n->ending, Py_NewRef(error)); /* no failure: it goes on outward */
    }
    else {
        add_failure(n, error);
    }
}

static DoeffStep
scope_body_over(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject *error, PyObject **out)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    DoeffNursery *n = nursery_close(cx, frame);
    if (n == NULL) {
        return DOEFF_PASS;
    }
    DoeffTask *t = s->current;
    n->value = Py_XNewRef(value);
    if (error != NULL) {
        scope_ended_by(s, n, t, error);
    }
    if ((error != NULL || n->regular == 0) && !n->closing) {
        cancel_children(s, n);
    }
    if (!is_empty(n)) {
        if (error != NULL) {
            trace_park(MACHINE_OF(cx), error);
        }
        n->waiting = t;
        t->waits = WAITS_SCOPE;
        t->nursery = (DoeffNursery *)Py_NewRef((PyObject *)n);
        return DOEFF_BLOCK;
    }
    DoeffStep step = scope_outcome(n, out);
    if (step == DOEFF_RAISE && error != NULL) {
        PyObject *raised = PyErr_GetRaisedException();
        if (raised == error) {
            Py_DECREF(raised);
            return DOEFF_PASS;
        }
        PyErr_SetRaisedException(raised);
    }
    return step;
}

static DoeffStep
scope_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    return scope_body_over(cx, frame, value, NULL, out);
}

static DoeffStep
scope_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    return scope_body_over(cx, frame, NULL, error, out);
}

static const DoeffFrameKind scope_frame = {
    .name = "ScopeFrame",
    .on_value = scope_value,
    .on_error = scope_error,
    .records = 1,
};

/* No memory to let outer have n's children: those that it has got so far come back, and none outlives n. */
static void
leave_none(DoeffScheduler *s, DoeffNursery *n, DoeffNursery *outer)
{
    PyObject *child, *unused;
    for (Py_ssize_t at = 0; PyDict_Next(n->children, &at, &child, &unused);) {
        DoeffTask *t = (DoeffTask *)child;
        if (t->scope == outer) {
            (void)PyDict_DelItem(outer->children, child);
            outer->regular -= !t->daemon;
            Py_SETREF(t->scope, (DoeffNursery *)Py_NewRef((PyObject *)n));
        }
    }
    discard_children(s, n);
}

/* Nobody waits for n's children any more: they are cancelled, and who waits for the task that did, waits for them. */
static void
leave_children(DoeffScheduler *s, DoeffNursery *n, DoeffTask *killed)
{
    cancel_children(s, n);
    DoeffNursery *outer = still_there(killed->scope);
    if (s->phase == RUN_ENDS || n->lost) {
        return;
    }
    n->lost = 1;
    if (outer == NULL) {
        return;
    }
    n->outer = (DoeffNursery *)Py_NewRef((PyObject *)outer);
    outer->held += n->held;
    PyObject *child, *unused;
    Py_ssize_t at = 0;
    while (n->children != NULL && PyDict_Next(n->children, &at, &child, &unused)) {
        if (add_child(outer, (DoeffTask *)child) < 0) {
            PyErr_Clear();
            leave_none(s, n, outer);
            return;
        }
        outer->regular -= ((DoeffTask *)child)->daemon;
        Py_SETREF(((DoeffTask *)child)->scope, (DoeffNursery *)Py_NewRef((PyObject *)outer));
    }
    Py_CLEAR(n->children);
    n->regular = 0;
}

int
nursery_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error)
{
    DoeffNursery *n = t->nursery;
    if (error != NULL) {
        scope_ended_by(s, n, t, error);
        Py_DECREF(error);
        Py_INCREF((PyObject *)n);
        cancel_children(s, n);
        Py_DECREF((PyObject *)n);
        return 0;
    }
    t->nursery = NULL;
    n->waiting = NULL;
    leave_children(s, n, t);
    Py_DECREF((PyObject *)n);
    return 1;
}

void
nursery_kill(DoeffScheduler *s, DoeffTask *t)
{
    DoeffNursery *n = (DoeffNursery *)Py_NewRef((PyObject *)t->nursery);
    discard_children(s, n);
    Py_DECREF((PyObject *)n);
}

void
nursery_lost(DoeffScheduler *s, DoeffTask *t)
{
    PyObject *innermost = Py_XNewRef(t->scopes);
    Walk walk = walk_of(s, t); /* those too that a handler's body has taken away from the task's fibers for now */
    DoeffNursery *n;
    while ((n = walk_next(&walk)) != NULL) {
        if (n->kind == NURSERY_SCOPE) {
            leave_children(s, n, t);
        }
    }
    Py_XDECREF(innermost);
}

void
nursery_adopt(DoeffScheduler *s, DoeffTask *t)
{
    DoeffNursery *n = still_there(t->scope);
    if (n == NULL || !t->member || s->phase == RUN_ENDS) {
        return;
    }
    if (add_child(n, t) < 0) {
        PyErr_Clear(); /* no memory: it may end after the Scope */
        return;
    }
    t->member = 0;
    Py_SETREF(t->scope, (DoeffNursery *)Py_NewRef((PyObject *)n));
}

struct DoeffNursery *
nursery_hold(DoeffTask *t)
{
    DoeffNursery *n = still_there(t->scope);
    if (n != NULL) {
        n->held++;
    }
    return (DoeffNursery *)Py_XNewRef((PyObject *)n);
}

void
nursery_let_go(DoeffScheduler *s, DoeffNursery *held)
{
    DoeffNursery *n = still_there(held);
    if (n != NULL && --n->held == 0 && n->waiting != NULL && is_empty(n)) {
        scope_over(s, n);
    }
    Py_XDECREF((PyObject *)held);
}

static int
scope_init(RecordInfo *info, PyObject **f)
{
    return check_program(info->st, f[0], "body");
}

static DoeffStep
scope_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (nursery_open(cx, NURSERY_SCOPE, &scope_frame) == NULL) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(RECORD_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

static const RecordSpec scope_spec = {
    .name = "doeff.effects.structure.ScopeEffect",
    .doc = "ScopeEffect(body)\n--\n\nRun a program and wait for all tasks that it spawns.",
    .fields = {"body"}, .required = 1, .effect = 1, .subclassable = 1, .init = scope_init,
};

static PyMethodDef scope_def = {
    "Scope", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Scope(body)\n--\n\nRun body; when this ends, all tasks spawned in it, and below those, have ended.\n\nbody: a "
              "program; TypeError for anything else. Gives its value. If it or a task fails, the rest is cancelled\nand unwound "
              "first; then one failure is raised as it is, several as an ExceptionGroup. Daemons are cancelled\nwhen all else "
              "has ended.\n\n>>> pages = yield Scope(crawl(site))\n\nContract: S16, S22.")};

/* ---- Timeout ---- */

void
nursery_timer_moved(DoeffNursery *n, Py_ssize_t at)
{
    n->timer = at;
}

void
nursery_timer(DoeffScheduler *s, DoeffNursery *n)
{
    n->timer = -1;
    n->fired = 1;
    Py_INCREF((PyObject *)n);
    end_program(s, n, "the time for this program is over");
    Py_DECREF((PyObject *)n);
}

/* Of the errors during whose handling error was raised, the first that ends more than n does; borrowed or NULL. */
static PyObject *
interrupted_cleanup_of(DoeffScheduler *s, DoeffNursery *n, PyObject *error)
{
    PyObject *found = NULL;
    for (int depth = 0; error != NULL && found == NULL && depth < 100; depth++) {
        PyObject *context = PyException_GetContext(error); /* strong, and held by error as well */
        found = context != NULL && ends_more(s, s->current, n, context) ? context : NULL;
        Py_XDECREF(context);
        error = context;
    }
    return found;
}

static DoeffStep
raise_timeout(DoeffNursery *n)
{
    PyObject *text = PyUnicode_FromFormat("the program did not end within %S s", n->seconds);
    PyObject *error = text == NULL ? NULL : PyObject_CallOneArg(PyExc_TimeoutError, text);
    Py_XDECREF(text);
    if (error != NULL) {
        if (n->cancel != NULL) {
            PyException_SetContext(error, Py_NewRef(n->cancel)); /* where it was */
            PyException_SetCause(error, Py_NewRef(n->cancel));
        }
        PyErr_SetRaisedException(error);
    }
    return DOEFF_RAISE;
}

static DoeffStep
timeout_value(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **Py_UNUSED(out))
{
    DoeffNursery *n = nursery_close(cx, frame);
    return n != NULL && n->fired ? raise_timeout(n) : DOEFF_PASS; /* it went on after its cancellation: the value comes too late */
}

static DoeffStep
timeout_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **Py_UNUSED(out))
{
    DoeffNursery *n = nursery_close(cx, frame);
    if (n == NULL || error != n->cancel) {
        return DOEFF_PASS;
    }
    PyObject *outer = interrupted_cleanup_of(scheduler_if_any(cx), n, error);
    if (outer != NULL) { /* it was being cancelled, and took too long over that */
        PyErr_SetRaisedException(Py_NewRef(outer));
        return DOEFF_RAISE;
    }
    return raise_timeout(n);
}

static PyObject *
timeout_describe(const DoeffFrame *frame)
{
    PyObject *seconds = ((DoeffNursery *)frame->a)->seconds;
    return seconds == NULL ? PyUnicode_FromString("") : PyUnicode_FromFormat("%S s", seconds);
}

static const DoeffFrameKind timeout_frame = {
    .name = "TimeoutFrame",
    .on_value = timeout_value,
    .on_error = timeout_error,
    .describe = timeout_describe,
    .records = 1,
};

static int
timeout_init(RecordInfo *info, PyObject **f)
{
    return timer_check_seconds(f[0]) < 0 ? -1 : check_program(info->st, f[1], "program");
}

static DoeffStep
timeout_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffNursery *n = nursery_open(cx, NURSERY_TIMEOUT, &timeout_frame);
    if (n == NULL) {
        return DOEFF_RAISE;
    }
    n->seconds = Py_NewRef(RECORD_FIELD(effect, 0));
    if (timer_after(cx, n->seconds, n) < 0) {
        return DOEFF_RAISE; /* crosses the frame, which closes it */
    }
    *out = Py_NewRef(RECORD_FIELD(effect, 1));
    return DOEFF_PROGRAM;
}

static const RecordSpec timeout_spec = {
    .name = "doeff.effects.structure.TimeoutEffect",
    .doc = "TimeoutEffect(seconds, program)\n--\n\nRun a program for at most so long.",
    .fields = {"seconds", "program"}, .required = 2, .effect = 1, .subclassable = 1, .init = timeout_init,
};

static PyMethodDef timeout_def = {
    "Timeout", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Timeout(seconds, program)\n--\n\nRun program for at most so many seconds.\n\nseconds: a number as for Delay. "
              "program: a program; TypeError for anything else. Gives its value. When the\ntime is over it is cancelled, its "
              "cleanup runs, and TimeoutError is raised here; the task goes on.\n\n"
              ">>> page = yield Timeout(2.5, fetch(url))\n\nContract: S16.")};

/* ---- Shield ---- */

/* The cancellation that waited is raised now; error: what the program ended with, or NULL. */
static DoeffStep
shield_over(DoeffContext *cx, DoeffFrame *frame, PyObject *error)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    DoeffNursery *n = nursery_close(cx, frame);
    if (n == NULL) {
        return DOEFF_PASS;
    }
    PyObject *due = n->due;
    n->due = NULL;
    if (due == NULL || s->current != n->task || (n->due_for != NULL && n->due_for->closed)) {
        Py_XDECREF(due);
        return DOEFF_PASS;
    }
    if (n->due_for == NULL) {
        task_cancelled_by(n->task, due);
    }
    DoeffNursery *next = shield_inside(s, n->task, n->due_for); /* opened around this one by a jump */
    if (next != NULL) {
        keep_due(s, next, due, n->due_for);
        return DOEFF_PASS;
    }
    if (error != NULL && !PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        (void)task_throw(s, n->task, due); /* at its next effect: an interrupt or a jump goes first */
        return DOEFF_PASS;
    }
    if (error != NULL && error != due) {
        PyException_SetContext(due, Py_NewRef(error));
    }
    PyErr_SetRaisedException(due);
    return DOEFF_RAISE;
}

static DoeffStep
shield_value(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **Py_UNUSED(out))
{
    return shield_over(cx, frame, NULL);
}

static DoeffStep
shield_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **Py_UNUSED(out))
{
    return shield_over(cx, frame, error);
}

static const DoeffFrameKind shield_frame = {
    .name = "ShieldFrame",
    .on_value = shield_value,
    .on_error = shield_error,
    .records = 1,
};

static int
shield_init(RecordInfo *info, PyObject **f)
{
    return check_program(info->st, f[0], "program");
}

static DoeffStep
shield_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (nursery_open(cx, NURSERY_SHIELD, &shield_frame) == NULL) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(RECORD_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

static const RecordSpec shield_spec = {
    .name = "doeff.effects.structure.ShieldEffect",
    .doc = "ShieldEffect(program)\n--\n\nRun a program to its end before a cancellation counts.",
    .fields = {"program"}, .required = 1, .effect = 1, .subclassable = 1, .init = shield_init,
};

static PyMethodDef shield_def = {
    "Shield", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Shield(program)\n--\n\nRun program; a cancellation of this task waits until it has ended, and is raised then.\n\n"
              "program: a program; TypeError for anything else. Gives its value. So wait Timeouts and Scopes around it;\nthose "
              "inside it do not. Discard and interrupts do not wait.\n\n>>> yield Shield(save(order))\n\nContract: S16.")};

int
structure_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->Nursery_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &nursery_spec, NULL);
    return st->Nursery_Type == NULL
                   || effect_define(module, st, handler, &(EffectDef){&scope_spec, &scope_def, scope_perform}) == NULL
                   || effect_define(module, st, handler, &(EffectDef){&timeout_spec, &timeout_def, timeout_perform}) == NULL
                   || effect_define(module, st, handler, &(EffectDef){&shield_spec, &shield_def, shield_perform}) == NULL
               ? -1
               : 0;
}
