#include "captured.h"

#include <time.h>

#include "../support/imports.h"
#include "format.h"
#include "stacks.h"

typedef struct Captured {
    PyObject_HEAD
    PyObject *error;         /* strong */
    DoeffTrace *trace;       /* strong; NULL: nothing recorded, or the parts are there */
    PyObject *python_frames; /* tuple; strong; NULL: not asked for yet */
    PyObject *effect_frames; /* tuple; strong; NULL: not asked for yet */
    PyObject *effect;        /* str or None; strong; NULL with effect_frames */
    double timestamp;        /* seconds since the epoch */
} Captured;

static PyObject *
captured_make(EngineState *st, PyObject *error, DoeffTrace *trace, double timestamp)
{
    Captured *c = PyObject_GC_New(Captured, st->CapturedTraceback_Type);
    if (c == NULL) {
        return NULL;
    }
    c->error = Py_NewRef(error);
    c->trace = (DoeffTrace *)Py_XNewRef(trace);
    c->python_frames = c->effect_frames = c->effect = NULL;
    c->timestamp = timestamp;
    PyObject_GC_Track(c);
    return (PyObject *)c;
}

PyObject *
captured_new(EngineState *st, PyObject *error, DoeffTrace *trace)
{
    struct timespec now = {0, 0};
    (void)timespec_get(&now, TIME_UTC);
    return captured_make(st, error, trace, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
}

static int
captured_traverse(PyObject *op, visitproc visit, void *arg)
{
    Captured *c = (Captured *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(c->error);
    Py_VISIT(c->trace);
    Py_VISIT(c->python_frames);
    Py_VISIT(c->effect_frames);
    Py_VISIT(c->effect);
    return 0;
}

static int
captured_clear(PyObject *op)
{
    Captured *c = (Captured *)op;
    Py_CLEAR(c->error);
    Py_CLEAR(c->trace);
    Py_CLEAR(c->python_frames);
    Py_CLEAR(c->effect_frames);
    Py_CLEAR(c->effect);
    return 0;
}

static int
captured_release(PyObject *op)
{
    (void)captured_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
captured_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, captured_dealloc, captured_release);
}

/* ---- the parts ---- */

static EngineState *
state_of(PyObject *op)
{
    return engine_state_of(Py_TYPE(op));
}

/* Makes the frames if nobody has asked for them yet; -1 with an error set. */
static int
need_parts(Captured *c)
{
    if (c->effect_frames != NULL) {
        return 0;
    }
    EngineState *st = state_of((PyObject *)c);
    PyObject *python = stacks_python_frames(st, c->trace);
    PyObject *effects = python == NULL ? NULL : stacks_effect_frames(st, c->trace);
    PyObject *effect = NULL;
    if (effects != NULL && c->trace != NULL && c->trace->effect_name != NULL && c->trace->effect_args != NULL) {
        effect = PyUnicode_FromFormat("%U(%U)", c->trace->effect_name, c->trace->effect_args);
    }
    else if (effects != NULL) {
        effect = Py_NewRef(Py_None);
    }
    if (effect == NULL) {
        Py_XDECREF(python);
        Py_XDECREF(effects);
        return -1;
    }
    Py_XSETREF(c->python_frames, python);
    Py_XSETREF(c->effect, effect);
    Py_XSETREF(c->effect_frames, effects); /* last: it says that all are there */
    return 0;
}

static PyObject *
get_error(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((Captured *)op)->error);
}

static PyObject *
get_type(PyObject *op, void *Py_UNUSED(closure))
{
    return PyType_GetName(Py_TYPE(((Captured *)op)->error));
}

static PyObject *
get_message(PyObject *op, void *Py_UNUSED(closure))
{
    return format_message(((Captured *)op)->error);
}

static PyObject *
get_args(PyObject *op, void *Py_UNUSED(closure))
{
    return PyObject_GetAttrString(((Captured *)op)->error, "args");
}

static PyObject *
get_timestamp(PyObject *op, void *Py_UNUSED(closure))
{
    return PyFloat_FromDouble(((Captured *)op)->timestamp);
}

static PyObject *
get_python_frames(PyObject *op, void *Py_UNUSED(closure))
{
    return need_parts((Captured *)op) < 0 ? NULL : Py_NewRef(((Captured *)op)->python_frames);
}

