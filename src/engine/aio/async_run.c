#include "aio.h"

#include "../support/arguments.h"

/* async_run: an awaitable that drives a machine inside whatever asyncio task awaits it. It gives the loop a turn when
 * the machine pauses, and awaits the actions of escapes; between two suspensions it is sync_run.
 *
 *   new        nothing has happened
 *   running    the machine, or an action, is at work
 *   suspended  at an escape (awaiting), or paused between two effects (what)
 *   lingers    the run is over; asyncio tasks that it started are about to end
 *   over */

#define LINGER_ASKED 2 /* turns of the loop for asyncio tasks that were asked to end */
#define LINGER_MOST 5  /* and in all */

/* ---- the machine ---- */

static void
suspend(AsyncRun *r, AsyncState state)
{
    r->state = (unsigned char)state;
    if (r->m != NULL) {
        r->m->at_work = 0;
        machine_track(r->m); /* the loop may forget us */
    }
}

static void
forget_bridges(AsyncRun *r)
{
    while (r->bridges != NULL) {
        bridge_unlink(r->bridges);
    }
}

static void
kill_bridges(AsyncRun *r)
{
    Bridge *b;
    do { /* what is closed may kill others: from the start again after each */
        for (b = r->bridges; b != NULL && b->over; b = b->next) {
        }
        if (b != NULL) {
            bridge_kill(b);
        }
    } while (b != NULL);
}

