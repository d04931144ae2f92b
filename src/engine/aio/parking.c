#include "aio.h"

#include "../effects/effects.h"
#include "../support/imports.h"

/* parking: how an idle run waits in an event loop. async_external_wait_handler escapes with a Parking: called, it gives
 * itself, a coroutine that suspends once, on itself: it is also the future-like object that asyncio's tasks wait for.
 * The completion queue and the timer of the run's next deadline wake it; nothing else is held.
 *
 * A future of the loop would do the same, but it forgets whom to wake when the loop has no memory for that; here the
 * waker can try again. And it is one object less.
 *
 *   new       nothing has happened
 *   waits     for a wake-up
 *   woken     its task is on its way
 *   cancelled the same, by cancel()
 *   left      the run goes on */

typedef enum { PARKING_NEW = 0, PARKING_WAITS, PARKING_WOKEN, PARKING_CANCELLED, PARKING_LEFT } ParkingState;

typedef struct Parking {
    PyObject_HEAD
    DoeffQueue *queue;  /* strong */
    PyObject *loop;     /* strong; NULL: to be asked for */
    PyObject *timer;    /* strong or NULL */
    PyObject *callback; /* a task's wake-up; strong or NULL */
    PyObject *context;  /* in which that is called; strong or NULL */
    PyObject *message;  /* of the cancellation; strong or NULL */
    PyObject *done;     /* what a wake-up is called with: a future that is done, which tasks read without a call; strong;
                           NULL: the Parking itself is */
    unsigned char state; /* ParkingState */
    unsigned char blocking; /* _asyncio_future_blocking */
} Parking;

#define DAY_NS 86400000000000LL /* the longest sleep; then the run looks again */

