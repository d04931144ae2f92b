#include "record.h"

#include "../state.h"
#include "imports.h"

/* ---- look-up ---- */

RecordInfo *
record_info_of(EngineState *st, PyTypeObject *type)
{
    RecordInfo *info = *record_slot(st, type);
    if (info != NULL) {
        return info;
    }
    PyObject *mro = type->tp_mro;
    if (mro == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(mro); i++) {
        info = *record_slot(st, (PyTypeObject *)PyTuple_GET_ITEM(mro, i));
        if (info != NULL) {
            return info;
        }
    }
    return NULL;
}

static inline RecordInfo *
info_of(PyObject *op)
{
    return ((DoeffRecord *)op)->info;
}

static inline int
compared(const RecordInfo *info)
{
    return info->spec->compared ? info->spec->compared : info->nfields;
}

/* ---- making and freeing ---- */

static inline PyObject *
alloc_exact(RecordInfo *info)
{
    DoeffRecord *op = (DoeffRecord *)freelist_pop(&info->free);
    if (DOEFF_UNLIKELY(op == NULL)) {
        op = PyObject_GC_New(DoeffRecord, info->type);
        if (op == NULL) {
            return NULL;
        }
    }
    op->info = info; /* the free list kept its link there */
    op->tracked = 0;
    return (PyObject *)op;
}

static inline int
holds_containers(const RecordInfo *info, PyObject *const *f)
{
    for (int i = 0; i < info->total; i++) {
        if (f[i] != NULL && PyType_HasFeature(Py_TYPE(f[i]), Py_TPFLAGS_HAVE_GC)) {
            return 1;
        }
    }
    return 0;
}

PyObject *
record_blank(RecordInfo *info)
{
    return alloc_exact(info);
}

PyObject *
record_new(RecordInfo *info, PyObject **f)
{
    PyObject *op = alloc_exact(info);
    if (op == NULL) {
        for (int i = 0; i < info->total; i++) {
            Py_XDECREF(f[i]);
        }
        return NULL;
    }
    for (int i = 0; i < info->total; i++) {
        RECORD_FIELD(op, i) = f[i];
    }
    if (holds_containers(info, f)) {
        record_track(op);
    }
    return op;
}

PyObject *
record_new1(RecordInfo *info, PyObject *a)
{
    PyObject *f[RECORD_MAX_FIELDS + 1] = {a};
    return record_new(info, f);
}

PyObject *
record_new2(RecordInfo *info, PyObject *a, PyObject *b)
{
    PyObject *f[RECORD_MAX_FIELDS + 1] = {a, b};
    return record_new(info, f);
}

/* The number of fields of any instance, from the C layout of its record base. */
static inline int
total_of(PyObject *op)
{
    return info_of(op)->total;
}

static int
record_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    if (info_of(op) != NULL) {
        for (int i = 0; i < total_of(op); i++) {
            Py_VISIT(RECORD_FIELD(op, i));
        }
    }
    return 0;
}

/* Gives up fields and memory of an untracked record; 1 if the free list took it, type and all. */
static inline int
record_release(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    RecordInfo *info = info_of(op);
    int n = info->nfields;
    for (int i = 0; i < n; i++) {
        Py_DECREF(RECORD_FIELD(op, i));
    }
    if (info->total > n) {
        Py_XDECREF(RECORD_FIELD(op, n));
    }
    /* An exact object whose type still has its module may serve again. */
    if (DOEFF_LIKELY(tp == info->type && ((PyHeapTypeObject *)tp)->ht_module != NULL)
        && freelist_push(&info->free, op)) {
        return 1;
    }
    tp->tp_free(op);
    return 0;
}