/* Nothing is left to do. Keeps the exception that is set. */
static void
finish(AsyncRun *r)
{
    PyObject *pending = PyErr_GetRaisedException();
    r->state = ASYNC_OVER;
    forget_bridges(r);
    Py_CLEAR(r->program);
    Py_CLEAR(r->handlers);
    Py_CLEAR(r->env);
    Py_CLEAR(r->store);
    Py_CLEAR(r->awaiting);
    Py_CLEAR(r->what);
    Py_CLEAR(r->outcome);
    Py_CLEAR(r->loop);
    Py_CLEAR(r->parking);
    Py_CLEAR(r->task_factory);
    Py_CLEAR(r->m);
    Py_CLEAR(r->chain);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* The run is over; the loop gets some turns for the ends of asyncio tasks that are left of it. */
static PySendResult
linger(AsyncRun *r, PyObject **out)
{
    if (r->bridges != NULL && r->turns < LINGER_MOST) {
        if (r->turns++ == LINGER_ASKED) {
            kill_bridges(r);
        }
        suspend(r, ASYNC_LINGERS);
        *out = Py_NewRef(Py_None);
        return PYGEN_NEXT;
    }
    PyObject *outcome = r->outcome;
    int failed = r->failed;
    r->outcome = NULL;
    if (failed) {
        PyErr_SetRaisedException(outcome);
        finish(r);
        return PYGEN_ERROR;
    }
    finish(r);
    *out = outcome;
    return PYGEN_RETURN;
}

static PySendResult
machine_ended(AsyncRun *r, PyObject *value, PyObject *error, PyObject **out)
{
    DoeffMachine *m = r->m;
    m->aio = NULL;
    int raises = error != NULL && r->cancelled && run_is_async_cancelled(error);
    PyObject *result = run_end(m, r->chain, value, error, raises);
    r->failed = result == NULL;
    r->outcome = result != NULL ? result : PyErr_GetRaisedException();
    return linger(r, out);
}

/* Calls the escape's action in the task's context. */
static PyObject *
call_action(AsyncRun *r, PyObject *action)
{
    PyObject *context = scheduler_context(r->m);
    if (context == NULL) {
        return PyObject_CallNoArgs(action);
    }
    Py_INCREF(context);
    PyObject *answer = NULL;
    if (PyContext_Enter(context) == 0) {
        answer = PyObject_CallNoArgs(action);
        if (PyContext_Exit(context) < 0) {
            Py_CLEAR(answer);
        }
    }
    Py_DECREF(context);
    return answer;
}

/* One step of the coroutine that the run stands at, in the task's context. */
static PySendResult
step_awaiting(AsyncRun *r, PyObject *throw, PyObject **out)
{
    EngineState *st = r->m->cx.st;
    PyObject *awaiting = Py_NewRef(r->awaiting);
    PySendResult sent;
    PyObject *context;
    if (Py_IS_TYPE(awaiting, st->Parking_Type)) {
        if (throw == NULL) {
            sent = parking_send(awaiting, Py_None, out);
        }
        else {
            parking_leave(awaiting);
            PyErr_SetRaisedException(Py_NewRef(throw));
            sent = PYGEN_ERROR;
        }
    }
    else if ((context = Py_XNewRef(scheduler_context(r->m))) != NULL) {
        sent = PyContext_Enter(context) < 0 ? PYGEN_ERROR : aio_send(awaiting, throw, out);
        PyObject *pending = PyErr_GetRaisedException();
        if (PyContext_Exit(context) < 0) {
            PyErr_Clear(); /* it entered another one and has not left it */
        }
        if (pending != NULL) {
            PyErr_SetRaisedException(pending);
        }
        Py_DECREF(context);
    }
    else {
        sent = aio_send(awaiting, throw, out);
    }
    Py_DECREF(awaiting);
    return sent;
}

/* Goes on until the run suspends or ends. */
static PySendResult
go_on(AsyncRun *r, DoeffStep how, PyObject *what, PyObject **out)
{
    DoeffMachine *m = r->m;
    r->state = ASYNC_RUNNING;
    m->at_work = 1;
    for (;;) {
        PyObject *got = NULL;
        m->effects_left = LOOP_TURNS;
        m->unlooked = m->stride = 1;
        m->turn_began = m->looked_at = compat_monotonic_ns();
        m->cx.attention = 1;
        switch (run_step(m, how, what, NULL, &got)) {
        case RUN_DONE:
            return machine_ended(r, got, NULL, out);
        case RUN_FAILED:
            return machine_ended(r, NULL, got, out);
        case RUN_PAUSED:
            m->loop_turn = 0;
            r->what = got;
            suspend(r, ASYNC_SUSPENDED);
            *out = Py_NewRef(Py_None);
            return PYGEN_NEXT;
        default:
            break;
        }
        /* an escape */
        PyObject *answer = got;
        if (!Py_IS_TYPE(got, m->cx.st->Parking_Type)) {
            answer = call_action(r, got);
            Py_DECREF(got);
            int waits = answer == NULL ? -1 : aio_is_coroutine(m->cx.st, answer);
            if (waits <= 0) {
                m->loop_turn = 1;
                how = waits < 0 ? DOEFF_RAISE : DOEFF_VALUE;
                what = answer;
                if (waits < 0) {
                    Py_CLEAR(what);
                }
                continue;
            }
        }
        r->awaiting = answer;
        PyObject *yielded = NULL;
        PySendResult sent = step_awaiting(r, NULL, &yielded);
        if (sent == PYGEN_NEXT) {
            m->loop_turn = 0;
            suspend(r, ASYNC_SUSPENDED);
            *out = yielded;
            return PYGEN_NEXT;
        }
        m->loop_turn = m->loop_turn || !Py_IS_TYPE(answer, m->cx.st->Parking_Type);
        Py_CLEAR(r->awaiting);
        how = sent == PYGEN_RETURN ? DOEFF_VALUE : DOEFF_RAISE;
        what = yielded;
    }
}

/* ---- its own steps ---- */

static PySendResult
begin(AsyncRun *r, PyObject **out)
{
    EngineState *st = engine_state_of(Py_TYPE(r));
    RunRequest request = {.handlers = r->handlers, .env = r->env, .store = r->store, .options = r->options};
    r->state = ASYNC_RUNNING;
    r->thread = PyThread_get_thread_ident();
    r->loop = aio_loop(st);
    r->m = r->loop == NULL ? NULL : run_begin(st, &request, &r->chain);
    if (r->m == NULL) {
        finish(r);
        return PYGEN_ERROR;
    }
    DoeffMachine *m = r->m;
    PyObject *program = r->program;
    r->program = NULL;
    m->aio = r;
    m->paced = 1;
    m->loop_time = PyObject_GetAttr(r->loop, st->str_time);
    if (m->loop_time == NULL || !run_accepts(st, program)) {
        Py_DECREF(program);
        return machine_ended(r, NULL, PyErr_GetRaisedException(), out);
    }
    return go_on(r, DOEFF_PROGRAM, program, out);
}

/* 0 with an error if it cannot go on here and now. */
static int
may_step(AsyncRun *r)
{
    if (r->state == ASYNC_NEW) {
        return 1;
    }
    if (r->state == ASYNC_OVER) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited async_run()");
    }
    else if (r->thread != PyThread_get_thread_ident()) {
        PyErr_SetString(PyExc_RuntimeError, "this async_run belongs to the event loop of another thread");
    }
    else if (r->state == ASYNC_RUNNING) {
        PyErr_SetString(PyExc_ValueError, "async_run already executing");
    }
    else {
        return 1;
    }
    return 0;
}

