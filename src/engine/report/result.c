#include "result.h"

typedef struct RuntimeResult {
    PyObject_HEAD
    PyObject *value, *error, *store, *env, *trace; /* strong or NULL */
} RuntimeResult;

PyObject *
result_new(DoeffMachine *m, PyObject *value, PyObject *error)
{
    EngineState *st = m->cx.st;
    RuntimeResult *r = (RuntimeResult *)freelist_pop(&st->free_results);
    if (r == NULL) {
        r = PyObject_GC_New(RuntimeResult, st->RuntimeResult_Type);
    }
    if (r == NULL) {
        Py_XDECREF(value);
        Py_XDECREF(error);
        return NULL;
    }
    r->value = value;
    r->error = error;
    r->store = Py_XNewRef(m->cx.store);
    r->env = Py_XNewRef(m->cx.env);
    r->trace = Py_XNewRef(m->trace);
    PyObject_GC_Track(r);
    return (PyObject *)r;
}

static int
result_traverse(PyObject *op, visitproc visit, void *arg)
{
    RuntimeResult *r = (RuntimeResult *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(r->value);
    Py_VISIT(r->error);
    Py_VISIT(r->store);
    Py_VISIT(r->env);
    Py_VISIT(r->trace);
    return 0;
}

static int
result_clear(PyObject *op)
{
    RuntimeResult *r = (RuntimeResult *)op;
    Py_CLEAR(r->value);
    Py_CLEAR(r->error);
    Py_CLEAR(r->store);
    Py_CLEAR(r->env);
    Py_CLEAR(r->trace);
    return 0;
}

static void
result_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)result_clear(op);
    if (((PyHeapTypeObject *)tp)->ht_module != NULL && freelist_push(&engine_state_of(tp)->free_results, op)) {
        return;
    }
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyObject *
get_value(PyObject *op, void *Py_UNUSED(closure))
{
    RuntimeResult *r = (RuntimeResult *)op;
    if (r->error == NULL) {
        return Py_NewRef(r->value);
    }
    PyErr_SetRaisedException(Py_NewRef(r->error));
    return NULL;
}

static PyObject *
get_error(PyObject *op, void *Py_UNUSED(closure))
{
    RuntimeResult *r = (RuntimeResult *)op;
    if (r->error != NULL) {
        return Py_NewRef(r->error);
    }
    PyErr_SetString(PyExc_ValueError, "Result is Ok, no error");
    return NULL;
}

static PyObject *
is_ok(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((RuntimeResult *)op)->error == NULL);
}

static PyObject *
is_err(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(((RuntimeResult *)op)->error != NULL);
}

static PyObject *
get_raw_store(PyObject *op, void *Py_UNUSED(closure))
{
    return PyDict_Copy(((RuntimeResult *)op)->store);
}

static PyGetSetDef result_getset[] = {
    {"value", get_value, NULL, NULL, NULL},
    {"error", get_error, NULL, NULL, NULL},
    {"raw_store", get_raw_store, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef result_methods[] = {
    {"is_ok", is_ok, METH_NOARGS, NULL},
    {"is_err", is_err, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot result_slots[] = {
    {Py_tp_dealloc, result_dealloc},
    {Py_tp_traverse, result_traverse},
    {Py_tp_clear, result_clear},
    {Py_tp_getset, result_getset},
    {Py_tp_methods, result_methods},
    {0, NULL},
};

static PyType_Spec result_spec = {
    .name = "doeff.cesk.runtime_result.RuntimeResult",
    .basicsize = sizeof(RuntimeResult),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = result_slots,
};

int
result_room_init(PyObject *module, EngineState *st)
{
    st->RuntimeResult_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &result_spec, NULL);
    return st->RuntimeResult_Type == NULL ? -1 : PyModule_AddType(module, st->RuntimeResult_Type);
}
