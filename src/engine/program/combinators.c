#include "program.h"

DoeffStep
combinator_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    (void)cx, (void)program, (void)out;
    return DOEFF_RAISE;
}

PyMethodDef program_methods[] = {{NULL}};

PyObject *
program_project_attr(EngineState *st, PyObject *program, PyObject *name)
{
    (void)st;
    PyErr_Format(PyExc_AttributeError, "%s %U", Py_TYPE(program)->tp_name, name);
    return NULL;
}

PyObject *
program_project_item(PyObject *program, PyObject *key)
{
    (void)program, (void)key;
    return NULL;
}

PyObject *
program_project_call(PyObject *program, PyObject *args, PyObject *kwargs)
{
    (void)program, (void)args, (void)kwargs;
    return NULL;
}

int
combinators_room_init(PyObject *module, EngineState *st)
{
    (void)module, (void)st;
    return 0;
}
