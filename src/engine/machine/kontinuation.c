#include "kontinuation.h"

#include "../support/imports.h"
#include "cesk.h"
#include "step.h"

typedef struct Kontinuation {
    PyObject_HEAD
    DoeffHandlerContext *ctx; /* strong; NULL for the rest that a Python frame is given */
    DoeffMachine *machine;    /* strong; whose current continuation a rest is */
    KPart part;
    size_t turn;              /* of a state that step() gave: when that was; 0: of no such state */
    PyObject *prefix;         /* tuple of Python frames, innermost first, or NULL */
} Kontinuation;

static void k_dealloc(PyObject *op);

static PyObject *
make_young(EngineState *st, DoeffHandlerContext *ctx, DoeffMachine *machine, KPart part, PyObject *prefix /* stolen */)
{
    Kontinuation *k = (Kontinuation *)freelist_pop(&st->free_kontinuations);
    if (k == NULL) {
        k = PyObject_GC_New(Kontinuation, st->Kontinuation_Type);
    }
    if (k == NULL) {
        Py_XDECREF(prefix);
        return NULL;
    }
    k->ctx = (DoeffHandlerContext *)Py_XNewRef(ctx);
    k->machine = (DoeffMachine *)Py_XNewRef(machine);
    k->part = part;
    k->turn = 0;
    k->prefix = prefix;
    return (PyObject *)k;
}

void
kontinuation_track(PyObject *op)
{
    DoeffHandlerContext *ctx = ((Kontinuation *)op)->ctx;
    if (!PyObject_GC_IsTracked(op)) {
        PyObject_GC_Track(op);
    }
    if (ctx != NULL) {
        handler_track(ctx);
    }
}

static PyObject *
make(EngineState *st, DoeffHandlerContext *ctx, DoeffMachine *machine, KPart part, PyObject *prefix /* stolen */)
{
    PyObject *k = make_young(st, ctx, machine, part, prefix);
    if (k != NULL) {
        kontinuation_track(k);
    }
    return k;
}

PyObject *
kontinuation_young(EngineState *st, DoeffHandlerContext *ctx)
{
    return make_young(st, ctx, NULL, K_ALL, NULL);
}

PyObject *
kontinuation_new(EngineState *st, DoeffHandlerContext *ctx, KPart part)
{
    return make(st, ctx, NULL, part, NULL);
}

/* k is of the state after the machine's last turn. */
static void
of_turn(Kontinuation *k, size_t turn)
{
    k->turn = turn;
    if (turn != 0 && turn == k->machine->turns) {
        k->machine->turn_views++;
    }
}

/* One continuation less of the state that it is of: with the last one goes the run. */
static void
leave_turn(Kontinuation *k)
{
    DoeffMachine *m = k->machine;
    if (k->turn != 0 && m != NULL && k->turn == m->turns && --m->turn_views == 0 && !m->over && m->thread == 0) {
        step_close(m);
    }
    k->turn = 0;
}

PyObject *
kontinuation_of_turn(EngineState *st, DoeffMachine *machine)
{
    PyObject *k = make(st, NULL, machine, K_REST, NULL);
    if (k != NULL) {
        of_turn((Kontinuation *)k, machine->turns);
    }
    return k;
}

PyObject *
kontinuation_rest(EngineState *st, DoeffMachine *machine)
{
    return make(st, NULL, machine, K_REST, NULL);
}

/* ---- what a K that comes back means ---- */

static int
wrong_k(PyObject *k)
{
    PyErr_Format(PyExc_TypeError,
                 "k must be a continuation taken from ctx (ctx.k, ctx.delimited_k, ctx.outer_k), a part of one, or "
                 "one with frames in front ([frame] + ctx.k), got %s",
                 Py_TYPE(k)->tp_name);
    return -1;
}

static void
target_of_view(Kontinuation *view, KontinuationTarget *target)
{
    target->ctx = view->ctx;
    target->machine = view->machine;
    target->turn = view->turn;
    target->part = view->part == K_ALL || view->part == K_DELIMITED ? K_ORIGIN : view->part;
}

