/* An extension that uses doeff.h as a stranger would: one effect, Do(what, arg), whose handler does what it is told,
 * the wrong things included. Built twice by the tests: once with another ABI number, which must not import. */
#include <doeff.h>

#include <string.h>

#ifndef STRANGER
#define STRANGER stranger
#endif
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)
#define TEXT_(a) #a
#define TEXT(a) TEXT_(a)

/* ---- frames ---- */

static DoeffStep
raise_nothing(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    return DOEFF_RAISE;
}

static DoeffStep
give_nothing(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    return DOEFF_VALUE;
}

static const DoeffFrameKind raise_frame = {.name = "RaiseFrame", .on_value = raise_nothing, .on_error = raise_nothing};
static const DoeffFrameKind give_frame = {.name = "GiveFrame", .on_value = give_nothing, .on_error = give_nothing};
static const DoeffFrameKind plain_frame = {.name = "PlainFrame"};

static DoeffStep
notes_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    if (Doeff_CloseScope(cx, frame) < 0) {
        return DOEFF_RAISE;
    }
    *out = PyTuple_Pack(2, value, frame->a);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
notes_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    return Doeff_CloseScope(cx, frame) < 0 ? DOEFF_RAISE : DOEFF_PASS;
}

static const DoeffFrameKind notes_frame = {
    .name = "NotesFrame", .on_value = notes_value, .on_error = notes_error, .records = 1};

static DoeffStep
catch_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    PyObject *trace = Doeff_CaptureTraceback(cx, error);
    PyObject *some = trace == NULL ? NULL : Doeff_NewSome(cx->st, trace);
    *out = some == NULL ? NULL : Doeff_NewErr(cx->st, Py_NewRef(error), some);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
wrap_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    *out = Doeff_NewOk(cx->st, Py_NewRef(value));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static const DoeffFrameKind catch_frame = {.name = "CatchFrame", .on_value = wrap_value, .on_error = catch_error};

static int
same_a(const DoeffFrame *frame, void *arg)
{
    return frame->a == arg;
}

/* ---- what the handler can be told ---- */

static int
is(PyObject *what, const char *text)
{
    return PyUnicode_CompareWithASCIIString(what, text) == 0;
}

