#include "format.h"

#include "../program/kleisli.h"

/* ---- values ---- */

/* A part of a large plain container that has at least limit characters: its repr begins as the
 * whole one's does. Anything else as it is. Strong, or NULL. */
static PyObject *
beginning(PyObject *value, Py_ssize_t limit)
{
    if (limit >= 0 && PyUnicode_CheckExact(value) && PyUnicode_GET_LENGTH(value) > limit) {
        return PyUnicode_Substring(value, 0, limit);
    }
    if (limit >= 0 && PyBytes_CheckExact(value) && PyBytes_GET_SIZE(value) > limit) {
        return PyBytes_FromStringAndSize(PyBytes_AS_STRING(value), limit);
    }
    if (limit >= 0 && PyList_CheckExact(value) && PyList_GET_SIZE(value) > limit) {
        return PyList_GetSlice(value, 0, limit);
    }
    if (limit >= 0 && PyTuple_CheckExact(value) && PyTuple_GET_SIZE(value) > limit) {
        return PyTuple_GetSlice(value, 0, limit);
    }
    return Py_NewRef(value);
}

static PyObject *
unprintable(PyObject *value)
{
    PyErr_Clear(); /* what the user's __repr__ or __str__ raised is not the matter here */
    PyObject *name = PyType_GetName(Py_TYPE(value));
    PyObject *text = name == NULL ? NULL : PyUnicode_FromFormat("<unprintable %U>", name);
    Py_XDECREF(name);
    return text;
}

static PyObject *
cut(PyObject *text /* stolen or NULL */, Py_ssize_t limit)
{
    if (text == NULL || limit < 0 || PyUnicode_GET_LENGTH(text) <= limit) {
        return text;
    }
    PyObject *head = PyUnicode_Substring(text, 0, limit > 3 ? limit - 3 : 0);
    Py_DECREF(text);
    if (head != NULL) {
        Py_SETREF(head, PyUnicode_FromFormat("%U...", head));
    }
    return head;
}

PyObject *
format_value(PyObject *value, Py_ssize_t limit)
{
    PyObject *part = beginning(value, limit);
    PyObject *text = part == NULL ? NULL : PyObject_Repr(part);
    Py_XDECREF(part);
    if (text == NULL) {
        text = unprintable(value);
    }
    return cut(text, limit);
}

/* ---- effects and calls ---- */

static int
add_argument(PyObject *parts, PyObject *name /* or NULL */, PyObject *value)
{
    PyObject *text = format_value(value, FORMAT_ARGUMENT); /* an effect in an effect: by its repr, no recursion here */
    if (text != NULL && name != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("%S=%U", name, text));
    }
    return lines_take(parts, text);
}

static PyObject *
joined(PyObject *parts, const char *separator)
{
    PyObject *sep = PyUnicode_FromString(separator);
    PyObject *text = sep == NULL ? NULL : PyUnicode_Join(sep, parts);
    Py_XDECREF(sep);
    return text;
}

static PyObject *
short_type_name(PyObject *op)
{
    return PyType_GetName(Py_TYPE(op));
}

