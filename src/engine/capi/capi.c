#include "capi.h"

#include "../effects/effects.h"
#include "../machine/machine.h"
#include "../machine/pending.h"
#include "../machine/rundata.h"
#include "../machine/scopes.h"
#include "../scheduler/scheduler.h"
#include "../report/trace.h"
#include "../scheduler/completion.h"
#include "../support/arguments.h"
#include "../values/boundedlog.h"
#include "../values/frozendict.h"

/* ---- what the header says of our structs ---- */

#define SAME_PLACE(known, field) \
    _Static_assert(offsetof(EngineState, field) == sizeof(PyObject *) * (known), "DoeffKnown and EngineState")
SAME_PLACE(DOEFF_PROGRAM_CLASS, Program_Type);
SAME_PLACE(DOEFF_EFFECT_CLASS, Effect_Type);
SAME_PLACE(DOEFF_FROZENDICT_CLASS, FrozenDict_Type);
SAME_PLACE(DOEFF_MISSING_ENV_KEY_ERROR, MissingEnvKeyError);
SAME_PLACE(DOEFF_CIRCULAR_ASK_ERROR, CircularAskError);
SAME_PLACE(DOEFF_INVARIANT_ERROR, InterpreterInvariantError);
SAME_PLACE(DOEFF_STR_LOG, str_log);
SAME_PLACE(DOEFF_STR_GRAPH, str_graph);
SAME_PLACE(DOEFF_STR_CACHE_STORAGE, str_cache_storage);
SAME_PLACE(DOEFF_STR_CACHE_EXPIRY, str_cache_expiry);
SAME_PLACE(DOEFF_STR_LAZY_CACHE, str_lazy_cache);
SAME_PLACE(DOEFF_STR_CURRENT_TIME, str_current_time);
SAME_PLACE(DOEFF_STR_VALUE, str_value);
SAME_PLACE(DOEFF_STR_META, str_meta);
SAME_PLACE(DOEFF_STR_KEYS, str_keys);

_Static_assert(offsetof(RecordInfo, type) == offsetof(DoeffRecordHead, type), "DoeffRecordHead and RecordInfo");
_Static_assert(offsetof(RecordInfo, st) == offsetof(DoeffRecordHead, st), "DoeffRecordHead and RecordInfo");
_Static_assert(offsetof(RecordInfo, data) == offsetof(DoeffRecordHead, data), "DoeffRecordHead and RecordInfo");

/* ---- classes ---- */

DoeffEngine *
Doeff_Engine(void)
{
    PyObject *module = PyImport_ImportModule("doeff._engine");
    DoeffEngine *st = module == NULL ? NULL : PyModule_GetState(module);
    Py_XDECREF(module); /* sys.modules and every class of ours hold it */
    return st;
}

DoeffRecordType *
Doeff_NewRecordType(PyObject *module, DoeffEngine *engine, const DoeffRecordSpec *spec)
{
    return record_type_new(module, engine, spec);
}

int
Doeff_AddConstructor(PyObject *module, DoeffRecordType *type, PyMethodDef *def)
{
    return record_add_constructor(module, type, def);
}

/* -1 with a TypeError that says where a handler was expected. */
static int
check_handler(PyObject *op, const char *function)
{
    if (native_handler_check(op)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "handler of %s must be what Doeff_NewHandler gives, got %s", function, type_name(op));
    return -1;
}

DoeffRecordType *
Doeff_Define(PyObject *module, DoeffEngine *engine, PyObject *handler, const DoeffEffectDef *def)
{
    if (def->fn != NULL && check_handler(handler, "Doeff_Define") < 0) {
        return NULL;
    }
    return effect_define(module, engine, (NativeHandler *)handler, def);
}

int
Doeff_Alias(PyObject *module, const char *name, const char *alias)
{
    return effect_alias(module, name, alias);
}

PyObject *
Doeff_Construct(PyObject *type, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return record_construct(type, args, nargs, kwnames);
}

PyObject *
Doeff_NewRecord(DoeffRecordType *type, PyObject **fields)
{
    return record_new(type, fields);
}

/* ---- handlers ---- */

PyObject *
Doeff_NewHandler(DoeffEngine *engine, const char *name, PyObject *data, DoeffEffectFn any)
{
    return (PyObject *)native_handler_new(engine, name, data, any);
}

int
Doeff_Serve(PyObject *handler, PyTypeObject *type, DoeffEffectFn fn)
{
    return check_handler(handler, "Doeff_Serve") < 0 ? -1 : native_handler_serve((NativeHandler *)handler, type, fn);
}

int
Doeff_ShowAs(PyObject *handler, const DoeffFrameKind *kind)
{
    if (check_handler(handler, "Doeff_ShowAs") < 0) {
        return -1;
    }
    ((NativeHandler *)handler)->scope = kind;
    return 0;
}

/* ---- effect functions and frames ---- */

int
Doeff_EnterOrigin(DoeffContext *cx)
{
    return context_enter_origin(cx);
}

int
Doeff_UnshareStore(DoeffContext *cx)
{
    return context_unshare_store(cx);
}

int
Doeff_Push(DoeffContext *cx, const DoeffFrameKind *kind, PyObject *a, PyObject *b)
{
    return context_push(cx, kind, a, b);
}

int
Doeff_Install(DoeffContext *cx, PyObject *handler)
{
    return context_install(cx, handler);
}