static int
cancel_timer(PyObject *timer /* stolen or NULL */)
{
    if (timer == NULL) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(timer, "cancel", NULL);
    Py_DECREF(timer);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* It waits no more. Keeps the exception that is set. */
void
parking_leave(PyObject *op)
{
    Parking *p = (Parking *)op;
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *timer = p->timer;
    p->timer = NULL;
    p->state = PARKING_LEFT;
    (void)queue_watch(p->queue, NULL, NULL);
    if (cancel_timer(timer) < 0) {
        PyErr_WriteUnraisable(op);
    }
    Py_CLEAR(p->callback);
    Py_CLEAR(p->context);
    Py_CLEAR(p->message);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* ---- the wake-up ---- */

/* loop.call_soon(callback, what was waited for, context=context), or the one for other threads. */
static int
schedule(Parking *p, PyObject *loop, PyObject *callback, PyObject *context, int on_loop)
{
    EngineState *st = engine_state_of(Py_TYPE(p));
    PyObject *awaited = p->done != NULL && p->state == PARKING_WOKEN ? p->done : (PyObject *)p;
    PyObject *args[] = {loop, callback, awaited, context};
    PyObject *done = PyObject_VectorcallMethod(on_loop ? st->str_call_soon : st->str_call_soon_threadsafe, args, 3,
                                               context == NULL ? NULL : st->aio_context_names);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* The error that is set: did the loop raise it because it was closed under the run, which cannot go on any more? Then it
 * is cleared. */
static int
is_closed(PyObject *loop)
{
    if (!PyErr_ExceptionMatches(PyExc_RuntimeError)) {
        return 0;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *closed = PyObject_CallMethod(loop, "is_closed", NULL);
    int is = closed == Py_True;
    Py_XDECREF(closed);
    PyErr_Clear();
    if (!is) {
        PyErr_SetRaisedException(error);
        return 0;
    }
    Py_DECREF(error);
    return 1;
}

/* Its task hears of the new state. -1 with an error, and it still waits. */
static int
end_wait(Parking *p, ParkingState state, int on_loop)
{
    PyObject *loop = Py_XNewRef(p->loop), *callback = p->callback, *context = p->context;
    p->callback = p->context = NULL;
    p->state = (unsigned char)state; /* the loop's code may let other threads look */
    int failed = callback == NULL ? 0 : schedule(p, loop, callback, context, on_loop);
    if (failed && is_closed(loop)) {
        failed = 0;
    }
    if (failed && p->state == state) {
        p->state = PARKING_WAITS;
        Py_XSETREF(p->callback, Py_NewRef(callback));
        Py_XSETREF(p->context, Py_XNewRef(context));
    }
    Py_XDECREF(loop);
    Py_XDECREF(callback);
    Py_XDECREF(context);
    return failed;
}

/* Something has arrived in the queue. From any thread and from signal handlers, if not on_loop. */
static int
wake(PyObject *op, int on_loop)
{
    Parking *p = (Parking *)op;
    return p->state == PARKING_WAITS ? end_wait(p, PARKING_WOKEN, on_loop) : 0;
}

/* The timer. */
static PyObject *
parking_due(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return wake(op, 1) < 0 ? NULL : Py_NewRef(Py_None);
}

static PyMethodDef due_def = {"due", parking_due, METH_NOARGS, NULL};

/* loop.call_at for the run's next deadline. */
static int
arm(Parking *p, long long left)
{
    left = left > DAY_NS ? DAY_NS : left;
    PyObject *now = PyObject_CallMethod(p->loop, "time", NULL);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    PyObject *due = PyCFunction_New(&due_def, (PyObject *)p);
    p->timer = due == NULL ? NULL : PyObject_CallMethod(p->loop, "call_at", "dO", seconds + (double)left / 1e9, due);
    Py_XDECREF(due);
    return p->timer == NULL ? -1 : 0;
}

/* ---- as a coroutine ---- */

static PySendResult
begin(Parking *p, PyObject **out)
{
    if (p->loop == NULL && (p->loop = aio_loop(engine_state_of(Py_TYPE(p)))) == NULL) {
        return PYGEN_ERROR;
    }
    p->state = PARKING_WAITS;
    long long left = queue_watch(p->queue, wake, (PyObject *)p) ? 0 : queue_deadline_ns(p->queue);
    if (left == 0) {
        parking_leave((PyObject *)p);
        *out = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (left > 0 && arm(p, left) < 0) {
        parking_leave((PyObject *)p);
        return PYGEN_ERROR;
    }
    p->blocking = 1;
    *out = Py_NewRef((PyObject *)p);
    return PYGEN_NEXT;
}

int
parking_sleeps(PyObject *op)
{
    return ((Parking *)op)->state == PARKING_WAITS;
}

PySendResult
parking_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **out)
{
    Parking *p = (Parking *)op;
    if (p->state == PARKING_NEW) {
        return begin(p, out);
    }
    if (p->state == PARKING_LEFT) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited wait of a run");
        return PYGEN_ERROR;
    }
    parking_leave(op);
    *out = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *
parking_send_method(PyObject *op, PyObject *value)
{
    PyObject *out = NULL;
    PySendResult sent = parking_send(op, value, &out);
    return aio_sent(sent, out);
}

static PyObject *
parking_next(PyObject *op)
{
    return parking_send_method(op, Py_None);
}

static PyObject *
parking_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    parking_leave(op);
    aio_raise_thrown(args, nargs);
    return NULL;
}

static PyObject *
parking_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    parking_leave(op);
    Py_RETURN_NONE;
}

static PyObject *
parking_call(PyObject *op, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return Py_NewRef(op);
}

/* ---- as a future, for the task that awaits it ---- */

/* The only argument that a method takes by name; *value NULL: not given. -1 with an error. */
static int
keyword_of(const char *function, const char *name, PyObject *const *args, PyObject *kwnames, PyObject **value)
{
    Py_ssize_t given = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (given > 1 || (given == 1 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(kwnames, 0), name) != 0)) {
        PyErr_Format(PyExc_TypeError, "%s() takes no argument by name but %s", function, name);
        return -1;
    }
    *value = given == 1 && args[0] != Py_None ? args[0] : NULL;
    return 0;
}

static PyObject *
parking_add_done_callback(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Parking *p = (Parking *)op;
    PyObject *context;
    if (keyword_of("add_done_callback", "context", args + nargs, kwnames, &context) < 0) {
        return NULL;
    }
    if (nargs != 1 || p->loop == NULL || p->callback != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the wait of an async_run calls back one task, once");
        return NULL;
    }
    if (p->state != PARKING_WAITS) { /* woken before the task could say so */
        return schedule(p, p->loop, args[0], context, 1) < 0 ? NULL : Py_NewRef(Py_None);
    }
    p->callback = Py_NewRef(args[0]);
    p->context = Py_XNewRef(context);
    Py_RETURN_NONE;
}

static PyObject *
parking_cancel(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    Parking *p = (Parking *)op;
    PyObject *message;
    if (keyword_of("cancel", "msg", args + nargs, kwnames, &message) < 0) {
        return NULL;
    }
    if (p->state != PARKING_WAITS) {
        Py_RETURN_FALSE;
    }
    Py_XSETREF(p->message, Py_XNewRef(message != NULL ? message : nargs > 0 ? args[0] : NULL));
    return end_wait(p, PARKING_CANCELLED, 1) < 0 ? NULL : Py_NewRef(Py_True);
}

static PyObject *
parking_result(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Parking *p = (Parking *)op;
    if (p->state == PARKING_WOKEN || p->state == PARKING_LEFT) {
        Py_RETURN_NONE;
    }
    const char *name = p->state == PARKING_CANCELLED ? "CancelledError" : "InvalidStateError";
    PyObject *error = import_attr("asyncio", name);
    if (error != NULL) {
        PyErr_SetObject(error, p->state == PARKING_CANCELLED ? p->message : NULL);
    }
    Py_XDECREF(error);
    return NULL;
}

static PyObject *
parking_done(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((Parking *)op)->state > PARKING_WAITS);
}