static DoeffStep
run_above(DoeffContext *cx, const DoeffFrameKind *kind, PyObject *a, PyObject *program, PyObject **out)
{
    if (Doeff_Begin(cx) < 0 || Doeff_Push(cx, kind, Py_XNewRef(a), NULL) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(program);
    return DOEFF_PROGRAM;
}

static DoeffStep
do_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *what = DOEFF_FIELD(effect, 0), *arg = DOEFF_FIELD(effect, 1);
    PyObject *topic = cx->data; /* any object that lives long enough */
    if (is(what, "raise nothing")) {
        return DOEFF_RAISE;
    }
    if (is(what, "value nothing")) {
        return DOEFF_VALUE;
    }
    if (is(what, "program nothing")) {
        return DOEFF_PROGRAM;
    }
    if (is(what, "outside nothing")) {
        return DOEFF_OUTSIDE;
    }
    if (is(what, "unknown step")) {
        return (DoeffStep)77;
    }
    if (is(what, "value with error")) { /* the error wins where there is no value */
        PyErr_SetString(PyExc_ValueError, "mine");
        return DOEFF_VALUE;
    }
    if (is(what, "raising frame")) {
        return run_above(cx, &raise_frame, NULL, arg, out);
    }
    if (is(what, "giving frame")) {
        return run_above(cx, &give_frame, NULL, arg, out);
    }
    if (is(what, "pass")) {
        return DOEFF_PASS;
    }
    if (is(what, "outside")) {
        *out = Py_NewRef(arg);
        return DOEFF_OUTSIDE;
    }
    if (is(what, "replace")) {
        return Doeff_Replace(cx, effect, Py_NewRef(arg), out);
    }
    if (is(what, "catch")) {
        return run_above(cx, &catch_frame, NULL, arg, out);
    }
    if (is(what, "notes")) {
        PyObject *entries = Doeff_NewBoundedLog(cx->st);
        if (Doeff_Begin(cx) < 0 || entries == NULL || Doeff_OpenScope(cx, topic, &notes_frame, entries) < 0) {
            return DOEFF_RAISE;
        }
        *out = Py_NewRef(arg);
        return DOEFF_PROGRAM;
    }
    if (is(what, "note")) {
        PyObject *scope = cx->scopes, *entries;
        while ((entries = Doeff_NextScope(&scope, topic)) != NULL) {
            if (PyList_Append(entries, arg) < 0) {
                return DOEFF_RAISE;
            }
        }
        *out = Py_NewRef(Py_None);
        return DOEFF_VALUE;
    }
    if (is(what, "count") || is(what, "count privately")) { /* under a str, the result shows it */
        PyObject *key = is(what, "count") ? what : topic;
        PyObject *dict = Doeff_RunDict(cx, key);
        PyObject *n = dict == NULL ? NULL : PyLong_FromSsize_t(PyDict_GET_SIZE(dict) + 1);
        if (n == NULL || PyDict_SetItem(dict, n, Py_True) < 0) {
            Py_XDECREF(n);
            return DOEFF_RAISE;
        }
        *out = n;
        return DOEFF_VALUE;
    }
    if (is(what, "store")) {
        PyObject *store = Doeff_Store(cx);
        if (store == NULL || PyDict_SetItem(store, Doeff_Known(cx->st, DOEFF_STR_VALUE), arg) < 0) {
            return DOEFF_RAISE;
        }
        *out = Py_NewRef(cx->env);
        return DOEFF_VALUE;
    }
    if (is(what, "mark")) { /* runs a program above a frame with itself in a */
        return run_above(cx, &plain_frame, arg, arg, out);
    }
    if (is(what, "marked?")) {
        int found = Doeff_Begin(cx) < 0 ? -1 : Doeff_FindFrame(cx, &plain_frame, same_a, arg);
        *out = found < 0 ? NULL : PyBool_FromLong(found);
        return found < 0 ? DOEFF_RAISE : DOEFF_VALUE;
    }
    if (is(what, "pending")) {
        *out = Doeff_Begin(cx) < 0 ? NULL : Doeff_Pending(cx, 1);
        return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
    }
    if (is(what, "install")) { /* (handler, program) */
        if (Doeff_Begin(cx) < 0 || Doeff_Install(cx, PyTuple_GET_ITEM(arg, 0)) < 0) {
            return DOEFF_RAISE;
        }
        *out = Py_NewRef(PyTuple_GET_ITEM(arg, 1));
        return DOEFF_PROGRAM;
    }
    if (is(what, "keep and go on")) { /* takes the continuation and puts it back at once */
        PyObject *k = Doeff_Keep(cx, effect);
        DoeffStep step = k == NULL ? DOEFF_RAISE : Doeff_Resume(cx, k, arg, out);
        Py_XDECREF(k);
        return step;
    }
    if (is(what, "keep and fail")) {
        PyObject *k = Doeff_Keep(cx, effect);
        DoeffStep step = DOEFF_RAISE;
        if (k != NULL) {
            PyErr_SetString(PyExc_LookupError, "resumed with an error");
            step = Doeff_Resume(cx, k, NULL, out);
            Py_DECREF(k);
        }
        return step;
    }
    if (is(what, "keep and run")) { /* the continuation is dropped, a program takes the scope's place */
        PyObject *k = Doeff_Keep(cx, effect);
        if (k == NULL) {
            return DOEFF_RAISE;
        }
        *out = Py_NewRef(arg);
        Py_DECREF(k);
        return DOEFF_PROGRAM;
    }
    if (is(what, "block")) {
        return DOEFF_BLOCK;
    }
    if (is(what, "completion")) {
        *out = Doeff_NewCompletion(cx);
        return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
    }
    if (is(what, "wait for")) {
        return Doeff_WaitFor(cx, arg, out);
    }
    if (is(what, "catch a wait for")) {
        if (Doeff_Begin(cx) < 0 || Doeff_Push(cx, &catch_frame, NULL, NULL) < 0) {
            return DOEFF_RAISE;
        }
        return Doeff_WaitFor(cx, arg, out);
    }
    if (is(what, "resume")) {
        return Doeff_Resume(cx, arg, Py_None, out);
    }
    PyErr_Format(PyExc_ValueError, "do what? %R", what);
    return DOEFF_RAISE;
}

