#include "../report/trace.h"
#include "effects.h"

/* control: Safe turns errors into values; Intercept shows every effect of a program to functions. */

/* ---- Safe ---- */

static int
safe_init(EngineState *st, PyObject **f)
{
    return check_program(st, f[0], "sub_program");
}

/* SafeFrame. a: the environment before. */

static DoeffStep
safe_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    context_set_env(cx, Py_NewRef(frame->a));
    *out = record_new1(cx->st->rec.Ok, Py_NewRef(value));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
safe_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    context_set_env(cx, Py_NewRef(frame->a));
    if (!PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        return DOEFF_PASS;
    }
    PyObject *trace = trace_capture(MACHINE_OF(cx), error);
    PyObject *some = trace == NULL ? NULL : record_new1(cx->st->rec.Some, trace);
    *out = some == NULL ? NULL : record_new2(cx->st->rec.Err, Py_NewRef(error), some);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static PyObject *
safe_describe(const DoeffFrame *Py_UNUSED(frame))
{
    return PyUnicode_FromString("will catch errors");
}

static const DoeffFrameKind safe_frame = {
    .name = "SafeFrame",
    .on_value = safe_value,
    .on_error = safe_error,
    .describe = safe_describe,
};

static DoeffStep
safe_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (context_begin(cx) < 0 || context_push(cx, &safe_frame, Py_NewRef(cx->env), NULL) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(RECORD_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

static const RecordSpec safe_spec = {
    .name = "doeff.effects.result.ResultSafeEffect",
    .doc = "ResultSafeEffect(sub_program)\n--\n\nRun a program and give an Ok or an Err.",
    .fields = {"sub_program"}, .required = 1, .effect = 1, .subclassable = 1, .init = safe_init,
};

static PyMethodDef safe_def = {
    "Safe", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("Safe(sub_program)\n--\n\nRun sub_program and give its outcome as a value.\n\nsub_program: a program; "
              "TypeError for anything else. Gives Ok(value), or Err(error, Some(trace)) if an\nException left it. "
              "Nothing is rolled back. KeyboardInterrupt and others that are no Exception pass.\n\n"
              ">>> result = yield Safe(fetch(url))\n>>> rows = result.unwrap_or([])\n\nContract: effects, part 3.4.")};

/* ---- Intercept ---- */

static int
intercept_init(EngineState *st, PyObject **f)
{
    if (check_program(st, f[0], "program") < 0) {
        return -1;
    }
    if (!PyTuple_Check(f[1])) {
        PyErr_Format(PyExc_TypeError, "transforms must be tuple of callables, got %s", type_name(f[1]));
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(f[1]); i++) {
        PyObject *transform = PyTuple_GET_ITEM(f[1], i);
        if (!PyCallable_Check(transform)) {
            PyErr_Format(PyExc_TypeError, "transforms[%zd] must be callable, got %s", i, type_name(transform));
            return -1;
        }
    }
    return 0;
}

static PyObject *
intercept_describe(const DoeffFrame *frame)
{
    Py_ssize_t n = PyTuple_GET_SIZE(frame->b);
    return PyUnicode_FromFormat("%zd transform%s", n, n == 1 ? "" : "s");
}

/* Never pushed: how the handler of an Intercept shows. a: NativeHandler, b: its transforms. */
static const DoeffFrameKind intercept_scope = {
    .name = "InterceptFrame",
    .describe = intercept_describe,
};

static DoeffStep
wrong_answer(DoeffContext *cx, PyObject *answer)
{
    const char *hint = "";
    if (Py_IS_TYPE(answer, cx->st->Kleisli_Type) || Py_IS_TYPE(answer, cx->st->KleisliBound_Type)) {
        hint = " (a @do function that was not called: call it)";
    }
    PyErr_Format(cx->st->InterpreterInvariantError,
                 "a transform of Intercept must answer with None, the effect itself, another effect or a "
                 "program, got %s%s",
                 type_name(answer), hint);
    return DOEFF_RAISE;
}

/* Every effect that is performed inside the scope comes here. */
static DoeffStep
intercept_any(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    /* The handler, and with it the tuple, is held by the fiber that is running. */
    PyObject *transforms = ((NativeHandler *)MACHINE_OF(cx)->at->handler)->data;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(transforms); i++) {
        PyObject *answer = PyObject_CallOneArg(PyTuple_GET_ITEM(transforms, i), effect);
        if (answer == NULL) {
            return DOEFF_RAISE;
        }
        if (answer == Py_None || answer == effect) {
            Py_DECREF(answer);
            continue;
        }
        if (PyType_IsSubtype(Py_TYPE(answer), cx->st->Effect_Type)) {
            *out = answer;
            return DOEFF_OUTSIDE;
        }
        if (program_check(cx->st, answer)) {
            return handler_replace(cx, effect, answer, out);
        }
        DoeffStep step = wrong_answer(cx, answer);
        Py_DECREF(answer);
        return step;
    }
    return DOEFF_PASS;
}

static DoeffStep
intercept_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (context_begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *transforms = RECORD_FIELD(effect, 1);
    if (PyTuple_GET_SIZE(transforms) > 0) {
        NativeHandler *scope = native_handler_new(cx->st, "Intercept", transforms, intercept_any);
        if (scope == NULL) {
            return DOEFF_RAISE;
        }
        scope->scope = &intercept_scope;
        int failed = context_install(cx, (PyObject *)scope) < 0;
        Py_DECREF(scope);
        if (failed) {
            return DOEFF_RAISE;
        }
    }
    *out = Py_NewRef(RECORD_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

/* Intercept(program, *transforms, created_at=None) */
static PyObject *
intercept(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1 && (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0)) {
        if (check_program(((RecordInfo *)info)->st, args[0], "program") == 0) {
            PyErr_SetString(PyExc_ValueError,
                            "Intercept() needs at least one transform: Intercept(program, transform)");
        }
        return NULL;
    }
    if (nargs < 2) {
        return record_construct(info, args, nargs, kwnames); /* by the names of the fields, or an error */
    }
    PyObject *transforms = PyTuple_New(nargs - 1);
    if (transforms == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 1; i < nargs; i++) {
        PyTuple_SET_ITEM(transforms, i - 1, Py_NewRef(args[i]));
    }
    PyObject *given[] = {args[0], transforms};
    PyObject *op = NULL;
    if (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0) {
        op = record_construct(info, given, 2, NULL);
    }
    else {
        PyErr_Format(PyExc_TypeError, "Intercept() got an unexpected keyword argument '%U'",
                     PyTuple_GET_ITEM(kwnames, 0));
    }
    Py_DECREF(transforms);
    return op;
}

/* intercept_program_effect(program, transforms) */
static PyObject *
intercept_program_effect(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs != 2 || PyTuple_CheckExact(args[1]) || PyUnicode_Check(args[1]) || !PySequence_Check(args[1])) {
        return record_construct(info, args, nargs, kwnames);
    }
    PyObject *transforms = PySequence_Tuple(args[1]);
    if (transforms == NULL) {
        return NULL;
    }
    PyObject *given[] = {args[0], transforms};
    PyObject *op = record_construct(info, given, 2, kwnames);
    Py_DECREF(transforms);
    return op;
}

static const RecordSpec intercept_spec = {
    .name = "doeff.effects.intercept.InterceptEffect",
    .doc = "InterceptEffect(program, transforms)\n--\n\nShow every effect of a program to the transforms.",
    .fields = {"program", "transforms"}, .required = 2, .effect = 1, .subclassable = 1, .init = intercept_init,
};

static PyMethodDef intercept_def = {
    "Intercept", (PyCFunction)(void (*)(void))intercept, EFFECT_FLAGS,
    PyDoc_STR("Intercept(program, *transforms)\n--\n\nRun program and show each effect that it performs to the "
              "transforms, left to right.\n\nprogram: a program, else TypeError. transforms: callables of one effect "
              "(TypeError), at least one\n(ValueError). A transform answers None or the effect itself for \"not me\"; "
              "an effect or a program is\nperformed in the effect's place, outside this Intercept. Anything else "
              "raises\nInterpreterInvariantError at the yield, as does what a transform raises. Gives the value of "
              "program.\n\n>>> value = yield Intercept(job(), lambda e: seen.append(e))\n\n"
              "Contract: effects, part 3.5; programs, part 4.6.")};

static PyMethodDef intercept_program_def = {
    "intercept_program_effect", (PyCFunction)(void (*)(void))intercept_program_effect, EFFECT_FLAGS,
    PyDoc_STR("intercept_program_effect(program, transforms)\n--\n\nIntercept(program, *transforms); here no transform "
              "at all is allowed and changes nothing.\n\nTypeError as there. Gives the value of program.\n\n"
              ">>> value = yield intercept_program_effect(job(), (watch,))\n\nContract: effects, part 3.5.")};

int
effects_control_init(PyObject *module, EngineState *st, NativeHandler *core)
{
    st->rec.Safe = effect_define(module, st, core, &(EffectDef){&safe_spec, &safe_def, safe_perform});
    st->rec.Intercept =
        effect_define(module, st, core, &(EffectDef){&intercept_spec, &intercept_def, intercept_perform});
    return st->rec.Safe == NULL || st->rec.Intercept == NULL
                   || record_add_constructor(module, st->rec.Intercept, &intercept_program_def) < 0
               ? -1
               : 0;
}
