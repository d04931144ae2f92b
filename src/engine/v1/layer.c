#include "../effects/effects.h"
#include "../machine/cesk.h"
#include "../machine/kontinuation.h"
#include "../support/imports.h"
#include "v1.h"

/* ---- errors that name the handler ---- */

/* "v1 handler NAME (of CLASS)" */
static PyObject *
describe_culprit(PyObject *handler, PyObject *effect)
{
    PyObject *name = PyObject_GetAttrString(handler, "__qualname__");
    if (name == NULL || !PyUnicode_Check(name)) {
        PyErr_Clear();
        Py_XSETREF(name, PyObject_Repr(handler));
    }
    PyObject *text = name == NULL ? NULL : PyUnicode_FromFormat("v1 handler %U, for %s,", name, type_name(effect));
    Py_XDECREF(name);
    return text;
}

/* The error that is set says what is wrong with a result: puts the handler in front of it. */
static void
blame(EngineState *st, PyObject *handler, PyObject *effect)
{
    PyObject *error = PyErr_GetRaisedException();
    PyObject *type = (PyObject *)Py_TYPE(error);
    if (type != PyExc_TypeError && type != PyExc_RuntimeError && type != st->InterpreterInvariantError) {
        PyErr_SetRaisedException(error); /* a user's own, from a property or a mapping; or no memory */
        return;
    }
    PyObject *culprit = describe_culprit(handler, effect);
    if (culprit != NULL) {
        PyErr_Format(type, "%U gave a wrong result: %S", culprit, error);
        Py_DECREF(culprit);
    }
    Py_DECREF(error);
}

static void
raise_no_result(EngineState *st, PyObject *handler, PyObject *effect, PyObject *result)
{
    const char *hint = "";
    if (result == Py_None) {
        hint = ": is a return missing?";
    }
    else if (PyCoro_CheckExact(result)) {
        hint = ": handlers are plain functions; to await, give ContinueValue(AwaitExternal(...), ...)";
    }
    else if (program_check(st, result)) {
        hint = ": to run a program, give ContinueProgram(program, task_state.env, store, task_state.kontinuation)";
    }
    else if (PyGen_Check(result)) {
        hint = ": handlers are plain functions, without yield";
    }
    else if (request_check(st, result)) {
        hint = ": a Request is the value of a ContinueValue";
    }
    else if (Py_IS_TYPE(result, st->rec.CESKState->type) || Py_IS_TYPE(result, st->rec.ResumeK->type)) {
        hint = ": that is what handlers for sync_run and async_run give";
    }
    PyObject *culprit = describe_culprit(handler, effect);
    if (culprit != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%U must return ContinueValue, ContinueProgram, ContinueError or ContinueGenerator, got %s%s",
                     culprit, Py_TYPE(result)->tp_name, hint);
        Py_DECREF(culprit);
    }
    if (PyCoro_CheckExact(result)) { /* it will never run: do not let it complain */
        PyObject *error = PyErr_GetRaisedException();
        Py_XDECREF(PyObject_CallMethodNoArgs(result, st->str_close));
        PyErr_Clear();
        PyErr_SetRaisedException(error);
    }
}

/* ---- results that are not plainly right ---- */

static int
check_frame(EngineState *st, PyObject *frame)
{
    PyObject *const names[] = {st->str_on_value, st->str_on_error};
    for (int i = 0; i < 2; i++) {
        PyObject *method;
        int found = PyObject_GetOptionalAttr(frame, names[i], &method);
        Py_XDECREF(method);
        if (found < 0) {
            return -1;
        }
        if (found == 0) {
            PyErr_Format(st->InterpreterInvariantError, "%s in k is no frame, it has no method %U",
                         Py_TYPE(frame)->tp_name, names[i]);
            return -1;
        }
    }
    return 0;
}

