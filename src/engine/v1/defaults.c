#include "../effects/effects.h"
#include "../machine/rundata.h"
#include "../machine/cesk.h"
#include "v1.h"

/* The entries of default_handlers(). The layer lets the effect of an unmodified entry pass, so entries
 * run only when user code calls one: to wrap it, or to look at it alone, without a run. */

typedef struct DefaultEntry {
    PyObject_HEAD
    PyTypeObject *effect; /* the class that it is the default of; strong */
    NativeHandler *server; /* who answers it in the presets; NULL: the machine (PureEffect); strong */
} DefaultEntry;

/* ---- effects that are answered in place ---- */

static int
answers_in_place(EngineState *st, PyTypeObject *type, PyObject *effect, PyObject *env)
{
    static const char *const names[] = {
        "StateGetEffect",   "StatePutEffect",     "StateModifyEffect", "WriterTellEffect",  "IOPerformEffect",
        "GetTimeEffect",    "AtomicGetEffect",    "AtomicUpdateEffect", "CacheGetEffect",   "CachePutEffect",
        "CacheExistsEffect", "CacheDeleteEffect", "GraphStepEffect",   "GraphAnnotateEffect", "GraphSnapshotEffect",
    };
    const char *dot = strrchr(type->tp_name, '.');
    const char *name = dot == NULL ? type->tp_name : dot + 1;
    if (strcmp(name, "AskEffect") == 0) { /* a binding that is a program is run */
        PyObject *value;
        int found = PyDict_GetItemRef(env, RECORD_FIELD(effect, 0), &value);
        int program = found > 0 && program_check(st, value);
        if (found > 0) {
            Py_DECREF(value);
        }
        return found < 0 ? -1 : !program;
    }
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(name, names[i]) == 0) {
            return 1;
        }
    }
    return 0;
}

/* The machine that the state belongs to (strong), if it is the one of an effect that is being answered;
 * else one that runs nothing. */
static DoeffMachine *
machine_for(EngineState *st, PyObject *task_state, PyObject *env, PyObject *store, int *alone)
{
    *alone = 0;
    if (Py_IS_TYPE(task_state, st->TaskState_Type)) {
        DoeffHandlerContext *ctx = ((TaskState *)task_state)->ctx;
        if (ctx != NULL && ctx->state == CTX_CAPTURED && !ctx->machine->over) {
            return (DoeffMachine *)Py_NewRef((PyObject *)ctx->machine);
        }
    }
    *alone = 1;
    return machine_new(st, (HandlerNode *)st->root_node, Py_NewRef(env), Py_NewRef(store));
}

/* Answers effect with this env and store in force; the FrameResult. */
static PyObject *
answer_in_place(EngineState *st, DoeffEffectFn fn, PyObject *effect, PyObject *task_state, PyObject *env,
                PyObject *store, PyObject *k)
{
    int alone;
    DoeffMachine *m = machine_for(st, task_state, env, store, &alone);
    if (m == NULL) {
        return NULL;
    }
    DoeffContext *cx = &m->cx;
    PyObject *old_env = cx->env, *old_store = cx->store;
    int was_shared = cx->store_shared;
    cx->env = Py_NewRef(env);
    cx->store = Py_NewRef(store);
    cx->store_shared = store == old_store ? was_shared : 0;
    cx->forwarder = NULL;
    PyObject *value = NULL;
    DoeffStep step = fn(cx, effect, &value);
    PyObject *error = step == DOEFF_RAISE ? PyErr_GetRaisedException() : NULL;
    if (alone && error == NULL && run_data_publish(m) < 0) { /* what the run would remember */
        Py_CLEAR(value);
        error = PyErr_GetRaisedException();
    }
    PyObject *new_store = cx->store;
    Py_SETREF(cx->env, old_env);
    cx->store = old_store;
    cx->store_shared = store == old_store && new_store == store ? cx->store_shared : was_shared;
    PyObject *result = error == NULL
                           ? frame_result_new(st->rec.ContinueValue, value, env, new_store, k)
                           : frame_result_new(st->rec.ContinueError, error, env, new_store, k);
    Py_DECREF(new_store);
    Py_DECREF(m);
    return result;
}

