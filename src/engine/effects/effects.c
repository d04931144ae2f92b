#include "effects.h"

RecordInfo *
effect_define(PyObject *module, EngineState *st, NativeHandler *handler, const EffectDef *def)
{
    RecordInfo *info = record_type_new(module, st, def->spec);
    if (info == NULL || (def->constructor != NULL && record_add_constructor(module, info, def->constructor) < 0)
        || (def->fn != NULL && native_handler_serve(handler, info->type, def->fn) < 0)) {
        return NULL;
    }
    return info;
}

int
effect_alias(PyObject *module, const char *name, const char *alias)
{
    PyObject *op = PyObject_GetAttrString(module, name);
    int result = op == NULL ? -1 : PyModule_AddObjectRef(module, alias, op);
    Py_XDECREF(op);
    return result;
}

const char *
type_name(PyObject *op)
{
    const char *name = Py_TYPE(op)->tp_name;
    const char *dot = strrchr(name, '.');
    return dot == NULL ? name : dot + 1;
}

int
check_str(PyObject *value, const char *field)
{
    if (DOEFF_LIKELY(PyUnicode_Check(value))) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s must be str, got %s", field, type_name(value));
    return -1;
}

int
check_callable(PyObject *value, const char *field)
{
    if (PyCallable_Check(value)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s must be callable, got %s", field, type_name(value));
    return -1;
}

const char *
program_hint(EngineState *st, PyObject *op)
{
    if (Py_IS_TYPE(op, st->Kleisli_Type) || Py_IS_TYPE(op, st->KleisliBound_Type)) {
        return " (a @do function that was not called: call it)";
    }
    return PyGen_Check(op) ? " (a raw generator: decorate its function with @do)" : "";
}

int
check_program(EngineState *st, PyObject *value, const char *field)
{
    if (DOEFF_LIKELY(program_check(st, value))) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s must be Program, got %s%s", field, type_name(value), program_hint(st, value));
    return -1;
}
