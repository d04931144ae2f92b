#include "family.h"

/* io: IO runs an action of the outside world. */

static int
io_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
    return Doeff_CheckCallable(f[0], "action");
}

static DoeffStep
io_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    (void)cx;
    *out = PyObject_CallNoArgs(DOEFF_FIELD(effect, 0));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static const DoeffRecordSpec io_spec = {
    .name = "doeff.effects.io.IOPerformEffect",
    .doc = "IOPerformEffect(action)\n--\n\nCall an action.",
    .fields = {"action"}, .required = 1, .effect = 1, .subclassable = 1, .init = io_init,
};

static PyMethodDef io_def = {
    "IO", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("IO(action)\n--\n\nCall action, without arguments, when the effect is performed.\n\naction: a callable; "
              "TypeError if it is not. Gives what it returns, untouched; what it raises is\nraised at the yield. It "
              "runs once, on the thread of the run.\n\n>>> text = yield IO(path.read_text)\n\n"
              "Contract: effects, part 3.6.")};

int
effects_io_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    if (Doeff_Define(module, st, core, &(DoeffEffectDef){&io_spec, &io_def, io_perform}) == NULL) {
        return -1;
    }
    return Doeff_Alias(module, "IO", "perform");
}
