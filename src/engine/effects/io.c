#include "effects.h"

/* io: IO runs an action of the outside world. */

static int
io_init(EngineState *st, PyObject **f)
{
    (void)st;
    return check_callable(f[0], "action");
}

static DoeffStep
io_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    (void)cx;
    *out = PyObject_CallNoArgs(RECORD_FIELD(effect, 0));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static const RecordSpec io_spec = {
    .name = "doeff.effects.io.IOPerformEffect",
    .doc = "IOPerformEffect(action)\n--\n\nCall an action.",
    .fields = {"action"}, .required = 1, .effect = 1, .subclassable = 1, .init = io_init,
};

static PyMethodDef io_def = {
    "IO", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("IO(action)\n--\n\nCall action, without arguments, when the effect is performed.\n\naction: a callable; "
              "TypeError if it is not. Gives what it returns, untouched; what it raises is\nraised at the yield. It "
              "runs once, on the thread of the run.\n\n>>> text = yield IO(path.read_text)\n\n"
              "Contract: effects, part 3.6.")};

int
effects_io_init(PyObject *module, EngineState *st, NativeHandler *core)
{
    st->rec.IO = effect_define(module, st, core, &(EffectDef){&io_spec, &io_def, io_perform});
    return st->rec.IO == NULL ? -1 : effect_alias(module, "IO", "perform");
}