/* ---- the call ---- */

static PyObject *
request_for(EngineState *st, NativeHandler *server, PyObject *effect)
{
    (void)server;
    if (strcmp(type_name(effect), "PythonAsyncioAwaitEffect") == 0) {
        return record_new1(st->rec.AwaitExternal, Py_NewRef(RECORD_FIELD(effect, 0)));
    }
    return record_new1(st->rec.PerformEffect, Py_NewRef(effect));
}

static PyObject *
answer(EngineState *st, DefaultEntry *entry, PyObject *effect, PyObject *task_state, PyObject *env,
       PyObject *store, PyObject *k)
{
    if (entry->server == NULL) {
        return frame_result_new(st->rec.ContinueValue, Py_NewRef(RECORD_FIELD(effect, 0)), env, store, k);
    }
    if (PyUnicode_CompareWithASCIIString(entry->server->name, "core_handler") != 0) {
        PyObject *request = request_for(st, entry->server, effect);
        return request == NULL ? NULL : frame_result_new(st->rec.ContinueValue, request, env, store, k);
    }
    int in_place = answers_in_place(st, entry->effect, effect, env);
    if (in_place < 0) {
        return NULL;
    }
    if (in_place) {
        DoeffEffectFn fn = native_handler_case(entry->server, Py_TYPE(effect));
        return answer_in_place(st, fn, effect, task_state, env, store, k);
    }
    PyObject *program = delegate_new(st, (PyObject *)entry->server, effect);
    return program == NULL ? NULL : frame_result_new(st->rec.ContinueProgram, program, env, store, k);
}

/* entry(effect, task_state, store) */
static PyObject *
entry_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
    DefaultEntry *entry = (DefaultEntry *)op;
    EngineState *st = engine_state_of(Py_TYPE(op));
    static char *keywords[] = {"effect", "task_state", "store", NULL};
    PyObject *effect, *task_state, *store;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO!:default handler", keywords, &effect, &task_state,
                                     &PyDict_Type, &store)) {
        return NULL;
    }
    if (!PyType_IsSubtype(Py_TYPE(effect), entry->effect)) {
        PyErr_Format(PyExc_TypeError, "effect must be %s, got %s", entry->effect->tp_name, Py_TYPE(effect)->tp_name);
        return NULL;
    }
    PyObject *given = PyObject_GetAttrString(task_state, "env");
    PyObject *env = given == NULL ? NULL : cesk_freeze_env(st, given);
    PyObject *k = env == NULL ? NULL : PyObject_GetAttrString(task_state, "kontinuation");
    PyObject *result = k == NULL ? NULL : answer(st, entry, effect, task_state, env, store, k);
    Py_XDECREF(given);
    Py_XDECREF(env);
    Py_XDECREF(k);
    return result;
}

/* ---- the type ---- */

static PyObject *
entry_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<default handler of %s>", ((DefaultEntry *)op)->effect->tp_name);
}

static PyObject *
entry_name(PyObject *op, void *Py_UNUSED(closure))
{
    return PyType_GetName(((DefaultEntry *)op)->effect);
}

static int
entry_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((DefaultEntry *)op)->effect);
    Py_VISIT(((DefaultEntry *)op)->server);
    return 0;
}

static int
entry_release(PyObject *op)
{
    Py_XDECREF((PyObject *)((DefaultEntry *)op)->effect);
    Py_XDECREF((PyObject *)((DefaultEntry *)op)->server);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
entry_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, entry_dealloc, entry_release);
}

