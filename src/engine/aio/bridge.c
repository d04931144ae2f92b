#include "aio.h"

#include "../effects/effects.h"
#include "../program/program.h"
#include "../support/imports.h"

/* bridge: Await, what drives the awaited thing, and the two handlers that start it. */

/* ---- small things that the folder shares ---- */

PyObject *
aio_loop(EngineState *st)
{
    if (st->aio_running_loop == NULL) {
        st->aio_running_loop = import_attr("asyncio", "get_running_loop");
        if (st->aio_running_loop == NULL) {
            return NULL;
        }
    }
    return PyObject_CallNoArgs(st->aio_running_loop);
}

static PySendResult
stopped(PyObject **out)
{
    if (!PyErr_Occurred()) { /* the end without a value */
        *out = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = PyErr_GetRaisedException();
    *out = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return *out == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

PySendResult
aio_send(PyObject *coroutine, PyObject *throw, PyObject **out)
{
    *out = NULL;
    if (throw == NULL) {
        PySendResult sent = PyIter_Send(coroutine, Py_None, out);
        if (sent == PYGEN_ERROR && !PyErr_Occurred()) { /* CPython had no memory for the traceback */
            PyErr_SetString(PyExc_SystemError, "coroutine failed without setting an exception");
        }
        return sent;
    }
    PyObject *method = PyObject_GetAttrString(coroutine, "throw");
    if (method == NULL) { /* an iterator that cannot be thrown at ends here */
        if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
            PyErr_Clear();
            PyErr_SetRaisedException(Py_NewRef(throw));
        }
        return PYGEN_ERROR;
    }
    *out = PyObject_CallOneArg(method, throw);
    Py_DECREF(method);
    return *out != NULL ? PYGEN_NEXT : stopped(out);
}

PyObject *
aio_sent(PySendResult sent, PyObject *value)
{
    if (sent == PYGEN_NEXT) {
        return value;
    }
    if (sent == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, value); /* a tuple must stay one argument */
        Py_DECREF(value);
        if (stop != NULL) {
            PyErr_SetRaisedException(stop);
        }
    }
    return NULL;
}

void
aio_raise_thrown(PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw expected from 1 to 3 arguments");
    }
    else if (PyExceptionInstance_Check(args[0])) {
        PyErr_SetRaisedException(Py_NewRef(args[0]));
    }
    else if (PyExceptionClass_Check(args[0])) { /* the old form: class, value, traceback */
        PyErr_SetObject(args[0], nargs > 1 && args[1] != Py_None ? args[1] : NULL);
    }
    else {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
    }
}

int
aio_is_coroutine(EngineState *st, PyObject *op)
{
    if (PyCoro_CheckExact(op) || Py_IS_TYPE(op, st->Bridge_Type) || Py_IS_TYPE(op, st->AsyncRun_Type)) {
        return 1;
    }
    PyAsyncMethods *methods = Py_TYPE(op)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        return 0;
    }
    PyObject *cls = import_attr("collections.abc", "Coroutine");
    int is = cls == NULL ? -1 : PyObject_IsInstance(op, cls);
    Py_XDECREF(cls);
    return is;
}

void
aio_explain(PyObject *error)
{
    PyObject *text = PyObject_Str(error);
    const char *words = text == NULL ? NULL : PyUnicode_AsUTF8(text);
    if (words != NULL && !PyObject_HasAttrString(error, "__notes__")
        && (strncmp(words, "no running event loop", 21) == 0
            || strncmp(words, "There is no current event loop", 30) == 0)) {
        PyObject *done = PyObject_CallMethod(error, "add_note", "s",
                                             "Hint: a program runs outside of event loops; give what needs one to Await: "
                                             "`await Await(x)` in an async @do function, else `yield Await(x)`.");
        Py_XDECREF(done);
    }
    Py_XDECREF(text);
    PyErr_Clear(); /* without memory it is not explained */
}

/* ---- a bridge's end ---- */

void
bridge_unlink(Bridge *b)
{
    int held = b->held || b->run != NULL;
    if (b->run != NULL) {
        *(b->prev == NULL ? &b->run->bridges : &b->prev->next) = b->next;
        if (b->next != NULL) {
            b->next->prev = b->prev;
        }
        b->run = NULL;
        b->next = b->prev = NULL;
    }
    b->held = 0;
    if (held) {
        Py_DECREF((PyObject *)b);
    }
}

