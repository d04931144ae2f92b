#include "result.h"

#include "captured.h"
#include "format.h"
#include "stacks.h"
#include "trace.h"

typedef struct RuntimeResult {
    PyObject_HEAD
    PyObject *value, *error, *store, *env, *traceback; /* strong or NULL */
    DoeffTrace *trace;  /* strong or NULL */
    PyObject *schedule; /* how tasks were chosen; strong or NULL */
    PyObject *captured; /* strong or NULL */
    EngineState *st;    /* borrowed: our type keeps the module */
    int tracked;        /* the collector knows it */
} RuntimeResult;

/* ---- the object ---- */

static void
keep_trace(RuntimeResult *r, DoeffMachine *m)
{
    r->traceback = PyException_GetTraceback(r->error);
    if (r->traceback != NULL && !PyTraceBack_Check(r->traceback)) { /* None, in a spare MemoryError of 3.11 */
        Py_CLEAR(r->traceback);
    }
    r->trace = trace_finish(m, r->error);
    if (r->trace != NULL) {
        r->captured = captured_new(m->cx.st, r->error, r->trace);
        PyErr_Clear(); /* no memory: the error itself is there */
    }
}

/* Nothing that the result holds can ever lead back to it: most runs that come by the thousand end so. The
 * store is never handed out. */
static int
is_leaf(RuntimeResult *r)
{
    return r->error == NULL && !PyType_HasFeature(Py_TYPE(r->value), Py_TPFLAGS_HAVE_GC)
           && PyDict_GET_SIZE(r->store) == 0 && Py_REFCNT(r->store) == 2 && PyDict_GET_SIZE(r->env) == 0;
}

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
    r->store = Py_NewRef(m->cx.store);
    r->env = Py_NewRef(m->cx.env);
    r->traceback = NULL;
    r->trace = NULL;
    r->schedule = Py_XNewRef(m->schedule);
    r->captured = NULL;
    r->st = st;
    r->tracked = 0;
    if (error != NULL) {
        keep_trace(r, m);
    }
    if (!DOEFF_FREE_LISTS || !is_leaf(r)) {
        r->tracked = 1;
        PyObject_GC_Track(r);
    }
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
    Py_VISIT(r->traceback);
    Py_VISIT(r->trace);
    Py_VISIT(r->schedule);
    Py_VISIT(r->captured);
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
    Py_CLEAR(r->traceback);
    Py_CLEAR(r->trace);
    Py_CLEAR(r->schedule);
    Py_CLEAR(r->captured);
    return 0;
}

static int
result_release(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    (void)result_clear(op);
    if (((PyHeapTypeObject *)tp)->ht_module != NULL && freelist_push(&((RuntimeResult *)op)->st->free_results, op)) {
        return 1;
    }
    tp->tp_free(op);
    return 0;
}

static void
result_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    if (((RuntimeResult *)op)->tracked) {
        PyObject_GC_UnTrack(op);
        nesting_dealloc(engine_nesting_of(tp), op, result_dealloc, result_release);
    }
    else if (!result_release(op)) {
        Py_DECREF(tp);
    }
}

static EngineState *
state_of(PyObject *op)
{
    return engine_state_of(Py_TYPE(op));
}

/* ---- the outcome ---- */

