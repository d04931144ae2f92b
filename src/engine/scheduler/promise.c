#include "scheduler.h"

#include "../effects/effects.h"

/* promise: Future and Promise, and the effects that make and settle them. */

/* ---- futures: what a promise's waiters hold ---- */

PyObject *
future_new(EngineState *st, DoeffScheduler *s)
{
    DoeffFuture *future = PyObject_GC_New(DoeffFuture, st->Future_Type);
    if (future != NULL) {
        memset((char *)future + sizeof(PyObject), 0, sizeof(DoeffFuture) - sizeof(PyObject));
        future->w.run = s->run;
        PyObject_GC_Track((PyObject *)future);
    }
    return (PyObject *)future;
}

static int
future_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return waitable_traverse((DoeffWaitable *)op, visit, arg);
}

static int
future_tp_clear(PyObject *op)
{
    waitable_clear((DoeffWaitable *)op);
    return 0;
}

static int
future_release(PyObject *op)
{
    waitable_clear((DoeffWaitable *)op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
future_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, future_dealloc, future_release);
}

static const char *
state_name(DoeffWaitable *w)
{
    static const char *const names[] = {"pending", "completed", "failed", "cancelled"};
    return names[w->state];
}

static PyObject *
future_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<Future %s at %p>", state_name((DoeffWaitable *)op), (void *)op);
}

static PyObject *
future_handle(PyObject *op, void *Py_UNUSED(closure))
{
    return handle_of(engine_state_of(Py_TYPE(op)), op);
}

static PyGetSetDef future_getset[] = {
    {"_handle", future_handle, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef generic_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot future_slots[] = {
    {Py_tp_dealloc, future_dealloc},
    {Py_tp_traverse, future_traverse},
    {Py_tp_clear, future_tp_clear},
    {Py_tp_repr, future_repr},
    {Py_tp_getset, future_getset},
    {Py_tp_methods, generic_methods},
    {Py_tp_doc, (void *)PyDoc_STR("What a promise's value can be waited for by: promise.future.")},
    {0, NULL},
};

static PyType_Spec future_spec = {
    .name = "doeff.effects.promise.Future",
    .basicsize = sizeof(DoeffFuture),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = future_slots,
};

/* ---- promises ---- */

typedef struct Promise {
    PyObject_HEAD
    DoeffWaitable *future;  /* strong */
    DoeffQueue *queue;      /* of the run: the old methods settle through it; strong */
} Promise;

static int
promise_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Promise *)op)->future);
    Py_VISIT(((Promise *)op)->queue);
    return 0;
}

static int
promise_tp_clear(PyObject *op)
{
    Py_CLEAR(((Promise *)op)->future);
    Py_CLEAR(((Promise *)op)->queue);
    return 0;
}

static int
promise_release(PyObject *op)
{
    (void)promise_tp_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
promise_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, promise_dealloc, promise_release);
}

static PyObject *
promise_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<Promise %s>", state_name(((Promise *)op)->future));
}

static PyObject *
promise_future(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef((PyObject *)((Promise *)op)->future);
}

static PyObject *
promise_is_completed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Promise *)op)->future->state != WAITABLE_OPEN);
}

static PyObject *
promise_outcome(PyObject *op, void *closure)
{
    DoeffWaitable *w = ((Promise *)op)->future;
    int wanted = closure == NULL ? w->state == WAITABLE_VALUE : w->state > WAITABLE_VALUE;
    return Py_NewRef(wanted ? w->outcome : Py_None);
}

static int
already_settled(void)
{
    PyErr_SetString(PyExc_RuntimeError, "promise already completed");
    return -1;
}

static int
decide(DoeffWaitable *w, PyObject *value, PyObject *error)
{
    if (w->state != WAITABLE_OPEN) {
        return already_settled();
    }
    waitable_decide(w, error != NULL ? WAITABLE_ERROR : WAITABLE_VALUE, Py_NewRef(error != NULL ? error : value));
    return 0;
}

