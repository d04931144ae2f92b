#include "aio.h"

#include "../effects/effects.h"

/* parking: how an idle run waits in an event loop. async_external_wait_handler escapes with a Parking: called, it gives
 * itself, a coroutine that suspends on a future of the loop. The completion queue's callback and the timer of the
 * run's next deadline settle that future; nothing else is held. */

typedef struct Parking {
    PyObject_HEAD
    DoeffQueue *queue; /* strong */
    PyObject *loop;    /* strong, while it waits */
    PyObject *future;  /* strong, while it waits */
    PyObject *timer;   /* strong or NULL */
    unsigned char begun;
    unsigned char woken;
} Parking;

#define DAY_NS 86400000000000LL /* the longest sleep; then the run looks again */

static int
call_off(PyObject *op /* stolen or NULL */, const char *method)
{
    if (op == NULL) {
        return 0;
    }
    PyObject *done = PyObject_CallMethod(op, method, NULL);
    Py_DECREF(op);
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
    p->begun = 1;
    (void)queue_watch(p->queue, NULL);
    if (call_off(timer, "cancel") < 0) {
        PyErr_WriteUnraisable(op);
    }
    Py_CLEAR(p->future);
    Py_CLEAR(p->loop);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static PyObject *wake(PyObject *op, PyObject *const *args, Py_ssize_t nargs);

static PyMethodDef wake_def = {"wake", (PyCFunction)(void (*)(void))wake, METH_FASTCALL, NULL};

/* Has the error that is set come from a future that is done? Then it is cleared. */
static int
is_done(PyObject *future)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *done = PyObject_CallMethod(future, "done", NULL);
    int is = done == Py_True;
    Py_XDECREF(done);
    PyErr_Clear();
    if (!is) {
        PyErr_SetRaisedException(error);
        return 0;
    }
    Py_DECREF(error);
    return 1;
}

/* wake(): from any thread and from signal handlers. wake(x): from a callback of the loop. */
static PyObject *
wake(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t nargs)
{
    Parking *p = (Parking *)op;
    PyObject *future = Py_XNewRef(p->future);
    PyObject *loop = Py_XNewRef(p->loop);
    PyObject *done = NULL;
    if (future == NULL || loop == NULL) {
        done = Py_NewRef(Py_None);
    }
    else if (nargs > 0) {
        p->woken = 1;
        done = PyObject_CallMethodOneArg(future, engine_state_of(Py_TYPE(op))->str_set_result, Py_None);
        if (done == NULL && is_done(future)) { /* woken twice, or cancelled */
            done = Py_NewRef(Py_None);
        }
    }
    else {
        PyObject *callback = PyCFunction_New(&wake_def, op);
        done = callback == NULL ? NULL : PyObject_CallMethod(loop, "call_soon_threadsafe", "OO", callback, Py_True);
        Py_XDECREF(callback);
    }
    if (done == NULL && PyErr_ExceptionMatches(PyExc_RuntimeError)) { /* the loop was closed under the run, which */
        PyObject *error = PyErr_GetRaisedException();                 /* cannot go on any more */
        PyObject *closed = PyObject_CallMethod(loop, "is_closed", NULL);
        if (closed == Py_True) {
            Py_DECREF(error);
            done = Py_NewRef(Py_None);
        }
        else {
            PyErr_Clear();
            PyErr_SetRaisedException(error);
        }
        Py_XDECREF(closed);
    }
    Py_XDECREF(future);
    Py_XDECREF(loop);
    Py_XDECREF(done);
    return done == NULL ? NULL : Py_NewRef(Py_None);
}

/* loop.call_at for the run's next deadline, if it has one. */
static int
arm(Parking *p, long long left, PyObject *callback)
{
    left = left > DAY_NS ? DAY_NS : left;
    PyObject *now = PyObject_CallMethod(p->loop, "time", NULL);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    p->timer = PyObject_CallMethod(p->loop, "call_at", "dOO", seconds + (double)left / 1e9, callback, Py_True);
    return p->timer == NULL ? -1 : 0;
}

static PySendResult
begin(Parking *p, PyObject **out)
{
    EngineState *st = engine_state_of(Py_TYPE(p));
    p->begun = 1;
    PyObject *callback = PyCFunction_New(&wake_def, (PyObject *)p);
    if (callback == NULL) {
        return PYGEN_ERROR;
    }
    int there = queue_watch(p->queue, callback);
    long long left = there ? 0 : queue_deadline_ns(p->queue);
    if (left == 0) {
        Py_DECREF(callback);
        (void)queue_watch(p->queue, NULL);
        *out = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    p->loop = aio_loop(st);
    p->future = p->loop == NULL ? NULL : PyObject_CallMethodNoArgs(p->loop, st->str_create_future);
    if (p->future == NULL || PyObject_SetAttr(p->future, st->str_future_blocking, Py_True) < 0
        || (left > 0 && arm(p, left, callback) < 0)) {
        Py_DECREF(callback);
        parking_leave((PyObject *)p);
        return PYGEN_ERROR;
    }
    Py_DECREF(callback);
    *out = Py_NewRef(p->future);
    return PYGEN_NEXT;
}

int
parking_sleeps(PyObject *op)
{
    return ((Parking *)op)->future != NULL && !((Parking *)op)->woken;
}

PySendResult
parking_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **out)
{
    Parking *p = (Parking *)op;
    if (!p->begun) {
        return begin(p, out);
    }
    if (p->future == NULL) {
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

static int
parking_traverse(PyObject *op, visitproc visit, void *arg)
{
    Parking *p = (Parking *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(p->queue);
    Py_VISIT(p->loop);
    Py_VISIT(p->future);
    Py_VISIT(p->timer);
    return 0;
}

static int
parking_tp_clear(PyObject *op)
{
    Parking *p = (Parking *)op;
    Py_CLEAR(p->loop);
    Py_CLEAR(p->future);
    Py_CLEAR(p->timer);
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

static PyGetSetDef parking_getset[] = { /* coroutines are known by it */
    {"cr_frame", parking_frame, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef parking_methods[] = {
    {"send", parking_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))parking_throw, METH_FASTCALL, NULL},
    {"close", parking_close, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot parking_slots[] = {
    {Py_tp_dealloc, parking_dealloc},
    {Py_tp_traverse, parking_traverse},
    {Py_tp_clear, parking_tp_clear},
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

static DoeffStep
wait_in_the_loop(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    Parking *p = PyObject_GC_New(Parking, cx->st->Parking_Type);
    if (p == NULL) {
        return DOEFF_RAISE;
    }
    p->queue = (DoeffQueue *)Py_NewRef(RECORD_FIELD(effect, 0));
    p->loop = p->future = p->timer = NULL;
    p->begun = p->woken = 0;
    PyObject_GC_Track((PyObject *)p);
    *out = (PyObject *)p;
    return DOEFF_ESCAPE;
}

int
parking_room_init(PyObject *module, EngineState *st)
{
    st->Parking_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &parking_spec, NULL);
    PyObject *handler = PyObject_GetAttrString(module, "async_external_wait_handler");
    int failed = st->Parking_Type == NULL || handler == NULL
                 || native_handler_serve((NativeHandler *)handler, st->rec.WaitForExternal->type, wait_in_the_loop) < 0;
    Py_XDECREF(handler);
    return failed ? -1 : 0;
}