static PyObject *
get_effect_frames(PyObject *op, void *Py_UNUSED(closure))
{
    return need_parts((Captured *)op) < 0 ? NULL : Py_NewRef(((Captured *)op)->effect_frames);
}

static PyObject *
get_effect(PyObject *op, void *Py_UNUSED(closure))
{
    return need_parts((Captured *)op) < 0 ? NULL : Py_NewRef(((Captured *)op)->effect);
}

/* ---- texts ---- */

#define CONDENSED_FRAMES 3 /* as RuntimeResult.format() shows */

/* All lines (list; strong) before any cut. */
static PyObject *
all_lines(Captured *c, int condensed)
{
    PyObject *lines = PyList_New(0);
    if (lines == NULL || need_parts(c) < 0) {
        Py_XDECREF(lines);
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(c->python_frames);
    Py_ssize_t first = condensed && n > CONDENSED_FRAMES ? n - CONDENSED_FRAMES : 0;
    int failed = lines_add(lines, "Traceback of the program (outermost first):") < 0;
    if (first > 0 && !failed) {
        failed = lines_add(lines, "  ... %zd more frames ...", first) < 0;
    }
    for (Py_ssize_t i = first; i < n && !failed; i++) {
        failed = stacks_add_place(lines, PyTuple_GET_ITEM(c->python_frames, i)) < 0;
    }
    if (!failed && c->effect != Py_None) {
        failed = lines_add(lines, "Performing: %U", c->effect) < 0;
    }
    failed = failed || lines_split(lines, format_error(c->error, condensed)) < 0;
    if (failed) {
        Py_CLEAR(lines);
    }
    return lines;
}

/* lines(*, condensed=False, max_lines=None): of too many, the last ones. */
static PyObject *
captured_lines(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"condensed", "max_lines", NULL};
    int condensed = 0;
    PyObject *limit = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$pO:lines", keywords, &condensed, &limit)) {
        return NULL;
    }
    Py_ssize_t max = PY_SSIZE_T_MAX;
    if (limit != Py_None) {
        max = PyNumber_AsSsize_t(limit, NULL);
        if (max == -1 && PyErr_Occurred()) {
            return NULL;
        }
        if (max < 1) {
            PyErr_SetString(PyExc_ValueError, "max_lines must be at least 1");
            return NULL;
        }
    }
    PyObject *lines = all_lines((Captured *)op, condensed);
    Py_ssize_t n = lines == NULL ? 0 : PyList_GET_SIZE(lines);
    if (n > max) {
        Py_SETREF(lines, PyList_GetSlice(lines, n - max, n));
    }
    return lines;
}

static PyObject *
captured_format(PyObject *op, PyObject *args, PyObject *kwargs)
{
    return lines_text(captured_lines(op, args, kwargs));
}

/* a -> b: Type: message */
static PyObject *
captured_short(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Captured *c = (Captured *)op;
    if (need_parts(c) < 0) {
        return NULL;
    }
    PyObject *error = format_error(c->error, 1);
    PyObject *names = error == NULL ? NULL : PyList_New(0);
    int failed = names == NULL;
    for (Py_ssize_t i = 0; !failed && i < PyTuple_GET_SIZE(c->effect_frames); i++) {
        PyObject *location = RECORD_FIELD(PyTuple_GET_ITEM(c->effect_frames, i), 0);
        failed = PyList_Append(names, RECORD_FIELD(location, 2)) < 0;
    }
    PyObject *arrow = failed ? NULL : PyUnicode_FromString(" -> ");
    PyObject *text = arrow == NULL ? NULL : PyUnicode_Join(arrow, names);
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_GET_LENGTH(text) == 0 ? Py_NewRef(error)
                                                        : PyUnicode_FromFormat("%U: %U", text, error));
    }
    Py_XDECREF(arrow);
    Py_XDECREF(names);
    Py_XDECREF(error);
    return text;
}

static PyObject *
captured_repr(PyObject *op)
{
    PyObject *text = format_error(((Captured *)op)->error, 1);
    if (text != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("<CapturedTraceback of %U>", text));
    }
    return text;
}

