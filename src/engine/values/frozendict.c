#include "frozendict.h"

#include "../support/imports.h"

/* ---- making ---- */

static PyObject *
new_empty(PyTypeObject *type)
{
    PyObject *args = PyTuple_New(0);
    PyObject *op = args == NULL ? NULL : PyDict_Type.tp_new(type, args, NULL);
    Py_XDECREF(args);
    return op;
}

static PyObject *
new_with(PyTypeObject *type, PyObject *mapping)
{
    PyObject *op = new_empty(type);
    if (op != NULL && PyDict_Update(op, mapping) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

PyObject *
frozendict_from(EngineState *st, PyObject *mapping)
{
    return new_with(st->FrozenDict_Type, mapping);
}

PyObject *
frozendict_merge(EngineState *st, PyObject *base, PyObject *update)
{
    if (PyDict_Check(update) && PyDict_GET_SIZE(update) == 0 && Py_IS_TYPE(base, st->FrozenDict_Type)) {
        return Py_NewRef(base);
    }
    PyObject *op = new_with(st->FrozenDict_Type, base);
    if (op != NULL && PyDict_Update(op, update) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

static PyObject *
frozen_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) == 1 && (kwargs == NULL || PyDict_GET_SIZE(kwargs) == 0)
        && Py_IS_TYPE(PyTuple_GET_ITEM(args, 0), type) && (type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)) {
        return Py_NewRef(PyTuple_GET_ITEM(args, 0)); /* exactly a FrozenDict: it cannot change */
    }
    PyObject *op = new_empty(type);
    if (op != NULL && PyDict_Type.tp_init(op, args, kwargs) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

/* The items came in with __new__; calling __init__ again changes nothing. */
static int
frozen_init(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return 0;
}

static int
frozen_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return PyDict_Type.tp_traverse(op, visit, arg);
}

static int
frozen_clear(PyObject *op)
{
    return PyDict_Type.tp_clear(op);
}

static int
frozen_release(PyObject *op)
{
    PyDict_Type.tp_dealloc(op);
    return 0;
}

static void
frozen_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, frozen_dealloc, frozen_release);
}

/* ---- as a value ---- */

static PyObject *
frozen_richcompare(PyObject *a, PyObject *b, int op)
{
    return PyDict_Type.tp_richcompare(a, b, op);
}

/* Equal items in any order hash the same. */
static Py_hash_t
frozen_hash(PyObject *self)
{
    PyObject *items = PyDict_Items(self);
    PyObject *set = items == NULL ? NULL : PyFrozenSet_New(items);
    Py_XDECREF(items);
    Py_hash_t hash = set == NULL ? -1 : PyObject_Hash(set);
    Py_XDECREF(set);
    return hash;
}

static PyObject *
frozen_repr(PyObject *self)
{
    PyObject *inner = PyDict_Type.tp_repr(self);
    PyObject *name = inner == NULL ? NULL : PyType_GetName(Py_TYPE(self));
    PyObject *text = name == NULL ? NULL : PyUnicode_FromFormat("%U(%U)", name, inner);
    Py_XDECREF(name);
    Py_XDECREF(inner);
    return text;
}

static PyObject *
frozen_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *plain = PyDict_Copy(self);
    if (plain == NULL) {
        return NULL;
    }
    PyObject *name = PyUnicode_FromString("__dict__");
    PyObject *extra = NULL; /* what a subclass keeps */
    PyObject *result = NULL;
    if (name != NULL && PyObject_GetOptionalAttr(self, name, &extra) >= 0) {
        result = extra == NULL ? Py_BuildValue("O(O)", Py_TYPE(self), plain)
                               : Py_BuildValue("O(O)O", Py_TYPE(self), plain, extra);
    }
    Py_XDECREF(name);
    Py_XDECREF(extra);
    Py_DECREF(plain);
    return result;
}

/* An own function, because one may be reached through its own values. */
static PyObject *
frozen_deepcopy(PyObject *self, PyObject *memo)
{
    PyObject *result = NULL;
    PyObject *deepcopy = import_attr("copy", "deepcopy");
    PyObject *items = deepcopy == NULL ? NULL : PyDict_Items(self);
    PyObject *id = items == NULL ? NULL : PyLong_FromVoidPtr(self);
    PyObject *fresh = id == NULL ? NULL : new_empty(Py_TYPE(self));
    if (fresh == NULL || PyObject_SetItem(memo, id, fresh) < 0) {
        goto done;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(items); i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *key = PyObject_CallFunctionObjArgs(deepcopy, PyTuple_GET_ITEM(pair, 0), memo, NULL);
        PyObject *value =
            key == NULL ? NULL : PyObject_CallFunctionObjArgs(deepcopy, PyTuple_GET_ITEM(pair, 1), memo, NULL);
        int failed = value == NULL || PyDict_SetItem(fresh, key, value) < 0;
        Py_XDECREF(key);
        Py_XDECREF(value);
        if (failed) {
            goto done;
        }
    }
    result = Py_NewRef(fresh);
done:
    Py_XDECREF(fresh);
    Py_XDECREF(id);
    Py_XDECREF(items);
    Py_XDECREF(deepcopy);
    return result;
}

static PyObject *
frozen_copy(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(self);
}

/* ---- changed copies ---- */

