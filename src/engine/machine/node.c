#include "machine.h"

#include "../support/imports.h"

/* What a node looks into until it has been asked for the first time. Never written to. */
static const NodeEntry empty_cache[NODE_CACHE_SIZE];
#define EMPTY_CACHE ((NodeEntry *)empty_cache)

/* ---- who serves a type ---- */

/* The fiber that performed the effect: of one that was forwarded, where it was first yielded. */
static DoeffFiber *
performing_fiber(DoeffContext *cx)
{
    DoeffHandlerContext *ctx = cx->forwarder;
    while (ctx != NULL && ctx->inner != NULL) {
        ctx = ctx->inner;
    }
    return ctx != NULL && ctx->state == CTX_CAPTURED ? ctx->top : MACHINE_OF(cx)->fiber;
}

/* The generator (borrowed) that waits for the answer; None: the run's program is the effect itself. */
static PyObject *
performing_generator(DoeffFiber *fiber)
{
    for (; fiber != NULL; fiber = fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0; i--) {
            if (is_return(&fiber->frames[i - 1])) {
                return fiber->frames[i - 1].a;
            }
        }
    }
    return Py_None;
}

/* Names of the handlers from node outward; NULL with an error set. */
static PyObject *
names_of(HandlerNode *node)
{
    PyObject *names = PyList_New(0);
    for (; names != NULL && node->handler != NULL; node = node->parent) {
        PyObject *name = node_handler_name(node);
        if (name == NULL || PyList_Append(names, name) < 0) {
            Py_CLEAR(names);
        }
        Py_XDECREF(name);
    }
    return names;
}

static DoeffStep
unhandled(DoeffContext *cx, PyObject *effect, PyObject **Py_UNUSED(out))
{
    DoeffFiber *fiber = performing_fiber(cx);
    PyObject *generator = Py_NewRef(performing_generator(fiber));
    PyObject *tried = names_of(fiber->node);
    PyObject *error =
        tried == NULL ? NULL : import_call("doeff._errors", "unhandled", "(OOO)", effect, tried, generator);
    Py_XDECREF(tried);
    Py_DECREF(generator);
    if (error != NULL) {
        PyErr_SetObject(cx->st->UnhandledEffectError, error);
        Py_DECREF(error);
    }
    return DOEFF_RAISE;
}

static DoeffStep
bad_yield(DoeffContext *cx, PyObject *thing, PyObject **Py_UNUSED(out))
{
    DoeffFiber *fiber = MACHINE_OF(cx)->fiber;
    DoeffFrame *top = fiber->len > 0 ? &fiber->frames[fiber->len - 1] : NULL;
    int awaited = top != NULL && top->kind == &return_frame && PyCoro_CheckExact(top->a);
    PyObject *error = import_call("doeff._errors", "bad_yield", "(Oi)", thing, awaited);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return DOEFF_RAISE;
}

/* The handler's case for exactly this class, or NULL. */
static NativeCase *
exact_case(NativeHandler *handler, PyObject *type)
{
    for (Py_ssize_t i = 0; i < handler->ncases; i++) {
        if ((PyObject *)handler->cases[i].type == type) {
            return &handler->cases[i];
        }
    }
    return NULL;
}

DoeffEffectFn
native_handler_case(NativeHandler *handler, PyTypeObject *type)
{
    PyObject *mro = type->tp_mro;
    for (Py_ssize_t i = 0; mro != NULL && handler->ncases > 0 && i < PyTuple_GET_SIZE(mro); i++) {
        NativeCase *found = exact_case(handler, PyTuple_GET_ITEM(mro, i));
        if (found != NULL) {
            return found->fn;
        }
    }
    return handler->any;
}

/* Pure values are the machine's own, unless a handler has a case for them. */
static DoeffEffectFn
search_pure(EngineState *st, HandlerNode *node, HandlerNode **found)
{
    for (; node->pure; node = node->parent) {
        if (Py_IS_TYPE(node->handler, st->NativeHandler_Type)) {
            NativeCase *own = exact_case((NativeHandler *)node->handler, (PyObject *)st->rec.Pure->type);
            if (own != NULL && own->fn != NULL) {
                *found = node;
                return own->fn;
            }
        }
    }
    return NULL;
}

