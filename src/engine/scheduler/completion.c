#include "events.h"
#include "scheduler.h"

#include "../effects/effects.h"
#include "../support/arguments.h"
#include "../support/imports.h"

/* completion: external promises, and the queue that carries what completes them. */

typedef struct ExternalPromise ExternalPromise;

struct ExternalPromise {
    PyObject_HEAD
    DoeffFuture *future;   /* strong */
    DoeffQueue *queue;     /* strong */
    PyObject *id;          /* UUID; strong; NULL until somebody asks */
    PyObject *callbacks;   /* what on_cancel was given, from the second one on a list of them; strong or NULL */
    PyObject *outcome;     /* decided, not applied yet; strong or NULL */
    PyObject *effect;      /* that made it, if that says how long it should take or who settles it; strong or NULL */
    long long since;       /* ns, while waits are watched; 0: not known */
    ExternalPromise *next; /* in the queue, which holds a reference */
    unsigned char decided; /* WaitableState */
};

typedef struct Getter {
    struct Getter *next;
    PyThread_type_lock lock; /* held while it sleeps */
} Getter;

struct DoeffQueue {
    PyObject_HEAD
    struct DoeffScheduler *scheduler; /* borrowed; NULL once the run is over */
    unsigned long thread;             /* who drives the run */
    ExternalPromise *first, *last;    /* decided, in order of the calls */
    ExternalPromise *taken, *taken_last; /* given out by get, to be applied */
    DoeffFuture *settled, *settled_last; /* of promises, their waiters still to be woken; each holds a reference */
    Py_ssize_t size;
    Getter *getters;                  /* asleep */
    PyObject *by_id;                  /* dict: id -> open external promise, for those whose id was looked at; or NULL */
    PyObject *extra;                  /* list of what put() was given and no promise is; or NULL */
    PyObject *sleeper;                /* in an event loop, to be woken when something arrives; strong or NULL */
    QueueWaker wake;                  /* how */
};

#define SLEEP_MOST 3600000000LL /* microseconds; then it looks again */

long long
queue_clock_ns(void)
{
    return compat_monotonic_ns();
}

long long
queue_seconds_to_ns(double seconds)
{
    if (!(seconds > 0)) {
        return 0;
    }
    return seconds >= 4e9 ? 4000000000LL * 1000000000LL : (long long)(seconds * 1e9);
}

struct DoeffScheduler *
queue_scheduler(DoeffQueue *q)
{
    return q->thread == PyThread_get_thread_ident() ? q->scheduler : NULL;
}

/* ---- the queue's two ends ---- */

static void
wake_getter(DoeffQueue *q)
{
    Getter *sleeper = q->getters;
    if (sleeper != NULL) {
        q->getters = sleeper->next;
        PyThread_release_lock(sleeper->lock);
    }
}

/* Something has arrived. on_loop: the caller is a callback of the event loop that drives the run. -1 with MemoryError:
 * whoever sleeps there does not know yet. */
static int
announce(DoeffQueue *q, int on_loop)
{
    if (q->scheduler != NULL) {
        q->scheduler->machine->cx.attention = 1;
    }
    wake_getter(q);
    if (q->sleeper == NULL) {
        return 0;
    }
    PyObject *sleeper = q->sleeper; /* once for each sleep */
    q->sleeper = NULL;
    PyObject *pending = PyErr_GetRaisedException();
    int failed = q->wake(sleeper, on_loop);
    if (failed && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        PyErr_WriteUnraisable(sleeper);
        failed = 0;
    }
    if (failed && q->scheduler != NULL && q->sleeper == NULL) {
        q->sleeper = Py_NewRef(sleeper);
    }
    Py_DECREF(sleeper);
    if (failed) {
        Py_XDECREF(pending);
    }
    else if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
    return failed;
}

static void
append(ExternalPromise **first, ExternalPromise **last, ExternalPromise *p)
{
    p->next = NULL;
    *(*last == NULL ? first : &(*last)->next) = p;
    *last = p;
}

static ExternalPromise *
pop(ExternalPromise **first, ExternalPromise **last)
{
    ExternalPromise *p = *first;
    if (p != NULL) {
        *first = p->next;
        if (*first == NULL) {
            *last = NULL;
        }
        p->next = NULL;
    }
    return p;
}

int
queue_settles(DoeffQueue *q, struct DoeffWaitable *w)
{
    if (announce(q, 0) < 0) {
        return -1;
    }
    DoeffFuture *future = (DoeffFuture *)Py_NewRef((PyObject *)w);
    future->next = NULL;
    *(q->settled_last == NULL ? &q->settled : &q->settled_last->next) = future;
    q->settled_last = future;
    return 0;
}

