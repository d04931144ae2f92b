#include "family.h"

/* atomic: AtomicGet and AtomicUpdate on the task's store, each one step. */

static int
check_factory(PyObject *value)
{
    return value == Py_None ? 0 : Doeff_CheckCallable(value, "default_factory");
}

static int
atomic_get_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
    return Doeff_CheckStr(f[0], "key") < 0 || check_factory(f[1]) < 0 ? -1 : 0;
}

static int
atomic_update_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
    return Doeff_CheckStr(f[0], "key") < 0 || Doeff_CheckCallable(f[1], "updater") < 0 || check_factory(f[2]) < 0 ? -1 : 0;
}

/* What is stored under key, else what the factory makes, else NULL; strong. -1 with an error.
 * *made says that the factory was called. */
static int
stored_or_made(DoeffContext *cx, PyObject *key, PyObject *factory, PyObject **value, int *made)
{
    int found = Doeff_DictGet(cx->store, key, value);
    *made = found == 0 && factory != Py_None;
    if (*made) {
        *value = PyObject_CallNoArgs(factory);
        found = *value == NULL ? -1 : 1;
    }
    return found;
}

/* The user's functions may have run anything: the store is looked at after them. */
static DoeffStep
store_and_give(DoeffContext *cx, PyObject *key, PyObject *value /* stolen or NULL */, PyObject **out)
{
    PyObject *store = value == NULL ? NULL : Doeff_Store(cx);
    if (store == NULL || PyDict_SetItem(store, key, value) < 0
        || (key == Doeff_Known(cx->st, DOEFF_STR_CURRENT_TIME) && Doeff_ClockWasSet(cx) < 0)) {
        Py_XDECREF(value);
        return DOEFF_RAISE;
    }
    *out = value;
    return DOEFF_VALUE;
}

static DoeffStep
atomic_get_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    PyObject *value = NULL;
    int made;
    int found = stored_or_made(cx, key, DOEFF_FIELD(effect, 1), &value, &made);
    if (found < 0) {
        return DOEFF_RAISE;
    }
    if (made) {
        return store_and_give(cx, key, value, out);
    }
    *out = found ? value : Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static DoeffStep
atomic_update_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    PyObject *old = NULL;
    int made;
    int found = stored_or_made(cx, key, DOEFF_FIELD(effect, 2), &old, &made);
    if (found < 0) {
        return DOEFF_RAISE;
    }
    PyObject *new = PyObject_CallOneArg(DOEFF_FIELD(effect, 1), found ? old : Py_None);
    Py_XDECREF(old);
    return store_and_give(cx, key, new, out);
}

/* default_factory goes by keyword only, unlike in the classes. */
static PyObject *
construct_with_factory(PyObject *info, Py_ssize_t limit, const char *name, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    if (nargs > limit) {
        PyErr_Format(PyExc_TypeError, "%s() takes %zd positional argument%s but %zd were given", name, limit,
                     limit == 1 ? "" : "s", nargs);
        return NULL;
    }
    return Doeff_Construct(info, args, nargs, kwnames);
}

static PyObject *
atomic_get(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return construct_with_factory(info, 1, "AtomicGet", args, nargs, kwnames);
}

static PyObject *
atomic_update(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    return construct_with_factory(info, 2, "AtomicUpdate", args, nargs, kwnames);
}

static const DoeffRecordSpec atomic_get_spec = {
    .name = "doeff.effects.atomic.AtomicGetEffect",
    .doc = "AtomicGetEffect(key, default_factory=None)\n--\n\nRead a key of the store, or make it.",
    .fields = {"key", "default_factory"}, .required = 1, .effect = 1, .subclassable = 1, .init = atomic_get_init,
};
static const DoeffRecordSpec atomic_update_spec = {
    .name = "doeff.effects.atomic.AtomicUpdateEffect",
    .doc = "AtomicUpdateEffect(key, updater, default_factory=None)\n--\n\nReplace a key of the store in one step.",
    .fields = {"key", "updater", "default_factory"}, .required = 2, .effect = 1, .subclassable = 1,
    .init = atomic_update_init,
};

static PyMethodDef atomic_get_def = {
    "AtomicGet", (PyCFunction)(void (*)(void))atomic_get, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("AtomicGet(key, *, default_factory=None)\n--\n\nRead a key of the store, or make it, in one step.\n\n"
              "key: str. default_factory: a callable without arguments, or None. TypeError for anything else.\n"
              "Gives the stored value; if there is none, what default_factory returns, which is stored; else None.\n"
              "An error of the factory is raised at the yield.\n\n"
              ">>> seen = yield AtomicGet(\"seen\", default_factory=set)\n\nContract: effects, part 3.9.")};
static PyMethodDef atomic_update_def = {
    "AtomicUpdate", (PyCFunction)(void (*)(void))atomic_update, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("AtomicUpdate(key, updater, *, default_factory=None)\n--\n\nStore updater(old value) under key in one step "
              "and give it.\n\nkey: str. updater: a callable. default_factory: a callable without arguments that makes the "
              "old value\nif there is none (else it is None). TypeError for anything else. An error of either is raised "
              "at the\nyield and leaves the store as it was.\n\n"
              ">>> n = yield AtomicUpdate(\"n\", lambda n: n + 1, default_factory=int)\n\nContract: effects, part 3.9.")};

int
effects_atomic_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_Define(module, st, core, &(DoeffEffectDef){&atomic_get_spec, &atomic_get_def, atomic_get_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&atomic_update_spec, &atomic_update_def, atomic_update_perform}) == NULL
               ? -1
               : 0;
}