/* promise.complete(value) and promise.fail(error), the old spellings. A __del__ or a signal handler may call them in the
 * middle of anything that the scheduler does: who waits is woken where completions from outside are applied. */
static PyObject *
settle_directly(PyObject *op, PyObject *value, PyObject *error, const char *instead)
{
    Promise *p = (Promise *)op;
    if (PyErr_WarnFormat(PyExc_DeprecationWarning, 1, "use `yield %s` instead", instead) < 0) {
        return NULL;
    }
    if (queue_scheduler(p->queue) == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a promise can only be settled on the thread of its run, while that lasts: an "
                                            "external promise can be from anywhere");
        return NULL;
    }
    if (p->future->state != WAITABLE_OPEN) {
        (void)already_settled();
        return NULL;
    }
    if (queue_settles(p->queue, p->future) < 0 || decide(p->future, value, error) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
promise_complete(PyObject *op, PyObject *value)
{
    return settle_directly(op, value, NULL, "CompletePromise(promise, value)");
}

static PyObject *
promise_fail(PyObject *op, PyObject *error)
{
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", type_name(error));
        return NULL;
    }
    return settle_directly(op, NULL, error, "FailPromise(promise, error)");
}

static PyGetSetDef promise_getset[] = {
    {"future", promise_future, NULL, PyDoc_STR("What to wait for; the same object each time."), NULL},
    {"is_completed", promise_is_completed, NULL, PyDoc_STR("True once it is settled."), NULL},
    {"value", promise_outcome, NULL, PyDoc_STR("Its value, or None."), NULL},
    {"error", promise_outcome, NULL, PyDoc_STR("Its error, or None."), (void *)1},
    {NULL},
};

static PyMethodDef promise_methods[] = {
    {"complete", promise_complete, METH_O, PyDoc_STR("complete(value)\n--\n\nDeprecated spelling of CompletePromise.")},
    {"fail", promise_fail, METH_O, PyDoc_STR("fail(error)\n--\n\nDeprecated spelling of FailPromise.")},
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
    {Py_tp_doc, (void *)PyDoc_STR("A value that comes later; CompletePromise and FailPromise settle it, its .future can be "
                                  "waited for.")},
    {0, NULL},
};

static PyType_Spec promise_spec = {
    .name = "doeff.effects.promise.Promise",
    .basicsize = sizeof(Promise),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = promise_slots,
};

/* ---- effects ---- */

static DoeffStep
create_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    PyObject *future = s == NULL ? NULL : future_new(cx->st, s);
    Promise *p = future == NULL ? NULL : PyObject_GC_New(Promise, cx->st->Promise_Type);
    if (p == NULL) {
        Py_XDECREF(future);
        return DOEFF_RAISE;
    }
    p->future = (DoeffWaitable *)future;
    p->queue = (DoeffQueue *)Py_NewRef((PyObject *)s->queue);
    PyObject_GC_Track((PyObject *)p);
    *out = (PyObject *)p;
    return DOEFF_VALUE;
}

static int
promise_field(EngineState *st, PyObject *op)
{
    if (Py_IS_TYPE(op, st->Promise_Type)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "promise must be Promise, got %s%s", type_name(op),
                 Py_IS_TYPE(op, st->ExternalPromise_Type) ? " (call its complete() or fail())" : "");
    return -1;
}

static int
complete_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    return promise_field(st, f[0]);
}

static int
fail_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    if (promise_field(st, f[0]) < 0) {
        return -1;
    }
    if (!PyExceptionInstance_Check(f[1])) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", type_name(f[1]));
        return -1;
    }
    return 0;
}