/* A list made from continuations: Python frames, then views that run on to the end of the view that
 * they were taken from. */
static int
target_of_list(EngineState *st, PyObject *list, KontinuationTarget *target)
{
    Py_ssize_t n = PyList_GET_SIZE(list), at = 0;
    PyObject *origin = NULL;
    for (; at < n; at++) {
        if (PyObject_GetOptionalAttr(PyList_GET_ITEM(list, at), st->str_origin, &origin) < 0) {
            return -1;
        }
        if (origin != NULL && PyTuple_CheckExact(origin)) {
            break;
        }
        Py_CLEAR(origin);
    }
    if (origin == NULL) {
        return wrong_k(list);
    }
    Kontinuation *view = (Kontinuation *)PyTuple_GET_ITEM(origin, 0);
    Py_ssize_t index = PyLong_AsSsize_t(PyTuple_GET_ITEM(origin, 1));
    Py_ssize_t length = PyLong_AsSsize_t(PyTuple_GET_ITEM(origin, 2));
    Py_ssize_t inner = PyLong_AsSsize_t(PyTuple_GET_ITEM(origin, 3));
    Py_ssize_t lead = PyLong_AsSsize_t(PyTuple_GET_ITEM(origin, 4));
    target_of_view(view, target);
    int failed = 0;
    if (n - at != length - index && !(view->part == K_ALL && n - at == inner - index)) {
        failed = wrong_k(list);
    }
    else if (target->part == K_ORIGIN && index >= inner && index > 0) { /* the whole of it begins at the origin */
        target->part = K_OUTER;
        target->skip = index - inner;
        failed = target->skip > 1 ? wrong_k(list) : 0;
    }
    else if (target->part == K_ORIGIN) {
        target->skip = index > lead ? index - lead : 0;
        failed = index > 0 && index < lead ? wrong_k(list) : 0; /* what a forwarding handler waits for is one piece */
    }
    else {
        target->skip = index;
        failed = index > (target->part == K_OUTER) ? wrong_k(list) : 0;
    }
    Py_DECREF(origin);
    if (!failed && at > 0) {
        PyObject *frames = PyList_GetSlice(list, 0, at);
        target->prefix = frames == NULL ? NULL : PyList_AsTuple(frames);
        Py_XDECREF(frames);
        failed = target->prefix == NULL ? -1 : 0;
    }
    return failed;
}

int
kontinuation_target(EngineState *st, PyObject *k, KontinuationTarget *target)
{
    *target = (KontinuationTarget){.part = K_ORIGIN};
    if (k == NULL) {
        return 0;
    }
    if (Py_IS_TYPE(k, st->Kontinuation_Type)) {
        target_of_view((Kontinuation *)k, target);
        target->prefix = Py_XNewRef(((Kontinuation *)k)->prefix);
        return 0;
    }
    if (!PyList_Check(k)) {
        return wrong_k(k);
    }
    if (PyList_GET_SIZE(k) == 0) {
        target->part = K_NOTHING;
        return 0;
    }
    return target_of_list(st, k, target);
}

int
kontinuation_is_whole(PyObject *k, DoeffHandlerContext *ctx)
{
    Kontinuation *view = (Kontinuation *)k;
    return view->ctx == ctx && view->part == K_ALL && view->prefix == NULL;
}

DoeffHandlerContext *
kontinuation_context(PyObject *k)
{
    return Py_TYPE(k)->tp_dealloc == k_dealloc ? ((Kontinuation *)k)->ctx : NULL;
}

/* ---- frames made visible ---- */

