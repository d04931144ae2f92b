#include "kontinuation.h"

typedef struct Kontinuation {
    PyObject_HEAD
    DoeffHandlerContext *ctx; /* strong */
    KPart part;
    PyObject *prefix;         /* tuple of Python frames, innermost first, or NULL */
} Kontinuation;

PyObject *
kontinuation_new(EngineState *st, DoeffHandlerContext *ctx, KPart part)
{
    Kontinuation *k = PyObject_GC_New(Kontinuation, st->Kontinuation_Type);
    if (k != NULL) {
        k->ctx = (DoeffHandlerContext *)Py_NewRef(ctx);
        k->part = part;
        k->prefix = NULL;
        PyObject_GC_Track(k);
    }
    return (PyObject *)k;
}

int
kontinuation_target(EngineState *st, PyObject *k, KontinuationTarget *target)
{
    *target = (KontinuationTarget){NULL, K_ORIGIN, NULL};
    if (k == Py_None) {
        return 0;
    }
    if (Py_IS_TYPE(k, st->Kontinuation_Type)) {
        Kontinuation *view = (Kontinuation *)k;
        target->ctx = view->ctx;
        target->part = view->part == K_OUTER ? K_OUTER : K_ORIGIN;
        target->prefix = view->prefix;
        return 0;
    }
    if (PyList_Check(k) && PyList_GET_SIZE(k) == 0) {
        target->part = K_NOTHING;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "k must be a continuation taken from ctx, or such a one with frames in front, got %s",
                 Py_TYPE(k)->tp_name);
    return -1;
}

PyObject *
kontinuation_handlers(EngineState *st, HandlerNode *node)
{
    (void)st;
    PyObject *list = PyList_New(0);
    for (; list != NULL && node->handler != NULL; node = node->parent) {
        if (PyList_Append(list, node->handler) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
k_concat(PyObject *left, PyObject *right)
{
    if (!PyList_Check(left)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    Kontinuation *view = (Kontinuation *)right;
    PyObject *prefix = PyList_AsTuple(left);
    if (prefix != NULL && view->prefix != NULL) {
        Py_SETREF(prefix, PySequence_Concat(prefix, view->prefix));
    }
    if (prefix == NULL) {
        return NULL;
    }
    Kontinuation *k = (Kontinuation *)kontinuation_new(engine_state_of(Py_TYPE(right)), view->ctx, view->part);
    if (k == NULL) {
        Py_DECREF(prefix);
        return NULL;
    }
    k->prefix = prefix;
    return (PyObject *)k;
}

static int
k_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Kontinuation *)op)->ctx);
    Py_VISIT(((Kontinuation *)op)->prefix);
    return 0;
}

static int
k_clear(PyObject *op)
{
    Py_CLEAR(((Kontinuation *)op)->ctx);
    Py_CLEAR(((Kontinuation *)op)->prefix);
    return 0;
}

static void
k_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)k_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyType_Slot k_slots[] = {
    {Py_tp_dealloc, k_dealloc},
    {Py_tp_traverse, k_traverse},
    {Py_tp_clear, k_clear},
    {Py_nb_add, k_concat},
    {0, NULL},
};

static PyType_Spec k_spec = {
    .name = "doeff.cesk.frames.Kontinuation",
    .basicsize = sizeof(Kontinuation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = k_slots,
};

/* A frame written in Python: an object with on_value and on_error. */
const DoeffFrameKind object_frame = {.name = "Frame"};

int
kontinuation_room_init(PyObject *module, EngineState *st)
{
    st->Kontinuation_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &k_spec, NULL);
    return st->Kontinuation_Type == NULL ? -1 : PyModule_AddType(module, st->Kontinuation_Type);
}
