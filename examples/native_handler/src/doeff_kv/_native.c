/* doeff_kv: a family of effects on a table of keys and values, and the handler that answers them.
 *
 * The six effects show what a native handler can do: answer in place (KvPut, KvScan, most KvGets), raise (KvGet of an
 * unknown key), evaluate a program and go on (KvGet with `missing`), wait for another thread (KvFetch), keep the
 * continuation and leave the scope with something else (KvAwait), and go on with a kept one (KvResume).
 */
#include <doeff.h>

/* ---- the handler's own data ---- */

/* A handler holds one object. This one's is a tuple: the table, what computes and what fetches missing values, and the
 * record class KvPaused, which KvAwait makes. Module state would do for the class, and would be further away. */
enum { KV_TABLE, KV_MISSING, KV_FETCH, KV_PAUSED, KV_DATA };

static inline PyObject * /* borrowed */
kv_data(DoeffContext *cx, int which)
{
    return PyTuple_GET_ITEM(cx->data, which);
}

/* ---- KvPut and KvScan answer in place ---- */

static DoeffStep
put_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (PyDict_SetItem(kv_data(cx, KV_TABLE), DOEFF_FIELD(effect, 0), DOEFF_FIELD(effect, 1)) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static DoeffStep
scan_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *prefix = DOEFF_FIELD(effect, 0);
    PyObject *items = PyDict_Items(kv_data(cx, KV_TABLE));
    PyObject *found = items == NULL ? NULL : PyList_New(0);
    for (Py_ssize_t i = 0; found != NULL && i < PyList_GET_SIZE(items); i++) {
        PyObject *item = PyList_GET_ITEM(items, i);
        PyObject *key = PyTuple_GET_ITEM(item, 0);
        Py_ssize_t matches = PyUnicode_Check(key) ? PyUnicode_Tailmatch(key, prefix, 0, PY_SSIZE_T_MAX, -1) : 0;
        if (matches < 0 || (matches > 0 && PyList_Append(found, item) < 0)) {
            Py_CLEAR(found);
        }
    }
    Py_XDECREF(items);
    if (found == NULL || PyList_Sort(found) < 0) {
        Py_XDECREF(found);
        return DOEFF_RAISE;
    }
    *out = found;
    return DOEFF_VALUE;
}

/* ---- KvGet answers, raises, or evaluates a program ---- */

/* The frame that waits for the value of a missing key. a: the table, b: the key. */

static DoeffStep
fill_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    return PyDict_SetItem(frame->a, frame->b, value) < 0 ? DOEFF_RAISE : DOEFF_PASS; /* pass: the value goes on */
}

static PyObject *
fill_describe(const DoeffFrame *frame)
{
    return PyObject_Repr(frame->b);
}

static const DoeffFrameKind fill_frame = {
    .name = "KvFillFrame",
    .on_value = fill_value,
    .describe = fill_describe,
};

static DoeffStep
compute_missing(DoeffContext *cx, PyObject *key, PyObject **out)
{
    PyObject *missing = kv_data(cx, KV_MISSING);
    if (missing == Py_None) {
        PyErr_SetObject(PyExc_KeyError, key);
        return DOEFF_RAISE;
    }
    PyObject *table = kv_data(cx, KV_TABLE);
    PyObject *program = PyObject_CallOneArg(missing, key);
    if (program == NULL || Doeff_CheckProgram(cx->st, program, "what missing(key) gives") < 0
        || Doeff_Begin(cx) < 0 || Doeff_Push(cx, &fill_frame, Py_NewRef(table), Py_NewRef(key)) < 0) {
        Py_XDECREF(program);
        return DOEFF_RAISE;
    }
    *out = program;
    return DOEFF_PROGRAM;
}

static DoeffStep
get_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    int found = Doeff_DictGet(kv_data(cx, KV_TABLE), key, out);
    if (DOEFF_LIKELY(found > 0)) {
        return DOEFF_VALUE;
    }
    return found < 0 ? DOEFF_RAISE : compute_missing(cx, key, out);
}

