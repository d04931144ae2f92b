#include "family.h"

/* callstack: ProgramCallStack, ProgramCallFrame and GetDebugContext, which look at the pending
 * frames of the task from the inside out. What is made of them is in doeff._callstack. */

/* What doeff._callstack.<function>(rows, effect) makes of the task's frames. */
static DoeffStep
look(DoeffContext *cx, PyObject *effect, const char *function, int all, PyObject **out)
{
    if (Doeff_Begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *rows = Doeff_Pending(cx, all);
    PyObject *module = rows == NULL ? NULL : PyImport_ImportModule("doeff._callstack");
    *out = module == NULL ? NULL : PyObject_CallMethod(module, function, "OO", rows, effect);
    Py_XDECREF(module);
    Py_XDECREF(rows);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
stack_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return look(cx, effect, "call_stack", 0, out);
}

static DoeffStep
frame_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return look(cx, effect, "call_frame", 0, out);
}

static DoeffStep
debug_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return look(cx, effect, "debug_context", 1, out);
}

static int
frame_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
    if (!PyLong_Check(f[0])) {
        PyErr_Format(PyExc_TypeError, "depth must be int, got %s", Py_TYPE(f[0])->tp_name);
        return -1;
    }
    if (!PyLong_CheckExact(f[0])) { /* bool counts as int */
        PyObject *plain = PyNumber_Long(f[0]);
        if (plain == NULL) {
            return -1;
        }
        Py_SETREF(f[0], plain);
    }
    PyObject *zero = PyLong_FromLong(0);
    int negative = zero == NULL ? -1 : PyObject_RichCompareBool(f[0], zero, Py_LT);
    Py_XDECREF(zero);
    if (negative > 0) {
        PyErr_Format(PyExc_ValueError, "depth must not be negative, got %R", f[0]);
    }
    return negative == 0 ? 0 : -1;
}

/* ProgramCallFrame(depth=0) */
static PyObject *
frame_construct(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs > 0 || kwnames != NULL) {
        return Doeff_Construct(info, args, nargs, kwnames);
    }
    PyObject *zero = PyLong_FromLong(0);
    PyObject *effect = zero == NULL ? NULL : Doeff_Construct(info, &zero, 1, NULL);
    Py_XDECREF(zero);
    return effect;
}

static const DoeffRecordSpec stack_spec = {
    .name = "doeff.effects.callstack.ProgramCallStackEffect",
    .doc = "ProgramCallStackEffect()\n--\n\nThe pending @do calls of the task.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};
static const DoeffRecordSpec frame_spec = {
    .name = "doeff.effects.callstack.ProgramCallFrameEffect",
    .doc = "ProgramCallFrameEffect(depth)\n--\n\nOne of the pending @do calls of the task.",
    .fields = {"depth"}, .required = 1, .effect = 1, .subclassable = 1, .init = frame_init,
};
static const DoeffRecordSpec debug_spec = {
    .name = "doeff.effects.debug.GetDebugContextEffect",
    .doc = "GetDebugContextEffect()\n--\n\nEverything that the task has pending.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};
static const DoeffRecordSpec call_frame_spec = {
    .name = "doeff.types.CallFrame",
    .doc = "CallFrame(kleisli, function_name, args, kwargs, depth, created_at)\n--\n\nA pending @do call: the function, what "
           "it was called with, how many calls lie inside it, and\nwhere it was called (None if nobody knows).",
    .fields = {"kleisli", "function_name", "args", "kwargs", "depth", "created_at"}, .required = 5,
};

static PyMethodDef stack_def = {
    "ProgramCallStack", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("ProgramCallStack()\n--\n\nThe pending @do calls of the current task as a tuple of CallFrame, innermost first. "
              "Arguments are\nread from the suspended function: one that was given a new value shows the new one.\n\n"
              ">>> names = [f.function_name for f in (yield ProgramCallStack())]\n\nContract: effects, part 3.11.")};
static PyMethodDef frame_def = {
    "ProgramCallFrame", (PyCFunction)(void (*)(void))frame_construct, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("ProgramCallFrame(depth=0)\n--\n\nElement depth of what ProgramCallStack gives; IndexError is raised at the "
              "yield if there is none.\n\n>>> me = yield ProgramCallFrame()\n\nContract: effects, part 3.11.")};
static PyMethodDef debug_def = {
    "GetDebugContext", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("GetDebugContext()\n--\n\nA DebugContext: the pending calls, frames and the way to this effect, with methods that "
              "print them.\n\n>>> print((yield GetDebugContext()).format_all())\n\nContract: effects, part 3.11.")};

int
effects_callstack_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_NewRecordType(module, st, &call_frame_spec) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&stack_spec, &stack_def, stack_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&frame_spec, &frame_def, frame_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&debug_spec, &debug_def, debug_perform}) == NULL
               ? -1
               : 0;
}