/* Where it was raised: the innermost frame as a CodeLocation, or None. */
static PyObject *
captured_raise_location(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Captured *c = (Captured *)op;
    if (need_parts(c) < 0) {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(c->python_frames);
    if (n == 0) {
        Py_RETURN_NONE;
    }
    PyObject *frame = PyTuple_GET_ITEM(c->python_frames, n - 1);
    PyObject *f[RECORD_MAX_FIELDS + 1] = {NULL};
    for (int i = 0; i < 4; i++) {
        f[i] = Py_NewRef(RECORD_FIELD(frame, i));
    }
    return record_new(state_of(op)->rec.CodeLocation, f);
}

/* ---- to_dict ---- */

static PyObject *
place_dict(PyObject *place)
{
    if (place == Py_None) {
        return Py_NewRef(Py_None);
    }
    return Py_BuildValue("{sOsOsOsO}", "filename", RECORD_FIELD(place, 0), "line", RECORD_FIELD(place, 1),
                         "function", RECORD_FIELD(place, 2), "code", RECORD_FIELD(place, 3));
}

static PyObject *
effect_frame_dict(PyObject *frame)
{
    PyObject *location = place_dict(RECORD_FIELD(frame, 0));
    PyObject *call_site = location == NULL ? NULL : place_dict(RECORD_FIELD(frame, 2));
    PyObject *dict = call_site == NULL ? NULL
                                       : Py_BuildValue("{sOsOsO}", "location", location, "frame_kind",
                                                       RECORD_FIELD(frame, 1), "call_site", call_site);
    Py_XDECREF(location);
    Py_XDECREF(call_site);
    return dict;
}

static PyObject *
dicts_of(PyObject *frames, PyObject *(*convert)(PyObject *))
{
    PyObject *list = PyList_New(0);
    for (Py_ssize_t i = 0; list != NULL && i < PyTuple_GET_SIZE(frames); i++) {
        if (lines_take(list, convert(PyTuple_GET_ITEM(frames, i))) < 0) {
            Py_CLEAR(list);
        }
    }
    return list;
}

static PyObject *
exception_dict(PyObject *error)
{
    PyObject *args = PyObject_GetAttrString(error, "args");
    PyObject *fast = args == NULL ? NULL : PySequence_List(args);
    Py_XDECREF(args);
    if (fast == NULL) {
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(fast); i++) {
        PyObject *text = format_value(PyList_GET_ITEM(fast, i), FORMAT_REPR_LIMIT);
        if (text == NULL || PyList_SetItem(fast, i, text) < 0) {
            Py_DECREF(fast);
            return NULL;
        }
    }
    PyObject *type = PyType_GetName(Py_TYPE(error));
    PyObject *message = type == NULL ? NULL : format_message(error);
    PyObject *dict = message == NULL ? NULL
                                     : Py_BuildValue("{sOsOsO}", "type", type, "message", message, "args", fast);
    Py_XDECREF(type);
    Py_XDECREF(message);
    Py_DECREF(fast);
    return dict;
}

static PyObject *
captured_to_dict(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Captured *c = (Captured *)op;
    if (need_parts(c) < 0) {
        return NULL;
    }
    PyObject *error = exception_dict(c->error);
    PyObject *effects = error == NULL ? NULL : dicts_of(c->effect_frames, effect_frame_dict);
    PyObject *python = effects == NULL ? NULL : dicts_of(c->python_frames, place_dict);
    PyObject *dict = NULL;
    if (python != NULL) {
        dict = Py_BuildValue("{sssOsOsOsOsd}", "version", "1.0", "exception", error, "effect", c->effect,
                             "effect_frames", effects, "python_frames", python, "capture_timestamp", c->timestamp);
    }
    Py_XDECREF(error);
    Py_XDECREF(effects);
    Py_XDECREF(python);
    return dict;
}

/* ---- pickling ---- */

static PyObject *
captured_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Captured *c = (Captured *)op;
    PyObject *restore = need_parts(c) < 0 ? NULL : import_attr("doeff._engine", "_restore_captured");
    if (restore == NULL) {
        return NULL;
    }
    PyObject *reduced = Py_BuildValue("O(OdOOO)", restore, c->error, c->timestamp, c->python_frames,
                                      c->effect_frames, c->effect);
    Py_DECREF(restore);
    return reduced;
}