static PyGetSetDef entry_getset[] = {
    {"__name__", entry_name, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot entry_slots[] = {
    {Py_tp_dealloc, entry_dealloc},
    {Py_tp_traverse, entry_traverse},
    {Py_tp_repr, entry_repr},
    {Py_tp_call, entry_call},
    {Py_tp_getset, entry_getset},
    {0, NULL},
};

static PyType_Spec entry_spec = {
    .name = "doeff._engine.DefaultEntry",
    .basicsize = sizeof(DefaultEntry),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = entry_slots,
};

int
default_entry_is_for(EngineState *st, PyObject *op, PyObject *type)
{
    return Py_IS_TYPE(op, st->DefaultEntry_Type) && (PyObject *)((DefaultEntry *)op)->effect == type;
}

/* ---- the dictionary ---- */

int
default_classes(PyObject *module, int (*f)(PyTypeObject *type, NativeHandler *server, void *arg), void *arg)
{
    static const char *const servers[] = {"task_scheduler_handler", "core_handler", "sync_await_handler",
                                          "python_async_syntax_escape_handler", "sync_external_wait_handler",
                                          "async_external_wait_handler", "scheduler_state_handler", NULL};
    EngineState *st = PyModule_GetState(module);
    for (const char *const *name = servers; *name != NULL; name++) {
        PyObject *server = PyObject_GetAttrString(module, *name);
        if (server == NULL) {
            return -1;
        }
        int failed = 0;
        NativeHandler *native = (NativeHandler *)server;
        for (Py_ssize_t i = 0; native_handler_check(server) && !failed && i < native->ncases; i++) {
            failed = f(native->cases[i].type, native, arg) < 0;
        }
        Py_DECREF(server);
        if (failed) {
            return -1;
        }
    }
    return f(st->rec.Pure->type, NULL, arg);
}

typedef struct Filling {
    EngineState *st;
    PyObject *dict;
} Filling;

static int
add_entry(PyTypeObject *type, NativeHandler *server, void *arg)
{
    Filling *filling = arg;
    int known = PyDict_Contains(filling->dict, (PyObject *)type);
    if (known != 0) { /* served by both presets */
        return known < 0 ? -1 : 0;
    }
    DefaultEntry *entry = PyObject_GC_New(DefaultEntry, filling->st->DefaultEntry_Type);
    if (entry == NULL) {
        return -1;
    }
    entry->effect = (PyTypeObject *)Py_NewRef((PyObject *)type);
    entry->server = (NativeHandler *)Py_XNewRef((PyObject *)server);
    PyObject_GC_Track((PyObject *)entry);
    int failed = PyDict_SetItem(filling->dict, (PyObject *)type, (PyObject *)entry);
    Py_DECREF(entry);
    return failed;
}

static PyObject *
default_handlers(PyObject *module, PyObject *Py_UNUSED(ignored))
{
    Filling filling = {PyModule_GetState(module), PyDict_New()};
    if (filling.dict != NULL && default_classes(module, add_entry, &filling) < 0) {
        Py_CLEAR(filling.dict);
    }
    return filling.dict;
}

static PyMethodDef functions[] = {
    {"default_handlers", default_handlers, METH_NOARGS,
     PyDoc_STR("default_handlers()\n--\n\nA new dict from the class of each built-in effect to what answers it, for "
               "SyncRuntime and AsyncRuntime.\n\nAdd handlers of your own, handler(effect, task_state, store) -> "
               "FrameResult, or replace entries. An entry\ncan be called like any handler, so that yours can wrap it.\n\n"
               ">>> handlers = default_handlers()\n>>> handlers[MyEffect] = handle_my_effect\n"
               ">>> SyncRuntime(handlers=handlers).run(program())\n\nContract: programs, part 5.")},
    {NULL},
};

int
v1_defaults_init(PyObject *module, EngineState *st)
{
    st->DefaultEntry_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &entry_spec, NULL);
    return st->DefaultEntry_Type == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