static int
check_parts(EngineState *st, const FrameOutcome *o)
{
    PyObject *env = o->env == Py_None ? Py_NewRef(Py_None) : cesk_freeze_env(st, o->env);
    if (env == NULL) {
        return -1;
    }
    Py_DECREF(env);
    if (o->store != Py_None && !PyDict_Check(o->store)) {
        PyErr_Format(PyExc_TypeError, "store must be a dict, got %s", Py_TYPE(o->store)->tp_name);
        return -1;
    }
    KontinuationTarget target;
    if (kontinuation_target(st, o->k, &target) < 0) {
        return -1;
    }
    int failed = 0;
    if (target.part == K_REST) {
        PyErr_SetString(PyExc_RuntimeError, "k is the rest that a frame was given; a handler has task_state.kontinuation");
        failed = -1;
    }
    for (Py_ssize_t i = 0; !failed && target.prefix != NULL && i < PyTuple_GET_SIZE(target.prefix); i++) {
        failed = check_frame(st, PyTuple_GET_ITEM(target.prefix, i));
    }
    Py_XDECREF(target.prefix);
    return failed;
}

/* What nearly every result is: env and store as they were, and the very continuation. */
static inline int
is_plain(EngineState *st, DoeffHandlerContext *ctx, const FrameOutcome *o)
{
    return o->env == ctx->env && o->store == ctx->machine->cx.store && Py_IS_TYPE(o->k, st->Kontinuation_Type)
           && kontinuation_is_whole(o->k, ctx);
}

/* ---- requests ---- */

/* What goes on is a body (doeff._v1.answer) that performs the request and then gives its outcome to k. */
static DoeffStep
begin_request(DoeffContext *cx, DoeffHandlerContext *ctx, const FrameOutcome *o, PyObject **out)
{
    PyObject *body =
        import_call("doeff._v1", "answer", "(OOOOO)", o->out, o->env, o->store, o->k, ctx->node->handler);
    if (body == NULL || cesk_adopt_store(cx, o->store) < 0) {
        Py_XDECREF(body);
        return DOEFF_RAISE;
    }
    if (handler_begin_body(cx, ctx, &handler_result_frame) < 0) {
        Py_DECREF(body);
        return DOEFF_RAISE;
    }
    return program_drive(cx, body, NULL, out);
}

/* PerformIO needs no body: its outcome takes the place of the request. */
static void
perform_io(FrameOutcome *o)
{
    PyObject *value = PyObject_CallNoArgs(RECORD_FIELD(o->out, 0));
    Py_SETREF(o->out, value);
    if (value == NULL) {
        program_wrap_stop_iteration();
        o->step = DOEFF_RAISE;
        o->error = PyErr_GetRaisedException();
    }
}

/* ---- a generator of the continuation itself ---- */

/* ContinueGenerator(frame.generator, ..., k=k[n:]) with the frame just inside k[n:] says the same as a value
 * for k[n - 1:], and must be taken so: going to k[n:] would close the generator. Gives k[n - 1:] (strong),
 * None if it is not so, NULL with an error. */
static PyObject *
own_frames(EngineState *st, DoeffHandlerContext *ctx, PyObject *generator, PyObject *k)
{
    KontinuationTarget target;
    if (!PyList_Check(k) || PyList_GET_SIZE(k) == 0) {
        return Py_NewRef(Py_None);
    }
    if (kontinuation_target(st, k, &target) < 0) {
        return NULL;
    }
    int candidate = target.ctx == ctx && target.prefix == NULL;
    Py_XDECREF(target.prefix);
    if (!candidate) {
        return Py_NewRef(Py_None);
    }
    PyObject *whole = kontinuation_new(st, ctx, K_ALL);
    PyObject *views = whole == NULL ? NULL : PySequence_List(whole);
    PyObject *its = NULL, *rest = NULL;
    if (views != NULL) {
        Py_ssize_t length = PyList_GET_SIZE(views);
        Py_ssize_t at = (target.part == K_ORIGIN ? target.skip : length - PyList_GET_SIZE(k)) - 1;
        if (at < 0) {
            rest = Py_NewRef(Py_None);
        }
        else if (PyObject_GetOptionalAttr(PyList_GET_ITEM(views, at), st->str_generator, &its) >= 0) {
            rest = its == generator ? PyList_GetSlice(views, at, length) : Py_NewRef(Py_None);
        }
    }
    Py_XDECREF(its);
    Py_XDECREF(views);
    Py_XDECREF(whole);
    return rest;
}

