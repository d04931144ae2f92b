#include "../values/frozendict.h"
#include "effects.h"

/* reader: Ask and Local on the environment. */

static int
ask_init(EngineState *st, PyObject **f)
{
    (void)st;
    if (DOEFF_LIKELY(PyUnicode_CheckExact(f[0]))) {
        return 0;
    }
    return PyObject_Hash(f[0]) == -1 ? -1 : 0;
}

static DoeffStep
ask_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = RECORD_FIELD(effect, 0);
    PyObject *value;
    int found = PyDict_GetItemRef(cx->env, key, &value);
    if (DOEFF_LIKELY(found > 0)) {
        *out = value;
        return DOEFF_VALUE;
    }
    if (found == 0) {
        PyErr_SetObject(cx->st->MissingEnvKeyError, key);
    }
    return DOEFF_RAISE;
}

static const RecordSpec ask_spec = {
    .name = "doeff.effects.reader.AskEffect",
    .doc = "AskEffect(key)\n--\n\nRead a key of the environment.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = ask_init,
};

static PyMethodDef ask_def = {
    "Ask", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("Ask(key)\n--\n\nRead a key of the environment.")};

/* Local: the frame puts the environment back. a: the one before. */

static DoeffStep
local_value(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **Py_UNUSED(out))
{
    context_set_env(cx, Py_NewRef(frame->a));
    return DOEFF_PASS;
}

static const DoeffFrameKind local_frame = {
    .name = "LocalFrame",
    .on_value = local_value,
    .on_error = local_value,
};

static DoeffStep
local_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (context_begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *env = frozendict_merge(cx->st, cx->env, RECORD_FIELD(effect, 0));
    if (env == NULL || context_push(cx, &local_frame, Py_NewRef(cx->env), NULL) < 0) {
        Py_XDECREF(env);
        return DOEFF_RAISE;
    }
    context_set_env(cx, env);
    *out = Py_NewRef(RECORD_FIELD(effect, 1));
    return DOEFF_PROGRAM;
}

static const RecordSpec local_spec = {
    .name = "doeff.effects.reader.LocalEffect",
    .doc = "LocalEffect(env_update, sub_program)\n--\n\nRun a program in a changed environment.",
    .fields = {"env_update", "sub_program"}, .required = 2, .effect = 1, .subclassable = 1,
};

static PyMethodDef local_def = {
    "Local", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("Local(env_update, sub_program)\n--\n\nRun sub_program with env_update laid over the environment.")};

int
effects_reader_init(PyObject *module, EngineState *st, NativeHandler *core)
{
    st->rec.Ask = effect_define(module, st, core, &(EffectDef){&ask_spec, &ask_def, ask_perform});
    st->rec.Local = effect_define(module, st, core, &(EffectDef){&local_spec, &local_def, local_perform});
    return st->rec.Ask == NULL || st->rec.Local == NULL ? -1 : 0;
}