static PyObject *
restore_captured(PyObject *module, PyObject *args)
{
    EngineState *st = PyModule_GetState(module);
    PyObject *error, *python, *effects, *effect;
    double timestamp;
    if (!PyArg_ParseTuple(args, "OdO!O!O:_restore_captured", &error, &timestamp, &PyTuple_Type, &python,
                          &PyTuple_Type, &effects, &effect)) {
        return NULL;
    }
    int right = PyExceptionInstance_Check(error) && (effect == Py_None || PyUnicode_Check(effect));
    for (Py_ssize_t i = 0; right && i < PyTuple_GET_SIZE(python); i++) {
        right = Py_IS_TYPE(PyTuple_GET_ITEM(python, i), st->rec.PythonFrame->type);
    }
    for (Py_ssize_t i = 0; right && i < PyTuple_GET_SIZE(effects); i++) {
        PyObject *frame = PyTuple_GET_ITEM(effects, i);
        right = Py_IS_TYPE(frame, st->rec.EffectFrame->type)
                && Py_IS_TYPE(RECORD_FIELD(frame, 0), st->rec.CodeLocation->type)
                && (RECORD_FIELD(frame, 2) == Py_None
                    || Py_IS_TYPE(RECORD_FIELD(frame, 2), st->rec.CodeLocation->type));
    }
    if (!right) {
        PyErr_SetString(PyExc_TypeError, "_restore_captured() is for pickle and copy");
        return NULL;
    }
    Captured *c = (Captured *)captured_make(st, error, NULL, timestamp);
    if (c != NULL) {
        c->python_frames = Py_NewRef(python);
        c->effect_frames = Py_NewRef(effects);
        c->effect = Py_NewRef(effect);
    }
    return (PyObject *)c;
}

static PyMethodDef module_functions[] = {
    {"_restore_captured", restore_captured, METH_VARARGS, NULL},
    {NULL},
};

static PyGetSetDef captured_getset[] = {
    {"exception", get_error, NULL, PyDoc_STR("The exception."), NULL},
    {"exception_type", get_type, NULL, PyDoc_STR("Name of the exception's class."), NULL},
    {"exception_message", get_message, NULL, PyDoc_STR("Its text."), NULL},
    {"exception_args", get_args, NULL, PyDoc_STR("Its args."), NULL},
    {"effect", get_effect, NULL, PyDoc_STR("Text of the effect that failed, or None."), NULL},
    {"effect_frames", get_effect_frames, NULL, PyDoc_STR("The programs that the error crossed, outermost first."), NULL},
    {"python_frames", get_python_frames, NULL, PyDoc_STR("The user's Python frames, outermost first."), NULL},
    {"capture_timestamp", get_timestamp, NULL, PyDoc_STR("Seconds since the epoch."), NULL},
    {NULL},
};

static PyMethodDef captured_methods[] = {
    {"format", (PyCFunction)(void (*)(void))captured_format, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("format(*, condensed=False, max_lines=None)\n--\n\nThe trace as a text.")},
    {"lines", (PyCFunction)(void (*)(void))captured_lines, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("lines(*, condensed=False, max_lines=None)\n--\n\nThe trace as a list of lines; of more than "
               "max_lines, the last ones.")},
    {"format_short", captured_short, METH_NOARGS, PyDoc_STR("format_short()\n--\n\na -> b: Type: message.")},
    {"to_dict", captured_to_dict, METH_NOARGS, PyDoc_STR("to_dict()\n--\n\nThe trace as JSON-safe data.")},
    {"get_raise_location", captured_raise_location, METH_NOARGS,
     PyDoc_STR("get_raise_location()\n--\n\nThe innermost place as a CodeLocation, or None.")},
    {"__reduce__", captured_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot captured_slots[] = {
    {Py_tp_dealloc, captured_dealloc},
    {Py_tp_traverse, captured_traverse},
    {Py_tp_clear, captured_clear},
    {Py_tp_repr, captured_repr},
    {Py_tp_getset, captured_getset},
    {Py_tp_methods, captured_methods},
    {Py_tp_doc, "The detailed trace of an error; Err.captured_traceback holds one."},
    {0, NULL},
};

static PyType_Spec captured_spec = {
    .name = "doeff.cesk_traceback.CapturedTraceback",
    .basicsize = sizeof(Captured),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = captured_slots,
};

int
captured_room_init(PyObject *module, EngineState *st)
{
    st->CapturedTraceback_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &captured_spec, NULL);
    if (st->CapturedTraceback_Type == NULL || PyModule_AddType(module, st->CapturedTraceback_Type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, module_functions) < 0 ? -1 : stacks_room_init(module, st);
}
