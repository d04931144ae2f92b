/* compat: every test of the interpreter's version that the engine makes.
 *
 * A room calls the newest public name; where an older interpreter lacks it, the
 * name is defined here with the same contract. Nothing else in the engine looks
 * at PY_VERSION_HEX. CPython 3.11 is the floor.
 */
#ifndef DOEFF_COMPAT_H
#define DOEFF_COMPAT_H

#include "../capi/builtin.h"
#include <structmember.h>
#include <time.h>

#if PY_VERSION_HEX < 0x030B0000
#error "doeff needs CPython 3.11 or later"
#endif

#if PY_VERSION_HEX < 0x030C0000
/* The exception in flight as one object, its traceback attached; NULL if none. */
static inline PyObject *
PyErr_GetRaisedException(void)
{
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (type == NULL) {
        return NULL;
    }
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb != NULL) {
        PyException_SetTraceback(value, tb);
        Py_DECREF(tb);
    }
    Py_DECREF(type);
    return value;
}

/* Raises exc (stolen) with the traceback that it carries. */
static inline void
PyErr_SetRaisedException(PyObject *exc)
{
    PyObject *type = Py_NewRef((PyObject *)Py_TYPE(exc));
    PyErr_Restore(type, exc, PyException_GetTraceback(exc));
}
#endif

#if PY_VERSION_HEX < 0x030D0000
/* 1 and a strong reference, 0 and NULL, or -1 with an error set. */
static inline int
PyDict_GetItemRef(PyObject *dict, PyObject *key, PyObject **result)
{
    PyObject *value = PyDict_GetItemWithError(dict, key);
    if (value != NULL) {
        *result = Py_NewRef(value);
        return 1;
    }
    *result = NULL;
    return PyErr_Occurred() ? -1 : 0;
}

static inline int
PyObject_GetOptionalAttr(PyObject *op, PyObject *name, PyObject **result)
{
    *result = PyObject_GetAttr(op, name);
    if (*result != NULL) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return -1;
    }
    PyErr_Clear();
    return 0;
}

static inline PyObject *
PyList_GetItemRef(PyObject *list, Py_ssize_t index)
{
    PyObject *item = PyList_GetItem(list, index);
    return Py_XNewRef(item);
}
#endif

#ifndef Py_T_OBJECT_EX
#define Py_T_OBJECT_EX T_OBJECT_EX
#define Py_READONLY READONLY
#define Py_T_SSIZET T_PYSSIZET
#define Py_T_BOOL T_BOOL
#define Py_T_INT T_INT
#endif
#define DOEFF_T_OBJECT T_OBJECT /* NULL reads as None; in 3.12+ only under the old name */

/* So many bodies of handlers may wait side by side until it is cheaper to hide the next ones from the collector. It looks
 * at new objects when 700 have come together, from 3.13 on 2,000. */
#if defined(COMPAT_BODIES_SEEN) /* a test build hides all */
#elif PY_VERSION_HEX < 0x030D0000
#define COMPAT_BODIES_SEEN 64
#else
#define COMPAT_BODIES_SEEN 1000
#endif

/* 1 if func is a Python function that surely has no annotations; 0 if one must look. From 3.14 on
 * they are made when first asked for, so one must look. */
static inline int
compat_plainly_unannotated(PyObject *func)
{
#if PY_VERSION_HEX < 0x030E0000
    return PyFunction_Check(func) && ((PyFunctionObject *)func)->func_annotations == NULL;
#else
    (void)func;
    return 0;
#endif
}

/* 1 if the reference in the caller's own container is the only one there is; 0 if it may not be. */
static inline int
compat_only_reference(PyObject *op)
{
#ifndef Py_GIL_DISABLED
    return Py_REFCNT(op) == 1;
#elif PY_VERSION_HEX >= 0x030E0000
    return PyUnstable_Object_IsUniquelyReferenced(op);
#else
    (void)op;
    return 0;
#endif
}

/* ns on a clock that never goes back. */
static inline long long
compat_monotonic_ns(void)
{
#if PY_VERSION_HEX >= 0x030D0000
    PyTime_t now;
    return PyTime_MonotonicRaw(&now) < 0 ? 0 : (long long)now;
#else
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (long long)now.tv_sec * 1000000000LL + now.tv_nsec;
#endif
}

#if defined(__GNUC__) || defined(__clang__)
#define DOEFF_INLINE static inline __attribute__((always_inline))
#define DOEFF_COLD __attribute__((cold, noinline)) /* hardly ever called: costs its callers nothing */
#define DOEFF_ALWAYS_INLINED __attribute__((always_inline)) inline /* a function of another room, by the linker */
#else
#define DOEFF_INLINE static inline
#define DOEFF_COLD
#define DOEFF_ALWAYS_INLINED
#endif

#ifdef Py_GIL_DISABLED
#define DOEFF_FREE_LISTS 0 /* a count of 1 proves nothing there, and lists would race */
#else
#define DOEFF_FREE_LISTS 1
#endif

#endif
