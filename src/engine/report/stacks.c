#include "stacks.h"

#include "../support/imports.h"
#include "format.h"

/* Fields of the records below. */
enum { PLACE_FILENAME, PLACE_LINE, PLACE_FUNCTION, PLACE_CODE };
enum { K_TYPE, K_DESCRIPTION, K_LOCATION };
enum { CALL_NAME, CALL_IS_EFFECT, CALL_ARGS, CALL_COUNT, CALL_CHILDREN, CALL_LOCATION, CALL_IS_ERROR_SITE };

static inline EngineState *
state_of(PyObject *record)
{
    return ((DoeffRecord *)record)->info->st;
}

/* ---- places in the user's files ---- */

/* Where the package's Python files are, with the separator; strong, or NULL (no error set): not known. */
static PyObject *
package_prefix(void)
{
    PyObject *file = import_attr("doeff", "__file__");
    PyObject *prefix = NULL;
    if (file != NULL && PyUnicode_Check(file)) {
        Py_ssize_t n = PyUnicode_GET_LENGTH(file);
        Py_ssize_t slash = PyUnicode_FindChar(file, '/', 0, n, -1);
        Py_ssize_t other = PyUnicode_FindChar(file, '\\', 0, n, -1);
        prefix = PyUnicode_Substring(file, 0, (slash > other ? slash : other) + 1);
    }
    Py_XDECREF(file);
    PyErr_Clear();
    return prefix;
}

static int
is_ours(PyObject *prefix, const TraceEntry *entry)
{
    return prefix != NULL && PyUnicode_GET_LENGTH(prefix) > 0
           && PyUnicode_Tailmatch(((PyCodeObject *)entry->code)->co_filename, prefix, 0, PY_SSIZE_T_MAX, -1) > 0;
}

static int
line_of(const TraceEntry *entry)
{
    return PyCode_Addr2Line((PyCodeObject *)entry->code, entry->lasti);
}

/* The line of source, stripped; None if it cannot be read. NULL with an error set. */
static PyObject *
source_line(PyObject *filename, int line)
{
    PyObject *text = import_call("linecache", "getline", "(Oi)", filename, line);
    if (text != NULL) {
        Py_SETREF(text, PyObject_CallMethod(text, "strip", NULL));
    }
    if (text == NULL || !PyUnicode_Check(text) || PyUnicode_GET_LENGTH(text) == 0) {
        PyErr_Clear(); /* a file that cannot be decoded is as good as none */
        Py_XDECREF(text);
        return Py_NewRef(Py_None);
    }
    return text;
}

