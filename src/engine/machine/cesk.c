#include "cesk.h"

#include "../v1/v1.h"
#include "../values/frozendict.h"
#include "kontinuation.h"

PyObject *
cesk_freeze_env(EngineState *st, PyObject *env)
{
    if (env == NULL || env == Py_None) {
        return Py_NewRef(st->empty_env);
    }
    if (Py_IS_TYPE(env, st->FrozenDict_Type)) {
        return Py_NewRef(env);
    }
    if (!PyMapping_Check(env) || PyUnicode_Check(env) || PyList_Check(env) || PyTuple_Check(env)) {
        PyErr_Format(PyExc_TypeError, "env must be a mapping, got %s", Py_TYPE(env)->tp_name);
        return NULL;
    }
    return frozendict_from(st, env);
}

/* ---- states that user code returns ---- */

DoeffStep
cesk_control(EngineState *st, PyObject *control, PyObject **out)
{
    if (Py_IS_TYPE(control, st->rec.Value->type)) {
        *out = Py_NewRef(RECORD_FIELD(control, 0));
        return DOEFF_VALUE;
    }
    if (Py_IS_TYPE(control, st->rec.Error->type)) {
        PyErr_SetRaisedException(Py_NewRef(RECORD_FIELD(control, 0)));
        return DOEFF_RAISE;
    }
    if (Py_IS_TYPE(control, st->rec.EffectControl->type) || Py_IS_TYPE(control, st->rec.ProgramControl->type)) {
        *out = Py_NewRef(RECORD_FIELD(control, 0));
        return DOEFF_PROGRAM;
    }
    PyErr_Format(st->InterpreterInvariantError, "C must be Value, Error, EffectControl or ProgramControl, got %s",
                 Py_TYPE(control)->tp_name);
    return DOEFF_RAISE;
}

int
cesk_adopt_store(DoeffContext *cx, PyObject *store)
{
    if (store == Py_None || store == cx->store) {
        return 0;
    }
    if (!PyDict_Check(store)) {
        PyErr_Format(PyExc_TypeError, "a handler's store must be a dict, got %s", Py_TYPE(store)->tp_name);
        return -1;
    }
    Py_SETREF(cx->store, Py_NewRef(store));
    cx->store_shared = 0;
    return 0;
}

int
cesk_adopt_env(DoeffContext *cx, PyObject *env)
{
    if (env == Py_None || env == cx->env) {
        return 0;
    }
    PyObject *frozen = cesk_freeze_env(cx->st, env);
    if (frozen == NULL) {
        return -1;
    }
    context_set_env(cx, frozen);
    return 0;
}

static DoeffStep
env_restore(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **Py_UNUSED(out))
{
    context_set_env(cx, Py_NewRef(frame->a));
    return DOEFF_PASS;
}

static const DoeffFrameKind env_frame = {
    .name = "LocalFrame",
    .on_value = env_restore,
    .on_error = env_restore,
};

/* The very same bindings: whoever takes a state apart and puts it together again changes nothing. */
static int
same_bindings(PyObject *a, PyObject *b)
{
    if (!PyDict_Check(a) || !PyDict_Check(b) || PyDict_GET_SIZE(a) != PyDict_GET_SIZE(b)) {
        return 0;
    }
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(a, &at, &key, &value)) {
        if (!PyUnicode_CheckExact(key)) { /* looking for it could run foreign code */
            return 0;
        }
        PyObject *other = PyDict_GetItemWithError(b, key);
        if (other != value) {
            PyErr_Clear();
            return 0;
        }
    }
    return 1;
}

int
cesk_use_env(DoeffContext *cx, PyObject *env)
{
    if (env == Py_None || env == cx->env || same_bindings(env, cx->env)) {
        return 0;
    }
    return context_push(cx, &env_frame, Py_NewRef(cx->env), NULL) < 0 ? -1 : cesk_adopt_env(cx, env);
}

