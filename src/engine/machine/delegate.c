#include "machine.h"

/* A handler's body may hand its effect to a built-in handler: `return (yield core_handler(effect,
 * ctx))`. The program that such a call gives performs the effect as if that handler stood next
 * outward, at the effect's own origin. */

typedef struct Delegate {
    PyObject_HEAD
    PyObject *handler; /* NativeHandler; strong */
    PyObject *effect;  /* strong */
} Delegate;

PyObject *
delegate_new(EngineState *st, PyObject *handler, PyObject *effect)
{
    if (!PyType_IsSubtype(Py_TYPE(effect), st->Effect_Type)) {
        PyErr_Format(PyExc_TypeError, "effect must be Effect, got %s", Py_TYPE(effect)->tp_name);
        return NULL;
    }
    Delegate *delegate = PyObject_GC_New(Delegate, st->Delegate_Type);
    if (delegate != NULL) {
        delegate->handler = Py_NewRef(handler);
        delegate->effect = Py_NewRef(effect);
        PyObject_GC_Track(delegate);
    }
    return (PyObject *)delegate;
}

/* Only the scope is ours: the effect meets a node for the handler, outside of which nothing changes. */
DoeffStep
delegate_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    Delegate *delegate = (Delegate *)program;
    NativeHandler *handler = (NativeHandler *)delegate->handler;
    PyTypeObject *type = Py_TYPE(delegate->effect);
    DoeffMachine *m = MACHINE_OF(cx);
    DoeffEffectFn fn = native_handler_case(handler, type);
    if (fn == NULL) { /* the handler would let it pass */
        *out = Py_NewRef(delegate->effect);
        return DOEFF_PROGRAM;
    }
    DoeffFiber *fiber = m->fiber;
    while (fiber->handling == NULL && fiber->in_handler && fiber->parent != NULL) {
        fiber = fiber->parent;
    }
    if (fiber->handling != NULL && fiber->handling->effect == delegate->effect) {
        cx->forwarder = fiber->handling;
    }
    m->delegate = handler;
    cx->data = handler->data;
    DoeffStep step = fn(cx, delegate->effect, out);
    if (DOEFF_UNLIKELY(step_is_broken(m, step, *out))) {
        step = machine_blame(m, delegate->effect, step);
    }
    m->delegate = NULL;
    if (step == DOEFF_PASS) {
        *out = Py_NewRef(delegate->effect);
    }
    return step == DOEFF_PASS || step == DOEFF_OUTSIDE ? DOEFF_PROGRAM : step;
}

static int
delegate_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Delegate *)op)->handler);
    Py_VISIT(((Delegate *)op)->effect);
    return 0;
}

static int
delegate_release(PyObject *op)
{
    Py_XDECREF(((Delegate *)op)->handler);
    Py_XDECREF(((Delegate *)op)->effect);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
delegate_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, delegate_dealloc, delegate_release);
}

static PyObject *
delegate_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<%U answering %R>", ((NativeHandler *)((Delegate *)op)->handler)->name,
                                ((Delegate *)op)->effect);
}

static PyType_Slot delegate_slots[] = {
    {Py_tp_dealloc, delegate_dealloc},
    {Py_tp_traverse, delegate_traverse},
    {Py_tp_repr, delegate_repr},
    {0, NULL},
};

static PyType_Spec delegate_spec = {
    .name = "doeff._engine.Delegate",
    .basicsize = sizeof(Delegate),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = delegate_slots,
};

int
delegate_room_init(PyObject *module, EngineState *st)
{
    st->Delegate_Type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &delegate_spec, (PyObject *)st->Program_Type);
    return st->Delegate_Type == NULL ? -1 : 0;
}