static int
wanted(HandlerNode *node, PyTypeObject *type)
{
    if (node->wants == NULL) {
        return 1;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(node->wants); i++) {
        if (PyType_IsSubtype(type, (PyTypeObject *)PyTuple_GET_ITEM(node->wants, i))) {
            return 1;
        }
    }
    return 0;
}

static DoeffEffectFn
search(EngineState *st, HandlerNode *node, PyTypeObject *type, HandlerNode **found)
{
    *found = NULL;
    DoeffEffectFn fn = NULL;
    if (type == st->rec.Pure->type) {
        fn = search_pure(st, node, found);
    }
    if (fn == NULL) {
        fn = machine_program_fn(st, type);
    }
    if (fn != NULL) {
        return fn;
    }
    if (!PyType_IsSubtype(type, st->Effect_Type)) {
        return bad_yield;
    }
    for (; node->handler != NULL; node = node->parent) {
        if (Py_IS_TYPE(node->handler, st->NativeHandler_Type)) {
            fn = native_handler_case((NativeHandler *)node->handler, type);
        }
        else {
            fn = wanted(node, type) ? python_handler_fn : NULL;
        }
        if (fn != NULL) {
            *found = node;
            return fn;
        }
    }
    return unhandled;
}

NodeEntry *
node_resolve(EngineState *st, HandlerNode *node, PyTypeObject *type)
{
    NodeEntry *entry = node_probe(node, type);
    if (entry->type != type) {
        HandlerNode *found;
        DoeffEffectFn fn = search(st, node, type, &found);
        if (node->cache == EMPTY_CACHE) {
            node->cache = PyMem_Calloc(NODE_CACHE_SIZE, sizeof(NodeEntry));
            if (node->cache == NULL) {
                node->cache = EMPTY_CACHE;
                PyErr_NoMemory();
                return NULL;
            }
            entry = node_probe(node, type);
        }
        PyTypeObject *old = entry->type;
        entry->type = (PyTypeObject *)Py_NewRef(type);
        entry->fn = fn;
        entry->node = found;
        entry->data = found != NULL && Py_IS_TYPE(found->handler, st->NativeHandler_Type)
                          ? ((NativeHandler *)found->handler)->data
                          : NULL;
        if (((PyHeapTypeObject *)type)->ht_module == NULL || !(type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)) {
            node->foreign = 1;
        }
        Py_XDECREF(old);
    }
    return entry;
}

/* ---- nodes ---- */

static PyObject *
narrowed_to(EngineState *st, PyObject *handler)
{
    if (Py_IS_TYPE(handler, st->NativeHandler_Type)) {
        return Py_NewRef(Py_None);
    }
    return import_call("doeff._annotations", "handled_classes", "(O)", handler);
}

HandlerNode *
node_new(EngineState *st, PyObject *handler, HandlerNode *parent)
{
    PyObject *wants = handler == NULL ? Py_NewRef(Py_None) : narrowed_to(st, handler);
    if (wants == NULL) {
        return NULL;
    }
    HandlerNode *node = PyObject_GC_New(HandlerNode, st->HandlerNode_Type);
    if (node == NULL) {
        Py_DECREF(wants);
        return NULL;
    }
    node->parent = (HandlerNode *)Py_XNewRef(parent);
    node->handler = Py_XNewRef(handler);
    if (wants == Py_None) {
        Py_CLEAR(wants);
    }
    node->wants = wants;
    node->owner = NULL;
    node->depth = parent == NULL ? -1 : parent->depth + 1;
    node->foreign = 0;
    node->pure = handler != NULL && Py_IS_TYPE(handler, st->NativeHandler_Type)
                 && exact_case((NativeHandler *)handler, (PyObject *)st->rec.Pure->type) != NULL;
    node->pure |= parent != NULL && parent->pure;
    node->cache = EMPTY_CACHE;
    PyObject_GC_Track(node);
    return node;
}

HandlerNode *
node_chain_again(EngineState *st, PyObject *const *handlers, Py_ssize_t n)
{
    HandlerNode *cached = (HandlerNode *)st->cached_chain;
    if (cached == NULL || Py_REFCNT(cached) != 1 || cached->depth != n - 1) {
        return NULL;
    }
    HandlerNode *node = cached;
    for (Py_ssize_t i = n - 1; i >= 0; i--, node = node->parent) {
        if (node->handler != handlers[i]) {
            return NULL;
        }
    }
    return (HandlerNode *)Py_NewRef(cached);
}