/* The asyncio task is all that knows it, and the loop knows that weakly: what it awaits may be all that is left of it. */
static void
hold(Bridge *b, AsyncRun *r)
{
    Py_INCREF((PyObject *)b);
    b->run = r;
    b->held = r == NULL;
    if (r != NULL) {
        b->next = r->bridges;
        if (b->next != NULL) {
            b->next->prev = b;
        }
        r->bridges = b;
    }
}

/* Nothing is driven any more. Keeps the exception that is set; the caller has a reference. */
static void
let_go(Bridge *b)
{
    PyObject *pending = PyErr_GetRaisedException();
    b->over = 1;
    bridge_unlink(b);
    Py_CLEAR(b->awaitable);
    Py_CLEAR(b->inner);
    Py_CLEAR(b->promise);
    Py_CLEAR(b->ending);
    Py_CLEAR(b->task);
    Py_CLEAR(b->loop);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* The outcome goes to the run. Without memory to wake that, it stays untold. */
static void
settle(Bridge *b, int failed, PyObject *outcome)
{
    PyObject *promise = b->promise;
    b->promise = NULL;
    b->untold = 0;
    if (promise != NULL && external_decide(promise, failed, outcome, b->loop == NULL) < 0) {
        PyErr_Clear();
        b->promise = promise;
        b->untold = 1;
        return;
    }
    Py_XDECREF(promise);
}

/* It will not be driven to its end, which its run may be waiting for: that gets the exception that is set. */
static void
lose(Bridge *b)
{
    PyObject *error = PyErr_GetRaisedException();
    settle(b, 1, error);
    Py_DECREF(error);
}

/* Somebody else has begun to await this coroutine. */
static int
is_suspended(EngineState *st, PyObject *coroutine)
{
    PyObject *flag = PyObject_GetAttr(coroutine, st->str_cr_suspended);
    Py_XDECREF(flag);
    return flag == NULL ? -1 : flag == Py_True;
}

/* Closes what is driven, or what never was. */
static void
close_inner(Bridge *b)
{
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *inner = Py_XNewRef(b->inner);
    if (inner == NULL && b->awaitable != NULL && PyCoro_CheckExact(b->awaitable)
        && is_suspended(engine_state_of(Py_TYPE(b)), b->awaitable) == 0) {
        inner = Py_NewRef(b->awaitable); /* one that runs just now refuses to be closed */
    }
    PyErr_Clear();
    if (inner != NULL && !b->sending) {
        PyObject *method = PyObject_GetAttrString(inner, "close");
        PyObject *done = method == NULL ? NULL : PyObject_CallNoArgs(method);
        Py_XDECREF(method);
        Py_XDECREF(done);
        PyErr_Clear(); /* it awaits in its cleanup, for which there is no time any more; or has no close() */
    }
    Py_XDECREF(inner);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static int
ask_task(EngineState *st, PyObject *task, int last)
{
    if (last) { /* it may be the last that is heard of it: no word about that */
        if (PyObject_SetAttr(task, st->str_log_destroy_pending, Py_False) < 0) {
            PyErr_Clear();
        }
    }
    PyObject *done = PyObject_CallMethodNoArgs(task, st->str_cancel);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

void
bridge_kill(Bridge *b)
{
    if (b->over) {
        return;
    }
    PyObject *pending = PyErr_GetRaisedException();
    Py_INCREF((PyObject *)b);
    PyObject *task = Py_XNewRef(b->task);
    b->over = 1;
    close_inner(b);
    if (task != NULL && ask_task(engine_state_of(Py_TYPE(b)), task, 1) < 0) {
        PyErr_Clear(); /* its loop is closed, or has no memory: it ends if it ever wakes */
        bridge_unlink(b);
    }
    Py_XDECREF(task);
    Py_CLEAR(b->promise);
    if (!b->sending) {
        Py_CLEAR(b->inner);
        Py_CLEAR(b->awaitable);
    }
    Py_DECREF((PyObject *)b);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* ---- driving ---- */

/* Gives what is to be sent to for an awaitable (stolen); NULL with an error. */
static PyObject *
iterator_of(EngineState *st, PyObject *awaitable)
{
    if (PyCoro_CheckExact(awaitable)) {
        int suspended = is_suspended(st, awaitable);
        if (suspended == 0) {
            return awaitable; /* one that has ended, or runs, says so itself */
        }
        Py_DECREF(awaitable);
        if (suspended > 0) {
            PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        }
        return NULL;
    }
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        return awaitable; /* a generator marked by types.coroutine */
    }
    PyObject *iterator = methods->am_await(awaitable);
    if (iterator != NULL && !PyIter_Check(iterator)) {
        PyErr_Format(PyExc_TypeError, "__await__() returned non-iterator of type '%s'", Py_TYPE(iterator)->tp_name);
        Py_CLEAR(iterator);
    }
    Py_DECREF(awaitable);
    return iterator;
}

/* The asyncio task is about to fail with an error that its run hears of in another way. */
static void
hush_task(void)
{
    PyObject *done = import_call("doeff._aio", "hush_task", "()");
    Py_XDECREF(done);
    PyErr_Clear(); /* asyncio will complain, then */
}

/* Has the awaited thing failed with something that asyncio wants to see? Interrupts must not end the loop that all runs
 * share. */
static int
concerns_asyncio(Bridge *b, PyObject *error)
{
    if (PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt) || PyErr_GivenExceptionMatches(error, PyExc_SystemExit)) {
        if (b->loop == NULL) {
            hush_task();
            return 1;
        }
        return 0;
    }
    return run_is_async_cancelled(error);
}

/* The asyncio task ends, with b->ending if there is one; while the run has not been told, it takes another turn. */
static PySendResult
end(Bridge *b, PyObject **out)
{
    if (b->untold) {
        *out = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    PyObject *error = b->ending;
    b->ending = NULL;
    let_go(b);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
        return PYGEN_ERROR;
    }
    *out = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

/* What the awaited thing did: hands its end on to the promise. */
static PySendResult
hand_on(Bridge *b, PySendResult sent, PyObject **out)
{
    if (sent == PYGEN_NEXT) {
        return PYGEN_NEXT;
    }
    if (sent == PYGEN_RETURN) {
        settle(b, 0, *out);
        Py_CLEAR(*out);
    }
    else {
        PyObject *error = PyErr_GetRaisedException();
        b->ending = concerns_asyncio(b, error) ? Py_NewRef(error) : NULL;
        settle(b, 1, error);
        Py_DECREF(error);
    }
    return end(b, out);
}

static PySendResult
drive(Bridge *b, PyObject *throw, PyObject **out)
{
    *out = NULL;
    if (b->over) { /* killed, or ended: the asyncio task ends too */
        bridge_unlink(b);
        if (throw != NULL) {
            PyErr_SetRaisedException(Py_NewRef(throw));
            return PYGEN_ERROR;
        }
        *out = Py_NewRef(Py_None);
        return PYGEN_RETURN;
    }
    if (b->sending) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return PYGEN_ERROR;
    }
    Py_INCREF((PyObject *)b);
    PySendResult sent = PYGEN_ERROR;
    if (b->untold) {
        settle(b, 0, Py_None); /* the first decision counts; this one is heard */
        sent = end(b, out);
        Py_DECREF((PyObject *)b);
        return sent;
    }
    b->sending = 1;
    if (!b->begun) {
        b->begun = 1;
        PyObject *awaitable = b->awaitable;
        b->awaitable = NULL;
        b->inner = iterator_of(engine_state_of(Py_TYPE(b)), awaitable);
    }
    if (b->inner != NULL) {
        PyObject *inner = Py_NewRef(b->inner);
        sent = aio_send(inner, throw, out);
        Py_DECREF(inner);
    }
    b->sending = 0;
    if (b->over) { /* killed while it was at work */
        close_inner(b);
        let_go(b);
        if (sent != PYGEN_ERROR) {
            Py_SETREF(*out, Py_NewRef(Py_None));
            sent = PYGEN_RETURN;
        }
    }
    else {
        sent = hand_on(b, sent, out);
    }
    Py_DECREF((PyObject *)b);
    return sent;
}

static PySendResult
bridge_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **out)
{
    return drive((Bridge *)op, NULL, out);
}

static PyObject *
bridge_send_method(PyObject *op, PyObject *Py_UNUSED(value))
{
    PyObject *out = NULL;
    PySendResult sent = drive((Bridge *)op, NULL, &out);
    return aio_sent(sent, out);
}

static PyObject *
bridge_next(PyObject *op)
{
    return bridge_send_method(op, Py_None);
}

static PyObject *
bridge_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    aio_raise_thrown(args, nargs);
    PyObject *error = PyErr_GetRaisedException();
    PyObject *out = NULL;
    PySendResult sent = drive((Bridge *)op, error, &out);
    Py_DECREF(error);
    return aio_sent(sent, out);
}