static void
awaited_already(void)
{
    PyErr_SetString(PyExc_RuntimeError, "async_run() is being awaited already");
}

static PySendResult
async_run_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **out)
{
    AsyncRun *r = (AsyncRun *)op;
    *out = NULL;
    if (!may_step(r)) {
        return PYGEN_ERROR;
    }
    if (r->awaiting != NULL && Py_IS_TYPE(r->awaiting, r->m->cx.st->Parking_Type) && parking_sleeps(r->awaiting)) {
        awaited_already(); /* by another asyncio task */
        return PYGEN_ERROR;
    }
    if (r->state == ASYNC_NEW) {
        return begin(r, out);
    }
    if (r->state == ASYNC_LINGERS) {
        return linger(r, out);
    }
    if (r->awaiting == NULL) {
        PyObject *what = r->what;
        DoeffStep how = r->m->paused;
        r->what = NULL;
        if (how == DOEFF_RAISE) {
            PyErr_SetRaisedException(what);
            what = NULL;
        }
        return go_on(r, how, what, out);
    }
    r->state = ASYNC_RUNNING;
    PyObject *got = NULL;
    PySendResult sent = step_awaiting(r, NULL, &got);
    if (sent == PYGEN_NEXT) {
        suspend(r, ASYNC_SUSPENDED);
        *out = got;
        return PYGEN_NEXT;
    }
    Py_CLEAR(r->awaiting);
    return go_on(r, sent == PYGEN_RETURN ? DOEFF_VALUE : DOEFF_RAISE, got, out);
}

/* An error raised at an escape while its action was awaited. If the asyncio task was cancelled, main is to hear of that
 * even if another task stands there. */
static void
tell_main(AsyncRun *r, PyObject *error)
{
    DoeffScheduler *s = r->m->scheduler;
    if (s != NULL && s->current != NULL && s->current != s->main) {
        scheduler_throw_at_main(s, Py_NewRef(error));
    }
}

static PySendResult
throw_at(AsyncRun *r, PyObject *error, PyObject **out)
{
    r->state = ASYNC_RUNNING;
    if (run_is_async_cancelled(error)) {
        r->cancelled = 1;
    }
    if (r->awaiting == NULL) {
        PyObject *what = r->what;
        AnswerKind kind = r->m->paused == DOEFF_RAISE     ? ANSWER_ERROR
                          : r->m->paused == DOEFF_PROGRAM ? ANSWER_PROGRAM
                                                          : ANSWER_VALUE;
        r->what = NULL;
        return go_on(r, scheduler_interrupt(r->m, kind, what, Py_NewRef(error), 0), NULL, out);
    }
    PyObject *got = NULL;
    PySendResult sent = step_awaiting(r, error, &got);
    if (sent == PYGEN_NEXT) {
        suspend(r, ASYNC_SUSPENDED);
        *out = got;
        return PYGEN_NEXT;
    }
    Py_CLEAR(r->awaiting);
    if (sent == PYGEN_ERROR && r->cancelled) {
        PyObject *raised = PyErr_GetRaisedException();
        if (run_is_async_cancelled(raised)) {
            tell_main(r, raised);
        }
        PyErr_SetRaisedException(raised);
    }
    return go_on(r, sent == PYGEN_RETURN ? DOEFF_VALUE : DOEFF_RAISE, got, out);
}

/* What it would have run next. */
static void
abandon_program(AsyncRun *r)
{
    PyObject *program = r->state == ASYNC_NEW ? r->program
                        : r->what != NULL && r->m->paused == DOEFF_PROGRAM ? r->what
                                                                           : NULL;
    if (program != NULL) {
        await_abandon(engine_state_of(Py_TYPE(r)), program);
    }
}

