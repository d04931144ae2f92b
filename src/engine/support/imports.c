#include "imports.h"

PyObject *
import_attr(const char *module, const char *name)
{
    PyObject *home = PyImport_ImportModule(module);
    PyObject *attr = home == NULL ? NULL : PyObject_GetAttrString(home, name);
    Py_XDECREF(home);
    return attr;
}

PyObject *
import_call(const char *module, const char *name, const char *format, ...)
{
    PyObject *function = import_attr(module, name);
    if (function == NULL) {
        return NULL;
    }
    va_list rest;
    va_start(rest, format);
    PyObject *args = Py_VaBuildValue(format, rest);
    va_end(rest);
    PyObject *result = args == NULL ? NULL : PyObject_CallObject(function, args);
    Py_DECREF(function);
    Py_XDECREF(args);
    return result;
}
