#include "run.h"

#include "machine/cesk.h"
#include "machine/rundata.h"
#include "program/kleisli.h"
#include "program/program.h"
#include "report/result.h"
#include "scheduler/scheduler.h"
#include "support/arguments.h"

static PyObject *
store_from(PyObject *store)
{
    if (store == NULL || store == Py_None) {
        return PyDict_New();
    }
    if (PyDict_CheckExact(store)) {
        return PyDict_Copy(store);
    }
    if (!PyMapping_Check(store) || PyUnicode_Check(store) || PyList_Check(store) || PyTuple_Check(store)) {
        PyErr_Format(PyExc_TypeError, "store must be a mapping with str keys, got %s", Py_TYPE(store)->tp_name);
        return NULL;
    }
    PyObject *copy = PyDict_New();
    if (copy != NULL && PyDict_Update(copy, store) < 0) {
        Py_CLEAR(copy);
    }
    return copy;
}

static PyObject *
handlers_tuple(PyObject *handlers)
{
    if (PyList_CheckExact(handlers)) {
        return PyList_AsTuple(handlers);
    }
    if (PyCallable_Check(handlers) || PyUnicode_Check(handlers) || (PyMapping_Check(handlers) && !PySequence_Check(handlers))) {
        PyErr_Format(PyExc_TypeError, "handlers must be a list of handlers, outermost first, got %s",
                     Py_TYPE(handlers)->tp_name);
        return NULL;
    }
    PyObject *tuple = PySequence_Tuple(handlers);
    if (tuple == NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Format(PyExc_TypeError, "handlers must be a list of handlers, outermost first, got %s",
                     Py_TYPE(handlers)->tp_name);
    }
    return tuple;
}

/* The chain of nodes (strong) for what was given as handlers. */
static HandlerNode *
chain_of(EngineState *st, PyObject *handlers)
{
    if (PyList_CheckExact(handlers)) { /* nearly always a preset, and the one of the run before */
        HandlerNode *again =
            node_chain_again(st, PySequence_Fast_ITEMS(handlers), PyList_GET_SIZE(handlers));
        if (again != NULL) {
            return again;
        }
    }
    PyObject *tuple = handlers_tuple(handlers);
    HandlerNode *chain = tuple == NULL ? NULL : node_chain_for(st, tuple);
    Py_XDECREF(tuple);
    return chain;
}

/* asyncio's CancelledError, which no program can raise before asyncio has been imported. */
static int
is_async_cancelled(PyObject *error)
{
    PyObject *name = PyUnicode_InternFromString("asyncio.exceptions");
    PyObject *module = name == NULL ? NULL : PyImport_GetModule(name);
    PyObject *cancelled = module == NULL ? NULL : PyObject_GetAttrString(module, "CancelledError");
    int is = cancelled != NULL && PyErr_GivenExceptionMatches(error, cancelled);
    Py_XDECREF(name);
    Py_XDECREF(module);
    Py_XDECREF(cancelled);
    PyErr_Clear(); /* no memory, or a stand-in for asyncio: not that class */
    return is;
}

/* Errors that a run does not keep in its result: unhandled effects, and what is not an Exception
 * (KeyboardInterrupt, SystemExit, ...) but for the cancellation of something awaited. */
static int
leaves_the_run(EngineState *st, PyObject *error)
{
    if (PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        return PyErr_GivenExceptionMatches(error, st->UnhandledEffectError);
    }
    return !is_async_cancelled(error);
}

/* The run has ended with value or error (stolen). */
static PyObject *
end_run(DoeffMachine *m, HandlerNode *chain, PyObject *value, PyObject *error)
{
    PyObject *result = NULL;
    m->over = 1;
    if (DOEFF_UNLIKELY(m->scheduler != NULL)) {
        scheduler_free(m);
    }
    if (error != NULL && leaves_the_run(m->cx.st, error)) {
        PyErr_SetRaisedException(error);
    }
    else if (run_data_publish(m) < 0) {
        Py_XDECREF(value);
        Py_XDECREF(error);
    }
    else {
        result = result_new(m, value, error);
    }
    DoeffFiber *fiber = m->fiber;
    m->fiber = NULL;
    fiber_free_chain(m->cx.st, fiber);
    node_scrub(chain);
    if (DOEFF_UNLIKELY(Py_REFCNT(m) > 1)) {
        PyObject_GC_Track(m); /* somebody keeps a context: from now on it may be garbage */
    }
    return result;
}