/* Everything goes at once. Keeps the exception that is set. */
static void
discard(AsyncRun *r)
{
    PyObject *pending = PyErr_GetRaisedException();
    abandon_program(r);
    PyObject *awaiting = r->awaiting;
    r->awaiting = NULL;
    if (awaiting != NULL) {
        PyObject *done = PyObject_CallMethod(awaiting, "close", NULL);
        if (done == NULL) {
            PyErr_WriteUnraisable((PyObject *)r);
        }
        Py_XDECREF(done);
        Py_DECREF(awaiting);
    }
    if (r->m != NULL && !r->m->over) {
        r->state = ASYNC_RUNNING;
        r->m->at_work = 1;
        r->m->aio = NULL;
        run_abandon(r->m, r->chain);
    }
    kill_bridges(r);
    finish(r);
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static PyObject *
async_run_send_method(PyObject *op, PyObject *value)
{
    PyObject *out = NULL;
    PySendResult sent = async_run_send(op, value, &out);
    return aio_sent(sent, out);
}

static PyObject *
async_run_next(PyObject *op)
{
    return async_run_send_method(op, Py_None);
}

static PyObject *
async_run_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    AsyncRun *r = (AsyncRun *)op;
    if (!may_step(r)) {
        return NULL;
    }
    aio_raise_thrown(args, nargs);
    if (r->state == ASYNC_NEW || r->state == ASYNC_LINGERS || PyErr_ExceptionMatches(PyExc_GeneratorExit)) {
        discard(r);
        return NULL;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *out = NULL;
    PySendResult sent = throw_at(r, error, &out);
    Py_DECREF(error);
    return aio_sent(sent, out);
}

static PyObject *
async_run_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    AsyncRun *r = (AsyncRun *)op;
    if (r->state != ASYNC_OVER) {
        if (!may_step(r)) {
            return NULL;
        }
        discard(r);
    }
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static PyObject *
async_run_repr(PyObject *op)
{
    static const char *const names[] = {"new", "running", "suspended", "suspended", "over"};
    return PyUnicode_FromFormat("<async_run %s at %p>", names[((AsyncRun *)op)->state], (void *)op);
}

static PyObject *
async_run_name(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("async_run");
}

static PyObject *
async_run_running(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((AsyncRun *)op)->state == ASYNC_RUNNING);
}

static PyObject *
async_run_await(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *awaiting = ((AsyncRun *)op)->awaiting;
    return Py_NewRef(awaiting == NULL ? Py_None : awaiting);
}

/* __await__: like a coroutine's, by one at a time. */
static PyObject *
async_run_awaited(PyObject *op)
{
    AsyncState state = ((AsyncRun *)op)->state;
    if (state != ASYNC_NEW && state != ASYNC_OVER) {
        awaited_already();
        return NULL;
    }
    return Py_NewRef(op);
}

static PyObject *
async_run_none(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_NONE;
}

static PyGetSetDef async_run_getset[] = { /* what asyncio looks at in coroutines, for its messages */
    {"__name__", async_run_name, NULL, NULL, NULL},
    {"__qualname__", async_run_name, NULL, NULL, NULL},
    {"cr_running", async_run_running, NULL, NULL, NULL},
    {"cr_await", async_run_await, NULL, NULL, NULL},
    {"cr_frame", async_run_none, NULL, NULL, NULL},
    {NULL},
};