static void
record_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    RecordInfo *info = info_of(op);
    if (DOEFF_LIKELY(info != NULL && !((DoeffRecord *)op)->tracked)) {
        if (!record_release(op)) {
            Py_DECREF(tp);
        }
        return;
    }
    PyObject_GC_UnTrack(op);
    if (info == NULL) { /* a subclass instance whose __new__ failed */
        tp->tp_free(op);
        Py_DECREF(tp);
        return;
    }
    DoeffNesting *nesting = DOEFF_LIKELY(((PyHeapTypeObject *)tp)->ht_module != NULL) ? &info->st->nesting
                                                                                     : engine_nesting_of(tp);
    nesting_dealloc(nesting, op, record_dealloc, record_release);
}

/* ---- construction from Python ---- */

static int
find_name(PyObject *const *names, int n, PyObject *name)
{
    for (int i = 0; i < n; i++) {
        if (names[i] == name) {
            return i;
        }
    }
    for (int i = 0; i < n; i++) {
        if (PyUnicode_Compare(names[i], name) == 0) {
            return i;
        }
    }
    return -1;
}

static int
positional_limit(const RecordInfo *info)
{
    int kw = info->spec->keyword_only;
    return kw == 0 ? info->nfields : kw < 0 ? 0 : kw;
}

static const char *
short_name(const char *dotted)
{
    const char *dot = strrchr(dotted, '.');
    return dot == NULL ? dotted : dot + 1;
}

/* Binds a call to f (borrowed entries; NULL where the default counts). */
static int
bind_call(RecordInfo *info, PyObject *const *names, int limit, PyObject *const *args,
          Py_ssize_t nargs, PyObject *kwnames, PyObject **f, PyObject **created_at)
{
    memset(f, 0, sizeof(PyObject *) * (RECORD_MAX_FIELDS + 1));
    *created_at = NULL;
    if (nargs > limit) {
        PyErr_Format(PyExc_TypeError, "%s() takes %d positional argument%s but %zd were given",
                     short_name(info->spec->name), limit, limit == 1 ? "" : "s", nargs);
        return -1;
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        f[i] = args[i];
    }
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    for (Py_ssize_t k = 0; k < nkw; k++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, k);
        int i = find_name(names, info->nfields, name);
        if (i < 0 && info->spec->effect && PyUnicode_CompareWithASCIIString(name, "created_at") == 0) {
            *created_at = args[nargs + k] == Py_None ? NULL : args[nargs + k];
            continue;
        }
        if (i < 0) {
            PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", short_name(info->spec->name), name);
            return -1;
        }
        if (f[i] != NULL) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", short_name(info->spec->name), name);
            return -1;
        }
        f[i] = args[nargs + k];
    }
    for (int i = 0; i < info->spec->required; i++) {
        if (f[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%U'", short_name(info->spec->name), names[i]);
            return -1;
        }
    }
    return 0;
}

/* Strong references with defaults filled in, checked by the family. */
static int
own_fields(RecordInfo *info, PyObject **f, PyObject *created_at)
{
    for (int i = 0; i < info->nfields; i++) {
        f[i] = Py_NewRef(f[i] == NULL ? Py_None : f[i]);
    }
    if (info->spec->effect) {
        f[info->nfields] = Py_XNewRef(created_at);
    }
    if (info->spec->init != NULL && info->spec->init(info, f) < 0) {
        for (int i = 0; i < info->total; i++) {
            Py_XDECREF(f[i]);
        }
        return -1;
    }
    return 0;
}

static PyObject *
construct(RecordInfo *info, PyObject *const *names, int limit, PyObject *const *args,
          Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *f[RECORD_MAX_FIELDS + 1];
    PyObject *created_at;
    if (bind_call(info, names, limit, args, nargs, kwnames, f, &created_at) < 0
        || own_fields(info, f, created_at) < 0) {
        return NULL;
    }
    return record_new(info, f);
}

