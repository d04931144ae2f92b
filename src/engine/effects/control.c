#include "family.h"

/* control: Safe turns errors into values; Intercept shows every effect of a program to functions. */

/* ---- Safe ---- */

static int
safe_init(DoeffRecordType *type, PyObject **f)
{
    return Doeff_CheckProgram(Doeff_EngineOf(type), f[0], "sub_program");
}

/* SafeFrame. a: the environment before. */

static DoeffStep
safe_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    Doeff_SetEnv(cx, Py_NewRef(frame->a));
    *out = Doeff_NewOk(cx->st, Py_NewRef(value));
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
safe_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    Doeff_SetEnv(cx, Py_NewRef(frame->a));
    if (!PyErr_GivenExceptionMatches(error, PyExc_Exception) || Doeff_OwnCancel(cx, error)) {
        return DOEFF_PASS;
    }
    PyObject *trace = Doeff_CaptureTraceback(cx, error);
    PyObject *some = trace == NULL ? NULL : Doeff_NewSome(cx->st, trace);
    *out = some == NULL ? NULL : Doeff_NewErr(cx->st, Py_NewRef(error), some);
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
    if (Doeff_Begin(cx) < 0 || Doeff_Push(cx, &safe_frame, Py_NewRef(cx->env), NULL) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(DOEFF_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

static const DoeffRecordSpec safe_spec = {
    .name = "doeff.effects.result.ResultSafeEffect",
    .doc = "ResultSafeEffect(sub_program)\n--\n\nRun a program and give an Ok or an Err.",
    .fields = {"sub_program"}, .required = 1, .effect = 1, .subclassable = 1, .init = safe_init,
};

static PyMethodDef safe_def = {
    "Safe", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Safe(sub_program)\n--\n\nRun sub_program and give its outcome as a value.\n\nsub_program: a program; "
              "TypeError for anything else. Gives Ok(value), or Err(error, Some(trace)) if an\nException left it. "
              "Nothing is rolled back. KeyboardInterrupt and others that are no Exception pass.\n\n"
              ">>> result = yield Safe(fetch(url))\n>>> rows = result.unwrap_or([])\n\nContract: effects, part 3.4.")};

/* ---- Intercept ---- */

static int
intercept_init(DoeffRecordType *type, PyObject **f)
{
    if (Doeff_CheckProgram(Doeff_EngineOf(type), f[0], "program") < 0) {
        return -1;
    }
    if (!PyTuple_Check(f[1])) {
        PyErr_Format(PyExc_TypeError, "transforms must be tuple of callables, got %s", Doeff_TypeName(f[1]));
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(f[1]); i++) {
        PyObject *transform = PyTuple_GET_ITEM(f[1], i);
        if (!PyCallable_Check(transform)) {
            PyErr_Format(PyExc_TypeError, "transforms[%zd] must be callable, got %s", i, Doeff_TypeName(transform));
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

/* Never pushed: how the handler of an Intercept shows. a: the handler, b: its transforms. */
static const DoeffFrameKind intercept_scope = {
    .name = "InterceptFrame",
    .describe = intercept_describe,
};

static DoeffStep
wrong_answer(DoeffContext *cx, PyObject *answer)
{
    PyErr_Format(Doeff_Known(cx->st, DOEFF_INVARIANT_ERROR),
                 "a transform of Intercept must answer with None, the effect itself, another effect or a "
                 "program, got %s%s",
                 Doeff_TypeName(answer), Doeff_Hint(cx->st, answer));
    return DOEFF_RAISE;
}

/* Every effect that is performed inside the scope comes here. */
static DoeffStep
intercept_any(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    /* The handler, and with it the tuple, is held by the fiber that is running. */
    PyObject *transforms = cx->data;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(transforms); i++) {
        PyObject *answer = PyObject_CallOneArg(PyTuple_GET_ITEM(transforms, i), effect);
        if (answer == NULL) {
            return DOEFF_RAISE;
        }
        if (answer == Py_None || answer == effect) {
            Py_DECREF(answer);
            continue;
        }
        if (Doeff_IsEffect(cx->st, answer)) {
            *out = answer;
            return DOEFF_OUTSIDE;
        }
        if (Doeff_IsProgram(cx->st, answer)) {
            return Doeff_Replace(cx, effect, answer, out);
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
    if (Doeff_Begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *transforms = DOEFF_FIELD(effect, 1);
    if (PyTuple_GET_SIZE(transforms) > 0) {
        PyObject *scope = Doeff_NewHandler(cx->st, "Intercept", transforms, intercept_any);
        if (scope == NULL) {
            return DOEFF_RAISE;
        }
        int failed = Doeff_ShowAs(scope, &intercept_scope) < 0 || Doeff_Install(cx, scope) < 0;
        Py_DECREF(scope);
        if (failed) {
            return DOEFF_RAISE;
        }
    }
    *out = Py_NewRef(DOEFF_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

/* Intercept(program, *transforms, created_at=None) */
static PyObject *
intercept(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs == 1 && (kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0)) {
        if (Doeff_CheckProgram(Doeff_EngineOf((DoeffRecordType *)info), args[0], "program") == 0) {
            PyErr_SetString(PyExc_ValueError,
                            "Intercept() needs at least one transform: Intercept(program, transform)");
        }
        return NULL;
    }
    if (nargs < 2) {
        return Doeff_Construct(info, args, nargs, kwnames); /* by the names of the fields, or an error */
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
        op = Doeff_Construct(info, given, 2, NULL);
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
        return Doeff_Construct(info, args, nargs, kwnames);
    }
    PyObject *transforms = PySequence_Tuple(args[1]);
    if (transforms == NULL) {
        return NULL;
    }
    PyObject *given[] = {args[0], transforms};
    PyObject *op = Doeff_Construct(info, given, 2, kwnames);
    Py_DECREF(transforms);
    return op;
}

static const DoeffRecordSpec intercept_spec = {
    .name = "doeff.effects.intercept.InterceptEffect",
    .doc = "InterceptEffect(program, transforms)\n--\n\nShow every effect of a program to the transforms.",
    .fields = {"program", "transforms"}, .required = 2, .effect = 1, .subclassable = 1, .init = intercept_init,
};

static PyMethodDef intercept_def = {
    "Intercept", (PyCFunction)(void (*)(void))intercept, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Intercept(program, *transforms)\n--\n\nRun program and show each effect that it performs to the "
              "transforms, left to right.\n\nprogram: a program, else TypeError. transforms: callables of one effect "
              "(TypeError), at least one\n(ValueError). A transform answers None or the effect itself for \"not me\"; "
              "an effect or a program is\nperformed in the effect's place, outside this Intercept. Anything else "
              "raises\nInterpreterInvariantError at the yield, as does what a transform raises. Gives the value of "
              "program.\n\n>>> value = yield Intercept(job(), lambda e: seen.append(e))\n\n"
              "Contract: effects, part 3.5; programs, part 4.6.")};

static PyMethodDef intercept_program_def = {
    "intercept_program_effect", (PyCFunction)(void (*)(void))intercept_program_effect, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("intercept_program_effect(program, transforms)\n--\n\nIntercept(program, *transforms); here no transform "
              "at all is allowed and changes nothing.\n\nTypeError as there. Gives the value of program.\n\n"
              ">>> value = yield intercept_program_effect(job(), (watch,))\n\nContract: effects, part 3.5.")};

int
effects_control_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    if (Doeff_Define(module, st, core, &(DoeffEffectDef){&safe_spec, &safe_def, safe_perform}) == NULL) {
        return -1;
    }
    DoeffRecordType *type =
        Doeff_Define(module, st, core, &(DoeffEffectDef){&intercept_spec, &intercept_def, intercept_perform});
    return type == NULL ? -1 : Doeff_AddConstructor(module, type, &intercept_program_def);
}