/* A program that is to run outside the scope of the layer gets the layer around it: a dictionary is in force
 * as long as its run lasts. */
static int
keep_in_force(EngineState *st, DoeffHandlerContext *ctx, FrameOutcome *o)
{
    KontinuationTarget target;
    if (kontinuation_target(st, o->k, &target) < 0) {
        Py_CLEAR(o->out);
        return -1;
    }
    Py_XDECREF(target.prefix);
    if (target.part == K_NOTHING || target.part == K_OUTER) {
        o->out = record_new2(st->rec.WithHandler, Py_NewRef(ctx->node->handler), o->out);
    }
    return o->out == NULL ? -1 : 0;
}

/* ---- the effect function ---- */

static DoeffStep
fail_at_origin(DoeffContext *cx, DoeffHandlerContext *ctx)
{
    PyObject *error = PyErr_GetRaisedException();
    if (handler_resume_origin(cx, ctx) != DOEFF_VALUE) {
        Py_DECREF(error);
        return DOEFF_RAISE;
    }
    PyErr_SetRaisedException(error);
    return DOEFF_RAISE;
}

/* Goes on as result says. */
static DoeffStep
follow(DoeffContext *cx, DoeffHandlerContext *ctx, PyObject *handler, PyObject *result, PyObject **out)
{
    EngineState *st = cx->st;
    PyObject *effect = ctx->effect, *k = NULL;
    FrameOutcome o;
    int read = frame_result_read(st, result, &o);
    if (read == 0) {
        raise_no_result(st, handler, effect, result);
        return fail_at_origin(cx, ctx);
    }
    if (read < 0 || (!is_plain(st, ctx, &o) && check_parts(st, &o) < 0)) {
        goto wrong;
    }
    if (DOEFF_UNLIKELY(Py_IS_TYPE(result, st->rec.ContinueGenerator->type))) {
        k = own_frames(st, ctx, RECORD_FIELD(result, 0), o.k);
        if (k == NULL) {
            goto wrong;
        }
        if (k != Py_None) {
            o.k = k;
            Py_SETREF(o.out, Py_NewRef(RECORD_FIELD(result, 1)));
            o.step = DOEFF_VALUE;
            if (RECORD_FIELD(result, 2) != Py_None) {
                Py_CLEAR(o.out);
                o.error = Py_NewRef(RECORD_FIELD(result, 2));
                o.step = DOEFF_RAISE;
            }
        }
    }
    DoeffStep step;
    if (o.step == DOEFF_VALUE && DOEFF_UNLIKELY(request_check(st, o.out)) && k == NULL) {
        if (!Py_IS_TYPE(o.out, st->rec.PerformIO->type)) {
            step = begin_request(cx, ctx, &o, out);
            Py_XDECREF(o.out);
            return step == DOEFF_RAISE ? fail_at_origin(cx, ctx) : step;
        }
        perform_io(&o);
    }
    if (o.step == DOEFF_PROGRAM && PyList_Check(o.k) && keep_in_force(st, ctx, &o) < 0) {
        Py_XDECREF(k);
        return fail_at_origin(cx, ctx);
    }
    if (o.error != NULL) {
        PyErr_SetRaisedException(o.error);
    }
    *out = o.out;
    step = handler_go_to(cx, ctx, k == NULL || k == Py_None ? result : k, o.k, o.env, o.store, o.step, out);
    Py_XDECREF(k);
    return step;
wrong:
    Py_XDECREF(o.out);
    Py_XDECREF(o.error);
    Py_XDECREF(k);
    blame(st, handler, effect);
    return fail_at_origin(cx, ctx);
}

