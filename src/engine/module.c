/* The module doeff._engine: makes the state and calls every room's init in order. */
#include "aio/aio.h"
#include "capi/capi.h"
#include "effects/effects.h"
#include "handlers/presets.h"
#include "machine/cesk.h"
#include "machine/kontinuation.h"
#include "machine/machine.h"
#include "machine/step.h"
#include "program/kleisli.h"
#include "program/program.h"
#include "report/result.h"
#include "report/trace.h"
#include "run.h"
#include "state.h"
#include "values/boundedlog.h"
#include "values/frozendict.h"
#include "values/result.h"
#include "v1/v1.h"

static int
intern_strings(EngineState *st)
{
    const struct {
        PyObject **slot;
        const char *text;
    } strings[] = {
        {&st->str_throw, "throw"},
        {&st->str_close, "close"},
        {&st->str_to_generator, "to_generator"},
        {&st->str_created_at, "created_at"},
        {&st->str_name, "__name__"},
        {&st->str_qualname, "__qualname__"},
        {&st->str_annotations, "__annotations__"},
        {&st->str_log, "__log__"},
        {&st->str_graph, "__graph__"},
        {&st->str_cache_storage, "__cache_storage__"},
        {&st->str_cache_expiry, "__cache_expiry__"},
        {&st->str_lazy_cache, "__ask_lazy_cache__"},
        {&st->str_current_time, "__current_time__"},
        {&st->str_on_value, "on_value"},
        {&st->str_on_error, "on_error"},
        {&st->str_value, "value"},
        {&st->str_meta, "meta"},
        {&st->str_keys, "keys"},
        {&st->str_origin, "_origin"},
        {&st->str_trace, "__doeff_trace__"},
        {&st->str_handle, "_handle"},
        {&st->str_time, "time"},
        {&st->str_create_task, "create_task"},
        {&st->str_cancel, "cancel"},
        {&st->str_log_destroy_pending, "_log_destroy_pending"},
        {&st->str_call_soon, "call_soon"},
        {&st->str_call_soon_threadsafe, "call_soon_threadsafe"},
        {&st->str_cr_suspended, "cr_suspended"},
        {&st->str_generator, "generator"},
    };
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++) {
        *strings[i].slot = PyUnicode_InternFromString(strings[i].text);
        if (*strings[i].slot == NULL) {
            return -1;
        }
    }
    return 0;
}

static void
drain(EngineState *st)
{
    kleisli_drain_calls(st);
    freelist_drain_raw(&st->free_fibers);
    freelist_drain(&st->free_ctx);
    handler_show_resumption(st);
    freelist_drain(&st->free_resumptions);
    freelist_drain(&st->free_machines);
    freelist_drain(&st->free_tasks);
    freelist_drain(&st->free_results);
    freelist_drain(&st->free_task_states);
    freelist_drain(&st->free_kontinuations);
    for (size_t i = 0; i < st->record_table_size; i++) {
        if (st->record_table[i] != NULL) {
            freelist_drain(&st->record_table[i]->free);
        }
    }
}

/* _drain(): empties free lists and the cached chain, so that tests see every allocation. */
static PyObject *
engine_drain(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    EngineState *st = PyModule_GetState(module);
    Py_CLEAR(st->cached_chain);
    drain(st);
    Py_RETURN_NONE;
}

static PyObject *
record_origins(PyObject *module, PyObject *flag)
{
    int on = PyObject_IsTrue(flag);
    if (on < 0) {
        return NULL;
    }
    EngineState *st = PyModule_GetState(module);
    int before = st->record_origins;
    st->record_origins = on;
    st->calls_left = 0; /* so that the next call looks */
    return PyBool_FromLong(before);
}

/* _line_of(code, instruction): what co_lines() tells, which crashes without memory on CPython 3.11. */
static PyObject *
line_of(PyObject *Py_UNUSED(module), PyObject *args)
{
    PyCodeObject *code;
    int instruction;
    if (!PyArg_ParseTuple(args, "O!i:_line_of", &PyCode_Type, &code, &instruction)) {
        return NULL;
    }
    int line = PyCode_Addr2Line(code, instruction);
    return PyLong_FromLong(line < 0 ? code->co_firstlineno : line);
}

/* _errors(unhandled, missing_env_key, circular_ask, invariant, task_cancelled, deadlock): the exception
 * classes, which are Python classes. */
