#include "family.h"

/* writer: Tell and Listen on the task's log.
 *
 * __log__ in the store is a list. It is appended to in place only while nobody but the store
 * holds it, so that the caller's list, a list that Get gave and one that a snapshot of the store
 * shares never change; else the store gets a copy first, and later messages cost nothing again.
 *
 * Tell appends to the entries of each open Listen scope as well. */

/* ---- Tell ---- */

/* A list of the store's own with the messages of log (borrowed or NULL) takes its place; borrowed. */
static PyObject *
fresh_log(DoeffEngine *st, PyObject *store, PyObject *log)
{
    PyObject *fresh;
    if (log == NULL) {
        fresh = PyList_New(0);
    }
    else if (PyList_Check(log) || PyTuple_Check(log)) {
        fresh = PySequence_List(log);
    }
    else {
        PyErr_Format(PyExc_TypeError, "__log__ in the store must be a list, got %s", Doeff_TypeName(log));
        return NULL;
    }
    int failed = fresh == NULL || PyDict_SetItem(store, Doeff_Known(st, DOEFF_STR_LOG), fresh) < 0;
    Py_XDECREF(fresh);
    return failed ? NULL : fresh;
}

/* A list or tuple is spliced, one level; anything else is one entry. */
static inline int
append(PyObject *list, PyObject *message)
{
    if (DOEFF_UNLIKELY(PyList_Check(message) || PyTuple_Check(message))) {
        Py_ssize_t n = PyList_GET_SIZE(list);
        return PyList_SetSlice(list, n, n, message);
    }
    return PyList_Append(list, message);
}

static DoeffStep
tell_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *message = DOEFF_FIELD(effect, 0);
    PyObject *store = Doeff_Store(cx);
    if (store == NULL) {
        return DOEFF_RAISE;
    }
    PyObject *log = PyDict_GetItemWithError(store, Doeff_Known(cx->st, DOEFF_STR_LOG));
    if (log == NULL && PyErr_Occurred()) {
        return DOEFF_RAISE;
    }
    if (DOEFF_UNLIKELY(log == NULL || !PyList_CheckExact(log) || !Doeff_IsUnique(log))) {
        log = fresh_log(cx->st, store, log);
        if (log == NULL) {
            return DOEFF_RAISE;
        }
    }
    int failed = append(log, message) < 0;
    PyObject *scope = cx->scopes;
    for (PyObject *heard; DOEFF_UNLIKELY(scope != NULL) && !failed && (heard = Doeff_NextScope(&scope, Doeff_Known(cx->st, DOEFF_STR_LOG))) != NULL;) {
        failed = append(heard, message) < 0;
    }
    if (failed) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

/* StructuredLog(**entries) */
static PyObject *
structured_log(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs > 0) {
        PyErr_Format(PyExc_TypeError, "StructuredLog() takes keyword arguments only, but %zd positional %s given",
                     nargs, nargs == 1 ? "argument was" : "arguments were");
        return NULL;
    }
    PyObject *entry = PyDict_New();
    for (Py_ssize_t i = 0; entry != NULL && kwnames != NULL && i < PyTuple_GET_SIZE(kwnames); i++) {
        if (PyDict_SetItem(entry, PyTuple_GET_ITEM(kwnames, i), args[i]) < 0) {
            Py_CLEAR(entry);
        }
    }
    if (entry == NULL) {
        return NULL;
    }
    PyObject *op = Doeff_Construct(info, &entry, 1, NULL);
    Py_DECREF(entry);
    return op;
}

static const DoeffRecordSpec tell_spec = {
    .name = "doeff.effects.writer.WriterTellEffect",
    .doc = "WriterTellEffect(message)\n--\n\nAdd a message to the task's log.",
    .fields = {"message"}, .required = 1, .effect = 1, .subclassable = 1,
};

static PyMethodDef tell_def = {
    "Tell", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Tell(message)\n--\n\nAdd message to the task's log.\n\nmessage: any object, kept as it is; each item of a "
              "list or tuple becomes an entry. Gives None. Nothing\nis printed: the log is raw_store[\"__log__\"] of the "
              "result. Raises nothing of its own.\n\n>>> yield Tell(\"started\")\n\nContract: effects, part 3.3.")};

static PyMethodDef structured_log_def = {
    "StructuredLog", (PyCFunction)(void (*)(void))structured_log, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("StructuredLog(**entries)\n--\n\nAdd a dict of the keyword arguments to the task's log.\n\nTypeError for "
              "positional arguments. Gives None.\n\n>>> yield StructuredLog(event=\"started\", user=7)\n\n"
              "Contract: effects, part 3.3.")};

/* ---- Listen ---- */

static int
listen_init(DoeffRecordType *type, PyObject **f)
{
    return Doeff_CheckProgram(Doeff_EngineOf(type), f[0], "sub_program");
}

/* ListenFrame closes its scope. a: the messages so far, b: the scope. */

static DoeffStep
listen_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    Doeff_CloseScope(cx, frame);
    *out = Doeff_NewListenResult(cx->st, Py_NewRef(value), Py_NewRef(frame->a));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
listen_error(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(error), PyObject **Py_UNUSED(out))
{
    Doeff_CloseScope(cx, frame);
    return DOEFF_PASS;
}

static PyObject *
listen_describe(const DoeffFrame *Py_UNUSED(frame))
{
    return PyUnicode_FromString("capturing logs");
}

static const DoeffFrameKind listen_frame = {
    .name = "ListenFrame",
    .on_value = listen_value,
    .on_error = listen_error,
    .describe = listen_describe,
    .records = 1,
};

static DoeffStep
listen_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (Doeff_Begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *messages = Doeff_NewBoundedLog(cx->st);
    if (messages == NULL || Doeff_OpenScope(cx, Doeff_Known(cx->st, DOEFF_STR_LOG), &listen_frame, messages) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(DOEFF_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

static const DoeffRecordSpec listen_spec = {
    .name = "doeff.effects.writer.WriterListenEffect",
    .doc = "WriterListenEffect(sub_program)\n--\n\nRun a program and record what it tells.",
    .fields = {"sub_program"}, .required = 1, .effect = 1, .subclassable = 1, .init = listen_init,
};

static PyMethodDef listen_def = {
    "Listen", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Listen(sub_program)\n--\n\nRun sub_program and record what reaches the log meanwhile.\n\nsub_program: a "
              "program; TypeError for anything else. Gives ListenResult(value, log), log being a new\nBoundedLog; the "
              "messages are in the task's log as well. Errors of sub_program pass, the messages\nstay. What spawned tasks "
              "tell is not recorded.\n\n>>> value, log = yield Listen(job())\n\nContract: effects, part 3.3.")};

int
effects_writer_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    DoeffRecordType *tell = Doeff_Define(module, st, core, &(DoeffEffectDef){&tell_spec, &tell_def, tell_perform});
    if (tell == NULL || Doeff_AddConstructor(module, tell, &structured_log_def) < 0
        || Doeff_Define(module, st, core, &(DoeffEffectDef){&listen_spec, &listen_def, listen_perform}) == NULL) {
        return -1;
    }
    return Doeff_Alias(module, "Tell", "Log");
}