/* The function of the dictionary (borrowed: the layer keeps it) for the class of this effect. */
static PyObject *
function_for(PyObject *dictionary, PyTypeObject *type)
{
    PyObject *function = PyDict_GetItemWithError(dictionary, (PyObject *)type);
    for (Py_ssize_t i = 1; function == NULL && !PyErr_Occurred() && i < PyTuple_GET_SIZE(type->tp_mro); i++) {
        function = PyDict_GetItemWithError(dictionary, PyTuple_GET_ITEM(type->tp_mro, i));
    }
    if (function == NULL && !PyErr_Occurred()) {
        PyErr_Format(PyExc_RuntimeError, "no v1 handler for %s: its bases have changed", type->tp_name);
    }
    return function;
}

/* The plainest result: a value for this very continuation, of which it holds one reference. */
static inline int
is_value_for(EngineState *st, PyObject *result, PyObject *k)
{
    return Py_IS_TYPE(result, st->rec.ContinueValue->type) && RECORD_FIELD(result, 3) == k && Py_REFCNT(result) == 1;
}

/* An effect that the dictionary has a handler for. */
static DoeffStep
v1_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    HandlerNode *node = MACHINE_OF(cx)->at;
    if (MACHINE_OF(cx)->delegate != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "v1 handlers answer in the place where their runtime has put them; "
                                            "no handler can hand them an effect");
        return DOEFF_RAISE;
    }
    PyObject *handler = function_for(((NativeHandler *)node->handler)->data, Py_TYPE(effect));
    PyObject *store = handler == NULL ? NULL : context_store(cx);
    DoeffHandlerContext *ctx = store == NULL ? NULL : handler_capture(cx, effect);
    if (ctx == NULL) {
        return DOEFF_RAISE;
    }
    ctx->body_done = 1; /* no frame waits for a body */
    PyObject *result = NULL, *k = NULL;
    TaskState *state = task_state_new(cx->st, ctx);
    if (state != NULL) {
        k = Py_NewRef(state->kontinuation);
        Py_INCREF(store); /* the handler may let a nested run or a callback replace it */
        PyObject *args[4] = {NULL, effect, (PyObject *)state, store};
        result = PyObject_Vectorcall(handler, args + 1, 3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        Py_DECREF(store);
        task_state_done(state);
        if (DOEFF_UNLIKELY(result == NULL || Py_REFCNT(k) != 2 || !is_value_for(cx->st, result, k))) {
            kontinuation_track(k); /* somebody else may know it */
        }
        Py_DECREF(k);
    }
    DoeffStep step;
    if (DOEFF_LIKELY(result != NULL)) {
        step = follow(cx, ctx, handler, result, out);
        Py_DECREF(result);
    }
    else {
        program_wrap_stop_iteration();
        step = fail_at_origin(cx, ctx);
    }
    handler_track_if_kept(ctx);
    Py_DECREF(ctx);
    return step;
}

/* ---- the layer ---- */

static int
check_key(EngineState *st, PyObject *key)
{
    if (!PyType_Check(key)) {
        PyObject *info = PyCFunction_Check(key) ? PyCFunction_GET_SELF(key) : NULL;
        if (info != NULL && Py_IS_TYPE(info, st->RecordInfo_Type)) {
            PyErr_Format(PyExc_TypeError, "handlers: %S is a constructor; the class of its effects is %s",
                         key, ((RecordInfo *)info)->type->tp_name);
        }
        else {
            PyErr_Format(PyExc_TypeError, "handlers: keys must be classes of effects, got %R", key);
        }
        return -1;
    }
    PyTypeObject *type = (PyTypeObject *)key;
    int ours = machine_program_fn(st, type) != NULL && type != st->rec.Pure->type;
    if (ours || !PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)) {
        PyErr_Format(PyExc_TypeError, "handlers: %s %s", type->tp_name,
                     ours ? "is for the machine itself and never reaches a handler" : "is no class of effects");
        return -1;
    }
    return 0;
}