HandlerNode *
node_chain_for(EngineState *st, PyObject *handlers)
{
    HandlerNode *again = node_chain_again(st, &PyTuple_GET_ITEM(handlers, 0), PyTuple_GET_SIZE(handlers));
    if (again != NULL) {
        return again;
    }
    HandlerNode *chain = (HandlerNode *)Py_NewRef(st->root_node);
    int native = 1;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(handlers); i++) {
        PyObject *handler = PyTuple_GET_ITEM(handlers, i);
        if (!PyCallable_Check(handler)) {
            PyErr_Format(PyExc_TypeError,
                         "handlers[%zd] must be a handler, a callable that takes (effect, ctx), got %s", i,
                         Py_TYPE(handler)->tp_name);
            Py_DECREF(chain);
            return NULL;
        }
        native &= Py_IS_TYPE(handler, st->NativeHandler_Type) && ((NativeHandler *)handler)->data == NULL;
        HandlerNode *node = node_new(st, handler, chain);
        Py_DECREF(chain);
        if (node == NULL) {
            return NULL;
        }
        chain = node;
    }
    if (native && chain->depth >= 0) { /* a user's handler must not be kept alive by us */
        Py_XSETREF(st->cached_chain, Py_NewRef((PyObject *)chain));
    }
    return chain;
}

static void
forget_foreign(HandlerNode *node)
{
    for (int i = 0; i < NODE_CACHE_SIZE; i++) {
        PyTypeObject *type = node->cache[i].type;
        if (type != NULL && !(type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE)) {
            node->cache[i] = (NodeEntry){NULL};
            Py_DECREF(type);
        }
    }
    node->foreign = 0;
}

void
node_scrub(HandlerNode *chain)
{
    for (; chain != NULL; chain = chain->parent) {
        if (chain->foreign) {
            forget_foreign(chain);
        }
    }
}

PyObject *
node_handler_name(HandlerNode *node)
{
    PyObject *handler = node->handler;
    if (PyObject_TypeCheck(handler, Py_TYPE(handler)) && PyObject_HasAttrString(handler, "__name__")) {
        PyObject *name = PyObject_GetAttrString(handler, "__name__");
        if (name != NULL && PyUnicode_Check(name)) {
            return name;
        }
        Py_XDECREF(name);
        PyErr_Clear();
    }
    return PyType_GetName(Py_TYPE(handler));
}

static int
node_traverse(PyObject *op, visitproc visit, void *arg)
{
    HandlerNode *node = (HandlerNode *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(node->parent);
    Py_VISIT(node->handler);
    Py_VISIT(node->wants);
    for (int i = 0; i < NODE_CACHE_SIZE; i++) {
        Py_VISIT(node->cache[i].type);
    }
    return 0;
}

static int
node_clear(PyObject *op)
{
    HandlerNode *node = (HandlerNode *)op;
    Py_CLEAR(node->handler);
    Py_CLEAR(node->wants);
    for (int i = 0; node->cache != EMPTY_CACHE && i < NODE_CACHE_SIZE; i++) {
        PyTypeObject *type = node->cache[i].type;
        node->cache[i] = (NodeEntry){NULL};
        Py_XDECREF(type);
    }
    return 0;
}

static void
node_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    HandlerNode *node = (HandlerNode *)op;
    PyObject_GC_UnTrack(op);
    HandlerNode *next = node->parent;
    node->parent = NULL;
    (void)node_clear(op);
    if (node->cache != EMPTY_CACHE) {
        PyMem_Free(node->cache);
    }
    tp->tp_free(op);
    Py_DECREF(tp);
    /* The rest of a long chain goes in this loop, not by recursion. */
    while (DOEFF_FREE_LISTS && next != NULL && Py_REFCNT(next) == 1) {
        HandlerNode *after = next->parent;
        next->parent = NULL;
        Py_DECREF(next);
        next = after;
    }
    Py_XDECREF(next);
}