static DoeffFuture *
pop_settled(DoeffQueue *q)
{
    DoeffFuture *future = q->settled;
    if (future != NULL) {
        q->settled = future->next;
        if (q->settled == NULL) {
            q->settled_last = NULL;
        }
        future->next = NULL;
    }
    return future;
}

/* The first decision counts. 1 if this is it, -1 as announce says. */
static int
decide_from(ExternalPromise *p, WaitableState state, PyObject *outcome, int on_loop)
{
    DoeffQueue *q = p->queue;
    if (q->scheduler == NULL) {
        return 0;
    }
    if (p->decided != WAITABLE_OPEN) { /* the decision may have had no memory to wake the run */
        return q->first != NULL && q->sleeper != NULL ? announce(q, on_loop) : 0;
    }
    p->decided = (unsigned char)state;
    p->outcome = Py_NewRef(outcome);
    Py_INCREF((PyObject *)p);
    append(&q->first, &q->last, p);
    q->size++;
    if (DOEFF_UNLIKELY(q->scheduler->events != NULL)) {
        events_note_outcome(q->scheduler, EVENT_EXTERNAL_COMPLETED, NULL, (PyObject *)p, state, outcome);
    }
    return announce(q, on_loop) < 0 ? -1 : 1;
}

static int
decide(ExternalPromise *p, WaitableState state, PyObject *outcome)
{
    return decide_from(p, state, outcome, 0);
}

int
external_decide(PyObject *promise, int failed, PyObject *outcome, int on_loop)
{
    return decide_from((ExternalPromise *)promise, failed ? WAITABLE_ERROR : WAITABLE_VALUE, outcome, on_loop);
}

/* It is settled: nobody will name it by its id any more. */
static void
forget_id(DoeffQueue *q, ExternalPromise *p)
{
    if (q->by_id != NULL && p->id != NULL && PyDict_DelItem(q->by_id, p->id) < 0) {
        PyErr_Clear();
    }
}

static void
apply(DoeffQueue *q, ExternalPromise *p)
{
    PyObject *outcome = p->outcome;
    p->outcome = NULL;
    if (outcome != NULL && p->future->w.state == WAITABLE_OPEN) {
        forget_id(q, p);
        waitable_settle(q->scheduler, &p->future->w, p->decided, outcome);
    }
    else {
        Py_XDECREF(outcome);
    }
    Py_DECREF((PyObject *)p);
}

DOEFF_ALWAYS_INLINED void
queue_apply(DoeffQueue *q)
{
    DoeffFuture *future;
    while ((future = pop_settled(q)) != NULL) {
        waitable_wake(q->scheduler, &future->w);
        Py_DECREF((PyObject *)future);
    }
    ExternalPromise *p;
    while ((p = pop(&q->taken, &q->taken_last)) != NULL) {
        apply(q, p);
    }
    while ((p = pop(&q->first, &q->last)) != NULL) {
        q->size--;
        apply(q, p);
    }
}

int
queue_apply_answer(DoeffQueue *q, PyObject *answer)
{
    if (q->by_id == NULL || !PyTuple_Check(answer) || PyTuple_GET_SIZE(answer) != 3) {
        return 0;
    }
    PyObject *p = PyDict_GetItemWithError(q->by_id, PyTuple_GET_ITEM(answer, 0));
    if (p == NULL) {
        if (PyErr_Occurred() && !PyErr_ExceptionMatches(PyExc_TypeError)) {
            return -1;
        }
        PyErr_Clear(); /* its first item cannot be a key: not a completion */
        return 0;
    }
    PyObject *error = PyTuple_GET_ITEM(answer, 2);
    if (PyExceptionInstance_Check(error)) {
        return decide((ExternalPromise *)p, WAITABLE_ERROR, error);
    }
    return decide((ExternalPromise *)p, WAITABLE_VALUE, PyTuple_GET_ITEM(answer, 1));
}

void
queue_close(DoeffQueue *q)
{
    q->scheduler = NULL;
    DoeffFuture *future;
    while ((future = pop_settled(q)) != NULL) {
        Py_DECREF((PyObject *)future);
    }
    ExternalPromise *p;
    while ((p = pop(&q->taken, &q->taken_last)) != NULL || (p = pop(&q->first, &q->last)) != NULL) {
        Py_CLEAR(p->outcome);
        Py_DECREF((PyObject *)p);
    }
    q->size = 0;
    Py_CLEAR(q->by_id);
    Py_CLEAR(q->extra);
    Py_CLEAR(q->sleeper);
    while (q->getters != NULL) {
        wake_getter(q);
    }
}

