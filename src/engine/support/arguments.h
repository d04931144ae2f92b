/* arguments: binds the call of a fast-call function to a row of named parameters. */
#ifndef DOEFF_ARGUMENTS_H
#define DOEFF_ARGUMENTS_H

#include "compat.h"

typedef DoeffParameters Parameters;

int arguments_bind_any(const Parameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                       PyObject **bound);

/* Fills bound (one entry a name) with borrowed references, NULL where nothing was given. -1 with the
 * TypeError that Python's own functions raise. */
static inline int
arguments_bind(const Parameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **bound)
{
    if (kwnames != NULL || nargs < p->required || nargs > p->positional) {
        return arguments_bind_any(p, args, nargs, kwnames, bound);
    }
    for (int i = 0; p->names[i] != NULL; i++) {
        bound[i] = i < nargs ? args[i] : NULL;
    }
    return 0;
}

#endif