static PyObject *
get_value(PyObject *op, void *Py_UNUSED(closure))
{
    RuntimeResult *r = (RuntimeResult *)op;
    if (r->error == NULL) {
        return Py_NewRef(r->value);
    }
    if (PyException_SetTraceback(r->error, r->traceback == NULL ? Py_None : r->traceback) < 0) {
        return NULL;
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
get_captured(PyObject *op, void *Py_UNUSED(closure))
{
    RuntimeResult *r = (RuntimeResult *)op;
    return Py_NewRef(r->captured == NULL ? Py_None : r->captured);
}

static PyObject *
get_result(PyObject *op, void *Py_UNUSED(closure))
{
    RuntimeResult *r = (RuntimeResult *)op;
    EngineState *st = state_of(op);
    if (r->error == NULL) {
        return record_new1(st->rec.Ok, Py_NewRef(r->value));
    }
    PyObject *trace = r->captured == NULL ? Py_NewRef(st->nothing) : record_new1(st->rec.Some, Py_NewRef(r->captured));
    return trace == NULL ? NULL : record_new2(st->rec.Err, Py_NewRef(r->error), trace);
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

/* ---- what the run left behind ---- */

static PyObject *
get_schedule(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *schedule = ((RuntimeResult *)op)->schedule;
    return Py_NewRef(schedule == NULL ? Py_None : schedule);
}

static PyObject *
get_raw_store(PyObject *op, void *Py_UNUSED(closure))
{
    return PyDict_Copy(((RuntimeResult *)op)->store);
}

static PyObject *
get_env(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *env = PyDict_New();
    if (env != NULL && PyDict_Update(env, ((RuntimeResult *)op)->env) < 0) {
        Py_CLEAR(env);
    }
    return env;
}

/* A reserved entry of the store; an empty list if there is none. */
static PyObject *
entry_or_list(RuntimeResult *r, PyObject *key)
{
    PyObject *entry;
    int found = PyDict_GetItemRef(r->store, key, &entry);
    return found < 0 ? NULL : found ? entry : PyList_New(0);
}

static PyObject *
get_log(PyObject *op, void *Py_UNUSED(closure))
{
    return entry_or_list((RuntimeResult *)op, state_of(op)->str_log);
}

static PyObject *
get_graph(PyObject *op, void *Py_UNUSED(closure))
{
    return entry_or_list((RuntimeResult *)op, state_of(op)->str_graph);
}

static PyObject *
get_state(PyObject *op, void *Py_UNUSED(closure))
{
    EngineState *st = state_of(op);
    PyObject *const reserved[] = {st->str_log,          st->str_graph,      st->str_cache_storage,
                                  st->str_cache_expiry, st->str_lazy_cache, st->str_current_time};
    PyObject *state = PyDict_Copy(((RuntimeResult *)op)->store);
    for (size_t i = 0; state != NULL && i < sizeof(reserved) / sizeof(reserved[0]); i++) {
        int found = PyDict_Contains(state, reserved[i]);
        if (found < 0 || (found && PyDict_DelItem(state, reserved[i]) < 0)) {
            Py_CLEAR(state);
        }
    }
    return state;
}

/* ---- the stacks ---- */

static PyObject *
get_k_stack(PyObject *op, void *Py_UNUSED(closure))
{
    return stacks_k(state_of(op), ((RuntimeResult *)op)->trace);
}

static PyObject *
get_effect_stack(PyObject *op, void *Py_UNUSED(closure))
{
    return stacks_effects(state_of(op), ((RuntimeResult *)op)->trace, ((RuntimeResult *)op)->traceback);
}

static PyObject *
get_python_stack(PyObject *op, void *Py_UNUSED(closure))
{
    return stacks_python(state_of(op), ((RuntimeResult *)op)->trace);
}

/* ---- texts ---- */

/* Characters of a value that are shown; -1: all. */
static Py_ssize_t
repr_limit(RuntimeResult *r)
{
    PyObject *limit = PyDict_GetItemString(r->env, "__repr_limit__"); /* borrowed; sets no error */
    if (limit == Py_None) {
        return -1;
    }
    if (limit == NULL || !PyLong_Check(limit)) {
        return FORMAT_REPR_LIMIT;
    }
    Py_ssize_t n = PyLong_AsSsize_t(limit);
    if (n == -1 && PyErr_Occurred()) { /* larger than any text */
        PyErr_Clear();
        return -1;
    }
    return n < 0 ? FORMAT_REPR_LIMIT : n;
}

/* Ok(<repr>) or Err(<Type>: <first line>) */
static PyObject *
status_line(RuntimeResult *r, Py_ssize_t limit)
{
    PyObject *text = r->error == NULL ? format_value(r->value, limit) : format_error(r->error, 1);
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat(r->error == NULL ? "Ok(%U)" : "Err(%U)", text));
    }
    return text;
}

static PyObject *
result_repr(PyObject *op)
{
    RuntimeResult *r = (RuntimeResult *)op;
    PyObject *text = r->error == NULL ? format_value(r->value, FORMAT_ARGUMENT) : format_error(r->error, 1);
    text = format_first_line(text);
    if (text != NULL && PyUnicode_GET_LENGTH(text) > FORMAT_ARGUMENT) {
        Py_SETREF(text, PyUnicode_Substring(text, 0, FORMAT_ARGUMENT - 3));
        if (text != NULL) {
            Py_SETREF(text, PyUnicode_FromFormat("%U...", text));
        }
    }
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("RuntimeResult(%s(%U))", r->error == NULL ? "Ok" : "Err", text));
    }
    return text;
}

#define CONDENSED_FRAMES 3