/* ---- taking ---- */

static PyObject *promise_id(PyObject *op, void *closure);

/* (id, value, error) of a decided promise, which is to be applied; NULL with an error. */
static PyObject *
take(DoeffQueue *q, ExternalPromise *p)
{
    append(&q->taken, &q->taken_last, p); /* keeps the queue's reference */
    PyObject *id = promise_id((PyObject *)p, NULL);
    PyObject *item = id == NULL ? NULL
                                : PyTuple_Pack(3, id, p->decided == WAITABLE_VALUE ? p->outcome : Py_None,
                                               p->decided == WAITABLE_VALUE ? Py_None : p->outcome);
    Py_XDECREF(id);
    return item;
}

/* A task can go on: whoever waits for the outside is to let the run look again. */
static int
look_again(DoeffQueue *q)
{
    return q->settled != NULL || (q->scheduler != NULL && q->scheduler->current == NULL && q->scheduler->ready > 0);
}

static PyObject *
expired(void)
{
    return PyTuple_Pack(3, Py_None, Py_None, Py_None);
}

/* ns until somebody must look again: a deadline of the run; -1: never. */
static long long
until_deadline(DoeffQueue *q)
{
    struct DoeffScheduler *s = q->scheduler;
    long long left = -1;
    if (timers_run(s)) {
        long long now = timer_now(s);
        if (q->scheduler != s) { /* an event loop's clock is Python code: the run has ended meanwhile */
            return 0;
        }
        if (s->timers > 0) {
            left = s->heap[0].when - now;
            left = s->look_at != 0 && s->look_at - now < left ? s->look_at - now : left;
            left = left < 0 ? 0 : left;
        }
    }
    if (DOEFF_UNLIKELY(s->stall_at != 0)) {
        long long look = s->stall_at - queue_clock_ns();
        look = look < 0 ? 0 : look;
        left = left < 0 || look < left ? look : left;
    }
    if (s->phase == RUN_CLOSES) {
        long long close = s->close_at - queue_clock_ns();
        close = close < 0 ? 0 : close;
        left = left < 0 || close < left ? close : left;
    }
    return left;
}

static int
raise_empty(void)
{
    PyObject *empty = import_attr("queue", "Empty");
    if (empty != NULL) {
        PyErr_SetNone(empty);
    }
    Py_XDECREF(empty);
    return -1;
}

