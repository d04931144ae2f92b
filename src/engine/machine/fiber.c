#include "machine.h"

DoeffFiber *
fiber_new(EngineState *st, DoeffFiber *parent, HandlerNode *node, HandlerNode *base)
{
    DoeffFiber *fiber = freelist_pop_raw(&st->free_fibers);
    if (fiber == NULL) {
        fiber = PyMem_Malloc(sizeof(DoeffFiber));
        if (fiber == NULL) {
            PyErr_NoMemory();
            return NULL;
        }
    }
    return fiber_new_in(fiber, parent, node, base);
}

DoeffFiber *
fiber_new_in(void *block, DoeffFiber *parent, HandlerNode *node, HandlerNode *base)
{
    DoeffFiber *fiber = block;
    fiber->parent = parent;
    fiber->node = (HandlerNode *)Py_NewRef(node);
    fiber->base = base;
    fiber->ret_env = NULL;
    fiber->handling = NULL;
    fiber->frames = fiber->inline_frames;
    fiber->len = 0;
    fiber->cap = FIBER_INLINE_FRAMES;
    fiber->attached = NULL;
    fiber->yields_slowly = 0;
    fiber->unwinding = fiber->ends_dropped = 0;
    fiber->hinted = 0;
    return fiber;
}

int
fiber_grow(DoeffFiber *fiber)
{
    Py_ssize_t cap = fiber->cap * 2;
    size_t size = (size_t)cap * sizeof(DoeffFrame);
    DoeffFrame *frames;
    if (fiber->frames == fiber->inline_frames) {
        frames = PyMem_Malloc(size);
        if (frames != NULL) {
            memcpy(frames, fiber->inline_frames, sizeof(fiber->inline_frames));
        }
    }
    else {
        frames = PyMem_Realloc(fiber->frames, size);
    }
    if (frames == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    fiber->frames = frames;
    fiber->cap = cap;
    return 0;
}

/* Nodes that remember this fiber as theirs must forget it before it goes. */
static void
disown_nodes(DoeffFiber *fiber)
{
    for (HandlerNode *n = fiber->hinted ? fiber->node : NULL; n != NULL && n != fiber->base; n = n->parent) {
        if (n->owner == fiber) {
            n->owner = NULL;
        }
    }
}

#define CLOSE_ATTEMPTS 32 /* finally blocks that perform effects one generator may have on the way out */

/* Nobody is left to perform what the finally blocks of this generator yield: each such yield is
 * answered by GeneratorExit again, so that the blocks behind it run too. */
static void
close_generator(EngineState *st, PyObject *generator)
{
    PyObject *pending = PyErr_GetRaisedException();
    for (int i = 0; i < CLOSE_ATTEMPTS; i++) {
        PyObject *closed = PyObject_CallMethodNoArgs(generator, st->str_close);
        if (closed != NULL) {
            Py_DECREF(closed);
            break;
        }
        PyObject *error = PyErr_GetRaisedException();
        PyObject *frame = PyObject_GetAttrString(generator, "gi_frame");
        int over = frame == NULL || frame == Py_None;
        Py_XDECREF(frame);
        PyErr_SetRaisedException(error);
        if (over) { /* it raised: it has not just yielded once more */
            PyErr_WriteUnraisable(generator);
            break;
        }
        PyErr_Clear();
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

void
frame_release(EngineState *st, DoeffFrame frame)
{
    if (is_return(&frame) && Py_REFCNT(frame.a) == 1 && PyGen_CheckExact(frame.a)) {
        close_generator(st, frame.a);
    }
    if (frame.kind == &forward_frame) {
        forward_release(st, frame.a);
    }
    if (frame.kind == &handler_result_frame || frame.kind == &replacement_frame) {
        handler_track_if_kept((DoeffHandlerContext *)frame.a); /* it outlives its body */
    }
    Py_XDECREF(frame.a);
    Py_XDECREF(frame.b);
}

void
fiber_free(EngineState *st, DoeffFiber *fiber)
{
    /* A frame's release may run foreign code (a generator's finally), which may look at
       this fiber through a context: each frame is off the stack before it goes. */
    while (fiber->len > 0) {
        DoeffFrame frame = fiber->frames[--fiber->len];
        if (frame.kind == &suspended_frame && fiber->len > 0
            && fiber->frames[fiber->len - 1].kind == &handler_result_frame) {
            suspended_show((DoeffHandlerContext *)fiber->frames[fiber->len - 1].a);
        }
        frame_release(st, frame);
    }
    while (fiber->attached != NULL) {
        DoeffHandlerContext *ctx = fiber->attached;
        ctx_unmark_bottom(ctx);
        ctx->bottom = NULL;
    }
    disown_nodes(fiber);
    HandlerNode *node = fiber->node;
    PyObject *ret_env = fiber->ret_env;
    if (fiber->frames != fiber->inline_frames) {
        PyMem_Free(fiber->frames);
    }
    if (!freelist_push_raw(&st->free_fibers, fiber)) {
        PyMem_Free(fiber);
    }
    Py_XDECREF(node);
    Py_XDECREF(ret_env);
}

void
fiber_free_chain(EngineState *st, DoeffFiber *top)
{
    while (top != NULL) {
        DoeffFiber *parent = top->parent;
        fiber_free(st, top);
        top = parent;
    }
}

void
fiber_mask_chain(DoeffFiber *top, DoeffFiber *bottom, HandlerNode *outside)
{
    for (DoeffFiber *f = top;; f = f->parent) {
        disown_nodes(f);
        Py_SETREF(f->node, (HandlerNode *)Py_NewRef(outside));
        f->base = outside;
        f->unwinding = 1;
        f->ends_dropped = 0;
        if (f == bottom) {
            return;
        }
    }
}

/* A node of a chain and the one that takes its place. */
typedef struct Moved {
    HandlerNode *from; /* borrowed */
    HandlerNode *to;   /* strong until handed over */
} Moved;

static HandlerNode *
moved_to(const Moved *moved, Py_ssize_t n, HandlerNode *node)
{
    for (Py_ssize_t i = n - 1; i >= 0; i--) {
        if (moved[i].from == node) {
            return moved[i].to;
        }
    }
    return node; /* not of this chain: still in force as it is */
}

/* Twins of the fiber's own nodes, outermost first, appended to moved. */
static int
copy_nodes(EngineState *st, DoeffFiber *fiber, Moved *moved, Py_ssize_t *n)
{
    Py_ssize_t own = fiber->node->depth - fiber->base->depth;
    HandlerNode *node = fiber->node;
    for (Py_ssize_t i = own - 1; i >= 0; i--, node = node->parent) {
        moved[*n + i].from = node;
    }
    HandlerNode *parent = moved_to(moved, *n, fiber->base);
    for (Py_ssize_t i = 0; i < own; i++) {
        HandlerNode *twin = node_new(st, moved[*n].from->handler, parent);
        if (twin == NULL) {
            return -1;
        }
        moved[(*n)++].to = twin;
        parent = twin;
    }
    return 0;
}

int
fiber_rebase_chain(EngineState *st, DoeffFiber *top, DoeffFiber *bottom, HandlerNode *outside)
{
    Py_ssize_t fibers = 1, nodes = 1;
    for (DoeffFiber *f = top;; f = f->parent) {
        nodes += f->node->depth - f->base->depth;
        if (f == bottom) {
            break;
        }
        fibers++;
    }
    Moved *moved = PyMem_New(Moved, nodes);
    DoeffFiber **order = PyMem_New(DoeffFiber *, fibers);
    Py_ssize_t n = 0;
    int failed = 0;
    if (moved == NULL || order == NULL) {
        PyErr_NoMemory();
        failed = -1;
        goto done;
    }
    for (DoeffFiber *f = top; n < fibers; f = f->parent) {
        order[n++] = f;
    }
    moved[0] = (Moved){bottom->base, (HandlerNode *)Py_NewRef(outside)};
    n = 1;
    for (Py_ssize_t i = fibers - 1; i >= 0 && !failed; i--) {
        failed = copy_nodes(st, order[i], moved, &n);
    }
    for (Py_ssize_t i = fibers - 1; i >= 0 && !failed; i--) {
        DoeffFiber *f = order[i];
        HandlerNode *node = moved_to(moved, n, f->node), *base = moved_to(moved, n, f->base);
        disown_nodes(f);
        Py_SETREF(f->node, (HandlerNode *)Py_NewRef(node));
        f->base = base;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_DECREF(moved[i].to);
    }
done:
    PyMem_Free(moved);
    PyMem_Free(order);
    return failed;
}

int
fiber_traverse(DoeffFiber *top, visitproc visit, void *arg)
{
    for (; top != NULL; top = top->parent) {
        for (Py_ssize_t i = 0; i < top->len; i++) {
            Py_VISIT(top->frames[i].a);
            Py_VISIT(top->frames[i].b);
        }
        Py_VISIT(top->node);
        Py_VISIT(top->ret_env);
    }
    return 0;
}