static DoeffStep
settle_perform(DoeffContext *cx, PyObject *effect, PyObject *value, PyObject *error, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    DoeffWaitable *w = ((Promise *)RECORD_FIELD(effect, 0))->future;
    if (s == NULL || !of_this_run(s, w)) {
        return DOEFF_RAISE;
    }
    s->woken_lowest = s->current->priority;
    if (decide(w, value, error) < 0) {
        return DOEFF_RAISE;
    }
    waitable_wake(s, w);
    s->current->wake_priority = s->woken_lowest; /* those that it woke go first */
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static DoeffStep
complete_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (RECORD_FIELD(effect, 2) == Py_False) {
        DoeffScheduler *s = scheduler_of(cx);
        DoeffStep step = s == NULL ? DOEFF_RAISE : settle_perform(cx, effect, RECORD_FIELD(effect, 1), NULL, out);
        if (step == DOEFF_VALUE) {
            s->current->wake_priority = s->current->priority;
            s->keep_turn = 1;
            cx->attention = 1;
        }
        return step;
    }
    return settle_perform(cx, effect, RECORD_FIELD(effect, 1), NULL, out);
}

static DoeffStep
fail_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return settle_perform(cx, effect, NULL, RECORD_FIELD(effect, 1), out);
}

static const RecordSpec create_spec = {
    .name = "doeff.effects.promise.CreatePromiseEffect",
    .doc = "CreatePromiseEffect()\n--\n\nMake a promise.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};

static PyMethodDef create_def = {
    "CreatePromise", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CreatePromise()\n--\n\nMake a promise, to be settled once by CompletePromise or FailPromise.\n\nGives a Promise; "
              "wait for its .future.\n\n>>> promise = yield CreatePromise()\n>>> value = yield Wait(promise.future)\n\n"
              "Contract: concurrency, part 1.8.")};

static const RecordSpec complete_spec = {
    .name = "doeff.effects.promise.CompletePromiseEffect",
    .doc = "CompletePromiseEffect(promise, value, yield_to_woken=True)\n--\n\nSettle a promise with a value.",
    .fields = {"promise", "value", "yield_to_woken"}, .required = 2, .compared = 2, .keyword_only = 2, .effect = 1,
    .subclassable = 1, .init = complete_init,
};

static PyMethodDef complete_def = {
    "CompletePromise", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CompletePromise(promise, value, *, yield_to_woken=True)\n--\n\nSettle a promise with a value.\n\nTypeError for "
              "anything but a Promise, RuntimeError if it is settled already. Gives None, after the\ntasks that waited have had a "
              "turn; at once with yield_to_woken=False.\n\n>>> yield CompletePromise(promise, 42)\n\n"
              "Contract: concurrency, part 1.8.")};

static const RecordSpec fail_spec = {
    .name = "doeff.effects.promise.FailPromiseEffect",
    .doc = "FailPromiseEffect(promise, error)\n--\n\nSettle a promise with an error.",
    .fields = {"promise", "error"}, .required = 2, .effect = 1, .subclassable = 1, .init = fail_init,
};

static PyMethodDef fail_def = {
    "FailPromise", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("FailPromise(promise, error)\n--\n\nSettle a promise with an exception, which is raised in who waits for it.\n\n"
              "TypeError for anything but a Promise and an exception, RuntimeError if it is settled already.\n\n"
              ">>> yield FailPromise(promise, ValueError(\"no\"))\n\nContract: concurrency, part 1.8.")};

int
promise_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->Future_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &future_spec, NULL);
    st->Promise_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &promise_spec, NULL);
    if (st->Future_Type == NULL || st->Promise_Type == NULL || PyModule_AddType(module, st->Future_Type) < 0
        || PyModule_AddType(module, st->Promise_Type) < 0) {
        return -1;
    }
    st->rec.CreatePromise = effect_define(module, st, handler, &(EffectDef){&create_spec, &create_def, create_perform});
    st->rec.CompletePromise =
        effect_define(module, st, handler, &(EffectDef){&complete_spec, &complete_def, complete_perform});
    st->rec.FailPromise = effect_define(module, st, handler, &(EffectDef){&fail_spec, &fail_def, fail_perform});
    return st->rec.CreatePromise == NULL || st->rec.CompletePromise == NULL || st->rec.FailPromise == NULL ? -1 : 0;
}