static DoeffStep
any_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *seen = cx->data;
    PyObject *name = PyUnicode_FromString(Doeff_TypeName(effect));
    int failed = name == NULL || PyList_Append(seen, name) < 0;
    Py_XDECREF(name);
    return failed ? DOEFF_RAISE : DOEFF_PASS;
}

/* ---- the module ---- */

static const DoeffRecordSpec do_spec = {
    .name = TEXT(STRANGER) ".DoEffect",
    .doc = "DoEffect(what, arg=None)\n--\n\nDo as told.",
    .fields = {"what", "arg"}, .required = 1, .effect = 1,
};
static PyMethodDef do_def = {"Do", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS, NULL};

/* watcher(list): a handler that notes the name of every effect's class and lets it pass. */
static PyObject *
watcher(PyObject *module, PyObject *list)
{
    DoeffEngine *engine = Doeff_Engine();
    return engine == NULL ? NULL : Doeff_NewHandler(engine, "watcher", list, any_perform);
}

/* more_classes(n): makes n effect classes; gives the last one. */
static PyObject *
more_classes(PyObject *module, PyObject *count)
{
    DoeffEngine *engine = Doeff_Engine();
    DoeffRecordType *type = NULL;
    long n = PyLong_AsLong(count);
    if (engine == NULL || (n == -1 && PyErr_Occurred())) {
        return NULL;
    }
    for (long i = 0; i < n; i++) {
        type = Doeff_NewRecordType(module, engine, &do_spec);
        if (type == NULL) {
            return NULL;
        }
    }
    return type == NULL ? Py_NewRef(Py_None) : Py_NewRef((PyObject *)Doeff_ClassOf(type));
}

/* complete(completion, value, error=None) */
static PyObject *
complete(PyObject *module, PyObject *args)
{
    PyObject *completion, *value, *error = NULL;
    if (!PyArg_ParseTuple(args, "OO|O", &completion, &value, &error)) {
        return NULL;
    }
    int done = Doeff_Complete(completion, value, error);
    return done < 0 ? NULL : PyBool_FromLong(done);
}

static PyMethodDef functions[] = {
    {"complete", complete, METH_VARARGS, NULL},
    {"watcher", watcher, METH_O, NULL},
    {"more_classes", more_classes, METH_O, NULL},
    {NULL},
};

static int
stranger_exec(PyObject *module)
{
    if (doeff_import(module) < 0) {
        return -1;
    }
    DoeffEngine *engine = Doeff_Engine();
    PyObject *handler = engine == NULL ? NULL : Doeff_NewHandler(engine, "do_handler", module, NULL);
    int failed = handler == NULL
                 || Doeff_Define(module, engine, handler, &(DoeffEffectDef){&do_spec, &do_def, do_perform}) == NULL
                 || Doeff_Alias(module, "Do", "Alias") < 0 || PyModule_AddObjectRef(module, "do_handler", handler) < 0;
    Py_XDECREF(handler);
    return failed ? -1 : 0;
}

static PyModuleDef_Slot slots[] = {{Py_mod_exec, stranger_exec}, {0, NULL}};

static PyModuleDef stranger_module = {
    PyModuleDef_HEAD_INIT, .m_name = TEXT(STRANGER), .m_methods = functions, .m_slots = slots};

PyMODINIT_FUNC
JOIN(PyInit_, STRANGER)(void)
{
    return PyModuleDef_Init(&stranger_module);
}