int
cesk_push_frames(DoeffContext *cx, PyObject *prefix)
{
    for (Py_ssize_t i = prefix == NULL ? 0 : PyTuple_GET_SIZE(prefix); i > 0; i--) {
        PyObject *frame = Py_NewRef(PyTuple_GET_ITEM(prefix, i - 1));
        if (fiber_push(MACHINE_OF(cx)->fiber, &object_frame, frame, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

DoeffStep
cesk_continue(DoeffContext *cx, PyObject *frame, PyObject *state, PyObject **out)
{
    EngineState *st = cx->st;
    KontinuationTarget target;
    FrameOutcome o = {.step = DOEFF_PASS};
    if (Py_IS_TYPE(state, st->rec.CESKState->type)) {
        o.env = RECORD_FIELD(state, 1);
        o.store = RECORD_FIELD(state, 2);
        o.k = RECORD_FIELD(state, 3);
    }
    else {
        int read = frame_result_read(st, state, &o);
        if (read == 0) {
            PyErr_Format(PyExc_TypeError, "frame %s must return a CESKState or a FrameResult, got %s",
                         Py_TYPE(frame)->tp_name, Py_TYPE(state)->tp_name);
        }
        if (read <= 0) {
            return DOEFF_RAISE;
        }
    }
    if (kontinuation_target(st, o.k, &target) < 0) {
        Py_XDECREF(o.out);
        Py_XDECREF(o.error);
        return DOEFF_RAISE;
    }
    DoeffStep step = DOEFF_RAISE;
    if (target.part != K_REST && target.part != K_NOTHING) {
        PyErr_SetString(PyExc_RuntimeError,
                        "a frame goes on with the continuation that it was given (k_rest), with frames in "
                        "front of it, or with the empty one");
        goto done;
    }
    if (cesk_adopt_store(cx, o.store) < 0 || cesk_adopt_env(cx, o.env) < 0
        || cesk_push_frames(cx, target.prefix) < 0) {
        goto done;
    }
    step = o.step;
    if (step == DOEFF_PASS) {
        step = cesk_control(st, RECORD_FIELD(state, 0), out);
    }
    else if (o.error != NULL) {
        PyErr_SetRaisedException(o.error);
        o.error = NULL;
    }
    else {
        *out = o.out;
        o.out = NULL;
    }
    if (target.part == K_NOTHING) { /* exactly as given: the task ends here */
        PyObject *what = step == DOEFF_RAISE ? PyErr_GetRaisedException() : *out;
        *out = NULL;
        (void)machine_unwind_all(MACHINE_OF(cx), step, what);
        step = DOEFF_RAISE;
    }
done:
    Py_XDECREF(o.out);
    Py_XDECREF(o.error);
    Py_XDECREF(target.prefix);
    return step;
}

/* ---- controls ---- */

static const RecordSpec value_spec = {
    .name = "doeff.cesk.state.Value", .doc = "Value(v)\n--\n\nControl: a value on its way to the top frame.",
    .fields = {"v"}, .required = 1,
};
static const RecordSpec error_spec = {
    .name = "doeff.cesk.state.Error",
    .doc = "Error(ex, captured_traceback=None)\n--\n\nControl: an exception on its way to the top frame.",
    .fields = {"ex", "captured_traceback"}, .required = 1,
};
static const RecordSpec effect_control_spec = {
    .name = "doeff.cesk.state.EffectControl", .doc = "EffectControl(effect)\n--\n\nControl: an effect to be handled.",
    .fields = {"effect"}, .required = 1,
};
static const RecordSpec program_control_spec = {
    .name = "doeff.cesk.state.ProgramControl",
    .doc = "ProgramControl(program)\n--\n\nControl: a program to be started.",
    .fields = {"program"}, .required = 1,
};

/* ---- states ---- */

static int
state_init(RecordInfo *info, PyObject **f)
{
    if (f[0] == Py_None) {
        PyErr_SetString(PyExc_ValueError, "CESKState needs C");
        return -1;
    }
    PyObject *env = cesk_freeze_env(info->st, f[1]);
    if (env == NULL) {
        return -1;
    }
    Py_SETREF(f[1], env);
    if (f[2] == Py_None) {
        PyObject *store = PyDict_New();
        if (store == NULL) {
            return -1;
        }
        Py_SETREF(f[2], store);
    }
    if (f[3] == Py_None) {
        PyObject *k = PyList_New(0);
        if (k == NULL) {
            return -1;
        }
        Py_SETREF(f[3], k);
    }
    return 0;
}

static PyObject *
make_state(EngineState *st, PyObject *control /* stolen or NULL */, PyObject *env, PyObject *store, PyObject *k)
{
    if (control == NULL) {
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {control, Py_NewRef(env), Py_NewRef(store), Py_NewRef(k)};
    if (state_init(st->rec.CESKState, f) < 0) {
        for (int i = 0; i < 4; i++) {
            Py_XDECREF(f[i]);
        }
        return NULL;
    }
    return record_new(st->rec.CESKState, f);
}

static PyObject *
with_value(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"value", "env", "store", "k", NULL};
    PyObject *value, *env, *store, *k;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:with_value", keywords, &value, &env, &store, &k)) {
        return NULL;
    }
    EngineState *st = engine_state_of((PyTypeObject *)cls);
    return make_state(st, record_new1(st->rec.Value, Py_NewRef(value)), env, store, k);
}

static PyObject *
with_error(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"error", "env", "store", "k", "captured_traceback", NULL};
    PyObject *error, *env, *store, *k, *tb = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|O:with_error", keywords, &error, &env, &store, &k,
                                     &tb)) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", Py_TYPE(error)->tp_name);
        return NULL;
    }
    EngineState *st = engine_state_of((PyTypeObject *)cls);
    return make_state(st, record_new2(st->rec.Error, Py_NewRef(error), Py_NewRef(tb)), env, store, k);
}

