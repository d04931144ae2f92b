#include "trace.h"

#include "captured.h"
#include "format.h"

/* ---- the object ---- */

static DoeffTrace *
trace_new(EngineState *st, PyObject *error, PyObject *effect)
{
    DoeffTrace *t = PyObject_GC_New(DoeffTrace, st->Trace_Type);
    if (t == NULL) {
        PyErr_Clear(); /* the error in flight is what matters */
        return NULL;
    }
    t->error = error;
    t->effect = Py_XNewRef(effect);
    t->effect_name = t->effect_args = NULL;
    t->is_effect = effect != NULL && PyType_IsSubtype(Py_TYPE(effect), st->Effect_Type);
    t->mark = NULL;
    t->count = 0;
    t->cap = TRACE_SMALL;
    t->inner = t->small;
    t->outer = NULL;
    PyObject_GC_Track(t);
    return t;
}

static void
release_entry(TraceEntry *entry)
{
    Py_XDECREF(entry->code);
    Py_XDECREF(entry->text);
}

static int
trace_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((DoeffTrace *)op)->effect); /* entries hold strings and code objects only */
    return 0;
}

static int
trace_clear(PyObject *op)
{
    Py_CLEAR(((DoeffTrace *)op)->effect);
    return 0;
}

static int
trace_release(PyObject *op)
{
    DoeffTrace *t = (DoeffTrace *)op;
    (void)trace_clear(op);
    Py_XDECREF(t->effect_name);
    Py_XDECREF(t->effect_args);
    for (Py_ssize_t i = 0; i < t->count && i < TRACE_INNER; i++) {
        release_entry(&t->inner[i]);
    }
    for (int i = 0; t->outer != NULL && i < TRACE_OUTER; i++) {
        release_entry(&t->outer[i]);
    }
    if (t->inner != t->small) {
        PyMem_Free(t->inner);
    }
    PyMem_Free(t->outer);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
trace_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, trace_dealloc, trace_release);
}

/* Traces are of this process: an exception that carries one still pickles and copies. */
static PyObject *
trace_reduce(PyObject *Py_UNUSED(op), PyObject *Py_UNUSED(ignored))
{
    return Py_BuildValue("O()", (PyObject *)Py_TYPE(Py_None));
}