static PyType_Slot node_slots[] = {
    {Py_tp_dealloc, node_dealloc},
    {Py_tp_traverse, node_traverse},
    {Py_tp_clear, node_clear},
    {0, NULL},
};

static PyType_Spec node_spec = {
    .name = "doeff._engine.HandlerNode",
    .basicsize = sizeof(HandlerNode),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = node_slots,
};

/* ---- native handlers ---- */

NativeHandler *
native_handler_new(EngineState *st, const char *name, PyObject *data, DoeffEffectFn any)
{
    NativeHandler *handler = PyObject_GC_New(NativeHandler, st->NativeHandler_Type);
    if (handler == NULL) {
        return NULL;
    }
    handler->data = Py_XNewRef(data);
    handler->any = any;
    handler->scope = NULL;
    handler->ncases = 0;
    handler->cases = NULL;
    handler->name = PyUnicode_InternFromString(name);
    PyObject_GC_Track(handler);
    if (handler->name == NULL) {
        Py_DECREF(handler);
        return NULL;
    }
    return handler;
}

int
native_handler_serve(NativeHandler *handler, PyTypeObject *type, DoeffEffectFn fn)
{
    NativeCase *cases = PyMem_Realloc(handler->cases, sizeof(NativeCase) * (size_t)(handler->ncases + 1));
    if (cases == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    handler->cases = cases;
    cases[handler->ncases].type = (PyTypeObject *)Py_NewRef(type);
    cases[handler->ncases].fn = fn;
    handler->ncases++;
    return 0;
}

static int
native_traverse(PyObject *op, visitproc visit, void *arg)
{
    NativeHandler *handler = (NativeHandler *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(handler->data);
    for (Py_ssize_t i = 0; i < handler->ncases; i++) {
        Py_VISIT(handler->cases[i].type);
    }
    return 0;
}

static int
native_clear(PyObject *op)
{
    NativeHandler *handler = (NativeHandler *)op;
    Py_CLEAR(handler->data);
    while (handler->ncases > 0) {
        PyTypeObject *type = handler->cases[--handler->ncases].type;
        Py_DECREF(type);
    }
    return 0;
}

static void
native_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)native_clear(op);
    Py_XDECREF(((NativeHandler *)op)->name);
    PyMem_Free(((NativeHandler *)op)->cases);
    tp->tp_free(op);
    Py_DECREF(tp);
}

int
native_handler_check(PyObject *op)
{
    return Py_TYPE(op)->tp_dealloc == native_dealloc;
}

static PyObject *
native_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<handler %U>", ((NativeHandler *)op)->name);
}

/* handler(effect, ctx): a program that handles the effect as this handler would. */
static PyObject *
native_call(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyObject *effect, *ctx;
    static char *keywords[] = {"effect", "ctx", NULL};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO:handler", keywords, &effect, &ctx)) {
        return NULL;
    }
    return delegate_new(engine_state_of(Py_TYPE(op)), op, effect);
}

static PyObject *
native_name(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((NativeHandler *)op)->name);
}

static PyObject *
native_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(((NativeHandler *)op)->name); /* a global of doeff._engine */
}

static PyGetSetDef native_getset[] = {
    {"__name__", native_name, NULL, NULL, NULL},
    {"__qualname__", native_name, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef native_methods[] = {
    {"__reduce__", native_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot native_slots[] = {
    {Py_tp_dealloc, native_dealloc},
    {Py_tp_traverse, native_traverse},
    {Py_tp_clear, native_clear},
    {Py_tp_repr, native_repr},
    {Py_tp_call, native_call},
    {Py_tp_getset, native_getset},
    {Py_tp_methods, native_methods},
    {0, NULL},
};

static PyType_Spec native_spec = {
    .name = "doeff._engine.NativeHandler",
    .basicsize = sizeof(NativeHandler),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = native_slots,
};

int
node_room_init(PyObject *module, EngineState *st)
{
    st->HandlerNode_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &node_spec, NULL);
    st->NativeHandler_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &native_spec, NULL);
    if (st->HandlerNode_Type == NULL || st->NativeHandler_Type == NULL) {
        return -1;
    }
    st->root_node = (PyObject *)node_new(st, NULL, NULL);
    return st->root_node == NULL ? -1 : 0;
}