static PyObject *
bridge_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Bridge *b = (Bridge *)op;
    if (!b->over && b->promise != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the coroutine of this Await was closed");
        lose(b);
    }
    bridge_kill(b);
    Py_RETURN_NONE;
}

/* ---- starting ---- */

static int
made(Bridge *b, PyObject *task)
{
    if (task == NULL) {
        return -1;
    }
    if (b->over) {
        Py_DECREF(task);
    }
    else {
        Py_XSETREF(b->task, task);
    }
    return 0;
}

/* Tasks may be made by their class where the loop's create_task does no more than that: faster, and eager. */
static int
look_at_loop(EngineState *st, AsyncRun *r)
{
    if (st->aio_task_names == NULL) {
        Py_XSETREF(st->aio_Task, import_attr("doeff._aio", "make_task"));
        st->aio_task_names = st->aio_Task == NULL ? NULL : import_attr("doeff._aio", "MAKE_TASK_NAMES");
        if (st->aio_task_names == NULL) {
            return -1;
        }
    }
    PyObject *factory = import_call("doeff._aio", "task_factory_of", "(O)", r->loop);
    if (factory == NULL) {
        return -1;
    }
    r->looked = 1;
    if (factory == Py_None) {
        Py_DECREF(factory);
    }
    else {
        r->task_factory = factory;
    }
    return 0;
}