/* Built-in effects: as their constructor is called, without the defaults at the end. */
static int
record_arguments(RecordInfo *info, PyObject *effect, PyObject *parts)
{
    int n = info->nfields;
    while (n > info->spec->required && RECORD_FIELD(effect, n - 1) == Py_None) {
        n--;
    }
    for (int i = 0; i < n; i++) {
        if (add_argument(parts, NULL, RECORD_FIELD(effect, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

/* Names of the fields that a class of the user's shows; strong (iterable), or NULL with an error set. */
static PyObject *
field_names(PyObject *effect)
{
    PyObject *fields = PyObject_GetAttrString((PyObject *)Py_TYPE(effect), "__dataclass_fields__");
    if (fields == NULL) {
        PyErr_Clear();
        fields = PyObject_GetAttrString(effect, "__dict__");
    }
    if (fields == NULL) {
        PyErr_Clear();
        return PyList_New(0);
    }
    PyObject *names = PySequence_List(fields);
    Py_DECREF(fields);
    return names;
}

static int
object_arguments(PyObject *effect, PyObject *parts)
{
    PyObject *names = field_names(effect);
    if (names == NULL) {
        return -1;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(names); i++) {
        PyObject *name = PyList_GET_ITEM(names, i);
        if (!PyUnicode_Check(name) || PyUnicode_CompareWithASCIIString(name, "created_at") == 0
            || PyUnicode_READ_CHAR(name, 0) == '_') {
            continue;
        }
        PyObject *value = PyObject_GetAttr(effect, name);
        if (value == NULL) {
            PyErr_Clear();
            continue;
        }
        int failed = add_argument(parts, name, value);
        Py_DECREF(value);
        if (failed < 0) {
            Py_DECREF(names);
            return -1;
        }
    }
    Py_DECREF(names);
    return 0;
}

static int
call_arguments(KleisliCall *call, PyObject *parts)
{
    Py_ssize_t n = Py_SIZE(call);
    Py_ssize_t nkw = call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *name = i < n - nkw ? NULL : PyTuple_GET_ITEM(call->kwnames, i - (n - nkw));
        if (add_argument(parts, name, call->args[i]) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
call_name(KleisliCall *call)
{
    PyObject *name = PyObject_GetAttrString((PyObject *)call->kleisli, "__name__");
    if (name == NULL || !PyUnicode_Check(name)) {
        Py_XDECREF(name);
        PyErr_Clear();
        return short_type_name((PyObject *)call);
    }
    return name;
}

void
format_effect(EngineState *st, PyObject *effect, PyObject **name, PyObject **args)
{
    RecordInfo *info = record_info_of(st, Py_TYPE(effect));
    PyObject *parts = PyList_New(0);
    int failed = parts == NULL;
    *args = NULL;
    if (Py_IS_TYPE(effect, st->KleisliCall_Type)) {
        *name = call_name((KleisliCall *)effect);
        failed = failed || *name == NULL || call_arguments((KleisliCall *)effect, parts) < 0;
    }
    else if (info != NULL && Py_IS_TYPE(effect, info->type)) {
        *name = info->constructor != NULL ? PyUnicode_FromString(info->constructor) : short_type_name(effect);
        failed = failed || *name == NULL || record_arguments(info, effect, parts) < 0;
    }
    else {
        *name = short_type_name(effect);
        failed = failed || *name == NULL || object_arguments(effect, parts) < 0;
    }
    if (!failed) {
        *args = joined(parts, ", ");
    }
    Py_XDECREF(parts);
    PyErr_Clear(); /* no memory: shown without its arguments */
}

PyObject *
format_argument(EngineState *st, PyObject *value)
{
    if (Py_IS_TYPE(value, st->HandlerContext_Type)) {
        return PyUnicode_FromString("ctx");
    }
    if (!PyType_IsSubtype(Py_TYPE(value), st->Effect_Type)) {
        return format_value(value, FORMAT_ARGUMENT);
    }
    PyObject *name, *args;
    format_effect(st, value, &name, &args);
    PyObject *text = name == NULL || args == NULL ? unprintable(value) : PyUnicode_FromFormat("%U(%U)", name, args);
    Py_XDECREF(name);
    Py_XDECREF(args);
    return cut(text, FORMAT_ARGUMENT);
}

/* ---- errors ---- */

PyObject *
format_message(PyObject *error)
{
    PyObject *text = PyObject_Str(error);
    return text != NULL ? text : unprintable(error);
}

PyObject *
format_first_line(PyObject *text)
{
    if (text == NULL) {
        return NULL;
    }
    Py_ssize_t end = PyUnicode_FindChar(text, '\n', 0, PyUnicode_GET_LENGTH(text), 1);
    if (end >= 0) {
        Py_SETREF(text, PyUnicode_Substring(text, 0, end));
    }
    return text;
}

PyObject *
format_error(PyObject *error, int first_line)
{
    PyObject *message = format_message(error);
    if (first_line) {
        message = format_first_line(message);
    }
    PyObject *name = message == NULL ? NULL : short_type_name(error);
    PyObject *text = NULL;
    if (name != NULL) {
        text = PyUnicode_GET_LENGTH(message) == 0 ? Py_NewRef(name) : PyUnicode_FromFormat("%U: %U", name, message);
    }
    Py_XDECREF(name);
    Py_XDECREF(message);
    return text;
}

/* ---- lines ---- */

int
lines_take(PyObject *lines, PyObject *line)
{
    if (line == NULL) {
        return -1;
    }
    int failed = PyList_Append(lines, line);
    Py_DECREF(line);
    return failed;
}

int
lines_add(PyObject *lines, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    PyObject *line = PyUnicode_FromFormatV(format, args);
    va_end(args);
    return lines_take(lines, line);
}

int
lines_split(PyObject *lines, PyObject *text)
{
    PyObject *parts = text == NULL ? NULL : PyUnicode_Splitlines(text, 0);
    Py_XDECREF(text);
    if (parts == NULL) {
        return -1;
    }
    Py_ssize_t end = PyList_GET_SIZE(lines);
    int failed = PyList_SetSlice(lines, end, end, parts);
    Py_DECREF(parts);
    return failed;
}

PyObject *
lines_text(PyObject *lines)
{
    PyObject *text = lines == NULL ? NULL : joined(lines, "\n");
    Py_XDECREF(lines);
    return text;
}