/* ---- KvFetch waits for another thread ---- */

static DoeffStep
fetch_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *table = kv_data(cx, KV_TABLE), *fetch = kv_data(cx, KV_FETCH);
    PyObject *key = DOEFF_FIELD(effect, 0);
    int found = Doeff_DictGet(table, key, out);
    if (found != 0) {
        return found < 0 ? DOEFF_RAISE : DOEFF_VALUE;
    }
    if (fetch == Py_None) {
        PyErr_SetObject(PyExc_KeyError, key);
        return DOEFF_RAISE;
    }
    PyObject *completion = Doeff_NewCompletion(cx);
    PyObject *started = completion == NULL ? NULL : PyObject_CallFunctionObjArgs(fetch, key, completion, NULL);
    DoeffStep step = DOEFF_RAISE;
    if (started != NULL && Doeff_Begin(cx) == 0
        && Doeff_Push(cx, &fill_frame, Py_NewRef(table), Py_NewRef(key)) == 0) {
        step = Doeff_WaitFor(cx, completion, out);
    }
    Py_XDECREF(started);
    Py_XDECREF(completion);
    return step;
}

/* ---- KvAwait keeps the continuation, KvResume goes on with it ---- */

static DoeffStep
await_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    DoeffRecordType *paused = (DoeffRecordType *)kv_data(cx, KV_PAUSED);
    int found = Doeff_DictGet(kv_data(cx, KV_TABLE), key, out);
    if (found != 0) {
        return found < 0 ? DOEFF_RAISE : DOEFF_VALUE;
    }
    PyObject *k = Doeff_Keep(cx, effect);
    if (k == NULL) {
        return DOEFF_RAISE;
    }
    PyObject *fields[] = {Py_NewRef(key), k};
    *out = Doeff_NewRecord(paused, fields); /* the value of the handler's scope */
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
resume_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *paused = DOEFF_FIELD(effect, 0), *value = DOEFF_FIELD(effect, 1);
    if (PyDict_SetItem(kv_data(cx, KV_TABLE), DOEFF_FIELD(paused, 0), value) < 0) {
        return DOEFF_RAISE;
    }
    return Doeff_Resume(cx, DOEFF_FIELD(paused, 1), value, out);
}

static int
resume_init(DoeffRecordType *type, PyObject **f)
{
    /* The class keeps KvPaused for us. */
    PyTypeObject *paused = Doeff_ClassOf((DoeffRecordType *)Doeff_DataOf(type));
    if (!Py_IS_TYPE(f[0], paused)) {
        PyErr_Format(PyExc_TypeError, "paused must be KvPaused, got %s", Doeff_TypeName(f[0]));
        return -1;
    }
    return 0;
}

/* ---- the classes ---- */

static int
key_init(DoeffRecordType *type, PyObject **f)
{
    return PyUnicode_CheckExact(f[0]) || PyObject_Hash(f[0]) != -1 ? 0 : -1;
}

static int
scan_init(DoeffRecordType *type, PyObject **f)
{
    if (f[0] == Py_None) { /* not given */
        PyObject *empty = PyUnicode_FromString("");
        if (empty == NULL) {
            return -1;
        }
        Py_SETREF(f[0], empty);
    }
    return Doeff_CheckStr(f[0], "prefix");
}