static PyObject *
make_task(EngineState *st, Bridge *b, PyObject *loop, AsyncRun *r)
{
    if (r != NULL && !r->looked && look_at_loop(st, r) < 0) {
        return NULL;
    }
    if (r != NULL && r->task_factory != NULL) {
        PyObject *factory = PyObject_CallNoArgs(r->task_factory);
        if (factory == NULL) {
            return NULL;
        }
        Py_DECREF(factory);
        if (factory == Py_None) {
            PyObject *args[] = {(PyObject *)b, loop, Py_True};
            return PyObject_Vectorcall(st->aio_Task, args, 1, st->aio_task_names);
        }
    }
    PyObject *args[] = {loop, (PyObject *)b};
    return PyObject_VectorcallMethod(st->str_create_task, args, 2, NULL);
}

int
bridge_start(EngineState *st, Bridge *b, PyObject *loop, AsyncRun *r)
{
    hold(b, r);
    if (made(b, make_task(st, b, loop, r)) < 0) {
        if (!b->over) {
            close_inner(b);
            let_go(b);
        }
        return -1;
    }
    return 0;
}

/* The action of the escape, and what the background thread calls. */
static PyObject *
bridge_begin(PyObject *op, PyObject *const *Py_UNUSED(args), Py_ssize_t Py_UNUSED(nargs))
{
    Bridge *b = (Bridge *)op;
    EngineState *st = engine_state_of(Py_TYPE(op));
    if (b->over || b->begun || b->task != NULL) {
        Py_RETURN_NONE;
    }
    PyObject *promise = b->loop == NULL ? NULL : Py_XNewRef(b->promise); /* of a run that waits on another thread */
    PyObject *loop = aio_loop(st);
    int failed = loop == NULL || bridge_start(st, b, loop, NULL) < 0;
    Py_XDECREF(loop);
    if (failed && promise != NULL) {
        PyObject *error = PyErr_GetRaisedException();
        failed = external_decide(promise, 1, error, 0) < 0;
        Py_DECREF(error);
    }
    Py_XDECREF(promise);
    return failed ? NULL : Py_NewRef(b->task == NULL ? Py_None : b->task);
}

/* For the background thread, after _begin: ends it as asked. */
static PyObject *
bridge_end(PyObject *op, PyObject *now)
{
    Bridge *b = (Bridge *)op;
    if (b->over) {
        Py_RETURN_NONE;
    }
    if (now == Py_True) {
        bridge_kill(b);
    }
    else if (b->task == NULL || ask_task(engine_state_of(Py_TYPE(op)), b->task, 0) < 0) { /* its loop is closed, or has no memory */
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_RuntimeError, "the coroutine of this Await never began");
        }
        lose(b);
        bridge_kill(b);
    }
    Py_RETURN_NONE;
}

