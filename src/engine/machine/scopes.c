#include "scopes.h"

/* A scope is a list of three: entries, the scope further out or None, its topic. A list and
 * not a tuple, because resuming links scopes anew. */

static inline PyObject *
outer_of(PyObject *scope)
{
    PyObject *outer = PyList_GET_ITEM(scope, 1);
    return outer == Py_None ? NULL : outer;
}

static inline void
link_outer(PyObject *scope, PyObject *outer /* borrowed or NULL */)
{
    (void)PyList_SetItem(scope, 1, Py_NewRef(outer == NULL ? Py_None : outer)); /* within its length: cannot fail */
}

int
scope_open(DoeffContext *cx, PyObject *topic, const DoeffFrameKind *frame, PyObject *entries)
{
    PyObject *scope = PyList_New(3);
    if (scope == NULL) {
        Py_DECREF(entries);
        return -1;
    }
    PyList_SET_ITEM(scope, 0, Py_NewRef(entries));
    PyList_SET_ITEM(scope, 1, Py_NewRef(cx->scopes == NULL ? Py_None : cx->scopes));
    PyList_SET_ITEM(scope, 2, Py_NewRef(topic));
    if (context_push(cx, frame, entries, Py_NewRef(scope)) < 0) {
        Py_DECREF(scope);
        return -1;
    }
    Py_XSETREF(cx->scopes, scope);
    return 0;
}

void
scope_close(DoeffContext *cx, DoeffFrame *frame)
{
    for (PyObject *scope = cx->scopes; scope != NULL; scope = outer_of(scope)) {
        if (scope == frame->b) {
            Py_XSETREF(cx->scopes, Py_XNewRef(outer_of(scope)));
            return;
        }
    }
}

PyObject *
scope_next(PyObject **scope, PyObject *topic)
{
    while (*scope != NULL) {
        PyObject *current = *scope;
        *scope = outer_of(current);
        if (PyList_GET_ITEM(current, 2) == topic) {
            return PyList_GET_ITEM(current, 0);
        }
    }
    return NULL;
}

void
scopes_rejoin(DoeffContext *cx, DoeffFiber *top, DoeffFiber *bottom)
{
    /* The scopes that the handler's body has opened come to lie outside those of the chain, and
       were opened inside them: the whole row is linked anew. */
    PyObject *innermost = NULL, *last = NULL; /* borrowed from the frames */
    for (DoeffFiber *fiber = top; fiber != NULL; fiber = fiber == bottom ? MACHINE_OF(cx)->fiber : fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0; i--) {
            if (!fiber->frames[i - 1].kind->records) {
                continue;
            }
            PyObject *scope = fiber->frames[i - 1].b;
            if (last == NULL) {
                innermost = scope;
            }
            else {
                link_outer(last, scope);
            }
            last = scope;
        }
    }
    PyObject *base = MACHINE_OF(cx)->scope_base;
    if (last != NULL) {
        link_outer(last, base);
    }
    Py_XSETREF(cx->scopes, Py_XNewRef(innermost == NULL ? base : innermost));
}

void
scopes_leave(DoeffContext *cx)
{
    if (DOEFF_LIKELY(cx->scopes == NULL)) {
        return;
    }
    PyObject *scope = NULL;
    for (DoeffFiber *fiber = MACHINE_OF(cx)->fiber; fiber != NULL && scope == NULL; fiber = fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0 && scope == NULL; i--) {
            scope = fiber->frames[i - 1].kind->records ? fiber->frames[i - 1].b : NULL;
        }
    }
    Py_XSETREF(cx->scopes, Py_XNewRef(scope == NULL ? MACHINE_OF(cx)->scope_base : scope));
}
