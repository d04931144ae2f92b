/* arguments: binds the call of a fast-call function to a row of named parameters. */
#ifndef DOEFF_ARGUMENTS_H
#define DOEFF_ARGUMENTS_H

#include "compat.h"

typedef DoeffParameters Parameters;

/* Fills bound (one entry a name) with borrowed references, NULL where nothing was given. -1 with the
 * TypeError that Python's own functions raise. */
int arguments_bind(const Parameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                   PyObject **bound);

#endif