DoeffStep
Doeff_Replace(DoeffContext *cx, PyObject *effect, PyObject *program, PyObject **out)
{
    return handler_replace(cx, effect, program, out);
}

PyObject *
Doeff_Keep(DoeffContext *cx, PyObject *effect)
{
    return handler_keep(cx, effect);
}

DoeffStep
Doeff_Resume(DoeffContext *cx, PyObject *k, PyObject *value, PyObject **out)
{
    return handler_resume(cx, k, value, out);
}

/* ---- what belongs to the run ---- */

PyObject *
Doeff_RunDict(DoeffContext *cx, PyObject *key)
{
    return run_data_dict(cx, key);
}

PyObject *
Doeff_AdoptRunData(DoeffContext *cx, PyObject *key)
{
    return run_data_adopt(cx, key);
}

/* ---- scopes ---- */

int
Doeff_OpenScope(DoeffContext *cx, PyObject *topic, const DoeffFrameKind *kind, PyObject *entries)
{
    return scope_open(cx, topic, kind, entries);
}

int
Doeff_CloseScope(DoeffContext *cx, DoeffFrame *frame)
{
    scope_close(cx, frame);
    return 0;
}

PyObject *
Doeff_NextScope(PyObject **scope, PyObject *topic)
{
    return scope_next(scope, topic);
}

/* ---- the continuation ---- */

int
Doeff_FindFrame(DoeffContext *cx, const DoeffFrameKind *kind, int (*match)(const DoeffFrame *, void *), void *arg)
{
    return pending_find(cx, kind, match, arg);
}

PyObject *
Doeff_Pending(DoeffContext *cx, int all)
{
    return pending_rows(cx, all);
}

PyObject *
Doeff_CaptureTraceback(DoeffContext *cx, PyObject *error)
{
    return trace_capture(MACHINE_OF(cx), error);
}

/* ---- values ---- */

PyObject *
Doeff_NewOk(DoeffEngine *engine, PyObject *value)
{
    return record_new1(engine->rec.Ok, value);
}

PyObject *
Doeff_NewErr(DoeffEngine *engine, PyObject *error, PyObject *captured)
{
    return record_new2(engine->rec.Err, error, captured);
}

PyObject *
Doeff_NewSome(DoeffEngine *engine, PyObject *value)
{
    return record_new1(engine->rec.Some, value);
}

PyObject *
Doeff_NewListenResult(DoeffEngine *engine, PyObject *value, PyObject *log)
{
    return record_new2(engine->rec.ListenResult, value, log);
}

PyObject *
Doeff_NewBoundedLog(DoeffEngine *engine)
{
    return boundedlog_new(engine);
}

PyObject *
Doeff_FrozenDict(DoeffEngine *engine, PyObject *mapping)
{
    return mapping == NULL ? Py_NewRef(engine->empty_env) : frozendict_from(engine, mapping);
}

PyObject *
Doeff_MergeFrozenDict(DoeffEngine *engine, PyObject *base, PyObject *update)
{
    return frozendict_merge(engine, base, update);
}

/* ---- arguments ---- */

int
Doeff_CheckStr(PyObject *value, const char *field)
{
    return check_str(value, field);
}

int
Doeff_CheckCallable(PyObject *value, const char *field)
{
    return check_callable(value, field);
}

int
Doeff_CheckProgram(DoeffEngine *engine, PyObject *value, const char *field)
{
    return check_program(engine, value, field);
}

const char *
Doeff_Hint(DoeffEngine *engine, PyObject *op)
{
    return program_hint(engine, op);
}

const char *
Doeff_TypeName(PyObject *op)
{
    return type_name(op);
}

int
Doeff_BindArguments(const DoeffParameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                    PyObject **bound)
{
    return arguments_bind(p, args, nargs, kwnames, bound);
}

int
Doeff_IsUnique(PyObject *op)
{
    return compat_only_reference(op);
}

/* ---- completions ---- */

PyObject *
Doeff_NewCompletion(DoeffContext *cx)
{
    return external_promise_new(cx);
}

DoeffStep
Doeff_WaitFor(DoeffContext *cx, PyObject *completion, PyObject **out)
{
    if (!external_promise_check(cx->st, completion) || context_begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    *out = record_new2(cx->st->rec.Wait, Py_NewRef(completion), Py_NewRef(Py_None));
    return *out == NULL ? DOEFF_RAISE : DOEFF_PROGRAM;
}

int
Doeff_Complete(PyObject *completion, PyObject *value, PyObject *error)
{
    return external_promise_complete(completion, value, error);
}

int
Doeff_OwnCancel(DoeffContext *cx, PyObject *error)
{
    return scheduler_own_cancel(cx, error);
}

/* ---- the table ---- */

static const DoeffApi table = {
    .abi = DOEFF_ABI,
    .size = sizeof(DoeffApi),
#define TABLE_ENTRY(T, name, parameters, arguments) .name = Doeff_##name,
    DOEFF_FUNCTIONS(TABLE_ENTRY)
};

int
capi_room_init(PyObject *module, EngineState *Py_UNUSED(st))
{
    PyObject *capsule = PyCapsule_New((void *)&table, "doeff._engine.C_API", NULL);
    int failed = capsule == NULL || PyModule_AddObjectRef(module, "C_API", capsule) < 0;
    Py_XDECREF(capsule);
    return failed ? -1 : 0;
}