static int
append_view(PyObject *list, PyObject *maker, const char *name, PyObject *a, PyObject *b, PyObject *text /* stolen */)
{
    if (text == NULL) {
        PyErr_Clear();
        text = PyUnicode_FromString("");
    }
    PyObject *view = text == NULL ? NULL
                                  : PyObject_CallFunction(maker, "sOOO", name, a == NULL ? Py_None : a,
                                                          b == NULL ? Py_None : b, text);
    Py_XDECREF(text);
    int failed = view == NULL || PyList_Append(list, view) < 0;
    Py_XDECREF(view);
    return failed ? -1 : 0;
}

static int
append_frame(PyObject *list, PyObject *maker, const DoeffFrame *frame)
{
    PyObject *text = frame->kind->describe == NULL ? PyUnicode_FromString("") : frame->kind->describe(frame);
    return append_view(list, maker, frame->kind->name, frame->a, frame->b, text);
}

static int
append_handler(PyObject *list, PyObject *maker, HandlerNode *node, PyObject *env)
{
    NativeHandler *native = (NativeHandler *)node->handler;
    if (native_handler_check(node->handler) && native->scope != NULL) {
        DoeffFrame shown = {native->scope, node->handler, native->data};
        PyObject *text = native->scope->describe == NULL ? PyUnicode_FromString("") : native->scope->describe(&shown);
        return append_view(list, maker, native->scope->name, native->data, NULL, text);
    }
    return append_view(list, maker, "HandlerFrame", node->handler, env, PyUnicode_FromString(""));
}

