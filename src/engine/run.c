#include "run.h"

#include "machine/cesk.h"
#include "machine/rundata.h"
#include "program/kleisli.h"
#include "program/program.h"
#include "report/result.h"
#include "scheduler/scheduler.h"
#include "support/arguments.h"

#define BUDGET_MOST 1000000000000000LL /* turns: far more than a run can take */

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

const char *const RUN_PARAMETERS[] = {"program", "handlers", "env", "store", "close_timeout", "unfinished", NULL};

/* asyncio's CancelledError, which no program can raise before asyncio has been imported. */
int
run_is_async_cancelled(PyObject *error)
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
    return !run_is_async_cancelled(error);
}

int
run_options(RunOptions *options, PyObject *close_timeout, PyObject *unfinished)
{
    *options = (RunOptions){.close_timeout = 5.0};
    if (close_timeout != NULL) {
        options->close_timeout = PyFloat_AsDouble(close_timeout);
        if (options->close_timeout == -1.0 && PyErr_Occurred()) {
            if (PyErr_ExceptionMatches(PyExc_TypeError)) {
                PyErr_Format(PyExc_TypeError, "close_timeout must be a number of seconds, got %s",
                             Py_TYPE(close_timeout)->tp_name);
            }
            return -1;
        }
        if (!(options->close_timeout >= 0)) {
            PyErr_Format(PyExc_ValueError, "close_timeout must be >= 0, got %R", close_timeout);
            return -1;
        }
    }
    if (unfinished != NULL) {
        int wait = PyUnicode_Check(unfinished) && PyUnicode_CompareWithASCIIString(unfinished, "wait") == 0;
        if (!wait && !(PyUnicode_Check(unfinished) && PyUnicode_CompareWithASCIIString(unfinished, "cancel") == 0)) {
            PyErr_Format(PyExc_ValueError, "unfinished must be 'cancel' or 'wait', got %R", unfinished);
            return -1;
        }
        options->unfinished_wait = wait;
    }
    return 0;
}

DoeffMachine *
run_begin(EngineState *st, const RunRequest *request, HandlerNode **chain)
{
    *chain = chain_of(st, request->handlers);
    if (*chain == NULL) {
        return NULL;
    }
    PyObject *env = cesk_freeze_env(st, request->env);
    PyObject *store = env == NULL ? NULL : store_from(request->store);
    DoeffMachine *m = NULL;
    if (store == NULL) {
        Py_XDECREF(env);
    }
    else {
        m = machine_new(st, *chain, env, store);
    }
    if (m == NULL) {
        Py_CLEAR(*chain);
        return NULL;
    }
    m->close_timeout = request->options.close_timeout;
    m->unfinished_wait = request->options.unfinished_wait;
    return m;
}

int
run_accepts(EngineState *st, PyObject *program)
{
    if (Py_IS_TYPE(program, st->KleisliCall_Type) || program_check(st, program)) {
        return 1;
    }
    PyObject *name = PyType_GetName(Py_TYPE(program));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, "Cannot convert %U to generator: a run needs a Program%s", name,
                     Py_IS_TYPE(program, st->Kleisli_Type) ? "; call the @do function" : "");
        Py_DECREF(name);
    }
    return 0;
}

RunEnd
run_step(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject *program, PyObject **out)
{
    EngineState *st = m->cx.st;
    int nested = st->nesting.depth; /* in a __del__: what dies in the run is counted from here */
    st->nesting.depth -= nested;
    RunEnd end = machine_run(m, how, what, out);
    st->nesting.depth += nested;
    kleisli_show_calls(st, program); /* which is the caller's, and made before the run */
    return end;
}

/* What the run still holds goes. */
static void
let_go(DoeffMachine *m, HandlerNode *chain)
{
    DoeffFiber *fiber = m->fiber;
    m->fiber = NULL;
    fiber_free_chain(m->cx.st, fiber);
    node_scrub(chain);
    m->at_work = 0;
    if (DOEFF_UNLIKELY(Py_REFCNT(m) > 1)) {
        machine_track(m); /* somebody keeps a context: from now on it may be garbage */
    }
}

PyObject *
run_end(DoeffMachine *m, HandlerNode *chain, PyObject *value, PyObject *error, int raises)
{
    PyObject *result = NULL;
    m->over = 1;
    if (DOEFF_UNLIKELY(m->scheduler != NULL)) {
        scheduler_free(m);
    }
    if (error != NULL && (raises || leaves_the_run(m->cx.st, error))) {
        PyErr_SetRaisedException(error);
    }
    else if (run_data_publish(m) < 0) {
        Py_XDECREF(value);
        Py_XDECREF(error);
    }
    else {
        result = result_new(m, value, error);
    }
    let_go(m, chain);
    return result;
}