static const DoeffRecordSpec get_spec = {
    .name = "doeff_kv.KvGetEffect",
    .doc = "KvGetEffect(key)\n--\n\nThe value of a key.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = key_init,
};
static const DoeffRecordSpec put_spec = {
    .name = "doeff_kv.KvPutEffect",
    .doc = "KvPutEffect(key, value)\n--\n\nSet the value of a key.",
    .fields = {"key", "value"}, .required = 2, .effect = 1, .subclassable = 1, .init = key_init,
};
static const DoeffRecordSpec scan_spec = {
    .name = "doeff_kv.KvScanEffect",
    .doc = "KvScanEffect(prefix='')\n--\n\nThe items whose key begins with a prefix.",
    .fields = {"prefix"}, .effect = 1, .subclassable = 1, .init = scan_init,
};
static const DoeffRecordSpec fetch_spec = {
    .name = "doeff_kv.KvFetchEffect",
    .doc = "KvFetchEffect(key)\n--\n\nThe value of a key, from wherever it has to be fetched.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = key_init,
};
static const DoeffRecordSpec await_spec = {
    .name = "doeff_kv.KvAwaitEffect",
    .doc = "KvAwaitEffect(key)\n--\n\nThe value of a key, as soon as there is one.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = key_init,
};
static const DoeffRecordSpec resume_spec = {
    .name = "doeff_kv.KvResumeEffect",
    .doc = "KvResumeEffect(paused, value)\n--\n\nGo on with a program that waits for a key.",
    .fields = {"paused", "value"}, .required = 2, .effect = 1, .init = resume_init,
};
static const DoeffRecordSpec paused_spec = {
    .name = "doeff_kv.KvPaused",
    .doc = "KvPaused(key, continuation)\n--\n\nA program that waits for a key.",
    .fields = {"key", "continuation"}, .required = 2, .compared = 1,
};

static PyMethodDef get_def = {
    "KvGet", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("KvGet(key)\n--\n\nThe value of key. If there is none: what the program missing(key) of the handler gives, "
              "which is kept;\nKeyError at the yield if the handler has no such function.\n\n"
              ">>> name = yield KvGet(\"name\")")};
static PyMethodDef put_def = {
    "KvPut", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("KvPut(key, value)\n--\n\nSet the value of key. Gives None.\n\n>>> yield KvPut(\"name\", \"Ada\")")};
static PyMethodDef scan_def = {
    "KvScan", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("KvScan(prefix='')\n--\n\nThe (key, value) pairs whose key is a str with this prefix, in a sorted list.\n\n"
              ">>> users = yield KvScan(\"user:\")")};
static PyMethodDef fetch_def = {
    "KvFetch", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("KvFetch(key)\n--\n\nThe value of key. If there is none, the handler's fetch(key, completion) is called, and "
              "the task waits\nuntil somebody completes the completion, from whatever thread; the value is kept.\n\n"
              ">>> page = yield KvFetch(\"page\")")};
static PyMethodDef await_def = {
    "KvAwait", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("KvAwait(key)\n--\n\nThe value of key. If there is none, the program stops here, and the WithHandler around "
              "it gives\nKvPaused(key, continuation); KvResume goes on.\n\n>>> answer = yield KvAwait(\"answer\")")};
static PyMethodDef resume_def = {
    "KvResume", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("KvResume(paused, value)\n--\n\nSet the key that a program waits for and run the rest of it. Gives what the "
              "WithHandler around it gives\nin the end: a value, or the next KvPaused. RuntimeError at the yield the "
              "second time.\n\n>>> result = yield KvResume(paused, 42)")};

/* ---- the module ---- */

typedef struct KvState {
    PyTypeObject *get, *put, *scan, *fetch, *await, *resume; /* borrowed: classes live as long as the engine */
    DoeffRecordType *paused;
} KvState;

