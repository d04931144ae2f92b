#include "family.h"

/* graph: Step, Annotate, Snapshot and CaptureGraph on the task's list of nodes.
 *
 * A node, {"value": v, "meta": {...}}, never changes once it is in the list: Annotate puts a new
 * one in its place. The list is changed in place only while nobody but the store holds it, so one
 * that Get gave, one that the caller passed in and one that a snapshot of the store shares stay as
 * they are, and appending is cheap.
 *
 * Each open CaptureGraph scope has its own list, which gets what Step appends to the graph and what Annotate
 * replaces in it. Whatever the program does to the graph itself, a scope's list holds the nodes that its program
 * added. */

/* f: a FrozenDict of its own in place of what was given. */
static int
own_meta(DoeffEngine *st, PyObject **f)
{
    PyObject *meta = *f;
    if (!Doeff_IsFrozenDict(st, meta)) {
        if (!PyDict_Check(meta)) {
            PyObject *keys = PyObject_GetAttr(meta, Doeff_Known(st, DOEFF_STR_KEYS));
            if (keys == NULL) {
                if (PyErr_ExceptionMatches(PyExc_AttributeError)) {
                    PyErr_Format(PyExc_TypeError, "meta must be a mapping with str keys, got %s",
                                 Py_TYPE(meta)->tp_name);
                }
                return -1;
            }
            Py_DECREF(keys);
        }
        meta = Doeff_FrozenDict(st, meta);
        if (meta == NULL) {
            return -1;
        }
        Py_SETREF(*f, meta);
    }
    Py_ssize_t at = 0;
    PyObject *key, *value;
    while (PyDict_Next(meta, &at, &key, &value)) {
        if (!PyUnicode_Check(key)) {
            PyErr_Format(PyExc_TypeError, "meta must be a mapping with str keys, got a key that is %s",
                         Py_TYPE(key)->tp_name);
            return -1;
        }
    }
    return 0;
}

static int
step_init(DoeffRecordType *type, PyObject **f)
{
    if (f[1] == Py_None) {
        PyObject *empty = Doeff_FrozenDict(Doeff_EngineOf(type), NULL);
        if (empty == NULL) {
            return -1;
        }
        Py_SETREF(f[1], empty);
        return 0;
    }
    return own_meta(Doeff_EngineOf(type), &f[1]);
}

static int
annotate_init(DoeffRecordType *type, PyObject **f)
{
    return own_meta(Doeff_EngineOf(type), &f[0]);
}

static int
capture_init(DoeffRecordType *type, PyObject **f)
{
    return Doeff_CheckProgram(Doeff_EngineOf(type), f[0], "program");
}

static PyObject *
node_made(DoeffEngine *st, PyObject *value, PyObject *meta /* stolen, may be NULL */)
{
    PyObject *node = meta == NULL ? NULL : PyDict_New();
    if (node != NULL && (PyDict_SetItem(node, Doeff_Known(st, DOEFF_STR_VALUE), value) < 0 || PyDict_SetItem(node, Doeff_Known(st, DOEFF_STR_META), meta) < 0)) {
        Py_CLEAR(node);
    }
    Py_XDECREF(meta);
    return node;
}

/* The task's graph (strong), or NULL; an error is set unless there is none. */
static PyObject *
graph_to_read(DoeffContext *cx)
{
    PyObject *graph;
    if (Doeff_DictGet(cx->store, Doeff_Known(cx->st, DOEFF_STR_GRAPH), &graph) > 0 && !PyList_Check(graph)) {
        PyErr_Format(PyExc_TypeError, "__graph__ in the store must be a list of nodes, got %s",
                     Py_TYPE(graph)->tp_name);
        Py_CLEAR(graph);
    }
    return graph;
}

static inline int
held_elsewhere(PyObject *op, Py_ssize_t known)
{
#ifdef Py_GIL_DISABLED
    (void)op, (void)known;
    return 1;
#else
    return Py_REFCNT(op) > known;
#endif
}