/* Lets the loop's thread call a method. An interrupt in the middle leaves open whether that has been arranged: then it
 * is again, and the interrupt goes to *interrupt (strong or NULL). Methods may be called twice. -1 with an error. */
static int
call_over_there(PyObject *loop, Bridge *b, const char *name, PyObject *arg, PyObject **interrupt)
{
    *interrupt = NULL;
    for (;;) {
        PyObject *method = PyObject_GetAttrString((PyObject *)b, name);
        PyObject *done = method == NULL ? NULL : PyObject_CallMethod(loop, "call_soon_threadsafe", "OO", method, arg);
        Py_XDECREF(method);
        if (done != NULL) {
            Py_DECREF(done);
            return 0;
        }
        PyObject *error = PyErr_GetRaisedException();
        if (!task_interrupts(error)) {
            Py_CLEAR(*interrupt);
            PyErr_SetRaisedException(error);
            return -1;
        }
        Py_XSETREF(*interrupt, error);
    }
}

/* Called each time that the task which awaits is cancelled, and when it is discarded. */
static PyObject *
bridge_call(PyObject *op, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    Bridge *b = (Bridge *)op;
    PyObject *now = b->promise != NULL && external_future(b->promise)->slow > 1 ? Py_True : Py_False;
    if (b->loop == NULL) {
        return bridge_end(op, now);
    }
    PyObject *loop = Py_NewRef(b->loop); /* it may end meanwhile, over there */
    PyObject *interrupt;
    int failed = call_over_there(loop, b, "_end", now, &interrupt) < 0;
    Py_DECREF(loop);
    if (interrupt != NULL) {
        PyErr_SetRaisedException(interrupt);
        return NULL;
    }
    if (failed && PyErr_ExceptionMatches(PyExc_RuntimeError)) { /* the process ends: that loop is closed */
        PyErr_Clear();
        failed = 0;
    }
    return failed ? NULL : Py_NewRef(Py_None);
}

/* ---- the type ---- */

/* cr_frame, cr_code, __qualname__ and so on are those of what is driven: asyncio's messages show them. */
static PyObject *
bridge_getattro(PyObject *op, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(op, name);
    Bridge *b = (Bridge *)op;
    PyObject *inner = b->inner != NULL ? b->inner : b->awaitable;
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    if (inner == NULL) {
        EngineState *st = engine_state_of(Py_TYPE(op));
        if (name == st->str_name || name == st->str_qualname) {
            PyErr_Clear();
            return PyUnicode_FromString("Await");
        }
        return NULL;
    }
    PyErr_Clear();
    Py_INCREF(inner);
    value = PyObject_GetAttr(inner, name);
    Py_DECREF(inner);
    return value;
}

static int
bridge_traverse(PyObject *op, visitproc visit, void *arg)
{
    Bridge *b = (Bridge *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(b->awaitable);
    Py_VISIT(b->inner);
    Py_VISIT(b->promise);
    Py_VISIT(b->ending);
    Py_VISIT(b->task);
    Py_VISIT(b->loop);
    return 0;
}

static int
bridge_tp_clear(PyObject *op)
{
    Bridge *b = (Bridge *)op;
    Py_CLEAR(b->awaitable);
    Py_CLEAR(b->inner);
    Py_CLEAR(b->promise);
    Py_CLEAR(b->ending);
    Py_CLEAR(b->task);
    Py_CLEAR(b->loop);
    return 0;
}

static void
bridge_finalize(PyObject *op)
{
    Bridge *b = (Bridge *)op;
    if (!b->over) {
        close_inner(b);
        let_go(b);
    }
}

static void
bridge_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    (void)bridge_tp_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyMethodDef bridge_methods[] = {
    {"send", bridge_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))bridge_throw, METH_FASTCALL, NULL},
    {"close", bridge_close, METH_NOARGS, NULL},
    {"_begin", (PyCFunction)(void (*)(void))bridge_begin, METH_FASTCALL, NULL},
    {"_end", bridge_end, METH_O, NULL},
    {NULL},
};

static PyType_Slot bridge_slots[] = {
    {Py_tp_dealloc, bridge_dealloc},
    {Py_tp_finalize, bridge_finalize},
    {Py_tp_traverse, bridge_traverse},
    {Py_tp_clear, bridge_tp_clear},
    {Py_tp_getattro, bridge_getattro},
    {Py_tp_call, bridge_call},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, bridge_next},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, bridge_send},
    {Py_tp_methods, bridge_methods},
    {0, NULL},
};