static PyObject *
with_program(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"program", "env", "store", "k", NULL};
    PyObject *program, *env, *store, *k;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO:with_program", keywords, &program, &env, &store, &k)) {
        return NULL;
    }
    EngineState *st = engine_state_of((PyTypeObject *)cls);
    return make_state(st, record_new1(st->rec.ProgramControl, Py_NewRef(program)), env, store, k);
}

/* resume_value(value, ctx) and the like: env, store and k of a HandlerContext. */
static PyObject *
resuming(PyObject *cls, PyObject *args, PyObject *kwargs, const char *what, int kind)
{
    char *keywords[] = {(char *)what, "ctx", NULL};
    PyObject *thing, *ctx;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO", keywords, &thing, &ctx)) {
        return NULL;
    }
    if (kind == 1 && !PyExceptionInstance_Check(thing)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", Py_TYPE(thing)->tp_name);
        return NULL;
    }
    EngineState *st = engine_state_of((PyTypeObject *)cls);
    PyObject *env = PyObject_GetAttrString(ctx, "env");
    PyObject *store = env == NULL ? NULL : PyObject_GetAttrString(ctx, "store");
    PyObject *k = store == NULL ? NULL : PyObject_GetAttrString(ctx, "k");
    PyObject *state = NULL;
    if (k != NULL) {
        PyObject *control = kind == 1 ? record_new2(st->rec.Error, Py_NewRef(thing), Py_NewRef(Py_None))
                                      : record_new1(kind == 0 ? st->rec.Value : st->rec.ProgramControl,
                                                    Py_NewRef(thing));
        state = make_state(st, control, env, store, k);
    }
    Py_XDECREF(env);
    Py_XDECREF(store);
    Py_XDECREF(k);
    return state;
}

static PyObject *
resume_value(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    return resuming(cls, args, kwargs, "value", 0);
}

static PyObject *
resume_error(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    return resuming(cls, args, kwargs, "error", 1);
}