PyObject *
record_construct(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    RecordInfo *info = (RecordInfo *)self;
    PyObject *op;
    if (DOEFF_LIKELY(kwnames == NULL && nargs == info->plain)) {
        op = alloc_exact(info);
        if (op == NULL) {
            return NULL;
        }
        PyObject **f = ((DoeffRecord *)op)->f;
        unsigned long flags = 0;
        for (Py_ssize_t i = 0; i < nargs; i++) {
            f[i] = Py_NewRef(args[i]);
            flags |= Py_TYPE(f[i])->tp_flags;
        }
        if (info->total > nargs) {
            f[nargs] = NULL;
        }
        if (info->init != NULL && DOEFF_UNLIKELY(info->init(info, f) < 0)) {
            Py_DECREF(op);
            return NULL;
        }
        if (flags & Py_TPFLAGS_HAVE_GC) {
            record_track(op);
        }
    }
    else {
        /* Constructors take every field by position, whatever the class says. */
        int kw = info->spec->keyword_only;
        op = construct(info, info->keywords, kw > 0 ? kw : info->nfields, args, nargs, kwnames);
    }
    if (DOEFF_UNLIKELY(info->st->record_origins) && op != NULL && info->spec->effect
        && record_stamp(info, op) < 0) {
        Py_CLEAR(op);
    }
    return op;
}

int
record_stamp(RecordInfo *info, PyObject *effect)
{
    PyObject **slot = &RECORD_FIELD(effect, info->nfields);
    if (*slot != NULL) {
        return 0;
    }
    PyObject *origin = import_call("doeff._origin", "capture", "()");
    if (origin == NULL) {
        return -1;
    }
    *slot = origin;
    record_track(effect);
    return 0;
}

static PyObject *
record_type_call(PyObject *type, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    EngineState *st = engine_state_of((PyTypeObject *)type);
    if (st == NULL) {
        return NULL;
    }
    RecordInfo *info = *record_slot(st, (PyTypeObject *)type);
    if (kwnames == NULL && PyVectorcall_NARGS(nargsf) == info->plain && !info->spec->effect) {
        return record_construct((PyObject *)info, args, info->plain, NULL);
    }
    return construct(info, info->names, positional_limit(info), args, PyVectorcall_NARGS(nargsf),
                     kwnames);
}

/* Subclasses written in Python come through here. */
static PyObject *
record_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyType_GetModuleByDef(type, &doeff_engine_module);
    if (module == NULL) {
        return NULL;
    }
    RecordInfo *info = record_info_of(PyModule_GetState(module), type);
    PyObject *f[RECORD_MAX_FIELDS + 1];
    PyObject *created_at;
    Py_ssize_t nkw = kwargs == NULL ? 0 : PyDict_GET_SIZE(kwargs);
    Py_ssize_t nargs = PyTuple_GET_SIZE(args);
    PyObject *kwnames = NULL;
    PyObject **all = PyMem_New(PyObject *, nargs + nkw + 1);
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < nargs; i++) {
        all[i] = PyTuple_GET_ITEM(args, i);
    }
    PyObject *op = NULL;
    if (nkw > 0) {
        kwnames = PyTuple_New(nkw);
        if (kwnames == NULL) {
            goto done;
        }
        Py_ssize_t pos = 0, k = 0;
        PyObject *name, *value;
        while (PyDict_Next(kwargs, &pos, &name, &value)) {
            PyTuple_SET_ITEM(kwnames, k, Py_NewRef(name));
            all[nargs + k++] = value;
        }
    }
    if (bind_call(info, info->names, positional_limit(info), all, nargs, kwnames, f, &created_at) < 0
        || own_fields(info, f, created_at) < 0) {
        goto done;
    }
    op = type->tp_alloc(type, 0);
    if (op == NULL) {
        for (int i = 0; i < info->total; i++) {
            Py_XDECREF(f[i]);
        }
        goto done;
    }
    ((DoeffRecord *)op)->info = info;
    ((DoeffRecord *)op)->tracked = 1; /* tp_alloc has done it */
    for (int i = 0; i < info->total; i++) {
        RECORD_FIELD(op, i) = f[i];
    }