static int
add_last_frames(PyObject *lines, PyObject *frames /* stolen or NULL */)
{
    if (frames == NULL) {
        return -1;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(frames);
    int failed = n > 0 ? lines_add(lines, "") : 0;
    for (Py_ssize_t i = n > CONDENSED_FRAMES ? n - CONDENSED_FRAMES : 0; i < n && !failed; i++) {
        failed = stacks_add_place(lines, PyTuple_GET_ITEM(frames, i));
    }
    Py_DECREF(frames);
    return failed;
}

static int
add_path(PyObject *lines, PyObject *effects /* stolen or NULL */)
{
    PyObject *path = effects == NULL ? NULL : PyObject_CallMethod(effects, "get_effect_path", NULL);
    Py_XDECREF(effects);
    if (path == NULL) {
        return -1;
    }
    int failed = PyUnicode_GET_LENGTH(path) == 0 ? 0 : lines_add(lines, "\nEffect path: %U", path);
    Py_DECREF(path);
    return failed;
}

static int
add_k(PyObject *lines, PyObject *k /* stolen or NULL */)
{
    PyObject *summary = k == NULL ? NULL : stacks_k_summary(RECORD_FIELD(k, 0));
    Py_XDECREF(k);
    if (summary == NULL) {
        return -1;
    }
    int failed = PyUnicode_GET_LENGTH(summary) == 0 ? 0 : lines_add(lines, "\nK: [%U]", summary);
    Py_DECREF(summary);
    return failed;
}

static PyObject *
condensed(RuntimeResult *r)
{
    PyObject *op = (PyObject *)r;
    PyObject *lines = PyList_New(0);
    int failed = lines == NULL || lines_take(lines, status_line(r, repr_limit(r))) < 0;
    if (!failed && r->error != NULL) {
        PyObject *cause = format_error(r->error, 0);
        failed = cause == NULL || lines_add(lines, "\nRoot Cause: %U", cause) < 0
                 || add_last_frames(lines, stacks_python_frames(state_of(op), r->trace)) < 0
                 || add_path(lines, get_effect_stack(op, NULL)) < 0 || add_k(lines, get_k_stack(op, NULL)) < 0
                 || (r->schedule != NULL && lines_add(lines, "\nTasks chosen by: %R", r->schedule) < 0);
        Py_XDECREF(cause);
    }
    if (failed) {
        Py_CLEAR(lines);
    }
    return lines_text(lines);
}

#define RULE_10 "\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80"
#define RULE_9 "\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80"
#define DOUBLE_10 "\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90"
#define DOUBLE_9 "\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90\xe2\x95\x90"
static const char rule[] = RULE_10 RULE_10 RULE_10 RULE_10 RULE_10 RULE_10 RULE_10 RULE_9;
static const char double_rule[] = DOUBLE_10 DOUBLE_10 DOUBLE_10 DOUBLE_10 DOUBLE_10 DOUBLE_10 DOUBLE_10 DOUBLE_9;

static int
add_banner(PyObject *lines, const char *line, const char *title)
{
    return lines_add(lines, "%s", line) < 0 || lines_add(lines, "%s", title) < 0
                   || lines_add(lines, "%s", line) < 0
               ? -1
               : 0;
}

/* A section: its title between rules and the format() of what (stolen or NULL). */
static int
add_section(PyObject *lines, const char *title, PyObject *what)
{
    PyObject *text = what == NULL ? NULL : PyObject_CallMethod(what, "format", NULL);
    Py_XDECREF(what);
    if (text == NULL || add_banner(lines, rule, title) < 0) {
        Py_XDECREF(text);
        return -1;
    }
    return lines_take(lines, text);
}

#define STORE_ENTRIES 10

static int
add_store(PyObject *lines, RuntimeResult *r, Py_ssize_t limit)
{
    PyObject *items = PyDict_Items(r->store); /* a __repr__ may change the dict */
    if (items == NULL) {
        return -1;
    }
    Py_ssize_t n = PyList_GET_SIZE(items);
    int failed = n == 0 ? lines_add(lines, "  <empty>") : 0;
    for (Py_ssize_t i = 0; i < n && i < STORE_ENTRIES && !failed; i++) {
        PyObject *pair = PyList_GET_ITEM(items, i);
        PyObject *key = PyUnicode_Check(PyTuple_GET_ITEM(pair, 0)) ? Py_NewRef(PyTuple_GET_ITEM(pair, 0))
                                                                  : format_value(PyTuple_GET_ITEM(pair, 0), limit);
        PyObject *text = key == NULL ? NULL : format_value(PyTuple_GET_ITEM(pair, 1), limit);
        failed = text == NULL ? -1 : lines_add(lines, "  %U: %U", key, text);
        Py_XDECREF(key);
        Py_XDECREF(text);
    }
    if (n > STORE_ENTRIES && !failed) {
        failed = lines_add(lines, "  ... and %zd more", n - STORE_ENTRIES);
    }
    Py_DECREF(items);
    return failed;
}

static PyObject *
verbose(RuntimeResult *r)
{
    PyObject *op = (PyObject *)r;
    Py_ssize_t limit = repr_limit(r);
    PyObject *lines = PyList_New(0);
    PyObject *status = lines == NULL ? NULL : status_line(r, limit);
    int failed = status == NULL
                 || add_banner(lines, double_rule, "                                RUNTIME RESULT") < 0
                 || lines_add(lines, "Status: %U", status) < 0
                 || (r->schedule != NULL && lines_add(lines, "Tasks chosen by: %R", r->schedule) < 0);
    Py_XDECREF(status);
    if (!failed && r->error != NULL) {
        failed = add_banner(lines, rule, "                              ROOT CAUSE") < 0
                 || lines_split(lines, format_error(r->error, 0)) < 0;
    }
    failed = failed || add_section(lines, "                             PYTHON STACK", get_python_stack(op, NULL)) < 0
             || add_section(lines, "                           EFFECT CALL TREE", get_effect_stack(op, NULL)) < 0
             || add_section(lines, "                         CONTINUATION STACK (K)", get_k_stack(op, NULL)) < 0
             || add_banner(lines, rule, "                                 STORE") < 0
             || add_store(lines, r, limit) < 0 || lines_add(lines, "%s", double_rule) < 0;
    if (failed) {
        Py_CLEAR(lines);
    }
    return lines_text(lines);
}

static PyObject *
result_format(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"verbose", NULL};
    int full = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$p:format", keywords, &full)) {
        return NULL;
    }
    PyObject *text = full ? verbose((RuntimeResult *)op) : condensed((RuntimeResult *)op);
    if (text == NULL) { /* it never raises: no memory for more than this */
        PyErr_Clear();
        text = PyUnicode_FromString(((RuntimeResult *)op)->error == NULL ? "Ok(...)" : "Err(...)");
    }
    return text;
}

