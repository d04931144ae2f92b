#include "nesting.h"

/* The word of the object's count, whatever the interpreter's version puts into it. */
static inline PyObject **
link_of(PyObject *op)
{
    return (PyObject **)((char *)op + offsetof(PyObject, ob_type) - sizeof(PyObject *));
}

void
nesting_wait(DoeffNesting *nesting, PyObject *op)
{
    *link_of(op) = nesting->waiting;
    nesting->waiting = op;
}

/* Of an instance of a Python subclass, what the subclass adds is gone already. */
static destructor
own_dealloc(PyTypeObject *tp)
{
    while (!(tp->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)) {
        tp = tp->tp_base;
    }
    return tp->tp_dealloc;
}

/* What is freed here and dies too deep joins the list again, so this loop is the only one. */
void
nesting_drain(DoeffNesting *nesting)
{
    if (nesting->draining) {
        return;
    }
    nesting->draining = 1;
    while (nesting->waiting != NULL) {
        PyObject *op = nesting->waiting;
        nesting->waiting = *link_of(op);
        *link_of(op) = NULL; /* the count is 0 again */
        own_dealloc(Py_TYPE(op))(op);
    }
    nesting->draining = 0;
}