done:
    PyMem_Free(all);
    Py_XDECREF(kwnames);
    return op;
}

/* ---- behaviour as a value ---- */

static PyObject *
record_richcompare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int equal = 1;
    int n = compared(info_of(a));
    for (int i = 0; i < n && equal; i++) {
        PyObject *x = Py_NewRef(RECORD_FIELD(a, i));
        PyObject *y = Py_NewRef(RECORD_FIELD(b, i));
        if (Py_EnterRecursiveCall(" in comparison")) {
            equal = -1;
        }
        else {
            equal = PyObject_RichCompareBool(x, y, Py_EQ);
            Py_LeaveRecursiveCall();
        }
        Py_DECREF(x);
        Py_DECREF(y);
        if (equal < 0) {
            return NULL;
        }
    }
    return PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *
fields_tuple(PyObject *op, int n)
{
    PyObject *tuple = PyTuple_New(n);
    if (tuple != NULL) {
        for (int i = 0; i < n; i++) {
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(RECORD_FIELD(op, i)));
        }
    }
    return tuple;
}

static Py_hash_t
record_hash(PyObject *op)
{
    PyObject *key = fields_tuple(op, compared(info_of(op)));
    if (key == NULL) {
        return -1;
    }
    Py_hash_t hash = -1;
    if (!Py_EnterRecursiveCall(" while hashing")) {
        hash = PyObject_Hash(key);
        Py_LeaveRecursiveCall();
    }
    Py_DECREF(key);
    if (hash != -1) { /* Ok(1) and Some(1) should not meet in one bucket */
        hash ^= (Py_hash_t)((size_t)info_of(op)->type >> 4);
        hash = hash == -1 ? -2 : hash;
    }
    return hash;
}

static PyObject *
record_repr(PyObject *op)
{
    RecordInfo *info = info_of(op);
    if (Py_EnterRecursiveCall(" while getting the repr")) {
        return NULL;
    }
    int status = Py_ReprEnter(op);
    if (status != 0) {
        Py_LeaveRecursiveCall();
        return status < 0 ? NULL : PyUnicode_FromFormat("%s(...)", short_name(Py_TYPE(op)->tp_name));
    }
    PyObject *result = NULL;
    int n = compared(info);
    PyObject *parts = PyList_New(n);
    PyObject *comma = PyUnicode_FromString(", ");
    PyObject *body = NULL;
    if (parts == NULL || comma == NULL) {
        goto done;
    }
    for (int i = 0; i < n; i++) {
        PyObject *part = PyUnicode_FromFormat("%U=%R", info->names[i], RECORD_FIELD(op, i));
        if (part == NULL) {
            goto done;
        }
        PyList_SET_ITEM(parts, i, part);
    }
    body = PyUnicode_Join(comma, parts);
    if (body != NULL) {
        PyObject *name = PyType_GetName(Py_TYPE(op));
        if (name != NULL) {
            result = PyUnicode_FromFormat("%U(%U)", name, body);
            Py_DECREF(name);
        }
    }
done:
    Py_ReprLeave(op);
    Py_LeaveRecursiveCall();
    Py_XDECREF(parts);
    Py_XDECREF(comma);
    Py_XDECREF(body);
    return result;
}

static int
record_setattro(PyObject *op, PyObject *name, PyObject *value)
{
    RecordInfo *info = info_of(op);
    int exact = Py_IS_TYPE(op, info->type);
    if (!exact && find_name(info->names, info->nfields, name) < 0) {
        return PyObject_GenericSetAttr(op, name, value);
    }
    PyObject *error = import_attr("dataclasses", "FrozenInstanceError");
    if (error != NULL) {
        PyErr_Format(error, value == NULL ? "cannot delete field %R" : "cannot assign to field %R", name);
        Py_DECREF(error);
    }
    return -1;
}

