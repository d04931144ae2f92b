#include "boundedlog.h"

typedef struct BoundedLog {
    PyListObject list;
    Py_ssize_t max; /* -1: no bound */
} BoundedLog;

#define MAX_OF(op) (((BoundedLog *)(op))->max)

PyObject *
boundedlog_new(EngineState *st)
{
    return PyObject_CallNoArgs((PyObject *)st->BoundedLog_Type);
}

static int
trim(PyObject *self)
{
    Py_ssize_t excess = MAX_OF(self) < 0 ? 0 : PyList_GET_SIZE(self) - MAX_OF(self);
    return excess > 0 ? PyList_SetSlice(self, 0, excess, NULL) : 0;
}

static PyObject *
trimmed(PyObject *self, int failed)
{
    if (failed || trim(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static int
bound_from(PyObject *value, Py_ssize_t *max)
{
    *max = -1;
    if (value == NULL || value == Py_None) {
        return 0;
    }
    Py_ssize_t n = PyNumber_AsSsize_t(value, PyExc_OverflowError);
    if (n == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (n < 0) {
        PyErr_Format(PyExc_ValueError, "max_entries must not be negative, got %zd", n);
        return -1;
    }
    *max = n;
    return 0;
}

static PyObject *
log_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *op = PyList_Type.tp_new(type, args, kwargs);
    if (op != NULL) {
        MAX_OF(op) = -1;
    }
    return op;
}

static int
log_init(PyObject *self, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"iterable", "max_entries", NULL};
    PyObject *iterable = NULL, *bound = NULL;
    Py_ssize_t max;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O$O:BoundedLog", keywords, &iterable, &bound)
        || bound_from(bound, &max) < 0) {
        return -1;
    }
    PyObject *items = PyTuple_New(iterable == NULL || iterable == Py_None ? 0 : 1);
    if (items == NULL) {
        return -1;
    }
    if (PyTuple_GET_SIZE(items) == 1) {
        PyTuple_SET_ITEM(items, 0, Py_NewRef(iterable));
    }
    int failed = PyList_Type.tp_init(self, items, NULL);
    Py_DECREF(items);
    MAX_OF(self) = max;
    return failed < 0 ? -1 : trim(self);
}

static int
log_release(PyObject *op)
{
    PyList_Type.tp_dealloc(op);
    return 0;
}

static void
log_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, log_dealloc, log_release);
}

static int
log_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return PyList_Type.tp_traverse(op, visit, arg);
}

static int
log_clear(PyObject *op)
{
    return PyList_Type.tp_clear(op);
}

/* ---- what makes a list longer ---- */

static PyObject *
log_append(PyObject *self, PyObject *item)
{
    return trimmed(self, PyList_Append(self, item) < 0);
}

static PyObject *
log_insert(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "insert expected 2 arguments, got %zd", nargs);
        return NULL;
    }
    Py_ssize_t index = PyNumber_AsSsize_t(args[0], NULL);
    if (index == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (index < 0) { /* PyList_Insert counts from the end as well, but only this far */
        index += PyList_GET_SIZE(self);
        index = index < 0 ? 0 : index;
    }
    return trimmed(self, PyList_Insert(self, index, args[1]) < 0);
}

static PyObject *
log_iadd(PyObject *self, PyObject *iterable)
{
    PyObject *same = PyList_Type.tp_as_sequence->sq_inplace_concat(self, iterable);
    if (same != NULL && same == self && trim(self) < 0) {
        Py_CLEAR(same);
    }
    return same;
}

static PyObject *
log_imul(PyObject *self, Py_ssize_t n)
{
    PyObject *same = PyList_Type.tp_as_sequence->sq_inplace_repeat(self, n);
    if (same != NULL && trim(self) < 0) {
        Py_CLEAR(same);
    }
    return same;
}

static PyObject *
log_extend(PyObject *self, PyObject *iterable)
{
    PyObject *same = log_iadd(self, iterable);
    if (same == NULL) {
        return NULL;
    }
    Py_DECREF(same);
    Py_RETURN_NONE;
}

static int
log_ass_subscript(PyObject *self, PyObject *key, PyObject *value)
{
    return PyList_Type.tp_as_mapping->mp_ass_subscript(self, key, value) < 0 ? -1 : trim(self);
}