static int
is_mapping(PyObject *op)
{
    return PyDict_Check(op) || (PyMapping_Check(op) && PyObject_HasAttrString(op, "keys"));
}

/* a | b and a |= b, where one of them is frozen. */
static PyObject *
frozen_or(PyObject *a, PyObject *b)
{
    if (!is_mapping(a) || !is_mapping(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    EngineState *st = engine_state_by_def(a);
    if (st == NULL) {
        PyErr_Clear();
        st = engine_state_by_def(b);
    }
    return st == NULL ? NULL : frozendict_merge(st, a, b);
}

static PyObject *
frozen_set(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs != 2) {
        PyErr_Format(PyExc_TypeError, "set() takes a key and a value (%zd given)", nargs);
        return NULL;
    }
    PyObject *op = new_with(Py_TYPE(self), self);
    if (op != NULL && PyDict_SetItem(op, args[0], args[1]) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

static PyObject *
frozen_delete(PyObject *self, PyObject *key)
{
    PyObject *op = new_with(Py_TYPE(self), self);
    if (op != NULL && PyDict_DelItem(op, key) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

static PyObject *
frozen_fromkeys(PyObject *cls, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 2) {
        PyErr_Format(PyExc_TypeError, "fromkeys() takes 1 or 2 arguments (%zd given)", nargs);
        return NULL;
    }
    PyObject *plain = PyObject_CallMethod((PyObject *)&PyDict_Type, "fromkeys", "OO", args[0],
                                          nargs == 2 ? args[1] : Py_None);
    PyObject *op = plain == NULL ? NULL : PyObject_CallOneArg(cls, plain);
    Py_XDECREF(plain);
    return op;
}

/* ---- refusals ---- */

static int
frozen_ass_subscript(PyObject *self, PyObject *Py_UNUSED(key), PyObject *value)
{
    PyErr_Format(PyExc_TypeError, "'%s' object does not support item %s; use %s to get a changed copy",
                 Py_TYPE(self)->tp_name, value == NULL ? "deletion" : "assignment",
                 value == NULL ? "delete(key)" : "set(key, value)");
    return -1;
}

/* The mutating methods of dict, so that hasattr() is honest as well. */
static PyObject *
frozen_refuse(PyObject *self, void *name)
{
    PyErr_Format(PyExc_AttributeError, "'%s' object has no attribute '%s': it never changes", Py_TYPE(self)->tp_name,
                 (const char *)name);
    return NULL;
}

static PyGetSetDef frozen_getset[] = {
    {"clear", frozen_refuse, NULL, NULL, "clear"},
    {"pop", frozen_refuse, NULL, NULL, "pop"},
    {"popitem", frozen_refuse, NULL, NULL, "popitem"},
    {"setdefault", frozen_refuse, NULL, NULL, "setdefault"},
    {"update", frozen_refuse, NULL, NULL, "update"},
    {NULL},
};

static PyMethodDef frozen_methods[] = {
    {"set", (PyCFunction)(void (*)(void))frozen_set, METH_FASTCALL,
     PyDoc_STR("set($self, key, value, /)\n--\n\nA copy with one item set.")},
    {"delete", frozen_delete, METH_O, PyDoc_STR("delete($self, key, /)\n--\n\nA copy without key; KeyError if it is not there.")},
    {"copy", frozen_copy, METH_NOARGS, PyDoc_STR("copy($self, /)\n--\n\nThis very object: it never changes.")},
    {"fromkeys", (PyCFunction)(void (*)(void))frozen_fromkeys, METH_FASTCALL | METH_CLASS,
     PyDoc_STR("fromkeys($type, keys, value=None, /)\n--\n\nA FrozenDict with the same value for every key.")},
    {"__copy__", frozen_copy, METH_NOARGS, NULL},
    {"__deepcopy__", frozen_deepcopy, METH_O, NULL},
    {"__reduce__", frozen_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, frozen_new},
    {Py_tp_init, frozen_init},
    {Py_tp_dealloc, frozen_dealloc},
    {Py_tp_traverse, frozen_traverse},
    {Py_tp_clear, frozen_clear},
    {Py_tp_richcompare, frozen_richcompare},
    {Py_tp_hash, frozen_hash},
    {Py_tp_repr, frozen_repr},
    {Py_tp_methods, frozen_methods},
    {Py_tp_getset, frozen_getset},
    {Py_mp_ass_subscript, frozen_ass_subscript},
    {Py_nb_or, frozen_or},
    {Py_nb_inplace_or, frozen_or},
    {Py_tp_doc, (void *)"FrozenDict(mapping_or_pairs=(), **items)\n--\n\nA dict that never changes: what environments "
                        "are.\n\n`|` with any mapping, set() and delete() give changed copies; it is hashable if its "
                        "values are.\n\n>>> FrozenDict(a=1) | {'b': 2}\nFrozenDict({'a': 1, 'b': 2})"},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "doeff._vendor.FrozenDict",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = slots,
};

int
frozendict_room_init(PyObject *module, EngineState *st)
{
    st->FrozenDict_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &spec, (PyObject *)&PyDict_Type);
    if (st->FrozenDict_Type == NULL) {
        return -1;
    }
    st->empty_env = new_empty(st->FrozenDict_Type);
    return st->empty_env == NULL ? -1 : PyModule_AddType(module, st->FrozenDict_Type);
}
