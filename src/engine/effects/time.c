#include "family.h"

/* time: GetTime. */

static PyObject *
wall_clock(void)
{
    PyObject *module = PyImport_ImportModule("datetime");
    PyObject *type = module == NULL ? NULL : PyObject_GetAttrString(module, "datetime");
    PyObject *now = type == NULL ? NULL : PyObject_CallMethod(type, "now", NULL);
    Py_XDECREF(module);
    Py_XDECREF(type);
    return now;
}

static DoeffStep
get_time_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    int found = Doeff_DictGet(cx->store, Doeff_Known(cx->st, DOEFF_STR_CURRENT_TIME), out);
    if (found > 0 && *out == Py_None) {
        Py_CLEAR(*out);
    }
    else if (found != 0) {
        return found < 0 ? DOEFF_RAISE : DOEFF_VALUE;
    }
    *out = wall_clock();
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static const DoeffRecordSpec get_time_spec = {
    .name = "doeff.effects.time.GetTimeEffect",
    .doc = "GetTimeEffect()\n--\n\nRead the clock.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};

static PyMethodDef get_time_def = {
    "GetTime", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("GetTime()\n--\n\nRead the clock of the run.\n\nGives the object stored under \"__current_time__\", if there "
              "is one, else the local time as a naive\ndatetime. Raises nothing of its own.\n\n"
              ">>> now = yield GetTime()\n\nContract: effects, part 3.7.")};

int
effects_time_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_Define(module, st, core, &(DoeffEffectDef){&get_time_spec, &get_time_def, get_time_perform}) == NULL ? -1 : 0;
}