/* ---- the type ---- */

static PyGetSetDef result_getset[] = {
    {"result", get_result, NULL, PyDoc_STR("Ok(value) or Err(error, Some(trace))."), NULL},
    {"value", get_value, NULL, PyDoc_STR("The value; of a failed run, the error is raised."), NULL},
    {"error", get_error, NULL, PyDoc_STR("The error; ValueError if there is none."), NULL},
    {"raw_store", get_raw_store, NULL, PyDoc_STR("A new dict with the final store."), NULL},
    {"env", get_env, NULL, PyDoc_STR("A new dict with the final environment."), NULL},
    {"k_stack", get_k_stack, NULL, PyDoc_STR("The continuation at the raise, innermost first."), NULL},
    {"effect_stack", get_effect_stack, NULL, PyDoc_STR("The calls that led to the error."), NULL},
    {"python_stack", get_python_stack, NULL, PyDoc_STR("The user's Python frames, outermost first."), NULL},
    {"schedule", get_schedule, NULL,
     PyDoc_STR("How the run chose among ready tasks: a doeff.testing.Schedule, or None: first in, first out."), NULL},
    {"captured_traceback", get_captured, NULL, PyDoc_STR("The detailed trace of the error, or None."), NULL},
    {"log", get_log, NULL, PyDoc_STR("What Tell recorded."), NULL},
    {"state", get_state, NULL, PyDoc_STR("The store without the reserved keys."), NULL},
    {"graph", get_graph, NULL, PyDoc_STR("The nodes that Step recorded."), NULL},
    {NULL},
};

static PyMethodDef result_methods[] = {
    {"is_ok", is_ok, METH_NOARGS, PyDoc_STR("is_ok()\n--\n\nWhether the run ended with a value.")},
    {"is_err", is_err, METH_NOARGS, PyDoc_STR("is_err()\n--\n\nWhether the run ended with an error.")},
    {"format", (PyCFunction)(void (*)(void))result_format, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("format(*, verbose=False)\n--\n\nThe outcome as a text, with the three stacks if verbose.")},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot result_slots[] = {
    {Py_tp_dealloc, result_dealloc},
    {Py_tp_traverse, result_traverse},
    {Py_tp_clear, result_clear},
    {Py_tp_repr, result_repr},
    {Py_tp_getset, result_getset},
    {Py_tp_methods, result_methods},
    {Py_tp_doc, "The outcome of a run with what is needed to understand it."},
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