/* Frames of a fiber from index `from` downward, then its handlers up to but not including stop. */
static int
append_fiber(PyObject *list, PyObject *maker, DoeffFiber *fiber, Py_ssize_t from, HandlerNode *stop)
{
    for (Py_ssize_t i = from; i > 0; i--) {
        if (i <= fiber->len && append_frame(list, maker, &fiber->frames[i - 1]) < 0) {
            return -1;
        }
    }
    for (HandlerNode *n = fiber->node; n != fiber->base && n != stop && n->handler != NULL; n = n->parent) {
        if (append_handler(list, maker, n, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

static PyObject *
view_maker(void)
{
    return import_attr("doeff._frames", "view");
}

static int
append_chain(PyObject *list, PyObject *maker, DoeffHandlerContext *ctx)
{
    DoeffFiber *fiber = ctx->state == CTX_CAPTURED ? ctx->top : NULL;
    for (; fiber != NULL; fiber = fiber == ctx->bottom ? NULL : fiber->parent) {
        HandlerNode *stop = fiber == ctx->bottom ? ctx->node : NULL;
        if (append_fiber(list, maker, fiber, fiber->len, stop) < 0) {
            return -1;
        }
    }
    return 0;
}

/* A forwarded effect: what lies at its origin comes first, then each handler that forwarded it and its body.
 * *lead: how many of these there are before the body that the answer goes to. */
static int
append_delimited(PyObject *list, PyObject *maker, DoeffHandlerContext *ctx, Py_ssize_t *lead)
{
    Py_ssize_t n = 0;
    for (DoeffHandlerContext *c = ctx->inner; c != NULL; c = c->inner) {
        n++;
    }
    DoeffHandlerContext **forwarders = n == 0 ? NULL : PyMem_New(DoeffHandlerContext *, n);
    if (n > 0 && forwarders == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    n = 0;
    for (DoeffHandlerContext *c = ctx->inner; c != NULL && ctx->state == CTX_CAPTURED; c = c->inner) {
        forwarders[n++] = c;
    }
    int failed = 0;
    while (n > 0 && !failed) {
        DoeffHandlerContext *c = forwarders[--n];
        failed = append_chain(list, maker, c) < 0 || append_handler(list, maker, c->node, c->env) < 0;
    }
    PyMem_Free(forwarders);
    *lead = PyList_GET_SIZE(list);
    return failed ? -1 : append_chain(list, maker, ctx);
}

/* Where the frames outside the handler begin: below its own result frame. */
static int
append_outer(PyObject *list, PyObject *maker, DoeffHandlerContext *ctx)
{
    if (append_handler(list, maker, ctx->node, ctx->env) < 0) {
        return -1;
    }
    int below = ctx->body_done;
    for (DoeffFiber *fiber = ctx->machine->fiber; fiber != NULL; fiber = fiber->parent) {
        Py_ssize_t from = fiber->len;
        for (Py_ssize_t i = fiber->len; !below && i > 0; i--) {
            DoeffFrame *frame = &fiber->frames[i - 1];
            if (frame->kind == &handler_result_frame && frame->a == (PyObject *)ctx) {
                from = i - 1;
                below = 1;
            }
        }
        if (below && append_fiber(list, maker, fiber, from, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

/* *inner: where the delimited part ends. *lead: how much of it belongs to the origin of a forwarded effect. */
static int
append_part(PyObject *list, PyObject *maker, Kontinuation *k, Py_ssize_t *inner, Py_ssize_t *lead)
{
    for (Py_ssize_t i = 0; k->prefix != NULL && i < PyTuple_GET_SIZE(k->prefix); i++) {
        if (PyList_Append(list, PyTuple_GET_ITEM(k->prefix, i)) < 0) {
            return -1;
        }
    }
    if (k->part == K_REST) {
        for (DoeffFiber *fiber = k->machine->fiber; fiber != NULL; fiber = fiber->parent) {
            if (append_fiber(list, maker, fiber, fiber->len, NULL) < 0) {
                return -1;
            }
        }
        return 0;
    }
    if ((k->part == K_ALL || k->part == K_DELIMITED) && append_delimited(list, maker, k->ctx, lead) < 0) {
        return -1;
    }
    *inner = PyList_GET_SIZE(list);
    return k->part == K_ALL || k->part == K_OUTER ? append_outer(list, maker, k->ctx) : 0;
}

/* Lets each view know where it was taken from: (continuation, index, length, end of the delimited part, end of what
 * forwarding handlers wait for). */
static int
mark_views(EngineState *st, PyObject *op, PyObject *list, Py_ssize_t inner, Py_ssize_t lead)
{
    Kontinuation *k = (Kontinuation *)op;
    Py_ssize_t skipped = k->prefix == NULL ? 0 : PyTuple_GET_SIZE(k->prefix);
    Py_ssize_t length = PyList_GET_SIZE(list) - skipped;
    PyObject *whole = skipped == 0 ? Py_NewRef(op) : make(st, k->ctx, k->machine, k->part, NULL);
    int failed = whole == NULL;
    if (!failed && whole != op) {
        of_turn((Kontinuation *)whole, k->turn);
    }
    for (Py_ssize_t i = 0; !failed && i < length; i++) {
        PyObject *origin = Py_BuildValue("Onnnn", whole, i, length, inner - skipped, lead - skipped);
        failed = origin == NULL;
        /* A Python frame that was pushed stands for itself and takes no mark. */
        if (!failed && PyObject_GenericSetAttr(PyList_GET_ITEM(list, skipped + i), st->str_origin, origin) < 0) {
            PyErr_Clear();
        }
        Py_XDECREF(origin);
    }
    Py_XDECREF(whole);
    return failed ? -1 : 0;
}

static PyObject *
k_list(PyObject *op)
{
    PyObject *maker = view_maker();
    PyObject *list = maker == NULL ? NULL : PyList_New(0);
    Py_ssize_t inner = 0, lead = 0;
    if (list != NULL
        && (append_part(list, maker, (Kontinuation *)op, &inner, &lead) < 0
            || mark_views(engine_state_of(Py_TYPE(op)), op, list, inner, lead) < 0)) {
        Py_CLEAR(list);
    }
    Py_XDECREF(maker);
    return list;
}

PyObject *
kontinuation_handlers(EngineState *st, HandlerNode *node)
{
    (void)st;
    PyObject *maker = view_maker();
    PyObject *list = maker == NULL ? NULL : PyList_New(0);
    for (; list != NULL && node->handler != NULL; node = node->parent) {
        if (append_handler(list, maker, node, NULL) < 0) {
            Py_CLEAR(list);
        }
    }
    Py_XDECREF(maker);
    return list;
}

/* ---- the sequence ---- */

static Py_ssize_t
k_length(PyObject *op)
{
    PyObject *list = k_list(op);
    if (list == NULL) {
        return -1;
    }
    Py_ssize_t n = PyList_GET_SIZE(list);
    Py_DECREF(list);
    return n;
}

static PyObject *
k_subscript(PyObject *op, PyObject *key)
{
    PyObject *list = k_list(op);
    PyObject *item = list == NULL ? NULL : PyObject_GetItem(list, key);
    Py_XDECREF(list);
    return item;
}

static PyObject *
k_iter(PyObject *op)
{
    PyObject *list = k_list(op);
    PyObject *iter = list == NULL ? NULL : PyObject_GetIter(list);
    Py_XDECREF(list);
    return iter;
}

static int
k_same(Kontinuation *a, Kontinuation *b)
{
    return a->ctx == b->ctx && a->machine == b->machine && a->part == b->part && a->turn == b->turn && a->prefix == b->prefix;
}

static PyObject *
k_richcompare(PyObject *a, PyObject *b, int op)
{
    if (op != Py_EQ && op != Py_NE) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (Py_TYPE(a) == Py_TYPE(b) && k_same((Kontinuation *)a, (Kontinuation *)b)) {
        return PyBool_FromLong(op == Py_EQ);
    }
    int ours = Py_TYPE(a) == Py_TYPE(b);
    if (!ours && !PyList_Check(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *x = k_list(a);
    PyObject *y = x == NULL ? NULL : ours ? k_list(b) : Py_NewRef(b);
    PyObject *result = y == NULL ? NULL : PyObject_RichCompare(x, y, op);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return result;
}

/* frames + k stays a continuation; k + anything is a list. */
static PyObject *
k_concat(PyObject *left, PyObject *right)
{
    PyTypeObject *type = Py_TYPE(right);
    int right_is_k = type->tp_dealloc == k_dealloc;
    if (right_is_k && PyList_Check(left)) {
        Kontinuation *view = (Kontinuation *)right;
        PyObject *prefix = PyList_AsTuple(left);
        if (prefix != NULL && view->prefix != NULL) {
            Py_SETREF(prefix, PySequence_Concat(prefix, view->prefix));
        }
        PyObject *k =
            prefix == NULL ? NULL : make(engine_state_of(type), view->ctx, view->machine, view->part, prefix);
        if (k != NULL) {
            of_turn((Kontinuation *)k, view->turn);
        }
        return k;
    }
    if (right_is_k && Py_TYPE(left) == type) {
        /* delimited_k + outer_k of one context is its k */
        Kontinuation *a = (Kontinuation *)left, *b = (Kontinuation *)right;
        if (a->ctx != NULL && a->ctx == b->ctx && a->part == K_DELIMITED && b->part == K_OUTER && b->prefix == NULL) {
            return make(engine_state_of(type), a->ctx, NULL, K_ALL, Py_XNewRef(a->prefix));
        }
    }
    if (!right_is_k && !PyList_Check(right)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    PyObject *x = PySequence_List(left);
    PyObject *y = x == NULL ? NULL : PySequence_List(right);
    PyObject *result = y == NULL ? NULL : PySequence_Concat(x, y);
    Py_XDECREF(x);
    Py_XDECREF(y);
    return result;
}

static PyObject *
k_repr(PyObject *op)
{
    Py_ssize_t n = k_length(op);
    return n < 0 ? NULL : PyUnicode_FromFormat("<continuation of %zd frame%s>", n, n == 1 ? "" : "s");
}

static int
k_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Kontinuation *)op)->ctx);
    Py_VISIT(((Kontinuation *)op)->machine);
    Py_VISIT(((Kontinuation *)op)->prefix);
    return 0;
}

static int
k_clear(PyObject *op)
{
    leave_turn((Kontinuation *)op);
    Py_CLEAR(((Kontinuation *)op)->ctx);
    Py_CLEAR(((Kontinuation *)op)->machine);
    Py_CLEAR(((Kontinuation *)op)->prefix);
    return 0;
}

/* The state by way of the context, which is cheaper than by way of the type. */
static inline EngineState *
k_state(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    DoeffHandlerContext *ctx = ((Kontinuation *)op)->ctx;
    if (((PyHeapTypeObject *)tp)->ht_module == NULL) {
        return NULL;
    }
    return ctx != NULL && ctx->machine != NULL ? ctx->machine->cx.st : engine_state_of(tp);
}

static int
k_release(PyObject *op)
{
    EngineState *st = k_state(op);
    (void)k_clear(op);
    if (st != NULL && freelist_push(&st->free_kontinuations, op)) {
        return 1;
    }
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
k_dealloc(PyObject *op)
{
    if (PyObject_GC_IsTracked(op)) {
        PyObject_GC_UnTrack(op);
    }
    EngineState *st = k_state(op);
    nesting_dealloc(st == NULL ? NULL : &st->nesting, op, k_dealloc, k_release);
}

static PyType_Slot k_slots[] = {
    {Py_tp_dealloc, k_dealloc},
    {Py_tp_traverse, k_traverse},
    {Py_tp_clear, k_clear},
    {Py_tp_repr, k_repr},
    {Py_tp_iter, k_iter},
    {Py_tp_richcompare, k_richcompare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_nb_add, k_concat},
    {Py_mp_length, k_length},
    {Py_mp_subscript, k_subscript},
    {Py_tp_doc, (void *)PyDoc_STR("A continuation: a list-like sequence of frames, innermost first.")},
    {0, NULL},
};

static PyType_Spec k_spec = {
    .name = "doeff.cesk.frames.Kontinuation",
    .basicsize = sizeof(Kontinuation),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = k_slots,
};

/* ---- frames written in Python: objects with on_value and on_error ---- */

static DoeffStep
object_deliver(DoeffContext *cx, DoeffFrame *frame, PyObject *method, PyObject *what, PyObject **out)
{
    EngineState *st = cx->st;
    DoeffMachine *m = MACHINE_OF(cx);
    PyObject *bound;
    if (PyObject_GetOptionalAttr(frame->a, method, &bound) < 0) {
        return DOEFF_RAISE;
    }
    if (bound == NULL) {
        PyErr_Format(st->InterpreterInvariantError,
                     "%s in a continuation is no frame: a frame has the methods on_value and on_error",
                     Py_TYPE(frame->a)->tp_name);
        return DOEFF_RAISE;
    }
    PyObject *store = context_store(cx);
    PyObject *rest = store == NULL ? NULL : kontinuation_rest(st, m);
    PyObject *result = rest == NULL ? NULL
                                    : PyObject_CallFunctionObjArgs(bound, what, cx->env, store, rest, NULL);
    Py_XDECREF(rest);
    Py_DECREF(bound);
    if (result == NULL) {
        return DOEFF_RAISE;
    }
    DoeffStep step = cesk_continue(cx, frame->a, result, out);
    Py_DECREF(result);
    return step;
}

static DoeffStep
object_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    return object_deliver(cx, frame, cx->st->str_on_value, value, out);
}

static DoeffStep
object_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    return object_deliver(cx, frame, cx->st->str_on_error, error, out);
}

static PyObject *
object_describe(const DoeffFrame *frame)
{
    return PyType_GetName(Py_TYPE(frame->a));
}

const DoeffFrameKind object_frame = {
    .name = "Frame",
    .on_value = object_value,
    .on_error = object_error,
    .describe = object_describe,
};

int
kontinuation_room_init(PyObject *module, EngineState *st)
{
    st->Kontinuation_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &k_spec, NULL);
    return st->Kontinuation_Type == NULL ? -1 : PyModule_AddType(module, st->Kontinuation_Type);
}