static PyObject *
record_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    RecordInfo *info = info_of(op);
    PyObject *restore = import_attr("doeff._engine", "_restore_record");
    if (restore == NULL) {
        return NULL;
    }
    PyObject *fields = fields_tuple(op, info->nfields);
    PyObject *name = fields == NULL ? NULL : PyUnicode_InternFromString("__dict__");
    PyObject *dict = NULL;
    PyObject *result = NULL;
    if (name != NULL && PyObject_GetOptionalAttr(op, name, &dict) >= 0) {
        result = Py_BuildValue("O(OO)O", restore, Py_TYPE(op), fields, dict == NULL ? Py_None : dict);
    }
    Py_DECREF(restore);
    Py_XDECREF(name);
    Py_XDECREF(fields);
    Py_XDECREF(dict);
    return result;
}

/* _restore_record(cls, fields): what pickle and copy call; the fields were checked once. */
static PyObject *
restore_record(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    EngineState *st = PyModule_GetState(module);
    if (nargs != 2 || !PyType_Check(args[0]) || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "_restore_record(cls, fields) is for pickle and copy");
        return NULL;
    }
    PyTypeObject *type = (PyTypeObject *)args[0];
    RecordInfo *info = record_info_of(st, type);
    if (info == NULL || PyTuple_GET_SIZE(args[1]) != info->nfields) {
        PyErr_Format(PyExc_TypeError, "%s was pickled by another version of doeff", type->tp_name);
        return NULL;
    }
    int exact = type == info->type;
    PyObject *op = exact ? alloc_exact(info) : type->tp_alloc(type, 0);
    if (op == NULL) {
        return NULL;
    }
    ((DoeffRecord *)op)->info = info;
    ((DoeffRecord *)op)->tracked = !exact; /* tp_alloc has done it */
    for (int i = 0; i < info->nfields; i++) {
        RECORD_FIELD(op, i) = Py_NewRef(PyTuple_GET_ITEM(args[1], i));
    }
    if (info->spec->effect) {
        RECORD_FIELD(op, info->nfields) = NULL;
    }
    record_track(op);
    return op;
}

static PyMethodDef record_methods[] = {
    {"__reduce__", record_reduce, METH_NOARGS, NULL},
    {NULL},
};

/* ---- __dataclass_fields__ and __dataclass_params__, made when first asked for ---- */

typedef struct RecordFields {
    PyObject_HEAD
    PyObject *info; /* strong */
    PyObject *name; /* which of the two attributes */
} RecordFields;

static PyObject *
fields_get(PyObject *self, PyObject *Py_UNUSED(obj), PyObject *owner)
{
    RecordFields *lazy = (RecordFields *)self;
    RecordInfo *info = (RecordInfo *)lazy->info;
    PyObject *module = PyImport_ImportModule("doeff._dataclass");
    if (module == NULL) {
        return NULL;
    }
    PyObject *names = PyTuple_New(info->nfields);
    PyObject *result = NULL;
    if (names != NULL) {
        for (int i = 0; i < info->nfields; i++) {
            PyTuple_SET_ITEM(names, i, Py_NewRef(info->names[i]));
        }
        result = PyObject_CallMethod(module, "describe", "OOiii", lazy->name, names, info->spec->required,
                                     positional_limit(info), compared(info));
        Py_DECREF(names);
    }
    (void)owner;
    Py_DECREF(module);
    return result;
}

static void
fields_dealloc(PyObject *self)
{
    PyTypeObject *tp = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((RecordFields *)self)->info);
    Py_XDECREF(((RecordFields *)self)->name);
    tp->tp_free(self);
    Py_DECREF(tp);
}

static int
fields_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((RecordFields *)self)->info);
    return 0;
}

static PyType_Slot fields_slots[] = {
    {Py_tp_descr_get, fields_get},
    {Py_tp_dealloc, fields_dealloc},
    {Py_tp_traverse, fields_traverse},
    {0, NULL},
};