/* ---- its own ---- */

static PyObject *
log_like(PyObject *self, PyObject *items /* borrowed or NULL */)
{
    PyObject *op =
        items == NULL ? PyObject_CallNoArgs((PyObject *)Py_TYPE(self)) : PyObject_CallOneArg((PyObject *)Py_TYPE(self), items);
    EngineState *st = op == NULL ? NULL : engine_state_by_def(self);
    if (st != NULL && PyType_IsSubtype(Py_TYPE(op), st->BoundedLog_Type)) {
        MAX_OF(op) = MAX_OF(self);
    }
    return op;
}

static PyObject *
log_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return log_like(self, self);
}

static PyObject *
log_spawn_empty(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return log_like(self, NULL);
}

static PyObject *
log_set_max_entries(PyObject *self, PyObject *bound)
{
    Py_ssize_t max;
    if (bound_from(bound, &max) < 0) {
        return NULL;
    }
    MAX_OF(self) = max;
    return trimmed(self, 0);
}

static PyObject *
log_max_entries(PyObject *self, void *Py_UNUSED(closure))
{
    return MAX_OF(self) < 0 ? Py_NewRef(Py_None) : PyLong_FromSsize_t(MAX_OF(self));
}

/* The entries travel as a list's do; the bound is the state. */
static PyObject *
log_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *bound = log_max_entries(self, NULL);
    PyObject *iterator = bound == NULL ? NULL : PyObject_GetIter(self);
    PyObject *result = iterator == NULL ? NULL : Py_BuildValue("O()OO", Py_TYPE(self), bound, iterator);
    Py_XDECREF(iterator);
    Py_XDECREF(bound);
    return result;
}

static PyMethodDef log_methods[] = {
    {"append", log_append, METH_O, PyDoc_STR("append($self, entry, /)\n--\n\nAdd an entry at the end.")},
    {"insert", (PyCFunction)(void (*)(void))log_insert, METH_FASTCALL,
     PyDoc_STR("insert($self, index, entry, /)\n--\n\nAdd an entry before index.")},
    {"extend", log_extend, METH_O, PyDoc_STR("extend($self, iterable, /)\n--\n\nAdd entries at the end.")},
    {"copy", log_copy, METH_NOARGS, PyDoc_STR("copy($self, /)\n--\n\nA log with the same entries and bound.")},
    {"__copy__", log_copy, METH_NOARGS, NULL},
    {"spawn_empty", log_spawn_empty, METH_NOARGS, PyDoc_STR("spawn_empty($self, /)\n--\n\nAn empty log with the same bound.")},
    {"set_max_entries", log_set_max_entries, METH_O,
     PyDoc_STR("set_max_entries($self, max_entries, /)\n--\n\nChange the bound (None: no bound) and drop what is beyond it.")},
    {"__reduce__", log_reduce, METH_NOARGS, NULL},
    {"__setstate__", log_set_max_entries, METH_O, NULL},
    {NULL},
};

static PyGetSetDef log_getset[] = {
    {"max_entries", log_max_entries, NULL, "The bound, or None.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, log_new},
    {Py_tp_init, log_init},
    {Py_tp_dealloc, log_dealloc},
    {Py_tp_traverse, log_traverse},
    {Py_tp_clear, log_clear},
    {Py_tp_methods, log_methods},
    {Py_tp_getset, log_getset},
    {Py_sq_inplace_concat, log_iadd},
    {Py_sq_inplace_repeat, log_imul},
    {Py_mp_ass_subscript, log_ass_subscript},
    {Py_tp_doc, (void *)"BoundedLog(iterable=None, *, max_entries=None)\n--\n\nA list that drops its oldest entries "
                        "beyond max_entries.\n\n>>> BoundedLog('abc', max_entries=2)\n['b', 'c']"},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "doeff.utils.BoundedLog",
    .basicsize = sizeof(BoundedLog),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
boundedlog_room_init(PyObject *module, EngineState *st)
{
    st->BoundedLog_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, (PyObject *)&PyList_Type);
    return st->BoundedLog_Type == NULL ? -1 : PyModule_AddType(module, st->BoundedLog_Type);
}
