#include "family.h"

/* state: Get, Put and Modify on the task's store. */

static int
get_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
    return Doeff_CheckStr(f[0], "key");
}

static int
modify_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
    return Doeff_CheckStr(f[0], "key") < 0 || Doeff_CheckCallable(f[1], "f") < 0 ? -1 : 0;
}

static DoeffStep
get_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    int found = Doeff_DictGet(cx->store, key, out);
    if (DOEFF_LIKELY(found > 0)) {
        return DOEFF_VALUE;
    }
    if (found == 0) {
        PyErr_SetObject(PyExc_KeyError, key);
    }
    return DOEFF_RAISE;
}

/* Whoever writes __current_time__ sets the clock of the run. */
static inline int
clock_if_set(DoeffContext *cx, PyObject *key)
{
    return DOEFF_UNLIKELY(key == Doeff_Known(cx->st, DOEFF_STR_CURRENT_TIME)) ? Doeff_ClockWasSet(cx) : 0;
}

static DoeffStep
put_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *store = Doeff_Store(cx);
    if (store == NULL || PyDict_SetItem(store, DOEFF_FIELD(effect, 0), DOEFF_FIELD(effect, 1)) < 0
        || clock_if_set(cx, DOEFF_FIELD(effect, 0)) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static DoeffStep
modify_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    PyObject *old;
    int found = Doeff_DictGet(cx->store, key, &old);
    if (found < 0) {
        return DOEFF_RAISE;
    }
    PyObject *new = PyObject_CallOneArg(DOEFF_FIELD(effect, 1), found ? old : Py_None);
    Py_XDECREF(old);
    /* The function may have run anything: the store is looked at again. */
    PyObject *store = new == NULL ? NULL : Doeff_Store(cx);
    if (store == NULL || PyDict_SetItem(store, key, new) < 0 || clock_if_set(cx, key) < 0) {
        Py_XDECREF(new);
        return DOEFF_RAISE;
    }
    *out = new;
    return DOEFF_VALUE;
}

static const DoeffRecordSpec get_spec = {
    .name = "doeff.effects.state.StateGetEffect",
    .doc = "StateGetEffect(key)\n--\n\nRead a key of the task's store.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = get_init,
};
static const DoeffRecordSpec put_spec = {
    .name = "doeff.effects.state.StatePutEffect",
    .doc = "StatePutEffect(key, value)\n--\n\nWrite a key of the task's store.",
    .fields = {"key", "value"}, .required = 2, .effect = 1, .subclassable = 1, .init = get_init,
};
static const DoeffRecordSpec modify_spec = {
    .name = "doeff.effects.state.StateModifyEffect",
    .doc = "StateModifyEffect(key, func)\n--\n\nReplace a key of the task's store by func of its value.",
    .fields = {"key", "func"}, .keywords = {"key", "f"}, .required = 2, .effect = 1, .subclassable = 1,
    .init = modify_init,
};

static PyMethodDef get_def = {
    "Get", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Get(key)\n--\n\nRead a key of the store.\n\nkey: str. Gives the stored value; KeyError(key) is raised at "
              "the yield if there is none.\n\n>>> n = yield Get(\"n\")\n\nContract: effects, part 3.2.")};
static PyMethodDef put_def = {
    "Put", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Put(key, value)\n--\n\nWrite a key of the store. Gives None; a program given as value is stored, not "
              "run.\n\n>>> yield Put(\"n\", 1)\n\nContract: effects, part 3.2.")};
static PyMethodDef modify_def = {
    "Modify", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Modify(key, f)\n--\n\nStore f of the key's value (of None if there is none) in one step and give it.\n\n"
              ">>> n = yield Modify(\"n\", lambda n: (n or 0) + 1)\n\nContract: effects, part 3.2.")};

int
effects_state_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_Define(module, st, core, &(DoeffEffectDef){&get_spec, &get_def, get_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&put_spec, &put_def, put_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&modify_spec, &modify_def, modify_perform}) == NULL
               ? -1
               : 0;
}