static PyType_Spec bridge_spec = {
    .name = "doeff._engine.Bridge",
    .basicsize = sizeof(Bridge),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = bridge_slots,
};

/* With a new promise that it settles. */
static Bridge *
bridge_new(EngineState *st, DoeffScheduler *s, PyObject *awaitable)
{
    PyObject *promise = external_new(st, s);
    Bridge *b = promise == NULL ? NULL : PyObject_GC_New(Bridge, st->Bridge_Type);
    if (b == NULL) {
        Py_XDECREF(promise);
        return NULL;
    }
    memset((char *)b + sizeof(PyObject), 0, sizeof(Bridge) - sizeof(PyObject));
    b->awaitable = Py_NewRef(awaitable);
    b->promise = promise;
    PyObject_GC_Track((PyObject *)b);
    if (external_on_cancel(promise, (PyObject *)b) < 0) {
        Py_CLEAR(b);
    }
    else {
        external_future(promise)->slow = 1;
    }
    return b;
}

/* ---- Await ---- */

static int
is_awaitable(PyObject *op)
{
    PyAsyncMethods *methods = Py_TYPE(op)->tp_as_async;
    if (methods != NULL && methods->am_await != NULL) {
        return 1;
    }
    if (!PyGen_CheckExact(op)) {
        return 0;
    }
    PyCodeObject *code = (PyCodeObject *)PyObject_GetAttrString(op, "gi_code");
    int marked = code == NULL ? -1 : (code->co_flags & CO_ITERABLE_COROUTINE) != 0;
    Py_XDECREF((PyObject *)code);
    return marked;
}

static int
await_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    int ours = PyType_IsSubtype(Py_TYPE(f[0]), st->Program_Type);
    int accepted = ours ? 0 : is_awaitable(f[0]);
    if (accepted != 0) {
        return accepted < 0 ? -1 : external_check_expected(f[1], f[2]);
    }
    const char *hint = program_hint(st, f[0]);
    if (ours) {
        hint = " (a program: yield it)";
    }
    else if (PyFunction_Check(f[0]) && (((PyCodeObject *)PyFunction_GET_CODE(f[0]))->co_flags & CO_COROUTINE)) {
        hint = " (an async function that was not called: call it)";
    }
    else if (Py_IS_TYPE(f[0], st->Task_Type) || Py_IS_TYPE(f[0], st->Future_Type)
             || Py_IS_TYPE(f[0], st->ExternalPromise_Type)) {
        hint = " (Wait for it)";
    }
    PyErr_Format(PyExc_TypeError, "awaitable must be a coroutine or another awaitable, got %s%s", type_name(f[0]), hint);
    return -1;
}

/* What an Await that nobody performs any more was given is closed, as asyncio does it when a task is cancelled before it
 * began: Python would warn about a coroutine that was never awaited. */
static void
close_unbegun(EngineState *st, PyObject *awaitable)
{
    int closes = PyCoro_CheckExact(awaitable)                   ? is_suspended(st, awaitable) == 0
                 : Py_IS_TYPE(awaitable, st->AsyncRun_Type) ? ((AsyncRun *)awaitable)->state == ASYNC_NEW
                                                                : aio_is_coroutine(st, awaitable) > 0;
    PyObject *done = closes ? PyObject_CallMethod(awaitable, "close", NULL) : NULL;
    Py_XDECREF(done);
    PyErr_Clear(); /* it runs just now, after all; or a close() of its own that fails */
}

#define LOOKED_AT_MOST 1000 /* parts of a program; coroutines that lie behind them are left to Python's warning */

typedef struct {
    EngineState *st;
    PyObject *parts; /* list of programs and tuples to look into, or NULL: none so far */
} Parts;

static int
add_part(PyObject *op, void *arg)
{
    Parts *p = arg;
    if (!program_check(p->st, op) && !(PyTuple_CheckExact(op) && PyTuple_GET_SIZE(op) > 0)) {
        return 0;
    }
    if (p->parts == NULL && (p->parts = PyList_New(0)) == NULL) {
        return -1;
    }
    return PyList_GET_SIZE(p->parts) >= LOOKED_AT_MOST || PyList_Append(p->parts, op) < 0 ? -1 : 0;
}

