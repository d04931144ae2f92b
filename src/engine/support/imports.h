/* imports: what is written in Python and needed once in a while. */
#ifndef DOEFF_IMPORTS_H
#define DOEFF_IMPORTS_H

#include "compat.h"

/* module.name; strong, NULL with an error. */
PyObject *import_attr(const char *module, const char *name);
/* module.name(*args), the arguments built from a format as by Py_BuildValue, in parentheses: "(OO)", "()". */
PyObject *import_call(const char *module, const char *name, const char *format, ...);

#endif
