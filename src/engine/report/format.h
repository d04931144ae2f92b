/* format: short texts of values, effects and errors. Nothing here raises: what cannot be shown
 * becomes <unprintable Type>. Functions give NULL only when there is no memory, with no error set
 * unless they say so.
 */
#ifndef DOEFF_FORMAT_H
#define DOEFF_FORMAT_H

#include "../state.h"

#define FORMAT_ARGUMENT 80     /* characters of an argument */
#define FORMAT_REPR_LIMIT 1000 /* characters of a value; doeff.DEFAULT_REPR_LIMIT */

/* repr(value) cut to limit characters; limit < 0: not cut. NULL with an error set. */
PyObject *format_value(PyObject *value, Py_ssize_t limit);
/* What an argument shows as: effects as their constructor is called, a handler's context as ctx,
 * else its repr; FORMAT_ARGUMENT characters at most. NULL with an error set. */
PyObject *format_argument(struct EngineState *st, PyObject *value);
/* Name and arguments of an effect or a program, as its constructor is called; strong, or NULL. */
void format_effect(struct EngineState *st, PyObject *effect, PyObject **name, PyObject **args);
/* str(error); NULL with an error set. */
PyObject *format_message(PyObject *error);
/* text (stolen or NULL) up to its first line break. */
PyObject *format_first_line(PyObject *text);
/* "Type: message", "Type" without one; first line only if asked. NULL with an error set. */
PyObject *format_error(PyObject *error, int first_line);

/* ---- building a text from lines ---- */

/* Appends a formatted line (PyUnicode_FromFormat); -1 with an error set. */
int lines_add(PyObject *lines, const char *format, ...);
int lines_take(PyObject *lines, PyObject *line /* stolen, or NULL with an error set */);
/* Appends the lines of a text (stolen, or NULL with an error set). */
int lines_split(PyObject *lines, PyObject *text);
/* The lines with line breaks between them; takes the list (stolen or NULL). */
PyObject *lines_text(PyObject *lines);

#endif