void
await_abandon(EngineState *st, PyObject *program)
{
    PyObject *pending = PyErr_GetRaisedException();
    Parts p = {.st = st};
    Py_INCREF(program);
    PyObject *part = program;
    for (Py_ssize_t next = 0;; next++) {
        if (RECORD_IS(part, st->rec.Await)) {
            close_unbegun(st, RECORD_FIELD(part, 0));
        }
        else if (Py_TYPE(part)->tp_traverse != NULL) {
            (void)Py_TYPE(part)->tp_traverse(part, add_part, &p);
        }
        if (p.parts == NULL || next >= PyList_GET_SIZE(p.parts)) {
            break;
        }
        part = PyList_GET_ITEM(p.parts, next);
    }
    Py_XDECREF(p.parts);
    Py_DECREF(program);
    PyErr_Clear(); /* no memory to look into all of it */
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* Where the effects of the task are answered, seen from outside the await handler: the scheduler, if nobody stands
 * between who wants to see what an await handler does. NULL, without an error: somebody does; else with one. */
static DoeffScheduler *
scheduler_outside(DoeffContext *cx, int *seen)
{
    EngineState *st = cx->st;
    DoeffMachine *m = MACHINE_OF(cx);
    HandlerNode *at = m->at;
    HandlerNode *outside = m->delegate != NULL || at == NULL ? m->fiber->node : at->parent;
    NodeEntry *entry = node_resolve(st, outside, st->rec.CreateExternalPromise->type);
    HandlerNode *node = entry == NULL ? NULL : entry->node;
    *seen = 0;
    if (entry == NULL) {
        return NULL;
    }
    if (node != NULL && native_handler_check(node->handler)) {
        entry = node_resolve(st, outside, st->rec.Wait->type);
        if (entry == NULL) {
            return NULL;
        }
        if (entry->node == node) {
            m->at = node; /* a scheduler that begins now takes this for its place */
            DoeffScheduler *s = scheduler_of(cx);
            m->at = at;
            return s;
        }
    }
    *seen = 1;
    return NULL;
}

/* The handler as SPEC-CESK-005 writes it, where other handlers want to see its effects. */
static DoeffStep
in_effects(DoeffContext *cx, PyObject *effect, const char *name, PyObject **out)
{
    PyObject *program = import_call("doeff._aio", name, "(O)", RECORD_FIELD(effect, 0));
    return program == NULL ? DOEFF_RAISE : handler_replace(cx, effect, program, out);
}

static DoeffStep
await_started(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **out)
{
    return waitable_wait(cx, (DoeffWaitable *)frame->a, out);
}

static DoeffStep
await_not_started(DoeffContext *Py_UNUSED(cx), DoeffFrame *frame, PyObject *Py_UNUSED(error), PyObject **Py_UNUSED(out))
{
    bridge_kill((Bridge *)frame->b);
    return DOEFF_PASS;
}

/* Where the run stands while who drives it starts the bridge: a: its future, b: it. */
static const DoeffFrameKind await_frame = {
    .name = "Await",
    .on_value = await_started,
    .on_error = await_not_started,
};

/* It could not be started, or the call that started it failed: an exception is set. */
static DoeffStep
drop(Bridge *b /* stolen */, PyObject *future /* stolen */)
{
    if (b->loop == NULL) {
        bridge_kill(b);
    }
    else { /* the other thread may be driving it by now */
        PyObject *pending = PyErr_GetRaisedException();
        PyObject *done = bridge_call((PyObject *)b, NULL, NULL);
        Py_XDECREF(done);
        PyErr_Clear();
        PyErr_SetRaisedException(pending);
    }
    Py_DECREF((PyObject *)b);
    Py_DECREF(future);
    return DOEFF_RAISE;
}

/* The task waits for the bridge (stolen), whose future (stolen) this is; it may have settled that by now. */
static DoeffStep
wait_for(DoeffContext *cx, Bridge *b, PyObject *future, PyObject **out)
{
    if (b->over) {
        queue_apply(scheduler_if_any(cx)->queue);
    }
    Py_DECREF((PyObject *)b);
    DoeffStep step = waitable_wait(cx, (DoeffWaitable *)future, out);
    Py_DECREF(future);
    return step;
}

/* python_async_syntax_escape_handler */
static DoeffStep
await_in_the_loop(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    int seen;
    DoeffScheduler *s = scheduler_outside(cx, &seen);
    if (s == NULL) {
        return seen ? in_effects(cx, effect, "await_in_the_loop", out) : DOEFF_RAISE;
    }
    AsyncRun *r = MACHINE_OF(cx)->aio;
    Bridge *b = bridge_new(cx->st, s, RECORD_FIELD(effect, 0));
    if (b == NULL) {
        return DOEFF_RAISE;
    }
    external_expect(b->promise, effect, 1);
    PyObject *future = Py_NewRef((PyObject *)external_future(b->promise));
    if (r != NULL) {
        if (bridge_start(cx->st, b, r->loop, r) < 0) {
            return drop(b, future);
        }
        return wait_for(cx, b, future, out);
    }
    PyObject *action = PyObject_GetAttrString((PyObject *)b, "_begin");
    if (action == NULL) {
        return drop(b, future);
    }
    if (context_push(cx, &await_frame, future, (PyObject *)b) < 0) {
        Py_DECREF(action);
        return DOEFF_RAISE;
    }
    *out = action;
    return DOEFF_ESCAPE;
}

/* sync_await_handler */
static DoeffStep
await_in_a_thread(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    int seen;
    DoeffScheduler *s = scheduler_outside(cx, &seen);
    if (s == NULL) {
        return seen ? in_effects(cx, effect, "await_in_a_thread", out) : DOEFF_RAISE;
    }
    Bridge *b = bridge_new(cx->st, s, RECORD_FIELD(effect, 0));
    if (b == NULL) {
        return DOEFF_RAISE;
    }
    external_expect(b->promise, effect, 1);
    PyObject *future = Py_NewRef((PyObject *)external_future(b->promise));
    b->loop = import_call("doeff._aio", "background_loop", "()");
    PyObject *loop = Py_XNewRef(b->loop); /* it may end meanwhile, over there */
    PyObject *interrupt = NULL;
    int failed = loop == NULL || call_over_there(loop, b, "_begin", Py_None, &interrupt) < 0;
    Py_XDECREF(loop);
    if (failed) {
        return drop(b, future);
    }
    if (interrupt != NULL) { /* it strikes while the task waits */
        if (s->current == NULL) {
            scheduler_throw_at_main(s, interrupt);
        }
        else {
            (void)task_throw(s, s->current, interrupt);
        }
    }
    return wait_for(cx, b, future, out);
}

static const RecordSpec await_spec = {
    .name = "doeff.effects.future.PythonAsyncioAwaitEffect",
    .doc = "PythonAsyncioAwaitEffect(awaitable, *, deadline=None, source_alive=None)\n--\n\nAwait something of asyncio's.",
    .fields = {"awaitable", "deadline", "source_alive"}, .required = 1, .compared = 1, .keyword_only = 1, .effect = 1, .subclassable = 1, .init = await_init,
};

static PyMethodDef await_def = {
    "Await", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Await(awaitable, *, deadline=None, source_alive=None)\n--\n\nAwait a coroutine, or anything else that asyncio can await, in an asyncio task of its "
              "own.\n\nTypeError for what cannot be awaited. Gives its value or raises its error; other tasks of the run go on\n"
              "meanwhile. Under async_run it is awaited in the loop that runs it, under sync_run in a background thread.\n"
              "When the task is cancelled the coroutine is cancelled first. deadline and source_alive are those of "
              "CreateExternalPromise.\n\n"
              ">>> page = yield Await(session.get(url))\n\nContract: concurrency, part 5.1.")};

static int
serve_await(PyObject *module, const char *name, PyTypeObject *type, DoeffEffectFn fn)
{
    PyObject *handler = PyObject_GetAttrString(module, name);
    int failed = handler == NULL ? -1 : native_handler_serve((NativeHandler *)handler, type, fn);
    Py_XDECREF(handler);
    return failed;
}

int
bridge_room_init(PyObject *module, EngineState *st)
{
    st->Bridge_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &bridge_spec, NULL);
    if (st->Bridge_Type == NULL) {
        return -1;
    }
    RecordInfo *info = effect_define(module, st, NULL, &(EffectDef){&await_spec, &await_def, NULL});
    st->rec.Await = info;
    return info == NULL
                   || serve_await(module, "python_async_syntax_escape_handler", info->type, await_in_the_loop) < 0
                   || serve_await(module, "sync_await_handler", info->type, await_in_a_thread) < 0
               ? -1
               : 0;
}