static PyType_Spec fields_spec = {
    .name = "doeff._engine.RecordFields",
    .basicsize = sizeof(RecordFields),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = fields_slots,
};

static int
add_lazy_fields(EngineState *st, RecordInfo *info, PyObject *dict)
{
    static const char *const names[] = {"__dataclass_fields__", "__dataclass_params__"};
    for (int i = 0; i < 2; i++) {
        RecordFields *lazy = PyObject_GC_New(RecordFields, st->RecordFields_Type);
        if (lazy == NULL) {
            return -1;
        }
        lazy->info = Py_NewRef((PyObject *)info);
        lazy->name = PyUnicode_InternFromString(names[i]);
        PyObject_GC_Track(lazy);
        int failed = lazy->name == NULL || PyDict_SetItem(dict, lazy->name, (PyObject *)lazy) < 0;
        Py_DECREF(lazy);
        if (failed) {
            return -1;
        }
    }
    return 0;
}

/* ---- infos and types ---- */

static void
info_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    RecordInfo *info = (RecordInfo *)op;
    PyObject_GC_UnTrack(op);
    freelist_drain(&info->free);
    Py_XDECREF(info->type);
    Py_XDECREF(info->data);
    Py_XDECREF(info->home);
    for (int i = 0; i < info->nfields; i++) {
        Py_XDECREF(info->names[i]);
        Py_XDECREF(info->keywords[i]);
    }
    tp->tp_free(op);
    Py_DECREF(tp);
}

static int
info_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((RecordInfo *)op)->type);
    Py_VISIT(((RecordInfo *)op)->data);
    return 0;
}

static int
info_clear(PyObject *op)
{
    Py_CLEAR(((RecordInfo *)op)->data);
    return 0;
}

/* A constructor function pickles as an attribute of its info, so infos pickle by their class and give
 * their constructors by name. */
static PyObject *
info_getattro(PyObject *op, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(op, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    PyErr_Clear();
    PyObject *home = ((RecordInfo *)op)->home;
    PyObject *module = home == NULL ? PyImport_ImportModule("doeff._engine") : PyImport_Import(home);
    value = module == NULL ? NULL : PyObject_GetAttr(module, name);
    Py_XDECREF(module);
    if (value != NULL && !(PyCFunction_Check(value) && PyCFunction_GET_SELF(value) == op)) {
        Py_CLEAR(value);
        PyErr_Format(PyExc_AttributeError, "%s has no constructor %R", ((RecordInfo *)op)->spec->name, name);
    }
    return value;
}

static PyObject *
info_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *find = import_attr("doeff._engine", "_record_info");
    return find == NULL ? NULL : Py_BuildValue("N(O)", find, ((RecordInfo *)op)->type);
}

/* _record_info(cls): the info of a record class, for pickle. */
static PyObject *
find_info(PyObject *module, PyObject *cls)
{
    RecordInfo *info = PyType_Check(cls) ? *record_slot(PyModule_GetState(module), (PyTypeObject *)cls) : NULL;
    if (info == NULL) {
        PyErr_Format(PyExc_TypeError, "cls must be an effect class of doeff, got %R", cls);
        return NULL;
    }
    return Py_NewRef((PyObject *)info);
}