/* kv_handler(table=None, missing=None, fetch=None) */
static PyObject *
kv_handler(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"table", "missing", "fetch", NULL};
    static const DoeffParameters parameters = {"kv_handler", names, 3, 0};
    PyObject *bound[3];
    if (Doeff_BindArguments(&parameters, args, nargs, kwnames, bound) < 0) {
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        bound[i] = bound[i] == NULL ? Py_None : bound[i];
    }
    PyObject *table = bound[0], *missing = bound[1], *fetch = bound[2];
    if (table != Py_None && !PyDict_Check(table)) {
        return PyErr_Format(PyExc_TypeError, "table must be dict, got %s", Doeff_TypeName(table));
    }
    if ((missing != Py_None && Doeff_CheckCallable(missing, "missing") < 0)
        || (fetch != Py_None && Doeff_CheckCallable(fetch, "fetch") < 0)) {
        return NULL;
    }
    KvState *st = PyModule_GetState(module);
    table = table == Py_None ? PyDict_New() : Py_NewRef(table);
    PyObject *data = table == NULL ? NULL : PyTuple_Pack(KV_DATA, table, missing, fetch, (PyObject *)st->paused);
    DoeffEngine *engine = Doeff_EngineOf(st->paused);
    PyObject *handler = data == NULL ? NULL : Doeff_NewHandler(engine, "kv_handler", data, NULL);
    Py_XDECREF(table);
    Py_XDECREF(data);
    if (handler != NULL
        && (Doeff_Serve(handler, st->get, get_perform) < 0 || Doeff_Serve(handler, st->put, put_perform) < 0
            || Doeff_Serve(handler, st->scan, scan_perform) < 0 || Doeff_Serve(handler, st->fetch, fetch_perform) < 0
            || Doeff_Serve(handler, st->await, await_perform) < 0
            || Doeff_Serve(handler, st->resume, resume_perform) < 0)) {
        Py_CLEAR(handler);
    }
    return handler;
}

static PyMethodDef functions[] = {
    {"kv_handler", (PyCFunction)(void (*)(void))kv_handler, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("kv_handler(table=None, missing=None, fetch=None)\n--\n\nA handler of the Kv effects on a dict, which is "
               "used in place (a new one if it is None).\n\nmissing: a function that gives a program for a key that is "
               "not there; it runs where the KvGet stands.\nfetch: a function of a key and a completion, for KvFetch.")},
    {NULL},
};

/* The class of an effect (borrowed), its constructor in the module; NULL with an error. */
static PyTypeObject *
define(PyObject *module, DoeffEngine *engine, const DoeffRecordSpec *spec, PyMethodDef *constructor)
{
    DoeffRecordType *type = Doeff_Define(module, engine, NULL, &(DoeffEffectDef){spec, constructor, NULL});
    return type == NULL ? NULL : Doeff_ClassOf(type);
}

static int
kv_exec(PyObject *module)
{
    if (doeff_import(module) < 0) {
        return -1;
    }
    DoeffEngine *engine = Doeff_Engine();
    if (engine == NULL) {
        return -1;
    }
    KvState *st = PyModule_GetState(module);
    st->paused = Doeff_NewRecordType(module, engine, &paused_spec);
    DoeffRecordType *resume =
        st->paused == NULL ? NULL
                           : Doeff_Define(module, engine, NULL, &(DoeffEffectDef){&resume_spec, &resume_def, NULL});
    if (resume == NULL) {
        return -1;
    }
    Doeff_SetDataOf(resume, Py_NewRef((PyObject *)st->paused));
    st->resume = Doeff_ClassOf(resume);
    st->get = define(module, engine, &get_spec, &get_def);
    st->put = define(module, engine, &put_spec, &put_def);
    st->scan = define(module, engine, &scan_spec, &scan_def);
    st->fetch = define(module, engine, &fetch_spec, &fetch_def);
    st->await = define(module, engine, &await_spec, &await_def);
    return st->get == NULL || st->put == NULL || st->scan == NULL || st->fetch == NULL
                   || st->await == NULL
               ? -1
               : 0;
}

static PyModuleDef_Slot kv_slots[] = {
    {Py_mod_exec, kv_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

static PyModuleDef kv_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "doeff_kv._native",
    .m_doc = "The Kv effects and their handler, in C.",
    .m_size = sizeof(KvState),
    .m_methods = functions,
    .m_slots = kv_slots,
};

PyMODINIT_FUNC
PyInit__native(void)
{
    return PyModuleDef_Init(&kv_module);
}