/* Sleeps for at most so many ns (-1: for as long as it takes). -1: a signal handler raised. */
static int
sleep_until_woken(DoeffQueue *q, long long ns)
{
    Getter own = {.lock = PyThread_allocate_lock()};
    if (own.lock == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    PyThread_acquire_lock(own.lock, 1);
    Getter **last = &q->getters;
    while (*last != NULL) {
        last = &(*last)->next;
    }
    *last = &own;
    long long us = ns < 0 || ns / 1000 >= SLEEP_MOST ? SLEEP_MOST : (ns + 999) / 1000;
    PyLockStatus status = PY_LOCK_FAILURE;
    int interrupted = PyErr_CheckSignals() < 0; /* one that came just now would not wake us */
    if (!interrupted) {
        Py_BEGIN_ALLOW_THREADS
        status = PyThread_acquire_lock_timed(own.lock, us, 1);
        Py_END_ALLOW_THREADS
    }
    if (status != PY_LOCK_ACQUIRED) { /* nobody has woken us, or somebody did just now */
        for (Getter **at = &q->getters; *at != NULL; at = &(*at)->next) {
            if (*at == &own) {
                *at = own.next;
                break;
            }
        }
    }
    PyThread_release_lock(own.lock);
    PyThread_free_lock(own.lock);
    return interrupted ? -1 : status == PY_LOCK_INTR ? PyErr_CheckSignals() : 0;
}

static PyObject *
get(DoeffQueue *q, int block, long long timeout)
{
    long long give_up = timeout < 0 ? -1 : queue_clock_ns() + timeout;
    for (;;) {
        ExternalPromise *p = pop(&q->first, &q->last);
        if (p != NULL) {
            q->size--;
            return take(q, p);
        }
        if (q->extra != NULL && PyList_GET_SIZE(q->extra) > 0) {
            PyObject *item = Py_NewRef(PyList_GET_ITEM(q->extra, 0));
            if (PyList_SetSlice(q->extra, 0, 1, NULL) < 0) {
                Py_CLEAR(item);
            }
            return item;
        }
        if (q->scheduler == NULL) {
            (void)raise_empty();
            return NULL;
        }
        if (look_again(q)) {
            return expired();
        }
        long long left = until_deadline(q);
        if (PyErr_Occurred()) {
            return NULL;
        }
        if (q->scheduler == NULL || look_again(q) || q->first != NULL || (q->extra != NULL && PyList_GET_SIZE(q->extra) > 0)) {
            continue; /* an event loop's clock is Python code: it arrived meanwhile */
        }
        if (left == 0) {
            return expired();
        }
        if (give_up >= 0) {
            long long rest = give_up - queue_clock_ns();
            if (rest <= 0) {
                block = 0;
            }
            left = left < 0 || rest < left ? rest : left;
        }
        if (!block) {
            (void)raise_empty();
            return NULL;
        }
        if (sleep_until_woken(q, left) < 0) {
            return NULL;
        }
    }
}

PyObject *
queue_take(DoeffQueue *q)
{
    return get(q, 1, -1);
}

/* ---- the queue as wait handlers see it ---- */

static PyObject *
queue_get(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"block", "timeout", NULL};
    static const Parameters parameters = {"get", names, 2, 0};
    PyObject *bound[2];
    if (arguments_bind(&parameters, args, nargs, kwnames, bound) < 0) {
        return NULL;
    }
    int block = bound[0] == NULL ? 1 : PyObject_IsTrue(bound[0]);
    if (block < 0) {
        return NULL;
    }
    long long timeout = -1;
    if (bound[1] != NULL && bound[1] != Py_None) {
        double seconds = PyFloat_AsDouble(bound[1]);
        if (seconds == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
        if (seconds < 0) {
            PyErr_SetString(PyExc_ValueError, "'timeout' must be a non-negative number");
            return NULL;
        }
        timeout = queue_seconds_to_ns(seconds);
    }
    return get((DoeffQueue *)op, block, timeout);
}

static PyObject *
queue_get_nowait(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return get((DoeffQueue *)op, 0, -1);
}

static PyObject *
queue_put(PyObject *op, PyObject *item)
{
    DoeffQueue *q = (DoeffQueue *)op;
    int applied = queue_apply_answer(q, item);
    if (applied < 0) {
        return NULL;
    }
    if (!applied && q->scheduler != NULL) {
        if ((q->extra == NULL && (q->extra = PyList_New(0)) == NULL) || PyList_Append(q->extra, item) < 0) {
            return NULL;
        }
        if (announce(q, 0) < 0) {
            return NULL;
        }
    }
    Py_RETURN_NONE;
}

static Py_ssize_t
queue_length(DoeffQueue *q)
{
    return q->size + look_again(q) + (q->extra == NULL ? 0 : PyList_GET_SIZE(q->extra));
}

static PyObject *
queue_qsize(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyLong_FromSsize_t(queue_length((DoeffQueue *)op));
}

static PyObject *
queue_empty(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(queue_length((DoeffQueue *)op) == 0);
}

int
queue_watch(DoeffQueue *q, QueueWaker wake, PyObject *sleeper)
{
    Py_CLEAR(q->sleeper);
    if (queue_length(q) > 0 || q->taken != NULL || q->scheduler == NULL) {
        return 1;
    }
    q->sleeper = Py_XNewRef(sleeper);
    q->wake = wake;
    return 0;
}

long long
queue_deadline_ns(DoeffQueue *q)
{
    return q->scheduler == NULL ? -1 : until_deadline(q);
}

/* _jump(): if nothing but time is awaited, let the clock of the run jump to the next deadline; whether it has. */
static PyObject *
queue_jump(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DoeffQueue *q = (DoeffQueue *)op;
    struct DoeffScheduler *s = queue_scheduler(q);
    if (s == NULL || queue_length(q) > 0 || q->taken != NULL || s->external > 0 || s->clock != NULL || s->timers == 0) {
        Py_RETURN_FALSE;
    }
    long long left = s->heap[0].when - timer_now(s);
    s->skew += left > 0 ? left : 0;
    Py_RETURN_TRUE;
}

static int
queue_traverse(PyObject *op, visitproc visit, void *arg)
{
    DoeffQueue *q = (DoeffQueue *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(q->by_id);
    Py_VISIT(q->extra);
    Py_VISIT(q->sleeper);
    for (ExternalPromise *p = q->first; p != NULL; p = p->next) {
        Py_VISIT(p);
    }
    for (DoeffFuture *future = q->settled; future != NULL; future = future->next) {
        Py_VISIT(future);
    }
    for (ExternalPromise *p = q->taken; p != NULL; p = p->next) {
        Py_VISIT(p);
    }
    return 0;
}

static int
queue_tp_clear(PyObject *op)
{
    queue_close((DoeffQueue *)op);
    return 0;
}

static void
queue_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    queue_close((DoeffQueue *)op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

DoeffQueue *
queue_new(EngineState *st, struct DoeffScheduler *s)
{
    DoeffQueue *q = PyObject_GC_New(DoeffQueue, st->Queue_Type);
    if (q != NULL) {
        memset((char *)q + sizeof(PyObject), 0, sizeof(DoeffQueue) - sizeof(PyObject));
        q->scheduler = s;
        q->thread = PyThread_get_thread_ident();
        PyObject_GC_Track((PyObject *)q);
    }
    return q;
}

static PyMethodDef queue_methods[] = {
    {"get", (PyCFunction)(void (*)(void))queue_get, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("get(block=True, timeout=None)\n--\n\nTake (id, value, error) of a completion, waiting for one; three times "
               "None when a deadline of the run has come.")},
    {"get_nowait", queue_get_nowait, METH_NOARGS, PyDoc_STR("get_nowait()\n--\n\nget(block=False).")},
    {"put", queue_put, METH_O, PyDoc_STR("put(item)\n--\n\nAdd a completion (id, value, error).")},
    {"empty", queue_empty, METH_NOARGS, PyDoc_STR("empty()\n--\n\nTrue if there is nothing to take.")},
    {"qsize", queue_qsize, METH_NOARGS, PyDoc_STR("qsize()\n--\n\nHow much there is to take.")},
    {"_jump", queue_jump, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot queue_slots[] = {
    {Py_tp_dealloc, queue_dealloc},
    {Py_tp_traverse, queue_traverse},
    {Py_tp_clear, queue_tp_clear},
    {Py_tp_methods, queue_methods},
    {Py_tp_doc, (void *)PyDoc_STR("How completions from outside reach a run; any thread may use it.")},
    {0, NULL},
};

static PyType_Spec queue_spec = {
    .name = "doeff._engine.CompletionQueue",
    .basicsize = sizeof(DoeffQueue),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = queue_slots,
};

/* ---- external promises ---- */

struct DoeffWaitable *
external_future(PyObject *promise)
{
    return &((ExternalPromise *)promise)->future->w;
}

static int
promise_traverse(PyObject *op, visitproc visit, void *arg)
{
    ExternalPromise *p = (ExternalPromise *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(p->future);
    Py_VISIT(p->queue);
    Py_VISIT(p->callbacks);
    Py_VISIT(p->outcome);
    Py_VISIT(p->effect);
    return 0;
}

static int
promise_tp_clear(PyObject *op)
{
    ExternalPromise *p = (ExternalPromise *)op;
    Py_CLEAR(p->callbacks);
    Py_CLEAR(p->outcome);
    Py_CLEAR(p->effect);
    return 0;
}

static int
promise_release(PyObject *op)
{
    ExternalPromise *p = (ExternalPromise *)op;
    (void)promise_tp_clear(op);
    Py_XDECREF((PyObject *)p->future);
    Py_XDECREF((PyObject *)p->queue);
    Py_XDECREF(p->id);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
promise_dealloc(PyObject *op)
{
    ExternalPromise *p = (ExternalPromise *)op;
    PyObject_GC_UnTrack(op);
    if (p->future->promise == op) { /* it may wait for its turn to go: nobody is to find it */
        p->future->promise = NULL;
    }
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, promise_dealloc, promise_release);
}

static PyObject *
promise_repr(PyObject *op)
{
    static const char *const names[] = {"pending", "completed", "failed", "cancelled"};
    return PyUnicode_FromFormat("<ExternalPromise %s>", names[((ExternalPromise *)op)->decided]);
}

static PyObject *
told(int decided)
{
    return decided < 0 ? NULL : PyBool_FromLong(decided);
}

static PyObject *
promise_complete(PyObject *op, PyObject *value)
{
    return told(decide((ExternalPromise *)op, WAITABLE_VALUE, value));
}

static PyObject *
promise_fail(PyObject *op, PyObject *error)
{
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", type_name(error));
        return NULL;
    }
    return told(decide((ExternalPromise *)op, WAITABLE_ERROR, error));
}

int
external_on_cancel(PyObject *promise, PyObject *callback)
{
    ExternalPromise *p = (ExternalPromise *)promise;
    if (p->callbacks == NULL) {
        p->callbacks = Py_NewRef(callback);
        return 0;
    }
    if (PyList_CheckExact(p->callbacks)) {
        return PyList_Append(p->callbacks, callback);
    }
    PyObject *both = PyList_New(2);
    if (both == NULL) {
        return -1;
    }
    PyList_SET_ITEM(both, 0, p->callbacks);
    PyList_SET_ITEM(both, 1, Py_NewRef(callback));
    p->callbacks = both;
    return 0;
}

static PyObject *
promise_on_cancel(PyObject *op, PyObject *callback)
{
    ExternalPromise *p = (ExternalPromise *)op;
    if (check_callable(callback, "callback") < 0) {
        return NULL;
    }
    if (p->decided == WAITABLE_CANCELLED) {
        return PyObject_CallNoArgs(callback);
    }
    if (external_on_cancel(op, callback) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* The error that is set goes to the program that cancels. Where none does (a Timeout, a Scope, a Gather that fails, the
 * end of the run) there is nobody to tell. */
static void
callback_failed(struct DoeffScheduler *s, PyObject *callback)
{
    PyObject *error = PyErr_GetRaisedException();
    if (task_interrupts(error)) { /* of the program, not of the callback */
        scheduler_interrupted(s, error);
        return;
    }
    if (s->canceller) {
        if ((s->callback_errors != NULL || (s->callback_errors = PyList_New(0)) != NULL)
            && PyList_Append(s->callback_errors, error) == 0) {
            Py_DECREF(error);
            return;
        }
        PyObject *why = PyErr_GetRaisedException(); /* no memory: it is shown as what that happened on top of */
        if (why != error) { /* there is a last MemoryError, which they all are then */
            PyException_SetContext(why, Py_NewRef(error));
        }
        Py_SETREF(error, why);
    }
    PyErr_SetRaisedException(error);
    PyErr_WriteUnraisable(callback);
}

void
external_abandoned(struct DoeffScheduler *s, struct DoeffWaitable *w)
{
    EngineState *st = s->machine->cx.st;
    ExternalPromise *p = (ExternalPromise *)((DoeffFuture *)w)->promise;
    if (p == NULL || p->decided != WAITABLE_OPEN) {
        return;
    }
    Py_INCREF((PyObject *)p);
    PyObject *pending = PyErr_GetRaisedException();
    if (!w->slow) {
        PyObject *error = PyObject_CallFunction(st->TaskCancelledError, "s", "nobody waits for this promise any more");
        if (error == NULL) {
            PyErr_Clear();
            error = Py_NewRef(st->TaskCancelledError);
        }
        p->decided = WAITABLE_CANCELLED;
        if (DOEFF_UNLIKELY(s->events != NULL)) {
            events_note(s, EVENT_EXTERNAL_CANCELLED, NULL, (PyObject *)p, NULL);
        }
        forget_id(p->queue, p);
        waitable_settle(s, w, WAITABLE_CANCELLED, error);
    }
    PyObject *callbacks = p->callbacks;
    p->callbacks = w->slow ? Py_XNewRef(callbacks) : NULL; /* it may be asked again */
    int many = callbacks != NULL && PyList_CheckExact(callbacks);
    Py_ssize_t count = callbacks == NULL ? 0 : many ? PyList_GET_SIZE(callbacks) : 1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *callback = Py_NewRef(many ? PyList_GET_ITEM(callbacks, i) : callbacks);
        PyObject *done = PyObject_CallNoArgs(callback);
        if (done == NULL) {
            callback_failed(s, callback);
        }
        Py_DECREF(callback);
        Py_XDECREF(done);
    }
    Py_XDECREF(callbacks);
    Py_DECREF((PyObject *)p);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static PyObject *
promise_id(PyObject *op, void *Py_UNUSED(closure))
{
    ExternalPromise *p = (ExternalPromise *)op;
    if (p->id == NULL) {
        PyObject *id = import_call("uuid", "uuid4", "()");
        if (id == NULL) {
            return NULL;
        }
        if (p->id != NULL) { /* another thread was here meanwhile */
            Py_DECREF(id);
            return Py_NewRef(p->id);
        }
        DoeffQueue *q = p->queue;
        if (q->scheduler != NULL && p->decided == WAITABLE_OPEN
            && ((q->by_id == NULL && (q->by_id = PyDict_New()) == NULL) || PyDict_SetItem(q->by_id, id, op) < 0)) {
            Py_DECREF(id);
            return NULL;
        }
        p->id = id;
    }
    return Py_NewRef(p->id);
}

static PyObject *
promise_future(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)((ExternalPromise *)op)->future);
}

static PyObject *
promise_handle(PyObject *op, void *Py_UNUSED(closure))
{
    return handle_of(engine_state_of(Py_TYPE(op)), (PyObject *)((ExternalPromise *)op)->future);
}

static PyGetSetDef promise_getset[] = {
    {"future", promise_future, NULL, PyDoc_STR("What to wait for; the same object each time."), NULL},
    {"id", promise_id, NULL, PyDoc_STR("A UUID, made when first asked for."), NULL},
    {"_handle", promise_handle, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef promise_methods[] = {
    {"complete", promise_complete, METH_O,
     PyDoc_STR("complete(value)\n--\n\nSettle the promise, from any thread or signal handler: True if this is the first call, "
               "and its run goes on.")},
    {"fail", promise_fail, METH_O, PyDoc_STR("fail(error)\n--\n\nLike complete, with an exception that is raised in who waits.")},
    {"on_cancel", promise_on_cancel, METH_O,
     PyDoc_STR("on_cancel(callback)\n--\n\nCall callback() when the last task that waits for the promise is cancelled; at once "
               "if that has happened.")},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot promise_slots[] = {
    {Py_tp_dealloc, promise_dealloc},
    {Py_tp_traverse, promise_traverse},
    {Py_tp_clear, promise_tp_clear},
    {Py_tp_repr, promise_repr},
    {Py_tp_getset, promise_getset},
    {Py_tp_methods, promise_methods},
    {Py_tp_doc, (void *)PyDoc_STR("A value that comes from outside the run: any thread may call complete() or fail().")},
    {0, NULL},
};

static PyType_Spec promise_spec = {
    .name = "doeff.effects.external_promise.ExternalPromise",
    .basicsize = sizeof(ExternalPromise),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = promise_slots,
};

PyObject *
external_new(EngineState *st, struct DoeffScheduler *s)
{
    DoeffFuture *future = (DoeffFuture *)future_new(st, s);
    ExternalPromise *p = future == NULL ? NULL : PyObject_GC_New(ExternalPromise, st->ExternalPromise_Type);
    if (p == NULL) {
        Py_XDECREF((PyObject *)future);
        return NULL;
    }
    memset((char *)p + sizeof(PyObject), 0, sizeof(ExternalPromise) - sizeof(PyObject));
    future->w.external = 1;
    future->promise = (PyObject *)p;
    p->future = future;
    p->queue = (DoeffQueue *)Py_NewRef((PyObject *)s->queue);
    p->since = st->stall_ns == 0 ? 0 : queue_clock_ns();
    PyObject_GC_Track((PyObject *)p);
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_note(s, EVENT_EXTERNAL_CREATED, s->current, (PyObject *)p, NULL);
    }
    return (PyObject *)p;
}

void
external_expect(PyObject *promise, PyObject *effect, int deadline)
{
    if (RECORD_FIELD(effect, deadline) != Py_None || RECORD_FIELD(effect, deadline + 1) != Py_None) {
        ((ExternalPromise *)promise)->effect = Py_NewRef(effect);
    }
}

long long
external_since(PyObject *promise, PyObject **effect)
{
    ExternalPromise *p = (ExternalPromise *)promise;
    if (p->since == 0) {
        p->since = queue_clock_ns();
    }
    *effect = p->effect == NULL ? Py_None : p->effect;
    return p->since;
}

PyObject *
external_promise_new(DoeffContext *cx)
{
    DoeffScheduler *s = scheduler_of(cx);
    return s == NULL ? NULL : external_new(cx->st, s);
}

int
external_promise_check(EngineState *st, PyObject *op)
{
    if (Py_IS_TYPE(op, st->ExternalPromise_Type)) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "completion must be ExternalPromise, got %s", type_name(op));
    return 0;
}

int
external_promise_complete(PyObject *op, PyObject *value, PyObject *error)
{
    if (Py_TYPE(op)->tp_dealloc != promise_dealloc) {
        PyErr_Format(PyExc_TypeError, "completion must be ExternalPromise, got %s", type_name(op));
        return -1;
    }
    if (error != NULL && !PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", type_name(error));
        return -1;
    }
    return decide((ExternalPromise *)op, error == NULL ? WAITABLE_VALUE : WAITABLE_ERROR, error == NULL ? value : error);
}

static DoeffStep
create_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    *out = external_promise_new(cx);
    if (*out == NULL) {
        return DOEFF_RAISE;
    }
    external_expect(*out, effect, 0);
    return DOEFF_VALUE;
}

int
external_check_expected(PyObject *deadline, PyObject *source_alive)
{
    if (deadline != Py_None && !PyNumber_Check(deadline)) {
        PyErr_Format(PyExc_TypeError, "deadline must be a number of seconds or None, got %s", type_name(deadline));
        return -1;
    }
    return source_alive == Py_None ? 0 : check_callable(source_alive, "source_alive");
}

static int
create_init(RecordInfo *Py_UNUSED(info), PyObject **f)
{
    return external_check_expected(f[0], f[1]);
}

static const RecordSpec create_spec = {
    .name = "doeff.effects.external_promise.CreateExternalPromiseEffect",
    .doc = "CreateExternalPromiseEffect(deadline=None, source_alive=None)\n--\n\nMake a promise that the outside world settles.",
    .fields = {"deadline", "source_alive"}, .effect = 1, .subclassable = 1, .init = create_init,
};

static PyMethodDef create_def = {
    "CreateExternalPromise", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CreateExternalPromise(deadline=None, source_alive=None)\n--\n\nMake a promise that any thread, callback or signal "
              "handler may settle.\n\nGives an ExternalPromise; wait for its .future. deadline, in seconds, and source_alive, called "
              "without\narguments, are for the log of set_stall_log, which says that the one has passed and whether the other is "
              "false.\nThey end nothing: waiting has no time limit.\n\n"
              ">>> promise = yield CreateExternalPromise()\n>>> thread_pool.submit(lambda: promise.complete(work()))\n"
              ">>> value = yield Wait(promise.future)\n\nContract: concurrency, part 1.9.")};

/* ---- waiting for it ---- */

static int
queue_field(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    if (Py_IS_TYPE(f[0], st->Queue_Type)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "queue must be the run's completion queue, got %s", type_name(f[0]));
    return -1;
}

/* sync_external_wait_handler, and scheduler_state_handler where there is no wait handler: block in place. */
static DoeffStep
wait_in_place(DoeffContext *Py_UNUSED(cx), PyObject *effect, PyObject **out)
{
    *out = queue_take((DoeffQueue *)RECORD_FIELD(effect, 0));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static const RecordSpec wait_spec = {
    .name = "doeff.effects.scheduler_internal.WaitForExternalCompletion",
    .doc = "WaitForExternalCompletion(queue)\n--\n\nPerformed by the scheduler when no task can go on: wait for queue.get().",
    .fields = {"queue"}, .required = 1, .effect = 1, .subclassable = 1, .init = queue_field,
};

static const RecordSpec block_spec = {
    .name = "doeff.effects.scheduler_internal._BlockForExternalCompletion",
    .doc = "_BlockForExternalCompletion(queue)\n--\n\nThe same where no handler takes WaitForExternalCompletion.",
    .fields = {"queue"}, .required = 1, .effect = 1, .subclassable = 1, .init = queue_field,
};

static int
serve(PyObject *module, const char *name, PyTypeObject *type, DoeffEffectFn fn)
{
    PyObject *handler = PyObject_GetAttrString(module, name);
    int failed = handler == NULL ? -1 : native_handler_serve((NativeHandler *)handler, type, fn);
    Py_XDECREF(handler);
    return failed;
}

int
completion_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->Queue_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &queue_spec, NULL);
    st->ExternalPromise_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &promise_spec, NULL);
    if (st->Queue_Type == NULL || st->ExternalPromise_Type == NULL
        || PyModule_AddType(module, st->ExternalPromise_Type) < 0) {
        return -1;
    }
    st->rec.CreateExternalPromise =
        effect_define(module, st, handler, &(EffectDef){&create_spec, &create_def, create_perform});
    st->rec.WaitForExternal = effect_define(module, st, handler, &(EffectDef){&wait_spec, NULL, NULL});
    st->rec.BlockForExternal = effect_define(module, st, handler, &(EffectDef){&block_spec, NULL, NULL});
    if (st->rec.CreateExternalPromise == NULL || st->rec.WaitForExternal == NULL || st->rec.BlockForExternal == NULL) {
        return -1;
    }
    return serve(module, "sync_external_wait_handler", st->rec.WaitForExternal->type, wait_in_place) < 0
                   || serve(module, "scheduler_state_handler", st->rec.BlockForExternal->type, wait_in_place) < 0
               ? -1
               : 0;
}