void
run_abandon(DoeffMachine *m, HandlerNode *chain)
{
    m->over = 1;
    if (m->scheduler != NULL) {
        scheduler_free(m);
    }
    let_go(m, chain);
}

static PyObject *
run_to_end(EngineState *st, PyObject *program, const RunRequest *request)
{
    HandlerNode *chain;
    DoeffMachine *m = run_begin(st, request, &chain);
    if (m == NULL) {
        return NULL;
    }
    PyObject *result;
    PyObject *out = NULL, *refused = NULL;
    if (!run_accepts(st, program)) {
        result = run_end(m, chain, NULL, PyErr_GetRaisedException(), 0);
    }
    else {
        RunEnd end = run_step(m, DOEFF_PROGRAM, Py_NewRef(program), program, &out);
        while (DOEFF_UNLIKELY(end == RUN_ESCAPED)) {
            Py_DECREF(out);
            PyErr_SetString(PyExc_TypeError,
                            "PythonAsyncSyntaxEscape needs an event loop: use async_run, or sync_await_handler and "
                            "sync_external_wait_handler in place of python_async_syntax_escape_handler and "
                            "async_external_wait_handler (sync_handlers_preset has them)");
            Py_XSETREF(refused, PyErr_GetRaisedException());
            PyErr_SetRaisedException(Py_NewRef(refused));
            end = run_step(m, DOEFF_RAISE, NULL, program, &out);
        }
        result = end == RUN_DONE ? run_end(m, chain, out, NULL, 0) : run_end(m, chain, NULL, out, out == refused);
        Py_XDECREF(refused);
    }
    Py_DECREF(m);
    Py_DECREF(chain);
    return result;
}

static PyObject *
sync_run(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    static const Parameters parameters = {"sync_run", RUN_PARAMETERS, 4, 2};
    PyObject *bound[6];
    if (arguments_bind(&parameters, args, nargs, kwnames, bound) < 0) {
        return NULL;
    }
    RunRequest request = {.handlers = bound[1], .env = bound[2], .store = bound[3]};
    if (run_options(&request.options, bound[4], bound[5]) < 0) {
        return NULL;
    }
    return run_to_end(PyModule_GetState(module), bound[0], &request);
}

/* arm_step_budget(turns) */
static PyObject *
arm_step_budget(PyObject *module, PyObject *turns)
{
    EngineState *st = PyModule_GetState(module);
    long long n = 0;
    if (turns != Py_None) {
        if (!PyLong_Check(turns) || PyBool_Check(turns)) {
            PyErr_Format(PyExc_TypeError, "turns must be int or None, got %s", Py_TYPE(turns)->tp_name);
            return NULL;
        }
        int overflow;
        n = PyLong_AsLongLongAndOverflow(turns, &overflow);
        if (overflow < 0 || (overflow == 0 && n < 1)) {
            PyErr_Format(PyExc_ValueError, "turns must be >= 1, got %R", turns);
            return NULL;
        }
        n = overflow > 0 || n > BUDGET_MOST ? BUDGET_MOST : n;
    }
    long long before = st->step_budget;
    st->step_budget = n;
    if (before == 0) {
        Py_RETURN_NONE;
    }
    return PyLong_FromLongLong(before);
}

static PyMethodDef functions[] = {
    {"arm_step_budget", arm_step_budget, METH_O,
     PyDoc_STR("arm_step_budget(turns)\n--\n\nRaise StepBudgetExceeded in the main program of each run that begins from now on "
               "when it has taken\nso many turns, and after as many again if it goes on; None ends that. Gives the number before, or "
               "None.\n\nAn effect is a turn, whoever performs it; 128 programs that return are one as well. TypeError for "
               "anything\nbut int and None, ValueError below 1.\n\n>>> before = arm_step_budget(10_000)\n\n"
               "Contract: concurrency, part 7.")},
    {"sync_run", (PyCFunction)(void (*)(void))sync_run, METH_FASTCALL | METH_KEYWORDS,
     PyDoc_STR("sync_run(program, handlers, env=None, store=None, *, close_timeout=5.0, unfinished='cancel')\n--\n\n"
               "Run a program to the end on this thread and give its RuntimeResult.\n\nclose_timeout: seconds that tasks which "
               "still wait at the end get for their cleanup; ValueError below 0.\nunfinished: 'cancel' them, or 'wait' for "
               "them; ValueError for anything else.\n\n>>> sync_run(main(), sync_handlers_preset).value\n\n"
               "Contract: concurrency, parts 1.13 and 5.2.")},
    {NULL},
};

int
run_room_init(PyObject *module, EngineState *st)
{
    (void)st;
    return PyModule_AddFunctions(module, functions);
}
