#include "rundata.h"

PyObject *
run_data(DoeffContext *cx)
{
    DoeffMachine *m = MACHINE_OF(cx);
    if (DOEFF_UNLIKELY(m->run_data == NULL)) {
        m->run_data = PyDict_New();
    }
    return m->run_data;
}

/* Puts value (stolen, may be NULL) under key; borrowed. */
static PyObject *
keep(PyObject *data, PyObject *key, PyObject *value)
{
    if (value == NULL) {
        return NULL;
    }
    int failed = PyDict_SetItem(data, key, value);
    Py_DECREF(value);
    return failed ? NULL : value;
}

PyObject *
run_data_dict(DoeffContext *cx, PyObject *key)
{
    PyObject *data = run_data(cx);
    if (data == NULL) {
        return NULL;
    }
    PyObject *value = PyDict_GetItemWithError(data, key);
    return value != NULL || PyErr_Occurred() ? value : keep(data, key, PyDict_New());
}

PyObject *
run_data_adopt(DoeffContext *cx, PyObject *key)
{
    PyObject *data = run_data(cx);
    if (data == NULL) {
        return NULL;
    }
    PyObject *value = PyDict_GetItemWithError(data, key);
    if (DOEFF_LIKELY(value != NULL) || PyErr_Occurred()) {
        return value;
    }
    PyObject *initial = PyDict_GetItemWithError(cx->store, key);
    if (initial == NULL || initial == Py_None) {
        return PyErr_Occurred() ? NULL : keep(data, key, PyDict_New());
    }
    return keep(data, key, PyDict_Check(initial) ? PyDict_Copy(initial) : Py_NewRef(initial));
}

int
run_data_publish(DoeffMachine *m)
{
    if (DOEFF_LIKELY(m->run_data == NULL)) {
        return 0;
    }
    PyObject *store = context_store(&m->cx);
    if (store == NULL) {
        return -1;
    }
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(m->run_data, &at, &key, &value)) {
        if (!PyUnicode_Check(key)) {
            continue; /* a family's private one */
        }
        if (PyDict_CheckExact(value) && PyDict_GET_SIZE(value) == 0) {
            int known = PyDict_Contains(store, key);
            if (known < 0) {
                return -1;
            }
            if (!known) {
                continue; /* looked at, never filled */
            }
        }
        if (PyDict_SetItem(store, key, value) < 0) {
            return -1;
        }
    }
    return 0;
}