static PyObject *
run_to_end(EngineState *st, PyObject *program, PyObject *handlers, PyObject *env, PyObject *store, double close_timeout)
{
    HandlerNode *chain = chain_of(st, handlers);
    if (chain == NULL) {
        return NULL;
    }
    PyObject *frozen = cesk_freeze_env(st, env);
    PyObject *own_store = frozen == NULL ? NULL : store_from(store);
    DoeffMachine *m = NULL;
    PyObject *result = NULL;
    if (own_store == NULL) {
        Py_XDECREF(frozen);
        goto done;
    }
    m = machine_new(st, chain, frozen, own_store);
    if (m == NULL) {
        goto done;
    }
    m->close_timeout = close_timeout;
    if (!Py_IS_TYPE(program, st->KleisliCall_Type) && !program_check(st, program)) {
        PyObject *name = PyType_GetName(Py_TYPE(program));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "Cannot convert %U to generator: a run needs a Program%s", name,
                         Py_IS_TYPE(program, st->Kleisli_Type) ? "; call the @do function" : "");
            Py_DECREF(name);
        }
        result = end_run(m, chain, NULL, PyErr_GetRaisedException());
        goto done;
    }
    PyObject *out = NULL;
    int nested = st->nesting.depth; /* in a __del__: what dies in the run is counted from here */
    st->nesting.depth -= nested;
    RunEnd end = machine_run(m, DOEFF_PROGRAM, Py_NewRef(program), &out);
    while (end == RUN_ESCAPED) {
        Py_DECREF(out);
        PyErr_SetString(PyExc_TypeError, "PythonAsyncSyntaxEscape needs an event loop: use async_run, or sync_await_handler "
                                         "in place of python_async_syntax_escape_handler (sync_handlers_preset has it)");
        end = machine_run(m, DOEFF_RAISE, NULL, &out);
    }
    st->nesting.depth += nested;
    kleisli_show_calls(st, program); /* which is the caller's, and made before the run */
    result = end == RUN_DONE ? end_run(m, chain, out, NULL) : end_run(m, chain, NULL, out);
done:
    Py_XDECREF(m);
    Py_DECREF(chain);
    return result;
}

static PyObject *
sync_run(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const char *const names[] = {"program", "handlers", "env", "store", "close_timeout", NULL};
    static const Parameters parameters = {"sync_run", names, 4, 2};
    PyObject *bound[5];
    if (arguments_bind(&parameters, args, nargs, kwnames, bound) < 0) {
        return NULL;
    }
    double close_timeout = 5.0;
    if (bound[4] != NULL) {
        close_timeout = PyFloat_AsDouble(bound[4]);
        if (close_timeout == -1.0 && PyErr_Occurred()) {
            return NULL;
        }
        if (!(close_timeout >= 0)) {
            PyErr_Format(PyExc_ValueError, "close_timeout must be at least 0, got %R", bound[4]);
            return NULL;
        }
    }
    return run_to_end(PyModule_GetState(module), bound[0], bound[1], bound[2], bound[3], close_timeout);
}

static PyMethodDef functions[] = {
    {"sync_run", (PyCFunction)(void (*)(void))sync_run, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("sync_run(program, handlers, env=None, store=None, *, close_timeout=5.0)\n--\n\n"
               "Run a program to the end on this thread and give its RuntimeResult.")},
    {NULL},
};

int
run_room_init(PyObject *module, EngineState *st)
{
    (void)st;
    return PyModule_AddFunctions(module, functions);
}