static PyMethodDef info_methods[] = {
    {"__reduce__", info_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot info_slots[] = {
    {Py_tp_getattro, info_getattro},
    {Py_tp_methods, info_methods},
    {Py_tp_dealloc, info_dealloc},
    {Py_tp_traverse, info_traverse},
    {Py_tp_clear, info_clear},
    {0, NULL},
};

static PyType_Spec info_spec = {
    .name = "doeff._engine.RecordInfo",
    .basicsize = sizeof(RecordInfo),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = info_slots,
};

static int
fill_names(RecordInfo *info, const RecordSpec *spec)
{
    for (int i = 0; i < info->nfields; i++) {
        const char *keyword = spec->keywords[0] != NULL ? spec->keywords[i] : spec->fields[i];
        info->names[i] = PyUnicode_InternFromString(spec->fields[i]);
        info->keywords[i] = PyUnicode_InternFromString(keyword);
        if (info->names[i] == NULL || info->keywords[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

static PyTypeObject *
make_type(PyObject *module, RecordInfo *info, const RecordSpec *spec, PyTypeObject *base)
{
    PyMemberDef members[RECORD_MAX_FIELDS + 2];
    memset(members, 0, sizeof(members));
    for (int i = 0; i < info->total; i++) {
        members[i].name = i < info->nfields ? spec->fields[i] : "created_at";
        members[i].type = DOEFF_T_OBJECT;
        members[i].flags = READONLY;
        members[i].offset = (Py_ssize_t)(offsetof(DoeffRecord, f) + sizeof(PyObject *) * (size_t)i);
    }
    PyType_Slot slots[32] = {
        {Py_tp_dealloc, record_dealloc}, {Py_tp_traverse, record_traverse},
        {Py_tp_new, record_tp_new},      {Py_tp_members, members},
        {Py_tp_hash, record_hash},       {Py_tp_repr, record_repr},
        {Py_tp_setattro, record_setattro},
        {Py_tp_richcompare, record_richcompare},
        {Py_tp_doc, (void *)spec->doc},
    };
    int n = 9;
    int has_methods = 0;
    for (const PyType_Slot *s = spec->slots; s != NULL && s->slot != 0; s++) {
        has_methods |= s->slot == Py_tp_methods;
        int known = 0;
        for (int i = 0; i < n; i++) { /* a family's own slot replaces the general one */
            if (slots[i].slot == s->slot) {
                slots[i] = *s;
                known = 1;
            }
        }
        if (!known) {
            slots[n++] = *s;
        }
    }
    if (!has_methods) {
        slots[n++] = (PyType_Slot){Py_tp_methods, record_methods};
    }
    PyType_Spec type_spec = {
        .name = spec->name,
        .basicsize = (int)(offsetof(DoeffRecord, f) + sizeof(PyObject *) * (size_t)info->total),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
                 | (spec->subclassable ? Py_TPFLAGS_BASETYPE : 0),
        .slots = slots,
    };
    /* Of the engine's module wherever its name stands: the free list and calls of the class need the state. */
    PyObject *owner = PyModule_GetDef(module) == &doeff_engine_module ? module : PyType_GetModule(info->st->Effect_Type);
    return (PyTypeObject *)PyType_FromModuleAndSpec(owner, &type_spec, (PyObject *)base);
}

/* Room for one more in the table. */
static int
grow_table(EngineState *st)
{
    if (st->record_count * 2 < st->record_table_size) {
        return 0;
    }
    size_t size = st->record_table_size == 0 ? 256 : st->record_table_size * 2;
    RecordInfo **table = PyMem_Calloc(size, sizeof(RecordInfo *));
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    RecordInfo **old = st->record_table;
    size_t old_size = st->record_table_size;
    st->record_table = table;
    st->record_table_size = size;
    for (size_t i = 0; i < old_size; i++) {
        if (old[i] != NULL) {
            *record_slot(st, old[i]->type) = old[i];
        }
    }
    PyMem_Free(old);
    return 0;
}

RecordInfo *
record_type_new(PyObject *module, EngineState *st, const RecordSpec *spec)
{
    return record_type_new_under(module, st, spec, spec->effect ? st->Effect_Type : NULL);
}

RecordInfo *
record_type_new_under(PyObject *module, EngineState *st, const RecordSpec *spec, PyTypeObject *base)
{
    RecordInfo *info = PyObject_GC_New(RecordInfo, st->RecordInfo_Type);
    if (info == NULL) {
        return NULL;
    }
    info->type = NULL;
    info->spec = spec;
    info->st = st;
    info->nfields = 0;
    info->constructor = NULL;
    info->data = info->home = NULL;
    memset(&info->plain_def, 0, sizeof(info->plain_def));
    info->free = (DoeffFreeList){NULL, 0};
    info->init = spec->init;
    info->plain = -1;
    memset(info->names, 0, sizeof(info->names));
    memset(info->keywords, 0, sizeof(info->keywords));
    while (info->nfields < RECORD_MAX_FIELDS && spec->fields[info->nfields] != NULL) {
        info->nfields++;
    }
    info->total = info->nfields + (spec->effect ? 1 : 0);
    info->plain = spec->keyword_only == 0 ? info->nfields : -1;
    PyObject_GC_Track(info);
    PyObject *match = NULL;
    if (grow_table(st) < 0 || fill_names(info, spec) < 0 || (info->type = make_type(module, info, spec, base)) == NULL) {
        goto error;
    }
    /* The type is immutable for Python, so these go in before anybody has seen it. */
    int limit = positional_limit(info);
    match = PyTuple_New(limit);
    if (match == NULL) {
        goto error;
    }
    for (int i = 0; i < limit; i++) {
        PyTuple_SET_ITEM(match, i, Py_NewRef(info->names[i]));
    }
    PyObject *dict = info->type->tp_dict;
    PyObject *reduce = PyDict_GetItemString(dict, "__reduce__");
    if (reduce == NULL) {
        PyObject *descr = PyDescr_NewMethod(info->type, &record_methods[0]);
        if (descr == NULL || PyDict_SetItemString(dict, "__reduce__", descr) < 0) {
            Py_XDECREF(descr);
            goto error;
        }
        Py_DECREF(descr);
    }
    if (PyDict_SetItemString(dict, "__match_args__", match) < 0 || add_lazy_fields(st, info, dict) < 0) {
        goto error;
    }
    Py_CLEAR(match);
    PyType_Modified(info->type);
    info->type->tp_vectorcall = record_type_call;
    *record_slot(st, info->type) = info; /* the table keeps the reference */
    st->record_count++;
    if (PyModule_AddObjectRef(module, short_name(spec->name), (PyObject *)info->type) < 0) {
        return NULL;
    }
    return info;
error:
    Py_XDECREF(match);
    Py_DECREF(info);
    return NULL;
}

int
record_add_constructor(PyObject *module, RecordInfo *info, PyMethodDef *def)
{
    int ours = PyModule_GetDef(module) == &doeff_engine_module;
    PyObject *home = ours ? PyUnicode_FromString("doeff.effects") : PyModule_GetNameObject(module);
    if (home == NULL) {
        return -1;
    }
    if (def->ml_meth == NULL) {
        info->plain_def = *def;
        info->plain_def.ml_meth = (PyCFunction)(void (*)(void))record_construct;
        def = &info->plain_def;
    }
    PyObject *function = PyCFunction_NewEx(def, (PyObject *)info, home);
    int failed = function == NULL || PyModule_AddObjectRef(module, def->ml_name, function) < 0;
    Py_XDECREF(function);
    if (!failed && info->constructor == NULL) {
        info->constructor = def->ml_name;
    }
    if (!ours) {
        Py_XSETREF(info->home, Py_NewRef(home));
    }
    Py_DECREF(home);
    return failed ? -1 : 0;
}

static PyMethodDef module_functions[] = {
    {"_record_info", find_info, METH_O, NULL},
    {"_restore_record", (PyCFunction)(void (*)(void))restore_record, METH_FASTCALL, NULL},
    {NULL},
};

int
record_room_init(PyObject *module, EngineState *st)
{
    if (grow_table(st) < 0) {
        return -1;
    }
    st->RecordInfo_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &info_spec, NULL);
    st->RecordFields_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &fields_spec, NULL);
    if (st->RecordInfo_Type == NULL || st->RecordFields_Type == NULL) {
        return -1;
    }
    return PyModule_AddFunctions(module, module_functions);
}