static PyObject *
parking_cancelled(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((Parking *)op)->state == PARKING_CANCELLED);
}

static PyObject *
parking_get_loop(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *loop = ((Parking *)op)->loop;
    return Py_NewRef(loop == NULL ? Py_None : loop);
}

static PyObject *
parking_blocking(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Parking *)op)->blocking);
}

static int
parking_set_blocking(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    int blocking = value == NULL ? 0 : PyObject_IsTrue(value);
    if (blocking < 0) {
        return -1;
    }
    ((Parking *)op)->blocking = (unsigned char)blocking;
    return 0;
}

static PyObject *
parking_repr(PyObject *op)
{
    static const char *const names[] = {"new", "pending", "finished", "cancelled", "finished"};
    return PyUnicode_FromFormat("<wait of an async_run, %s>", names[((Parking *)op)->state]);
}

/* ---- the type ---- */

static int
parking_traverse(PyObject *op, visitproc visit, void *arg)
{
    Parking *p = (Parking *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(p->queue);
    Py_VISIT(p->loop);
    Py_VISIT(p->timer);
    Py_VISIT(p->callback);
    Py_VISIT(p->context);
    Py_VISIT(p->message);
    Py_VISIT(p->done);
    return 0;
}

static int
parking_tp_clear(PyObject *op)
{
    Parking *p = (Parking *)op;
    Py_CLEAR(p->loop);
    Py_CLEAR(p->timer);
    Py_CLEAR(p->callback);
    Py_CLEAR(p->context);
    Py_CLEAR(p->message);
    Py_CLEAR(p->done);
    return 0;
}

static void
parking_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)parking_tp_clear(op);
    Py_XDECREF((PyObject *)((Parking *)op)->queue);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyObject *
