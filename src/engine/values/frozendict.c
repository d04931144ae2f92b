#include "frozendict.h"

PyObject *
frozendict_from(EngineState *st, PyObject *mapping)
{
    PyObject *args = PyTuple_New(0);
    PyObject *op = args == NULL ? NULL : PyDict_Type.tp_new(st->FrozenDict_Type, args, NULL);
    Py_XDECREF(args);
    if (op != NULL && PyDict_Update(op, mapping) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

PyObject *
frozendict_merge(EngineState *st, PyObject *base, PyObject *update)
{
    PyObject *op = frozendict_from(st, base);
    if (op != NULL && PyDict_Update(op, update) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

static PyType_Slot slots[] = {
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "doeff._vendor.FrozenDict",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

int
frozendict_room_init(PyObject *module, EngineState *st)
{
    st->FrozenDict_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, (PyObject *)&PyDict_Type);
    if (st->FrozenDict_Type == NULL) {
        return -1;
    }
    PyObject *nothing = PyDict_New();
    st->empty_env = nothing == NULL ? NULL : frozendict_from(st, nothing);
    Py_XDECREF(nothing);
    return st->empty_env == NULL ? -1 : PyModule_AddType(module, st->FrozenDict_Type);
}