static PyMethodDef trace_methods[] = {
    {"__reduce__", trace_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot trace_slots[] = {
    {Py_tp_dealloc, trace_dealloc},
    {Py_tp_traverse, trace_traverse},
    {Py_tp_clear, trace_clear},
    {Py_tp_methods, trace_methods},
    {0, NULL},
};

static PyType_Spec trace_spec = {
    .name = "doeff._engine.Trace",
    .basicsize = sizeof(DoeffTrace),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = trace_slots,
};

/* ---- entries ---- */

static int
grow_inner(DoeffTrace *t)
{
    Py_ssize_t cap = t->cap * 4 < TRACE_INNER ? t->cap * 4 : TRACE_INNER;
    TraceEntry *block = PyMem_Malloc(sizeof(TraceEntry) * (size_t)cap);
    if (block == NULL) {
        return -1;
    }
    memcpy(block, t->inner, sizeof(TraceEntry) * (size_t)t->count);
    if (t->inner != t->small) {
        PyMem_Free(t->inner);
    }
    t->inner = block;
    t->cap = cap;
    return 0;
}

static int
need_outer(DoeffTrace *t)
{
    if (t->outer == NULL) {
        t->outer = PyMem_Calloc(TRACE_OUTER, sizeof(TraceEntry));
    }
    return t->outer == NULL ? -1 : 0;
}

/* Where the next entry goes, or NULL: no memory. An entry that it replaces is released. */
static TraceEntry *
next_slot(DoeffTrace *t)
{
    if (DOEFF_LIKELY(t->count < TRACE_INNER)) {
        return t->count < t->cap || grow_inner(t) == 0 ? &t->inner[t->count] : NULL;
    }
    if (need_outer(t) < 0) {
        return NULL;
    }
    TraceEntry *slot = &t->outer[(t->count - TRACE_INNER) % TRACE_OUTER];
    release_entry(slot); /* a code object and a string: runs no foreign code */
    return slot;
}

static void
add(DoeffTrace *t, const char *kind, PyObject *code /* stolen or NULL */, int lasti, PyObject *text /* stolen or NULL */)
{
    TraceEntry *slot = next_slot(t);
    if (slot == NULL) {
        Py_XDECREF(code);
        Py_XDECREF(text);
        return;
    }
    *slot = (TraceEntry){kind, code, text, lasti};
    t->count++;
}

/* The head of error's traceback (borrowed from error), or NULL. CPython 3.11's spare MemoryErrors hold a None there. */
static PyTracebackObject *
traceback_of(PyObject *error)
{
    PyObject *head = PyException_GetTraceback(error);
    Py_XDECREF(head); /* error still holds it */
    return head != NULL && PyTraceBack_Check(head) ? (PyTracebackObject *)head : NULL;
}

/* Adds the entries of the error's traceback that are new since the last time, innermost first;
 * the outermost of them gets kind. 0 if there were none. */
static int
add_python(DoeffTrace *t, PyObject *error, const char *kind)
{
    PyTracebackObject *head = traceback_of(error);
    if (head == NULL) {
        t->mark = NULL;
        return 0;
    }
    Py_ssize_t n = 0;
    for (PyTracebackObject *tb = head; tb != NULL && tb != t->mark; tb = tb->tb_next) {
        n++;
    }
    PyTracebackObject *kept[TRACE_INNER + TRACE_OUTER];
    int nkept = 0;
    PyTracebackObject *tb = head;
    for (Py_ssize_t i = 0; i < n; i++, tb = tb->tb_next) {
        if (i < TRACE_OUTER || i >= n - TRACE_INNER) {
            kept[nkept++] = tb;
        }
    }
    for (int i = nkept - 1; i >= 0; i--) {
        PyObject *code = (PyObject *)PyFrame_GetCode(kept[i]->tb_frame);
        add(t, i == 0 ? kind : NULL, code, kept[i]->tb_lasti, NULL);
        if (i == TRACE_OUTER && n > nkept && t->count >= TRACE_INNER && need_outer(t) == 0) {
            t->count += n - nkept; /* a deep recursion inside one generator: the ring is filled next */
        }
    }
    t->mark = head;
    return n > 0;
}

static PyObject *
generator_code(PyObject *generator)
{
    PyObject *code = PyObject_GetAttrString(generator, PyGen_Check(generator) ? "gi_code" : "cr_code");
    if (code != NULL && !PyCode_Check(code)) {
        Py_CLEAR(code);
    }
    PyErr_Clear();
    return code;
}

static void
copy_entries(TraceEntry *to, const TraceEntry *from, Py_ssize_t n)
{
    for (Py_ssize_t i = 0; i < n; i++) {
        to[i] = from[i];
        Py_XINCREF(to[i].code);
        Py_XINCREF(to[i].text);
    }
}

static DoeffTrace *
trace_clone(EngineState *st, DoeffTrace *from, PyObject *error)
{
    DoeffTrace *t = trace_new(st, error, from->effect);
    if (t == NULL) {
        return NULL;
    }
    t->effect_name = Py_XNewRef(from->effect_name);
    t->effect_args = Py_XNewRef(from->effect_args);
    t->is_effect = from->is_effect;
    t->mark = from->mark;
    Py_ssize_t ninner = from->count < TRACE_INNER ? from->count : TRACE_INNER;
    while (t->cap < ninner) {
        if (grow_inner(t) < 0) {
            return t;
        }
    }
    copy_entries(t->inner, from->inner, ninner);
    t->count = ninner;
    if (from->outer != NULL && need_outer(t) == 0) {
        copy_entries(t->outer, from->outer, TRACE_OUTER);
        t->count = from->count;
    }
    return t;
}

/* ---- recording ---- */

/* The trace (borrowed) that an exception carries, or NULL. */
static DoeffTrace *
carried(EngineState *st, PyObject *error)
{
    PyObject *dict = ((PyBaseExceptionObject *)error)->dict;
    if (DOEFF_LIKELY(dict == NULL)) {
        return NULL;
    }
    PyObject *trace = PyDict_GetItemWithError(dict, st->str_trace);
    if (trace == NULL) {
        PyErr_Clear();
        return NULL;
    }
    return Py_IS_TYPE(trace, st->Trace_Type) ? (DoeffTrace *)trace : NULL;
}

/* error carries the trace; whoever raises it again goes on with it. */
static void
attach(EngineState *st, PyObject *error, DoeffTrace *t)
{
    if (PyObject_GenericSetAttr(error, st->str_trace, (PyObject *)t) < 0) {
        PyErr_Clear();
    }
}

PyObject *
trace_begin(DoeffMachine *m, PyObject *effect)
{
    if (DOEFF_UNLIKELY(!PyErr_Occurred())) { /* CPython fails so when it has no memory for the traceback */
        PyErr_NoMemory();
    }
    PyObject *error = PyErr_GetRaisedException();
    DoeffTrace *t = (DoeffTrace *)m->trace;
    if (t != NULL && t->error == error) {
        return error;
    }
    DoeffTrace *old = carried(m->cx.st, error);
    m->trace = (PyObject *)(old != NULL ? trace_clone(m->cx.st, old, error)
                                        : trace_new(m->cx.st, error, effect));
    Py_XDECREF(t);
    return error;
}

void
trace_note(DoeffMachine *m, const DoeffFrame *frame, PyObject *error)
{
    DoeffTrace *t = (DoeffTrace *)m->trace;
    if (t == NULL) {
        return;
    }
    if (is_return(frame)) {
        if (!add_python(t, error, return_frame.name)) { /* it never ran: closed before, or made to look so */
            add(t, return_frame.name, generator_code(frame->a), -1, NULL);
        }
        return;
    }
    PyObject *text = NULL;
    if (frame->kind->describe != NULL) {
        text = frame->kind->describe(frame);
        if (text == NULL) {
            PyErr_Clear();
        }
    }
    add(t, frame->kind->name, NULL, -1, text);
}

static void
note_handler(DoeffTrace *t, EngineState *st, HandlerNode *node)
{
    const char *kind = "HandlerFrame";
    PyObject *text = NULL;
    if (Py_IS_TYPE(node->handler, st->NativeHandler_Type)) {
        NativeHandler *native = (NativeHandler *)node->handler;
        text = Py_NewRef(native->name);
        if (native->scope != NULL) {
            DoeffFrame shown = {native->scope, (PyObject *)native, native->data};
            kind = native->scope->name;
            Py_SETREF(text, native->scope->describe == NULL ? NULL : native->scope->describe(&shown));
        }
    }
    else {
        text = node_handler_name(node);
    }
    if (text == NULL) {
        PyErr_Clear();
    }
    add(t, kind, NULL, -1, text);
}

void
trace_note_scope(DoeffMachine *m, DoeffFiber *fiber)
{
    DoeffTrace *t = (DoeffTrace *)m->trace;
    if (t == NULL) {
        return;
    }
    for (HandlerNode *n = fiber->node; n != fiber->base && n->handler != NULL; n = n->parent) {
        note_handler(t, m->cx.st, n);
    }
}

void
trace_park(DoeffMachine *m, PyObject *error)
{
    DoeffTrace *t = (DoeffTrace *)m->trace;
    if (t == NULL) {
        return;
    }
    m->trace = NULL;
    if (t->error == error && Py_REFCNT(error) > 1) {
        attach(m->cx.st, error, t);
    }
    Py_DECREF(t);
}

DoeffTrace *
trace_finish(DoeffMachine *m, PyObject *error)
{
    DoeffTrace *t = (DoeffTrace *)m->trace;
    if (t == NULL || t->error != error) {
        trace_drop(m);
        return NULL;
    }
    Py_INCREF(t);
    (void)add_python(t, error, NULL);
    PyObject *effect = t->effect;
    if (effect != NULL) {
        t->effect = NULL;
        format_effect(m->cx.st, effect, &t->effect_name, &t->effect_args); /* runs the user's __repr__ */
        Py_DECREF(effect);
    }
    return t;
}

PyObject *
trace_capture(DoeffMachine *m, PyObject *error)
{
    DoeffTrace *t = trace_finish(m, error);
    PyObject *captured = captured_new(m->cx.st, error, t);
    if (t != NULL) {
        attach(m->cx.st, error, t);
        Py_DECREF(t);
    }
    return captured;
}

int
trace_room_init(PyObject *module, EngineState *st)
{
    st->Trace_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &trace_spec, NULL);
    return st->Trace_Type == NULL ? -1 : captured_room_init(module, st);
}