/* A record of filename, line, function, source line. */
static PyObject *
place_new(RecordInfo *info, const TraceEntry *entry)
{
    PyCodeObject *code = (PyCodeObject *)entry->code;
    int line = line_of(entry);
    PyObject *number = PyLong_FromLong(line);
    if (number == NULL) {
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {
        Py_NewRef(code->co_filename), number, Py_NewRef(code->co_name), source_line(code->co_filename, line),
    };
    return record_new(info, f);
}

/* What stands for the entries that were dropped, as a record of the same shape. */
static PyObject *
gap_place(RecordInfo *info, Py_ssize_t missing)
{
    PyObject *text = PyUnicode_FromFormat("... %zd more frames ...", missing);
    PyObject *f[RECORD_MAX_FIELDS + 1] = {PyUnicode_FromString(""), PyLong_FromLong(0), text, Py_NewRef(Py_None)};
    if (f[0] == NULL || f[1] == NULL || text == NULL) {
        for (int i = 0; i < 4; i++) {
            Py_XDECREF(f[i]);
        }
        return NULL;
    }
    return record_new(info, f);
}

int
stacks_add_place(PyObject *lines, PyObject *place)
{
    PyObject *filename = RECORD_FIELD(place, PLACE_FILENAME);
    PyObject *code = RECORD_FIELD(place, PLACE_CODE);
    if (PyUnicode_Check(filename) && PyUnicode_GET_LENGTH(filename) == 0) {
        return lines_add(lines, "  %S", RECORD_FIELD(place, PLACE_FUNCTION));
    }
    if (lines_add(lines, "  File \"%S\", line %S, in %S", filename, RECORD_FIELD(place, PLACE_LINE),
                  RECORD_FIELD(place, PLACE_FUNCTION)) < 0) {
        return -1;
    }
    return code == Py_None ? 0 : lines_add(lines, "    %S", code);
}

static PyObject *
place_format(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *lines = PyList_New(0);
    if (lines == NULL || stacks_add_place(lines, self) < 0) {
        Py_XDECREF(lines);
        return NULL;
    }
    return lines_text(lines);
}

/* ---- the Python stack ---- */

static PyObject *
tuple_of(PyObject *list /* stolen */, int failed)
{
    PyObject *tuple = failed ? NULL : PyList_AsTuple(list);
    Py_DECREF(list);
    return tuple;
}

PyObject *
stacks_python_frames(EngineState *st, const DoeffTrace *trace)
{
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    PyObject *prefix = package_prefix();
    RecordInfo *info = st->rec.PythonFrame;
    int failed = 0;
    for (Py_ssize_t i = trace == NULL ? -1 : trace_kept(trace) - 1; i >= 0 && !failed; i--) {
        const TraceEntry *entry = trace_entry(trace, i);
        if (i == TRACE_INNER - 1 && trace_gap(trace) > 0) {
            failed = lines_take(list, gap_place(info, trace_gap(trace))) < 0;
        }
        if (!failed && entry->code != NULL && !is_ours(prefix, entry)) {
            failed = lines_take(list, place_new(info, entry)) < 0;
        }
    }
    Py_XDECREF(prefix);
    return tuple_of(list, failed);
}

PyObject *
stacks_python(EngineState *st, const DoeffTrace *trace)
{
    PyObject *frames = stacks_python_frames(st, trace);
    return frames == NULL ? NULL : record_new1(st->rec.PythonStackTrace, frames);
}

/* The frames field of a stack as a fast sequence; strong. */
static PyObject *
frames_of(PyObject *stack)
{
    return PySequence_Fast(RECORD_FIELD(stack, 0), "frames must be a sequence");
}

static int
is_one(PyObject *op, RecordInfo *info)
{
    if (RECORD_IS(op, info)) {
        return 1;
    }
    PyErr_Format(PyExc_TypeError, "expected %s, got %s", info->type->tp_name, Py_TYPE(op)->tp_name);
    return 0;
}

static PyObject *
python_format(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st = state_of(self);
    PyObject *frames = frames_of(self);
    if (frames == NULL) {
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(frames);
    PyObject *lines = PyList_New(0);
    int failed = lines == NULL
                 || lines_add(lines, n == 0 ? "Python Stack: <not captured>" : "Python Stack:") < 0;
    for (Py_ssize_t i = 0; i < n && !failed; i++) {
        PyObject *frame = PySequence_Fast_GET_ITEM(frames, i);
        failed = !is_one(frame, st->rec.PythonFrame) || stacks_add_place(lines, frame) < 0;
    }
    Py_DECREF(frames);
    if (failed) {
        Py_CLEAR(lines);
    }
    return lines_text(lines);
}

/* ---- the continuation ---- */

static PyObject *
k_frame(EngineState *st, const TraceEntry *entry)
{
    PyObject *type = PyUnicode_FromString(entry->kind);
    PyObject *text = NULL, *location = NULL;
    if (type != NULL && entry->code != NULL) {
        text = PyUnicode_FromFormat("resume %U", ((PyCodeObject *)entry->code)->co_name);
        location = text == NULL ? NULL : place_new(st->rec.SourceLocation, entry);
    }
    else if (type != NULL) {
        text = entry->text != NULL ? Py_NewRef(entry->text) : PyUnicode_FromString("");
        location = Py_NewRef(Py_None);
    }
    if (text == NULL || location == NULL) {
        Py_XDECREF(type);
        Py_XDECREF(text);
        Py_XDECREF(location);
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {type, text, location};
    return record_new(st->rec.KFrame, f);
}

static PyObject *
k_gap(EngineState *st, Py_ssize_t missing)
{
    PyObject *type = PyUnicode_FromString("...");
    PyObject *text = type == NULL ? NULL : PyUnicode_FromFormat("%zd more frames", missing);
    if (text == NULL) {
        Py_XDECREF(type);
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {type, text, Py_NewRef(Py_None)};
    return record_new(st->rec.KFrame, f);
}

PyObject *
stacks_k(EngineState *st, const DoeffTrace *trace)
{
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    Py_ssize_t n = trace == NULL ? 0 : trace_kept(trace);
    int failed = 0;
    for (Py_ssize_t i = 0; i < n && !failed; i++) {
        const TraceEntry *entry = trace_entry(trace, i);
        if (i == TRACE_INNER && trace_gap(trace) > 0) {
            failed = lines_take(list, k_gap(st, trace_gap(trace))) < 0;
        }
        if (!failed && entry->kind != NULL) {
            failed = lines_take(list, k_frame(st, entry)) < 0;
        }
    }
    PyObject *frames = tuple_of(list, failed);
    return frames == NULL ? NULL : record_new1(st->rec.KStackTrace, frames);
}

static int
add_k_line(PyObject *lines, Py_ssize_t i, PyObject *frame)
{
    PyObject *type = PyObject_Str(RECORD_FIELD(frame, K_TYPE));
    PyObject *text = type == NULL ? NULL : PyObject_Str(RECORD_FIELD(frame, K_DESCRIPTION));
    int failed = -1;
    if (text != NULL && PyUnicode_GET_LENGTH(text) == 0) {
        failed = lines_add(lines, "  [%zd] %U", i, type);
    }
    else if (text != NULL) {
        static const char blanks[] = "                  "; /* the column of types is 18 wide */
        Py_ssize_t width = PyUnicode_GET_LENGTH(type);
        failed = lines_add(lines, "  [%zd] %U%s - %U", i, type, &blanks[width > 18 ? 18 : width], text);
    }
    Py_XDECREF(type);
    Py_XDECREF(text);
    return failed;
}

static PyObject *
k_format(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st = state_of(self);
    PyObject *frames = frames_of(self);
    if (frames == NULL) {
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(frames);
    PyObject *lines = PyList_New(0);
    int failed = lines == NULL
                 || lines_add(lines, n == 0 ? "Continuation Stack (K): <empty>" : "Continuation Stack (K):") < 0;
    for (Py_ssize_t i = 0; i < n && !failed; i++) {
        PyObject *frame = PySequence_Fast_GET_ITEM(frames, i);
        failed = !is_one(frame, st->rec.KFrame) || add_k_line(lines, i, frame) < 0;
    }
    Py_DECREF(frames);
    if (failed) {
        Py_CLEAR(lines);
    }
    return lines_text(lines);
}

PyObject *
stacks_k_summary(PyObject *frames)
{
    PyObject *parts = PyList_New(0);
    if (parts == NULL) {
        return NULL;
    }
    Py_ssize_t n = PyTuple_GET_SIZE(frames);
    for (Py_ssize_t i = 0, run; i < n; i += run) {
        PyObject *type = RECORD_FIELD(PyTuple_GET_ITEM(frames, i), K_TYPE);
        run = 1;
        while (i + run < n
               && PyUnicode_Compare(type, RECORD_FIELD(PyTuple_GET_ITEM(frames, i + run), K_TYPE)) == 0) {
            run++;
        }
        if ((run == 1 ? lines_add(parts, "%U", type) : lines_add(parts, "%U x%zd", type, run)) < 0) {
            Py_DECREF(parts);
            return NULL;
        }
    }
    PyObject *comma = PyUnicode_FromString(", ");
    PyObject *text = comma == NULL ? NULL : PyUnicode_Join(comma, parts);
    Py_XDECREF(comma);
    Py_DECREF(parts);
    return text;
}

/* ---- arguments of calls, from the frames of the traceback ---- */

/* Frames of a traceback, innermost first, as many as a trace keeps. */
typedef struct Frames {
    PyObject *frame[TRACE_INNER + TRACE_OUTER]; /* strong */
    int lasti[TRACE_INNER + TRACE_OUTER];
    int n;
    PyObject *of[TRACE_INNER + TRACE_OUTER]; /* by number of the trace's entry; borrowed or NULL */
} Frames;

static void
frames_collect(Frames *frames, PyObject *traceback)
{
    Py_ssize_t n = 0;
    frames->n = 0;
    for (PyTracebackObject *tb = (PyTracebackObject *)traceback; tb != NULL; tb = tb->tb_next) {
        n++;
    }
    PyTracebackObject *tb = (PyTracebackObject *)traceback;
    for (Py_ssize_t i = 0; i < n; i++, tb = tb->tb_next) {
        if (i < TRACE_OUTER || i >= n - TRACE_INNER) {
            frames->n++;
        }
    }
    int at = frames->n;
    tb = (PyTracebackObject *)traceback;
    for (Py_ssize_t i = 0; i < n; i++, tb = tb->tb_next) {
        if (i < TRACE_OUTER || i >= n - TRACE_INNER) {
            at--;
            frames->frame[at] = Py_NewRef((PyObject *)tb->tb_frame);
            frames->lasti[at] = tb->tb_lasti;
        }
    }
}

static void
frames_release(Frames *frames)
{
    for (int i = 0; i < frames->n; i++) {
        Py_DECREF(frames->frame[i]);
    }
}

static int
tells_of(const TraceEntry *entry, PyObject *frame, int lasti)
{
    PyObject *code = (PyObject *)PyFrame_GetCode((PyFrameObject *)frame);
    Py_DECREF(code); /* the frame holds it */
    return code == entry->code && lasti == entry->lasti;
}

/* Finds the frame of each entry. Both rows have the same order; what is missing lies in the middle, so
 * the search goes from both ends. */
static void
frames_match(Frames *frames, const DoeffTrace *trace)
{
    Py_ssize_t kept = trace_kept(trace);
    Py_ssize_t inner = trace_gap(trace) > 0 ? TRACE_INNER : kept;
    int first = 0, last = frames->n - 1;
    for (Py_ssize_t i = 0; i < inner; i++) {
        const TraceEntry *entry = trace_entry(trace, i);
        frames->of[i] = NULL;
        for (int j = first; entry->code != NULL && j <= last; j++) {
            if (tells_of(entry, frames->frame[j], frames->lasti[j])) {
                frames->of[i] = frames->frame[j];
                first = j + 1;
                break;
            }
        }
    }
    for (Py_ssize_t i = kept - 1; i >= inner; i--) {
        const TraceEntry *entry = trace_entry(trace, i);
        frames->of[i] = NULL;
        for (int j = last; entry->code != NULL && j >= first; j--) {
            if (tells_of(entry, frames->frame[j], frames->lasti[j])) {
                frames->of[i] = frames->frame[j];
                last = j - 1;
                break;
            }
        }
    }
}

#define REST_SHOWN 20 /* of *args and of **kwargs */

static int
add_named(EngineState *st, PyObject *parts, PyObject *name /* or NULL */, PyObject *value)
{
    PyObject *text = format_argument(st, value);
    if (text != NULL && name != NULL) {
        Py_SETREF(text, PyUnicode_FromFormat("%S=%U", name, text));
    }
    return lines_take(parts, text);
}

/* Adds the value of a local variable, if it is still there. */
static int
add_local(EngineState *st, PyObject *parts, PyObject *locals, PyObject *name, int named)
{
    PyObject *value = PyObject_GetItem(locals, name);
    if (value == NULL) {
        PyErr_Clear();
        return lines_add(parts, named ? "%U=<deleted>" : "<deleted>", name);
    }
    int failed = add_named(st, parts, named ? name : NULL, value);
    Py_DECREF(value);
    return failed;
}

/* Adds what a function got as *name or **name. */
static int
add_rest(EngineState *st, PyObject *parts, PyObject *locals, PyObject *name)
{
    PyObject *rest = PyObject_GetItem(locals, name);
    if (rest == NULL) {
        PyErr_Clear(); /* deleted */
        return 0;
    }
    int named = PyDict_CheckExact(rest);
    if (named) {
        Py_SETREF(rest, PyDict_Items(rest)); /* a __repr__ may change the dict */
    }
    else if (!PyTuple_CheckExact(rest)) { /* the function has put something else there */
        Py_DECREF(rest);
        return 0;
    }
    int failed = rest == NULL ? -1 : 0;
    Py_ssize_t n = failed ? 0 : PySequence_Fast_GET_SIZE(rest);
    for (Py_ssize_t i = 0; i < n && i < REST_SHOWN && !failed; i++) {
        PyObject *item = PySequence_Fast_GET_ITEM(rest, i);
        failed = named ? add_named(st, parts, PyTuple_GET_ITEM(item, 0), PyTuple_GET_ITEM(item, 1))
                       : add_named(st, parts, NULL, item);
    }
    if (n > REST_SHOWN && !failed) {
        failed = lines_add(parts, "...");
    }
    Py_XDECREF(rest);
    return failed;
}

/* The arguments of the call that frame runs: by position, keyword-only ones by name. NULL with an error set. */
static PyObject *
arguments_text(EngineState *st, PyObject *frame)
{
    PyCodeObject *code = PyFrame_GetCode((PyFrameObject *)frame);
    PyObject *names = PyCode_GetVarnames(code);
    PyObject *locals = names == NULL ? NULL : PyFrame_GetLocals((PyFrameObject *)frame);
    PyObject *parts = locals == NULL ? NULL : PyList_New(0);
    int npositional = code->co_argcount, nkeyword = code->co_kwonlyargcount;
    int failed = parts == NULL;
    for (int i = 0; i < npositional && !failed; i++) {
        failed = add_local(st, parts, locals, PyTuple_GET_ITEM(names, i), 0) < 0;
    }
    int rest = npositional + nkeyword;
    if (!failed && code->co_flags & CO_VARARGS) {
        failed = add_rest(st, parts, locals, PyTuple_GET_ITEM(names, rest++)) < 0;
    }
    for (int i = npositional; i < npositional + nkeyword && !failed; i++) {
        failed = add_local(st, parts, locals, PyTuple_GET_ITEM(names, i), 1) < 0;
    }
    if (!failed && code->co_flags & CO_VARKEYWORDS) {
        failed = add_rest(st, parts, locals, PyTuple_GET_ITEM(names, rest)) < 0;
    }
    PyObject *comma = failed ? NULL : PyUnicode_FromString(", ");
    PyObject *text = comma == NULL ? NULL : PyUnicode_Join(comma, parts);
    Py_XDECREF(comma);
    Py_XDECREF(parts);
    Py_XDECREF(locals);
    Py_XDECREF(names);
    Py_DECREF(code);
    return text;
}

/* ---- the effect tree ---- */

/* Takes everything but st; child, name or args may be NULL with an error set. */
static PyObject *
call_node(EngineState *st, PyObject *name, int is_effect, PyObject *args, PyObject *child, int is_last,
          PyObject *location)
{
    int complete = name != NULL && args != NULL && location != NULL && (is_last || child != NULL);
    PyObject *children = !complete ? NULL : is_last ? PyTuple_New(0) : PyTuple_Pack(1, child);
    PyObject *count = children == NULL ? NULL : PyLong_FromLong(1);
    Py_XDECREF(child);
    if (count == NULL) {
        Py_XDECREF(name);
        Py_XDECREF(args);
        Py_XDECREF(children);
        Py_XDECREF(count);
        Py_XDECREF(location);
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {
        name,     PyBool_FromLong(is_effect), args, count, children,
        location, PyBool_FromLong(is_last),
    };
    return record_new(st->rec.EffectCallNode, f);
}

static int
is_call(PyObject *prefix, const TraceEntry *entry)
{
    return entry->kind == return_frame.name && entry->code != NULL && !is_ours(prefix, entry);
}

/* The node of the effect or program that raised the error. */
static PyObject *
effect_node(EngineState *st, const DoeffTrace *trace, PyObject *prefix)
{
    const TraceEntry *where = NULL;
    for (Py_ssize_t i = 0; i < trace_kept(trace) && where == NULL; i++) {
        const TraceEntry *entry = trace_entry(trace, i);
        int candidate = trace->is_effect ? is_call(prefix, entry) : entry->code != NULL && !is_ours(prefix, entry);
        where = candidate ? entry : NULL;
    }
    PyObject *location = where == NULL ? Py_NewRef(Py_None) : place_new(st->rec.SourceLocation, where);
    if (location == NULL) {
        return NULL;
    }
    PyObject *args = trace->effect_args != NULL ? Py_NewRef(trace->effect_args) : PyUnicode_FromString("");
    return call_node(st, Py_NewRef(trace->effect_name), trace->is_effect, args, NULL, 1, location);
}

static PyObject *
entry_node(EngineState *st, const TraceEntry *entry, PyObject *frame, PyObject *child /* stolen or NULL: last */)
{
    int is_last = child == NULL;
    PyObject *args = frame == NULL ? PyUnicode_FromString("") : arguments_text(st, frame);
    PyObject *location = args == NULL ? NULL : place_new(st->rec.SourceLocation, entry);
    PyObject *name = Py_NewRef(((PyCodeObject *)entry->code)->co_name);
    return call_node(st, name, 0, args, child, is_last, location);
}

static PyObject *
effect_root(EngineState *st, const DoeffTrace *trace, Frames *frames)
{
    PyObject *prefix = package_prefix();
    PyObject *node = NULL;
    int failed = 0;
    if (trace->effect_name != NULL) {
        node = effect_node(st, trace, prefix);
        failed = node == NULL;
    }
    for (Py_ssize_t i = 0; i < trace_kept(trace) && !failed; i++) {
        const TraceEntry *entry = trace_entry(trace, i);
        if (i == TRACE_INNER && trace_gap(trace) > 0 && node != NULL) {
            node = call_node(st, PyUnicode_FromString("..."), 0, PyUnicode_FromString(""), node, 0,
                             Py_NewRef(Py_None));
            failed = node == NULL;
        }
        if (!failed && is_call(prefix, entry)) {
            node = entry_node(st, entry, frames->of[i], node);
            failed = node == NULL;
        }
    }
    Py_XDECREF(prefix);
    return failed ? NULL : node != NULL ? node : Py_NewRef(Py_None);
}

PyObject *
stacks_effects(EngineState *st, const DoeffTrace *trace, PyObject *traceback)
{
    PyObject *root;
    if (trace == NULL) {
        root = Py_NewRef(Py_None);
    }
    else {
        Frames frames;
        frames_collect(&frames, traceback);
        frames_match(&frames, trace);
        root = effect_root(st, trace, &frames);
        frames_release(&frames);
    }
    return root == NULL ? NULL : record_new1(st->rec.EffectStackTrace, root);
}

static PyObject *
node_text(PyObject *node)
{
    PyObject *name = RECORD_FIELD(node, CALL_NAME);
    PyObject *args = RECORD_FIELD(node, CALL_ARGS);
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "...") == 0) {
        return Py_NewRef(name);
    }
    PyObject *text = args == Py_None ? PyUnicode_FromFormat("%S()", name) : PyUnicode_FromFormat("%S(%S)", name, args);
    PyObject *count = RECORD_FIELD(node, CALL_COUNT);
    int overflow = 0;
    if (text != NULL && PyLong_Check(count) && (PyLong_AsLongAndOverflow(count, &overflow) > 1 || overflow > 0)) {
        Py_SETREF(text, PyUnicode_FromFormat("%U x%S", text, count));
    }
    return text;
}

static int
add_node_line(PyObject *lines, PyObject *node, Py_ssize_t depth)
{
    PyObject *indent = PyUnicode_New(depth * 3, 127);
    PyObject *text = node_text(node);
    int failed = -1;
    if (indent != NULL && text != NULL && (depth == 0 || PyUnicode_Fill(indent, 0, depth * 3, ' ') >= 0)) {
        const char *mark = RECORD_FIELD(node, CALL_IS_ERROR_SITE) == Py_True ? "  <-- ERROR" : "";
        failed = lines_add(lines, "  %U%s %U%s", indent, "\xe2\x94\x94\xe2\x94\x80", text, mark);
    }
    Py_XDECREF(indent);
    Py_XDECREF(text);
    return failed;
}

/* Adds a node's line and those of its children; todo holds (node, depth) in turn. */
static int
add_tree(EngineState *st, PyObject *lines, PyObject *root)
{
    PyObject *todo = PyList_New(0);
    int failed = todo == NULL || lines_take(todo, Py_BuildValue("On", root, (Py_ssize_t)0)) < 0;
    while (!failed && PyList_GET_SIZE(todo) > 0) {
        Py_ssize_t last = PyList_GET_SIZE(todo) - 1;
        PyObject *item = Py_NewRef(PyList_GET_ITEM(todo, last));
        PyObject *node = PyTuple_GET_ITEM(item, 0);
        Py_ssize_t depth = PyLong_AsSsize_t(PyTuple_GET_ITEM(item, 1));
        PyObject *children = NULL;
        failed = PyList_SetSlice(todo, last, last + 1, NULL) < 0 || !is_one(node, st->rec.EffectCallNode)
                 || add_node_line(lines, node, depth) < 0
                 || (children = PySequence_Fast(RECORD_FIELD(node, CALL_CHILDREN), "children must be a sequence")) == NULL;
        for (Py_ssize_t i = failed ? 0 : PySequence_Fast_GET_SIZE(children); i > 0 && !failed; i--) {
            PyObject *child = PySequence_Fast_GET_ITEM(children, i - 1);
            failed = lines_take(todo, Py_BuildValue("On", child, depth + 1)) < 0;
        }
        Py_XDECREF(children);
        Py_DECREF(item);
    }
    Py_XDECREF(todo);
    return failed ? -1 : 0;
}

static PyObject *
effects_format(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *root = RECORD_FIELD(self, 0);
    if (root == Py_None) {
        return PyUnicode_FromString("Effect Call Tree: <not captured>");
    }
    PyObject *lines = PyList_New(0);
    if (lines == NULL || lines_add(lines, "Effect Call Tree:") < 0 || add_tree(state_of(self), lines, root) < 0) {
        Py_XDECREF(lines);
        return NULL;
    }
    return lines_text(lines);
}

static PyObject *
node_format(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    PyObject *lines = PyList_New(0);
    if (lines == NULL || add_tree(state_of(self), lines, self) < 0) {
        Py_XDECREF(lines);
        return NULL;
    }
    return lines_text(lines);
}

/* a() -> b(x=1) -> Ask('k') */
static PyObject *
effects_path(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st = state_of(self);
    PyObject *parts = PyList_New(0);
    PyObject *arrow = PyUnicode_FromString(" -> ");
    PyObject *node = Py_NewRef(RECORD_FIELD(self, 0));
    PyObject *path = NULL;
    int failed = parts == NULL || arrow == NULL;
    while (!failed && node != Py_None) {
        failed = !is_one(node, st->rec.EffectCallNode) || lines_take(parts, node_text(node)) < 0;
        PyObject *children = failed ? NULL : RECORD_FIELD(node, CALL_CHILDREN);
        int more = children != NULL && PyTuple_Check(children) && PyTuple_GET_SIZE(children) > 0;
        Py_SETREF(node, Py_NewRef(more ? PyTuple_GET_ITEM(children, 0) : Py_None));
    }
    if (!failed) {
        path = PyUnicode_Join(arrow, parts);
    }
    Py_XDECREF(parts);
    Py_XDECREF(arrow);
    Py_DECREF(node);
    return path;
}

/* ---- effect frames of a CapturedTraceback ---- */

PyObject *
stacks_effect_frames(EngineState *st, const DoeffTrace *trace)
{
    PyObject *list = PyList_New(0);
    if (list == NULL) {
        return NULL;
    }
    PyObject *prefix = package_prefix();
    PyObject *call_site = Py_NewRef(Py_None);
    int failed = 0;
    for (Py_ssize_t i = trace == NULL ? -1 : trace_kept(trace) - 1; i >= 0 && !failed; i--) {
        const TraceEntry *entry = trace_entry(trace, i);
        PyObject *location = NULL;
        const char *kind = "program";
        if (i == TRACE_INNER - 1 && trace_gap(trace) > 0) {
            kind = "gap";
            location = gap_place(st->rec.CodeLocation, trace_gap(trace));
        }
        else if (is_call(prefix, entry)) {
            location = place_new(st->rec.CodeLocation, entry);
        }
        else {
            continue;
        }
        PyObject *name = location == NULL ? NULL : PyUnicode_InternFromString(kind);
        if (name == NULL) {
            Py_XDECREF(location);
            failed = 1;
            break;
        }
        PyObject *f[RECORD_MAX_FIELDS + 1] = {Py_NewRef(location), name, Py_NewRef(call_site)};
        failed = lines_take(list, record_new(st->rec.EffectFrame, f)) < 0;
        Py_SETREF(call_site, location);
    }
    Py_XDECREF(prefix);
    Py_DECREF(call_site);
    return tuple_of(list, failed);
}

/* ---- the record types ---- */

static PyMethodDef place_methods[] = {
    {"format", place_format, METH_NOARGS, PyDoc_STR("format()\n--\n\nThe lines of a traceback for this place.")},
    {NULL},
};
static PyMethodDef python_methods[] = {
    {"format", python_format, METH_NOARGS, PyDoc_STR("format()\n--\n\nAll frames, outermost first, with their source.")},
    {NULL},
};
static PyMethodDef k_methods[] = {
    {"format", k_format, METH_NOARGS, PyDoc_STR("format()\n--\n\nAll frames, innermost first, one a line.")},
    {NULL},
};
static PyMethodDef node_methods[] = {
    {"format", node_format, METH_NOARGS, PyDoc_STR("format()\n--\n\nThis call and those below it as a tree.")},
    {NULL},
};
static PyMethodDef effects_methods[] = {
    {"format", effects_format, METH_NOARGS, PyDoc_STR("format()\n--\n\nThe calls that led to the error as a tree.")},
    {"get_effect_path", effects_path, METH_NOARGS,
     PyDoc_STR("get_effect_path()\n--\n\nThe calls on one line: a() -> b() -> Ask('k').")},
    {NULL},
};

static PyType_Slot place_slots[] = {{Py_tp_methods, place_methods}, {0, NULL}};
static PyType_Slot python_slots[] = {{Py_tp_methods, python_methods}, {0, NULL}};
static PyType_Slot k_slots[] = {{Py_tp_methods, k_methods}, {0, NULL}};
static PyType_Slot node_slots[] = {{Py_tp_methods, node_methods}, {0, NULL}};
static PyType_Slot effects_slots[] = {{Py_tp_methods, effects_methods}, {0, NULL}};

static const RecordSpec location_spec = {
    .name = "doeff.cesk.runtime_result.SourceLocation",
    .doc = "SourceLocation(filename, line, function, code_context=None)\n--\n\nA place in a source file.",
    .fields = {"filename", "line", "function", "code_context"}, .required = 3, .slots = place_slots,
};
static const RecordSpec python_frame_spec = {
    .name = "doeff.cesk.runtime_result.PythonFrame",
    .doc = "PythonFrame(filename, line, function, code_context=None)\n--\n\nA frame of a PythonStackTrace.",
    .fields = {"filename", "line", "function", "code_context"}, .required = 3, .slots = place_slots,
};
static const RecordSpec code_location_spec = {
    .name = "doeff.cesk_traceback.CodeLocation",
    .doc = "CodeLocation(filename, line, function, code=None)\n--\n\nA place in a source file.",
    .fields = {"filename", "line", "function", "code"}, .required = 3, .slots = place_slots,
};
static const RecordSpec python_stack_spec = {
    .name = "doeff.cesk.runtime_result.PythonStackTrace",
    .doc = "PythonStackTrace(frames)\n--\n\nThe user's Python frames, outermost first.",
    .fields = {"frames"}, .required = 1, .slots = python_slots,
};
static const RecordSpec k_frame_spec = {
    .name = "doeff.cesk.runtime_result.KFrame",
    .doc = "KFrame(frame_type, description, source_location=None)\n--\n\nA frame of a KStackTrace.",
    .fields = {"frame_type", "description", "source_location"}, .required = 2,
};
static const RecordSpec k_stack_spec = {
    .name = "doeff.cesk.runtime_result.KStackTrace",
    .doc = "KStackTrace(frames)\n--\n\nThe continuation at the raise, innermost first.",
    .fields = {"frames"}, .required = 1, .slots = k_slots,
};
static const RecordSpec node_spec = {
    .name = "doeff.cesk.runtime_result.EffectCallNode",
    .doc = "EffectCallNode(name, is_effect, args_repr, count, children, source_location, is_error_site)\n--\n\n"
           "A call or an effect on the way to the error.",
    .fields = {"name", "is_effect", "args_repr", "count", "children", "source_location", "is_error_site"},
    .required = 7, .slots = node_slots,
};
static const RecordSpec effect_stack_spec = {
    .name = "doeff.cesk.runtime_result.EffectStackTrace",
    .doc = "EffectStackTrace(root=None)\n--\n\nThe chain of calls that led to the error, outermost first.",
    .fields = {"root"}, .slots = effects_slots,
};
static const RecordSpec effect_frame_spec = {
    .name = "doeff.cesk_traceback.EffectFrame",
    .doc = "EffectFrame(location, frame_kind, call_site=None)\n--\n\nA program that the error crossed.",
    .fields = {"location", "frame_kind", "call_site"}, .required = 2,
};

int
stacks_room_init(PyObject *module, EngineState *st)
{
    const struct {
        RecordInfo **slot;
        const RecordSpec *spec;
    } records[] = {
        {&st->rec.SourceLocation, &location_spec},     {&st->rec.PythonFrame, &python_frame_spec},
        {&st->rec.CodeLocation, &code_location_spec},  {&st->rec.PythonStackTrace, &python_stack_spec},
        {&st->rec.KFrame, &k_frame_spec},              {&st->rec.KStackTrace, &k_stack_spec},
        {&st->rec.EffectCallNode, &node_spec},         {&st->rec.EffectStackTrace, &effect_stack_spec},
        {&st->rec.EffectFrame, &effect_frame_spec},
    };
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        *records[i].slot = record_type_new(module, st, records[i].spec);
        if (*records[i].slot == NULL) {
            return -1;
        }
    }
    return 0;
}