/* The same, ready to be changed: no other list than the store's; a new one if there is none. */
static PyObject *
graph_to_write(DoeffContext *cx)
{
    PyObject *store = Doeff_Store(cx);
    PyObject *graph = store == NULL ? NULL : graph_to_read(cx);
    if (graph != NULL && PyList_CheckExact(graph) && !held_elsewhere(graph, 2 /* the store and here */)) {
        return graph;
    }
    if (PyErr_Occurred()) {
        return NULL;
    }
    PyObject *fresh = graph == NULL ? PyList_New(0) : PyList_GetSlice(graph, 0, PyList_GET_SIZE(graph));
    Py_XDECREF(graph);
    if (fresh != NULL && PyDict_SetItem(store, Doeff_Known(cx->st, DOEFF_STR_GRAPH), fresh) < 0) {
        Py_CLEAR(fresh);
    }
    return fresh;
}

static DoeffStep
step_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *value = DOEFF_FIELD(effect, 0);
    PyObject *node = node_made(cx->st, value, PyDict_Copy(DOEFF_FIELD(effect, 1)));
    PyObject *graph = node == NULL ? NULL : graph_to_write(cx);
    if (graph == NULL) {
        Py_XDECREF(node);
        return DOEFF_RAISE;
    }
    int failed = PyList_Append(graph, node) < 0;
    PyObject *scope = cx->scopes;
    for (PyObject *nodes; !failed && (nodes = Doeff_NextScope(&scope, Doeff_Known(cx->st, DOEFF_STR_GRAPH))) != NULL;) {
        failed = PyList_Append(nodes, node) < 0;
    }
    Py_DECREF(graph);
    Py_DECREF(node);
    if (failed) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(value);
    return DOEFF_VALUE;
}

static int
replace_last(PyObject *list, PyObject *node /* borrowed */)
{
    return PyList_SetItem(list, PyList_GET_SIZE(list) - 1, Py_NewRef(node));
}

/* What takes the place of node: the same value, its meta with more laid over (strong). */
static PyObject *
node_annotated(DoeffEngine *st, PyObject *node, PyObject *more)
{
    PyObject *value = NULL, *meta = NULL, *merged = NULL;
    if (PyDict_Check(node)) {
        value = Py_XNewRef(PyDict_GetItemWithError(node, Doeff_Known(st, DOEFF_STR_VALUE)));
        meta = PyErr_Occurred() ? NULL : Py_XNewRef(PyDict_GetItemWithError(node, Doeff_Known(st, DOEFF_STR_META)));
    }
    if (value == NULL || meta == NULL || !PyDict_Check(meta)) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_TypeError,
                            "the last entry of __graph__ in the store is no node: it must be a dict with "
                            "\"value\" and \"meta\"");
        }
        goto done;
    }
    merged = PyDict_Copy(meta);
    if (merged != NULL && PyDict_Update(merged, more) < 0) {
        Py_CLEAR(merged);
    }
    merged = node_made(st, value, merged);
done:
    Py_XDECREF(value);
    Py_XDECREF(meta);
    return merged;
}

static DoeffStep
annotate_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *graph = graph_to_read(cx);
    if (graph == NULL && PyErr_Occurred()) {
        return DOEFF_RAISE;
    }
    Py_ssize_t n = graph == NULL ? 0 : PyList_GET_SIZE(graph);
    if (n == 0) {
        Py_XDECREF(graph);
        *out = Py_NewRef(Py_None);
        return DOEFF_VALUE;
    }
    PyObject *old = Py_NewRef(PyList_GET_ITEM(graph, n - 1));
    Py_DECREF(graph);
    PyObject *node = node_annotated(cx->st, old, DOEFF_FIELD(effect, 0));
    graph = node == NULL ? NULL : graph_to_write(cx);
    int failed = graph == NULL || replace_last(graph, node) < 0;
    PyObject *scope = cx->scopes;
    for (PyObject *nodes; !failed && (nodes = Doeff_NextScope(&scope, Doeff_Known(cx->st, DOEFF_STR_GRAPH))) != NULL;) {
        if (PyList_GET_SIZE(nodes) > 0 && PyList_GET_ITEM(nodes, PyList_GET_SIZE(nodes) - 1) == old) {
            failed = replace_last(nodes, node) < 0;
        }
    }
    Py_DECREF(old);
    Py_XDECREF(graph);
    Py_XDECREF(node);
    if (failed) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static DoeffStep