static int
async_run_traverse(PyObject *op, visitproc visit, void *arg)
{
    AsyncRun *r = (AsyncRun *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(r->program);
    Py_VISIT(r->handlers);
    Py_VISIT(r->env);
    Py_VISIT(r->store);
    Py_VISIT(r->m);
    Py_VISIT(r->chain);
    Py_VISIT(r->loop);
    Py_VISIT(r->parking);
    Py_VISIT(r->task_factory);
    for (Bridge *b = r->bridges; b != NULL; b = b->next) {
        Py_VISIT((PyObject *)b);
    }
    Py_VISIT(r->awaiting);
    Py_VISIT(r->what);
    Py_VISIT(r->outcome);
    return 0;
}

static int
async_run_tp_clear(PyObject *op)
{
    finish((AsyncRun *)op);
    return 0;
}

static void
async_run_finalize(PyObject *op)
{
    AsyncRun *r = (AsyncRun *)op;
    PyObject *pending = PyErr_GetRaisedException();
    if (r->state == ASYNC_NEW && PyErr_WarnEx(PyExc_RuntimeWarning, "coroutine 'async_run' was never awaited", 1) < 0) {
        PyErr_WriteUnraisable(NULL);
    }
    if (r->state != ASYNC_OVER) {
        discard(r);
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

static void
async_run_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    if (((AsyncRun *)op)->state != ASYNC_OVER && PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    if (((AsyncRun *)op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    finish((AsyncRun *)op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyMemberDef async_run_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(AsyncRun, weakrefs), READONLY, NULL},
    {NULL},
};

static PyMethodDef async_run_methods[] = {
    {"send", async_run_send_method, METH_O, PyDoc_STR("send(None)\n--\n\nGo on until the event loop is needed.")},
    {"throw", (PyCFunction)(void (*)(void))async_run_throw, METH_FASTCALL,
     PyDoc_STR("throw(error)\n--\n\nRaise error where the main program waits.")},
    {"close", async_run_close, METH_NOARGS, PyDoc_STR("close()\n--\n\nDiscard the run.")},
    {NULL},
};

static PyType_Slot async_run_slots[] = {
    {Py_tp_dealloc, async_run_dealloc},
    {Py_tp_finalize, async_run_finalize},
    {Py_tp_traverse, async_run_traverse},
    {Py_tp_clear, async_run_tp_clear},
    {Py_tp_repr, async_run_repr},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, async_run_next},
    {Py_am_await, async_run_awaited},
    {Py_am_send, async_run_send},
    {Py_tp_getset, async_run_getset},
    {Py_tp_members, async_run_members},
    {Py_tp_methods, async_run_methods},
    {Py_tp_doc, (void *)PyDoc_STR("A program on its way through an event loop: what async_run gives. Await it once.")},
    {0, NULL},
};

static PyType_Spec async_run_spec = {
    .name = "doeff._engine.AsyncRun",
    .basicsize = sizeof(AsyncRun),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = async_run_slots,
};

static PyObject *
async_run(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const Parameters parameters = {"async_run", RUN_PARAMETERS, 4, 2};
    PyObject *bound[6];
    RunOptions options;
    if (arguments_bind(&parameters, args, nargs, kwnames, bound) < 0 || run_options(&options, bound[4], bound[5]) < 0) {
        return NULL;
    }
    EngineState *st = PyModule_GetState(module);
    AsyncRun *r = PyObject_GC_New(AsyncRun, st->AsyncRun_Type);
    if (r == NULL) {
        return NULL;
    }
    memset((char *)r + sizeof(PyObject), 0, sizeof(AsyncRun) - sizeof(PyObject));
    r->program = Py_NewRef(bound[0]);
    r->handlers = Py_NewRef(bound[1]);
    r->env = Py_XNewRef(bound[2]);
    r->store = Py_XNewRef(bound[3]);
    r->options = options;
    PyObject_GC_Track((PyObject *)r);
    return (PyObject *)r;
}

static PyMethodDef functions[] = {
    {"async_run", (PyCFunction)(void (*)(void))async_run, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("async_run(program, handlers, env=None, store=None, *, close_timeout=5.0, unfinished='cancel')\n--\n\n"
               "`await async_run(...)`: run a program to the end in this event loop and give its RuntimeResult.\n\n"
               "Other asyncio tasks go on meanwhile; cancelling the awaiting task raises CancelledError where the main program\n"
               "waits. The parameters are those of sync_run. RuntimeError without a running event loop.\n\n"
               ">>> result = await async_run(main(), async_handlers_preset)\n\nContract: concurrency, part 5.2.")},
    {NULL},
};

int
async_run_room_init(PyObject *module, EngineState *st)
{
    st->AsyncRun_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &async_run_spec, NULL);
    return st->AsyncRun_Type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}

int
aio_room_init(PyObject *module, EngineState *st)
{
    return parking_room_init(module, st) < 0 || bridge_room_init(module, st) < 0 || async_run_room_init(module, st) < 0
               ? -1
               : 0;
}
