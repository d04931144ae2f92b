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
arguments_bind_any(const Parameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **bound)
{
    for (int i = 0; p->names[i] != NULL; i++) {
        bound[i] = i < nargs && i < p->positional ? args[i] : NULL;
    }
    if (nargs > p->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments but %zd were given", p->function,
                     p->positional, nargs);
        return -1;
    }
    for (Py_ssize_t k = 0; kwnames != NULL && k < PyTuple_GET_SIZE(kwnames); k++) {
        if (bind_keyword(p, PyTuple_GET_ITEM(kwnames, k), args[nargs + k], bound) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < p->required; i++) {
        if (bound[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument '%s'", p->function, p->names[i]);
            return -1;
        }
    }
    return 0;
}