snapshot_perform(DoeffContext *cx, PyObject *Py_UNUSED(effect), PyObject **out)
{
    PyObject *graph = graph_to_read(cx);
    if (graph == NULL && PyErr_Occurred()) {
        return DOEFF_RAISE;
    }
    *out = graph == NULL ? PyList_New(0) : PyList_GetSlice(graph, 0, PyList_GET_SIZE(graph));
    Py_XDECREF(graph);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

/* CaptureGraph: the frame closes its scope. a: the scope's nodes, b: the scope. */

static DoeffStep
capture_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    Doeff_CloseScope(cx, frame);
    *out = PyTuple_Pack(2, value, frame->a);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
capture_error(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(error), PyObject **Py_UNUSED(out))
{
    Doeff_CloseScope(cx, frame);
    return DOEFF_PASS;
}

static PyObject *
capture_describe(const DoeffFrame *Py_UNUSED(frame))
{
    return PyUnicode_FromString("capturing graph");
}

static const DoeffFrameKind capture_frame = {
    .name = "GraphCaptureFrame",
    .on_value = capture_value,
    .on_error = capture_error,
    .describe = capture_describe,
    .records = 1,
};

static DoeffStep
capture_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (Doeff_Begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *nodes = PyList_New(0);
    if (nodes == NULL || Doeff_OpenScope(cx, Doeff_Known(cx->st, DOEFF_STR_GRAPH), &capture_frame, nodes) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(DOEFF_FIELD(effect, 0));
    return DOEFF_PROGRAM;
}

static const DoeffRecordSpec step_spec = {
    .name = "doeff.effects.graph.GraphStepEffect",
    .doc = "GraphStepEffect(value, meta=None)\n--\n\nAdd a node to the task's graph.",
    .fields = {"value", "meta"}, .required = 1, .effect = 1, .subclassable = 1, .init = step_init,
};
static const DoeffRecordSpec annotate_spec = {
    .name = "doeff.effects.graph.GraphAnnotateEffect",
    .doc = "GraphAnnotateEffect(meta)\n--\n\nLay meta over that of the last node.",
    .fields = {"meta"}, .required = 1, .effect = 1, .subclassable = 1, .init = annotate_init,
};
static const DoeffRecordSpec snapshot_spec = {
    .name = "doeff.effects.graph.GraphSnapshotEffect",
    .doc = "GraphSnapshotEffect()\n--\n\nThe list of nodes so far.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};
static const DoeffRecordSpec capture_spec = {
    .name = "doeff.effects.graph.GraphCaptureEffect",
    .doc = "GraphCaptureEffect(program)\n--\n\nRun a program and collect the nodes that it adds.",
    .fields = {"program"}, .required = 1, .effect = 1, .subclassable = 1, .init = capture_init,
};

static PyMethodDef step_def = {
    "Step", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Step(value, meta=None)\n--\n\nAdd the node {\"value\": value, \"meta\": meta} to the task's graph and give "
              "value.\n\nmeta: mapping with str keys, copied; TypeError for anything else.\n\n"
              ">>> total = yield Step(a + b, {\"label\": \"sum\"})\n\nContract: effects, part 3.10.")};
static PyMethodDef annotate_def = {
    "Annotate", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Annotate(meta)\n--\n\nLay meta over that of the graph's last node; nothing happens if there is none. Gives "
              "None.\n\n>>> yield Annotate({\"rows\": 10})\n\nContract: effects, part 3.10.")};
static PyMethodDef snapshot_def = {
    "Snapshot", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Snapshot()\n--\n\nThe nodes of the task's graph, in a new list that later steps do not change.\n\n"
              ">>> nodes = yield Snapshot()\n\nContract: effects, part 3.10.")};
static PyMethodDef capture_def = {
    "CaptureGraph", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CaptureGraph(program)\n--\n\nRun program and give (value, nodes): the nodes that it added to the task's "
              "graph, with their\nannotations. They also stay in the graph; an error passes and keeps them.\n\n"
              ">>> value, nodes = yield CaptureGraph(pipeline())\n\nContract: effects, part 3.10.")};

int
effects_graph_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_Define(module, st, core, &(DoeffEffectDef){&step_spec, &step_def, step_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&annotate_spec, &annotate_def, annotate_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&snapshot_spec, &snapshot_def, snapshot_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&capture_spec, &capture_def, capture_perform}) == NULL
               ? -1
               : 0;
}