static int
add_handler(EngineState *st, NativeHandler *layer, PyObject *key, PyObject *function)
{
    if (check_key(st, key) < 0) {
        return -1;
    }
    int pass = default_entry_is_for(st, function, key);
    if (pass && key == (PyObject *)st->rec.Pure->type) {
        return 0; /* stays with the machine */
    }
    if (!pass && !PyCallable_Check(function)) {
        PyErr_Format(PyExc_TypeError,
                     "handlers[%s] must be a handler, a callable that takes (effect, task_state, store), got %s",
                     ((PyTypeObject *)key)->tp_name, Py_TYPE(function)->tp_name);
        return -1;
    }
    if (native_handler_serve(layer, (PyTypeObject *)key, pass ? NULL : v1_perform) < 0) {
        return -1;
    }
    return pass ? 0 : PyDict_SetItem(layer->data, key, function);
}

typedef struct Layering {
    EngineState *st;
    NativeHandler *layer;
    PyObject *given;
} Layering;

/* A built-in effect that the dictionary does not name stays with the preset, even if the dictionary names a base. */
static int
leave_to_preset(PyTypeObject *type, NativeHandler *Py_UNUSED(server), void *arg)
{
    Layering *layering = arg;
    int named = PyDict_Contains(layering->given, (PyObject *)type);
    if (named != 0 || type == layering->st->rec.Pure->type) {
        return named < 0 ? -1 : 0;
    }
    return native_handler_serve(layering->layer, type, NULL);
}

/* _v1_layer(handlers): the handler that stands for a dictionary of v1 handlers, as it is now. */
static PyObject *
v1_layer(PyObject *module, PyObject *handlers)
{
    EngineState *st = PyModule_GetState(module);
    if (handlers != Py_None && (!PyMapping_Check(handlers) || PySequence_Check(handlers))
        && !PyDict_Check(handlers)) {
        PyErr_Format(PyExc_TypeError,
                     "handlers must be a dict from classes of effects to handlers, got %s%s", Py_TYPE(handlers)->tp_name,
                     PySequence_Check(handlers) ? ": a list of handlers is for sync_run and async_run" : "");
        return NULL;
    }
    PyObject *given = PyDict_New(), *functions = PyDict_New();
    NativeHandler *layer = NULL;
    if (given == NULL || functions == NULL || (handlers != Py_None && PyDict_Update(given, handlers) < 0)) {
        goto done;
    }
    layer = native_handler_new(st, "v1_handlers", functions, NULL);
    if (layer == NULL) {
        goto done;
    }
    int failed = 0;
    Py_ssize_t at = 0;
    PyObject *key, *function;
    while (!failed && PyDict_Next(given, &at, &key, &function)) {
        failed = add_handler(st, layer, key, function) < 0;
    }
    Layering layering = {st, layer, given};
    if (failed || default_classes(module, leave_to_preset, &layering) < 0) {
        Py_CLEAR(layer);
    }
done:
    Py_XDECREF(given);
    Py_XDECREF(functions);
    return (PyObject *)layer;
}

/* _v1_handlers(layer): the user's entries, for a run elsewhere. */
static PyObject *
v1_handlers(PyObject *Py_UNUSED(module), PyObject *layer)
{
    if (!native_handler_check(layer) || ((NativeHandler *)layer)->data == NULL
        || !PyDict_CheckExact(((NativeHandler *)layer)->data)) {
        PyErr_SetString(PyExc_TypeError, "layer must be what _v1_layer gave");
        return NULL;
    }
    return PyDict_Copy(((NativeHandler *)layer)->data);
}

static PyMethodDef functions[] = {
    {"_v1_handlers", v1_handlers, METH_O, NULL},
    {"_v1_layer", v1_layer, METH_O, NULL},
    {NULL},
};

int
v1_layer_init(PyObject *module, EngineState *st)
{
    (void)st;
    return PyModule_AddFunctions(module, functions);
}

int
v1_room_init(PyObject *module, EngineState *st)
{
    return v1_results_init(module, st) < 0 || v1_taskstate_init(module, st) < 0 || v1_defaults_init(module, st) < 0
                   || v1_layer_init(module, st) < 0 || v1_tasks_init(module, st) < 0
               ? -1
               : 0;
}