static PyObject *
set_errors(PyObject *module, PyObject *args)
{
    EngineState *st = PyModule_GetState(module);
    PyObject *e[6];
    if (!PyArg_ParseTuple(args, "OOOOOO:_set_errors", &e[0], &e[1], &e[2], &e[3], &e[4], &e[5])) {
        return NULL;
    }
    Py_XSETREF(st->UnhandledEffectError, Py_NewRef(e[0]));
    Py_XSETREF(st->MissingEnvKeyError, Py_NewRef(e[1]));
    Py_XSETREF(st->CircularAskError, Py_NewRef(e[2]));
    Py_XSETREF(st->InterpreterInvariantError, Py_NewRef(e[3]));
    Py_XSETREF(st->TaskCancelledError, Py_NewRef(e[4]));
    Py_XSETREF(st->SchedulerDeadlockError, Py_NewRef(e[5]));
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_drain", engine_drain, METH_NOARGS, NULL},
    {"_line_of", line_of, METH_VARARGS, NULL},
    {"_set_errors", set_errors, METH_VARARGS, NULL},
    {"record_origins", record_origins, METH_O,
     PyDoc_STR("record_origins(on)\n--\n\nWhether constructors of effects stamp created_at. Gives the setting before.")},
    {NULL},
};

static int
engine_exec(PyObject *module)
{
    EngineState *st = PyModule_GetState(module);
    int (*const rooms[])(PyObject *, EngineState *) = {
        record_room_init,    frozendict_room_init, values_room_init, boundedlog_room_init, program_room_init,      combinators_room_init, await_room_init,
        kleisli_room_init,   node_room_init,       machine_room_init,      handler_room_init,
        delegate_room_init,  cesk_room_init,       kontinuation_room_init, trace_room_init,
        result_room_init,    presets_room_init,    run_room_init,        aio_room_init,
        capi_room_init,      v1_room_init,         step_room_init,
    };
    if (intern_strings(st) < 0) {
        return -1;
    }
    for (size_t i = 0; i < sizeof(rooms) / sizeof(rooms[0]); i++) {
        if (rooms[i](module, st) < 0) {
            return -1;
        }
    }
    return PyModule_AddFunctions(module, functions);
}

static int
engine_traverse(PyObject *module, visitproc visit, void *arg)
{
    EngineState *st = PyModule_GetState(module);
#define ENGINE_STATE_VISIT(T, name) Py_VISIT(st->name);
    ENGINE_STATE_REFS(ENGINE_STATE_VISIT)
    for (size_t i = 0; i < st->record_table_size; i++) {
        Py_VISIT(st->record_table[i]);
    }
    return 0;
}

static int
engine_clear(PyObject *module)
{
    EngineState *st = PyModule_GetState(module);
    drain(st);
#define ENGINE_STATE_CLEAR(T, name) Py_CLEAR(st->name);
    ENGINE_STATE_REFS(ENGINE_STATE_CLEAR)
    return 0;
}

static void
engine_free(void *module)
{
    (void)engine_clear((PyObject *)module);
    EngineState *st = PyModule_GetState((PyObject *)module);
    for (size_t i = 0; i < st->record_table_size; i++) {
        Py_CLEAR(st->record_table[i]); /* last: objects of these types may have lived until now */
    }
    st->record_table_size = 0;
    PyMem_Free(st->record_table);
    st->record_table = NULL;
}

static PyModuleDef_Slot engine_slots[] = {
    {Py_mod_exec, engine_exec},
#ifdef Py_mod_multiple_interpreters
    {Py_mod_multiple_interpreters, Py_MOD_PER_INTERPRETER_GIL_SUPPORTED},
#endif
    {0, NULL},
};

PyModuleDef doeff_engine_module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "doeff._engine",
    .m_doc = "The machine of doeff. Private: use the package doeff.",
    .m_size = sizeof(EngineState),
    .m_methods = NULL,
    .m_slots = engine_slots,
    .m_traverse = engine_traverse,
    .m_clear = engine_clear,
    .m_free = engine_free,
};

PyMODINIT_FUNC PyInit__engine(void);

PyMODINIT_FUNC
PyInit__engine(void)
{
    return PyModuleDef_Init(&doeff_engine_module);
}
