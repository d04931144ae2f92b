#include "arguments.h"

static int
bind_keyword(const Parameters *p, PyObject *name, PyObject *value, PyObject **bound)
{
    for (int i = 0; p->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(name, p->names[i]) == 0) {
            if (bound[i] != NULL) {
                PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", p->function, name);
                return -1;
            }
            bound[i] = value;
            return 0;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", p->function, name);
    return -1;
}

int
arguments_bind(const Parameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **bound)
{
    if (nargs > p->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments but %zd were given", p->function,
                     p->positional, nargs);
        return -1;
    }
    int given = (int)nargs;
    for (int i = 0; i < given; i++) {
        bound[i] = args[i];
    }
    for (int i = given; p->names[i] != NULL; i++) {
        bound[i] = NULL;
    }
    for (Py_ssize_t k = 0; kwnames != NULL && k < PyTuple_GET_SIZE(kwnames); k++) {
        if (bind_keyword(p, PyTuple_GET_ITEM(kwnames, k), args[nargs + k], bound) < 0) {
            return -1;
        }
    }
    for (int i = given; i < p->required; i++) {
        if (bound[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", p->function, p->names[i]);
            return -1;
        }
    }
    return 0;
}