static PyObject *
resume_program(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    return resuming(cls, args, kwargs, "program", 2);
}

static PyObject *
initial(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"program", "env", "store", NULL};
    PyObject *program, *env = Py_None, *store = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|OO:initial", keywords, &program, &env, &store)) {
        return NULL;
    }
    EngineState *st = engine_state_of((PyTypeObject *)cls);
    return make_state(st, record_new1(st->rec.ProgramControl, Py_NewRef(program)), env, store, Py_None);
}

static PyObject *
get_store(PyObject *self, void *Py_UNUSED(closure))
{
    return Py_NewRef(RECORD_FIELD(self, 2));
}

static PyGetSetDef state_getset[] = {
    {"store", get_store, NULL, PyDoc_STR("S, by its long name."), NULL},
    {NULL},
};

static PyMethodDef state_methods[] = {
    {"initial", (PyCFunction)(void (*)(void))initial, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("initial(program, env=None, store=None)\n--\n\nThe state in which a run of program begins.")},
    {"resume_value", (PyCFunction)(void (*)(void))resume_value, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("resume_value(value, ctx)\n--\n\nwith_value with the env, store and k of a HandlerContext.")},
    {"resume_error", (PyCFunction)(void (*)(void))resume_error, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("resume_error(error, ctx)\n--\n\nwith_error with the env, store and k of a HandlerContext.")},
    {"resume_program", (PyCFunction)(void (*)(void))resume_program, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("resume_program(program, ctx)\n--\n\nwith_program with the env, store and k of a HandlerContext.")},
    {"with_value", (PyCFunction)(void (*)(void))with_value, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("with_value(value, env, store, k)\n--\n\nA state that gives value to k.")},
    {"with_error", (PyCFunction)(void (*)(void))with_error, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("with_error(error, env, store, k, captured_traceback=None)\n--\n\nA state that throws error into k.")},
    {"with_program", (PyCFunction)(void (*)(void))with_program, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("with_program(program, env, store, k)\n--\n\nA state that runs program on top of k.")},
    {NULL},
};

static PyType_Slot state_slots[] = {
    {Py_tp_methods, state_methods},
    {Py_tp_getset, state_getset},
    {0, NULL},
};

static const RecordSpec state_spec = {
    .name = "doeff.cesk.state.CESKState",
    .doc = "CESKState(C, E=None, S=None, K=None)\n--\n\nControl, Environment, Store and Kontinuation of a machine.",
    .fields = {"C", "E", "S", "K"}, .required = 1, .init = state_init, .slots = state_slots,
};

static const RecordSpec resume_k_spec = {
    .name = "doeff.cesk.handler_frame.ResumeK",
    .doc = "ResumeK(k, value=None, env=None, store=None, error=None)\n--\n\n"
           "A handler's result: go to the continuation k with a value or an error.",
    .fields = {"k", "value", "env", "store", "error"}, .required = 1,
};

static const RecordSpec direct_state_spec = {
    .name = "doeff.cesk.result.DirectState", .doc = "DirectState(state)\n--\n\nA handler's result: go to exactly this state.",
    .fields = {"state"}, .required = 1,
};

int
cesk_room_init(PyObject *module, EngineState *st)
{
    return (st->rec.Value = record_type_new(module, st, &value_spec)) == NULL
                   || (st->rec.Error = record_type_new(module, st, &error_spec)) == NULL
                   || (st->rec.EffectControl = record_type_new(module, st, &effect_control_spec)) == NULL
                   || (st->rec.ProgramControl = record_type_new(module, st, &program_control_spec)) == NULL
                   || (st->rec.CESKState = record_type_new(module, st, &state_spec)) == NULL
                   || (st->rec.ResumeK = record_type_new(module, st, &resume_k_spec)) == NULL
                   || (st->rec.DirectState = record_type_new(module, st, &direct_state_spec)) == NULL
               ? -1
               : 0;
}