parking_frame(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

static PyGetSetDef parking_getset[] = {
    {"cr_frame", parking_frame, NULL, NULL, NULL}, /* coroutines are known by it */
    {"_asyncio_future_blocking", parking_blocking, parking_set_blocking, NULL, NULL}, /* and futures by this */
    {NULL},
};

static PyMethodDef parking_methods[] = {
    {"send", parking_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))parking_throw, METH_FASTCALL, NULL},
    {"close", parking_close, METH_NOARGS, NULL},
    {"add_done_callback", (PyCFunction)(void (*)(void))parking_add_done_callback, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"cancel", (PyCFunction)(void (*)(void))parking_cancel, METH_FASTCALL | METH_KEYWORDS, NULL},
    {"result", parking_result, METH_NOARGS, NULL},
    {"done", parking_done, METH_NOARGS, NULL},
    {"cancelled", parking_cancelled, METH_NOARGS, NULL},
    {"get_loop", parking_get_loop, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot parking_slots[] = {
    {Py_tp_dealloc, parking_dealloc},
    {Py_tp_traverse, parking_traverse},
    {Py_tp_clear, parking_tp_clear},
    {Py_tp_repr, parking_repr},
    {Py_tp_call, parking_call},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, parking_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, parking_send},
    {Py_tp_getset, parking_getset},
    {Py_tp_methods, parking_methods},
    {0, NULL},
};

static PyType_Spec parking_spec = {
    .name = "doeff._engine.Parking",
    .basicsize = sizeof(Parking),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = parking_slots,
};

/* A future of the run's loop that is done; NULL with an error. */
static PyObject *
done_future(PyObject *loop)
{
    PyObject *future = PyObject_CallMethod(loop, "create_future", NULL);
    PyObject *done = future == NULL ? NULL : PyObject_CallMethod(future, "set_result", "O", Py_None);
    if (done == NULL) {
        Py_CLEAR(future);
    }
    Py_XDECREF(done);
    return future;
}

static Parking *
parking_new(EngineState *st, DoeffQueue *queue)
{
    Parking *p = PyObject_GC_New(Parking, st->Parking_Type);
    if (p != NULL) {
        memset((char *)p + sizeof(PyObject), 0, sizeof(Parking) - sizeof(PyObject));
        p->queue = (DoeffQueue *)Py_NewRef((PyObject *)queue);
        PyObject_GC_Track((PyObject *)p);
    }
    return p;
}

/* For a run that async_run drives: the one of its latest wait, if nobody has kept that. */
static Parking *
parking_of(EngineState *st, DoeffQueue *queue, AsyncRun *r)
{
    Parking *p = (Parking *)r->parking;
    if (p != NULL && compat_only_reference((PyObject *)p)) {
        p->state = PARKING_NEW;
        return (Parking *)Py_NewRef((PyObject *)p);
    }
    PyObject *done = p != NULL ? Py_NewRef(p->done) : done_future(r->loop);
    p = done == NULL ? NULL : parking_new(st, queue);
    if (p == NULL) {
        Py_XDECREF(done);
        return NULL;
    }
    p->loop = Py_NewRef(r->loop);
    p->done = done;
    Py_XSETREF(r->parking, Py_NewRef((PyObject *)p));
    return p;
}

static DoeffStep
wait_in_the_loop(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    AsyncRun *r = MACHINE_OF(cx)->aio;
    DoeffQueue *queue = (DoeffQueue *)RECORD_FIELD(effect, 0);
    *out = (PyObject *)(r == NULL ? parking_new(cx->st, queue) : parking_of(cx->st, queue, r));
    return *out == NULL ? DOEFF_RAISE : DOEFF_ESCAPE;
}

int
parking_room_init(PyObject *module, EngineState *st)
{
    st->Parking_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &parking_spec, NULL);
    st->aio_context_names = Py_BuildValue("(N)", PyUnicode_InternFromString("context"));
    PyObject *handler = PyObject_GetAttrString(module, "async_external_wait_handler");
    int failed = st->Parking_Type == NULL || st->aio_context_names == NULL || handler == NULL
                 || native_handler_serve((NativeHandler *)handler, st->rec.WaitForExternal->type, wait_in_the_loop) < 0;
    Py_XDECREF(handler);
    return failed ? -1 : 0;
}
