#include "machine.h"

#include "../program/kleisli.h"
#include "../support/imports.h"
#include "cesk.h"
#include "kontinuation.h"

/* ---- capture and resume ---- */

static inline int
owns(DoeffFiber *fiber, HandlerNode *node)
{
    return node->depth > fiber->base->depth && node->depth <= fiber->node->depth;
}

/* node->owner is not to be trusted. */
static DoeffFiber *
find_owner(DoeffMachine *m, HandlerNode *node)
{
    DoeffFiber *fiber = m->fiber;
    while (!owns(fiber, node)) {
        fiber = fiber->parent;
    }
    node->owner = fiber;
    fiber->hinted = 1;
    return fiber;
}

static inline DoeffFiber *
owner_of(DoeffMachine *m, HandlerNode *node)
{
    DoeffFiber *fiber = node->owner;
    return DOEFF_LIKELY(fiber != NULL && !m->nodes_shared && owns(fiber, node)) ? fiber : find_owner(m, node);
}

/* A fiber for what lies outside node within owner's scope. */
static DoeffFiber *
split_owner(DoeffMachine *m, DoeffFiber *owner, HandlerNode *node)
{
    DoeffFiber *fiber = fiber_new(m->cx.st, owner->parent, node->parent, owner->base);
    if (fiber == NULL) {
        return NULL;
    }
    fiber->ret_env = owner->ret_env;
    owner->ret_env = NULL;
    fiber->in_handler = owner->in_handler;
    for (HandlerNode *n = node->parent; n != owner->base; n = n->parent) {
        n->owner = n->owner == owner ? fiber : n->owner;
    }
    fiber->hinted = owner->hinted;
    owner->base = node->parent;
    owner->parent = fiber;
    while (owner->attached != NULL) { /* their chains end one fiber further down now */
        DoeffHandlerContext *ctx = owner->attached;
        ctx_unmark_bottom(ctx);
        ctx->bottom = fiber;
        ctx_mark_bottom(ctx);
    }
    return fiber;
}

/* The fiber just outside node's scope, where its body runs; made if there is none yet. */
static inline DoeffFiber *
outside_of(DoeffMachine *m, DoeffFiber *owner, HandlerNode *node)
{
    return DOEFF_LIKELY(node->parent == owner->base && owner->parent != NULL) ? owner->parent
                                                                              : split_owner(m, owner, node);
}

static int
is_outward_of(HandlerNode *node, HandlerNode *outer)
{
    while (node->depth > outer->depth) {
        node = node->parent;
    }
    return node == outer;
}

/* Before a chain is linked: what is the usual thing in none of these. */
static int
make_way(DoeffMachine *m, DoeffHandlerContext *ctx)
{
    DoeffFiber *here = m->fiber; /* a body's own fiber has done its work: nothing is left in it */
    int unwinding = here->unwinding;
    if (DOEFF_UNLIKELY(here->len == 0 && here->node == here->base && here->ret_env == NULL
                       && here->parent != NULL)) {
        m->fiber = here->parent;
        fiber_free(m->cx.st, here);
        here = m->fiber;
    }
    if (DOEFF_UNLIKELY(unwinding)) {
        fiber_mask_chain(ctx->top, ctx->bottom, here->node);
    }
    else if (DOEFF_UNLIKELY(ctx->bottom->base != here->node)
             && !is_outward_of(here->node, ctx->bottom->base)
             && fiber_rebase_chain(m->cx.st, ctx->top, ctx->bottom, here->node) < 0) {
        return -1; /* kept and resumed where handlers outside it are others, and no memory for that */
    }
    return 0;
}

/* Links the captured chain back above the current fiber, which becomes its outside. */
DOEFF_INLINE int
link_chain(DoeffMachine *m, DoeffHandlerContext *ctx)
{
    if (DOEFF_UNLIKELY(m->fiber->len == 0 || m->fiber->unwinding || ctx->bottom->base != m->fiber->node)
        && make_way(m, ctx) < 0) {
        return -1;
    }
    ctx->bottom->parent = m->fiber;
    m->fiber = ctx->top;
    ctx->top = ctx->bottom = NULL;
    ctx->state = CTX_RESUMED;
    return 0;
}

/* ---- contexts ---- */

void
ctx_mark_bottom(DoeffHandlerContext *ctx)
{
    ctx->attached_next = ctx->bottom->attached;
    ctx->bottom->attached = ctx;
}

void
ctx_unmark_bottom(DoeffHandlerContext *ctx)
{
    DoeffHandlerContext **link = &ctx->bottom->attached;
    while (*link != ctx) {
        link = &(*link)->attached_next;
    }
    *link = ctx->attached_next;
    ctx->attached_next = NULL;
}

/* A body that resumes in the middle keeps its context until the rest has ended, so a program that
 * performs a thousand effects has a thousand of them: some 200 KB. */
#define CONTEXTS_KEPT 1024

static void
ctx_reset_rare(DoeffHandlerContext *ctx)
{
    ctx->inner = ctx->outward = ctx->attached_next = NULL;
    ctx->body_top = ctx->body_bottom = NULL;
    ctx->resumed_by = NULL;
    ctx->loose = NULL;
}

static DoeffHandlerContext *
ctx_alloc(EngineState *st)
{
    DoeffHandlerContext *ctx = PyObject_GC_New(DoeffHandlerContext, st->HandlerContext_Type);
    if (ctx != NULL) {
        ctx_reset_rare(ctx);
    }
    return ctx;
}

DOEFF_INLINE DoeffHandlerContext *
ctx_new(EngineState *st)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)freelist_pop(&st->free_ctx);
    if (DOEFF_UNLIKELY(ctx == NULL) && (ctx = ctx_alloc(st)) == NULL) {
        return NULL;
    }
    ctx->state = CTX_LOOSE;
    ctx->body_done = ctx->tracked = ctx->rare = 0;
    ctx->hidden = 0;
    ctx->machine = NULL;
    ctx->top = ctx->bottom = NULL;
    ctx->node = NULL;
    ctx->effect = ctx->env = NULL;
    ctx->outer_body = NULL;
    ctx->after_env = ctx->scopes = NULL;
    return ctx;
}

static int
ctx_traverse(PyObject *op, visitproc visit, void *arg)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(ctx->machine);
    Py_VISIT(ctx->node);
    Py_VISIT(ctx->resumed_by);
    Py_VISIT(ctx->effect);
    Py_VISIT(ctx->env);
    Py_VISIT(ctx->inner);
    Py_VISIT(ctx->loose);
    Py_VISIT(ctx->after_env);
    Py_VISIT(ctx->scopes);
    int failed = fiber_traverse(ctx->body_top, visit, arg);
    return failed || ctx->state != CTX_CAPTURED ? failed : fiber_traverse(ctx->top, visit, arg);
}

static int
ctx_clear(PyObject *op)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)op;
    if (ctx->state == CTX_CAPTURED) {
        DoeffFiber *top = ctx->top, *bottom = ctx->bottom;
        ctx->state = CTX_RESUMED;
        ctx->top = ctx->bottom = NULL;
        if (top != NULL) {
            machine_orphan(ctx->machine, top, bottom);
        }
    }
    else if (ctx->state == CTX_ATTACHED && ctx->bottom != NULL) {
        ctx_unmark_bottom(ctx);
        ctx->bottom = NULL;
    }
    Py_CLEAR(ctx->machine);
    Py_CLEAR(ctx->node);
    Py_CLEAR(ctx->effect);
    Py_CLEAR(ctx->env);
    Py_CLEAR(ctx->inner);
    Py_CLEAR(ctx->loose);
    Py_CLEAR(ctx->resumed_by);
    Py_CLEAR(ctx->after_env);
    Py_CLEAR(ctx->scopes);
    return 0;
}

static int
ctx_release(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    DoeffMachine *m = ((DoeffHandlerContext *)op)->machine;
    EngineState *st = m == NULL ? NULL : m->cx.st;
    (void)ctx_clear(op);
    ctx_reset_rare((DoeffHandlerContext *)op);
    if (st != NULL && ((PyHeapTypeObject *)tp)->ht_module != NULL && freelist_push_capped(&st->free_ctx, op, CONTEXTS_KEPT)) {
        return 1;
    }
    tp->tp_free(op);
    return 0;
}

static void
ctx_dealloc(PyObject *op)
{
    DoeffMachine *m = ((DoeffHandlerContext *)op)->machine;
    if (((DoeffHandlerContext *)op)->tracked) {
        PyObject_GC_UnTrack(op);
    }
    int known = m != NULL && ((PyHeapTypeObject *)Py_TYPE(op))->ht_module != NULL;
    nesting_dealloc(known ? &m->cx.st->nesting : engine_nesting_of(Py_TYPE(op)), op, ctx_dealloc, ctx_release);
}

/* ---- a handler gets an effect ---- */

static int already_resumed(DoeffHandlerContext *ctx, HandlerNode *by);

static DoeffHandlerContext *
refuse_delegate(DoeffMachine *m, PyObject *effect)
{
    PyErr_Format(PyExc_RuntimeError,
                 "%U takes the continuation of %R, which it can do where it is installed; a handler's body "
                 "cannot call it: yield the effect instead, with %U outside",
                 m->delegate->name, effect, m->delegate->name);
    return NULL;
}

/* The environment at the origin of what inner's body forwards. */
static PyObject *
origin_env(DoeffHandlerContext *inner)
{
    while (inner->inner != NULL) {
        inner = inner->inner;
    }
    return inner->env;
}

DOEFF_INLINE DoeffHandlerContext *
capture(DoeffContext *cx, PyObject *effect)
{
    DoeffMachine *m = MACHINE_OF(cx);
    HandlerNode *node = m->at;
    if (DOEFF_UNLIKELY(m->delegate != NULL)) {
        return refuse_delegate(m, effect);
    }
    DoeffFiber *owner = owner_of(m, node);
    DoeffFiber *outside = outside_of(m, owner, node);
    DoeffHandlerContext *ctx = DOEFF_UNLIKELY(outside == NULL) ? NULL : ctx_new(cx->st);
    if (DOEFF_UNLIKELY(ctx == NULL)) {
        return NULL;
    }
    ctx->machine = (DoeffMachine *)Py_NewRef(m);
    ctx->node = (HandlerNode *)Py_NewRef(node);
    ctx->effect = Py_NewRef(effect);
    PyObject *env = cx->env;
    if (DOEFF_UNLIKELY(cx->forwarder != NULL)) {
        ctx->inner = (DoeffHandlerContext *)Py_NewRef((PyObject *)cx->forwarder);
        ctx->rare = 1;
        env = origin_env(cx->forwarder);
    }
    ctx->env = Py_NewRef(env);
    ctx->scopes = Py_XNewRef(cx->scopes);
    ctx->top = m->fiber;
    ctx->bottom = owner;
    ctx->state = CTX_CAPTURED;
    owner->parent = NULL;
    m->fiber = outside;
    return ctx;
}

DoeffHandlerContext *
handler_capture(DoeffContext *cx, PyObject *effect)
{
    return capture(cx, effect);
}

int
handler_begin_body(DoeffContext *cx, DoeffHandlerContext *ctx, const DoeffFrameKind *kind)
{
    DoeffFiber *outside = MACHINE_OF(cx)->fiber;
    if (fiber_push(outside, kind, Py_NewRef((PyObject *)ctx), NULL) < 0) {
        return -1;
    }
    ctx->outer_body = outside->handling;
    ctx->body_done = 0;
    outside->handling = ctx;
    return 0;
}

/* Captures the chain up to the handler in charge. What runs next is its body, above a frame of
 * this kind. The context is strong. */
static DoeffHandlerContext *
enter_body(DoeffContext *cx, PyObject *effect, const DoeffFrameKind *kind)
{
    DoeffHandlerContext *ctx = capture(cx, effect);
    if (ctx != NULL && handler_begin_body(cx, ctx, kind) < 0) {
        (void)link_chain(MACHINE_OF(cx), ctx); /* where it came from: nothing to rebase */
        Py_CLEAR(ctx);
    }
    return ctx;
}

/* The call itself failed and not the body: the handler cannot take what a handler is given. Says where it is. */
static void
blame_parameters(PyObject *handler)
{
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    PyObject *traceback = PyException_GetTraceback(error);
    PyObject *text =
        traceback != NULL ? NULL : import_call("doeff._errors", "bad_parameters", "(OO)", handler, error);
    Py_XDECREF(traceback);
    if (text == NULL || text == Py_None) {
        PyErr_Clear();
        PyErr_SetRaisedException(error);
    }
    else {
        PyErr_SetObject(PyExc_TypeError, text);
        Py_DECREF(error);
    }
    Py_XDECREF(text);
}

DoeffStep
python_handler_fn(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffHandlerContext *ctx = capture(cx, effect);
    if (DOEFF_UNLIKELY(ctx == NULL)) {
        return DOEFF_RAISE;
    }
    DoeffFiber *outside = MACHINE_OF(cx)->fiber;
    if (DOEFF_UNLIKELY(outside->len == outside->cap) && fiber_grow(outside) < 0) {
        (void)link_chain(MACHINE_OF(cx), ctx); /* where it came from: nothing to rebase */
        Py_DECREF(ctx);
        return DOEFF_RAISE;
    }
    ctx->outer_body = outside->handling;
    outside->handling = ctx;
    outside->frames[outside->len++] = (DoeffFrame){&handler_result_frame, (PyObject *)ctx, NULL};
    PyObject *handler = ctx->node->handler;
    DoeffStep step = kleisli_call_handler(cx, handler, effect, (PyObject *)ctx, out); /* which the frame holds */
    if (DOEFF_UNLIKELY(step == DOEFF_RAISE)) { /* at the result frame, where an error of the body belongs */
        blame_parameters(handler);
    }
    return step;
}

DoeffStep
handler_replace(DoeffContext *cx, PyObject *effect, PyObject *program, PyObject **out)
{
    DoeffHandlerContext *ctx = enter_body(cx, effect, &replacement_frame);
    if (ctx == NULL) {
        Py_DECREF(program);
        return DOEFF_RAISE;
    }
    Py_DECREF(ctx);
    *out = program;
    return DOEFF_PROGRAM;
}

/* ---- continuations that native handlers keep ---- */

PyObject *
handler_keep(DoeffContext *cx, PyObject *effect)
{
    DoeffHandlerContext *ctx = handler_capture(cx, effect);
    if (ctx == NULL) {
        return NULL;
    }
    ctx->body_done = 1; /* there is none: the function is all of it */
    if (ctx->bottom->ret_env != NULL) { /* as if the scope had ended */
        context_set_env(cx, Py_NewRef(ctx->bottom->ret_env));
    }
    scopes_leave(cx);
    cx->forwarder = NULL;
    handler_track(ctx);
    return (PyObject *)ctx;
}

DoeffStep
handler_resume(DoeffContext *cx, PyObject *k, PyObject *value, PyObject **out)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)k;
    PyObject *error = value == NULL ? PyErr_GetRaisedException() : NULL;
    if (!Py_IS_TYPE(k, cx->st->HandlerContext_Type)) {
        PyErr_Format(PyExc_TypeError, "k must be a continuation that Doeff_Keep gave, got %s", Py_TYPE(k)->tp_name);
        goto failed;
    }
    if (ctx->machine != MACHINE_OF(cx)) {
        PyErr_SetString(PyExc_RuntimeError, "this continuation belongs to another run");
        goto failed;
    }
    if (already_resumed(ctx, NULL) || context_begin(cx) < 0) {
        goto failed;
    }
    Py_XSETREF(ctx->bottom->ret_env, Py_NewRef(cx->env)); /* it may end elsewhere than it began */
    if (handler_resume_origin(cx, ctx) != DOEFF_VALUE) {
        goto failed;
    }
    if (error != NULL) {
        PyErr_SetRaisedException(error);
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(value);
    return DOEFF_VALUE;
failed:
    Py_XDECREF(error);
    return DOEFF_RAISE;
}

/* ---- what the handler's result means ---- */

/* ctx.resume(value) and ctx.throw(error): programs that run the rest of the handled program up to
 * this handler and give its value to the body. `yield ctx.resume(value)` frees one before the next is made, so
 * the collector is told of one only when it is performed and still known to others, or when the next is made. */
typedef struct Resumption {
    PyObject_HEAD
    PyObject *ctx;   /* strong */
    PyObject *value; /* strong; NULL when an error is thrown */
    PyObject *error; /* strong or NULL */
} Resumption;

/* A handler has returned it in place of yielding it. */
static void
resumption_returned(DoeffHandlerContext *ctx, PyObject *op)
{
    PyObject *name = node_handler_name(ctx->node);
    if (name != NULL) {
        const char *method = ((Resumption *)op)->error != NULL ? "throw" : "resume";
        PyErr_Format(ctx->machine->cx.st->InterpreterInvariantError,
                     "handler %U returned ctx.%s(...), which does nothing until it is yielded.\n"
                     "Hint: write `return (yield ctx.%s(...))`%s.",
                     name, method, method,
                     ((Resumption *)op)->error != NULL ? ", or raise the error" : ", or return the value itself");
        Py_DECREF(name);
    }
}

void
handler_track(DoeffHandlerContext *ctx)
{
    if (!ctx->tracked) {
        ctx->tracked = 1;
        if (ctx->machine != NULL) {
            machine_show(ctx->machine);
        }
        PyObject_GC_Track((PyObject *)ctx);
    }
}

void
handler_track_if_kept(DoeffHandlerContext *ctx)
{
    if (Py_REFCNT(ctx) > 1) {
        handler_track(ctx);
    }
}

/* The result frame has been popped: the body is no longer at work on this fiber. */
static DoeffHandlerContext *
body_ended(DoeffContext *cx, DoeffFrame *frame)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)frame->a;
    MACHINE_OF(cx)->fiber->handling = ctx->outer_body;
    ctx->outer_body = NULL;
    ctx->body_done = 1;
    if (ctx->after_env != NULL) { /* resumed in the middle: the scope itself ends here */
        context_set_env(cx, ctx->after_env);
        ctx->after_env = NULL;
    }
    handler_track_if_kept(ctx);
    return ctx;
}

/* The generator whose yield is being performed (borrowed); None if the current frame is another. */
static PyObject *
running_generator(DoeffMachine *m)
{
    DoeffFiber *fiber = m->fiber;
    int yields = fiber != NULL && fiber->len > 0 && fiber->frames[fiber->len - 1].kind == &return_frame;
    return yields ? fiber->frames[fiber->len - 1].a : Py_None;
}

/* by: whose body wants to resume it now; NULL: its own handler. */
static int
already_resumed(DoeffHandlerContext *ctx, HandlerNode *by)
{
    if (DOEFF_LIKELY(ctx->state == CTX_CAPTURED)) {
        return 0;
    }
    HandlerNode *first = ctx->resumed_by != NULL ? ctx->resumed_by : ctx->node;
    PyObject *text = ctx->node == NULL ? NULL
                                       : import_call("doeff._errors", "resumed_twice", "(OOOO)", ctx->effect, first->handler,
                                                     by == NULL ? ctx->node->handler : by->handler,
                                                     running_generator(ctx->machine));
    if (text != NULL) {
        PyErr_SetObject(PyExc_RuntimeError, text);
        Py_DECREF(text);
    }
    else if (!PyErr_Occurred()) {
        PyErr_SetString(PyExc_RuntimeError, "continuation already resumed");
    }
    return 1;
}

DOEFF_INLINE DoeffStep
resume_origin(DoeffContext *cx, DoeffHandlerContext *ctx)
{
    if (DOEFF_UNLIKELY(cx->scopes != ctx->scopes)) {
        scopes_rejoin(cx, ctx->top, ctx->bottom);
    }
    if (DOEFF_UNLIKELY(ctx->scopes != NULL)) {
        Py_CLEAR(ctx->scopes);
    }
    if (DOEFF_UNLIKELY(link_chain(MACHINE_OF(cx), ctx) < 0)) {
        return DOEFF_RAISE;
    }
    context_set_env(cx, Py_NewRef(ctx->env));
    return DOEFF_VALUE;
}

DoeffStep
handler_resume_origin(DoeffContext *cx, DoeffHandlerContext *ctx)
{
    return resume_origin(cx, ctx);
}

/* 1 if nobody but the popped result frame, and the result that is being read, can resume ctx. */
static int
is_last_owner(DoeffHandlerContext *ctx, PyObject *result, PyObject *k)
{
    Py_ssize_t ours = 1;
    if (k != NULL && Py_REFCNT(result) == 1 && Py_REFCNT(k) == 1 && kontinuation_context(k) == ctx) {
        ours = 2;
    }
    return ctx->state == CTX_CAPTURED && Py_REFCNT(ctx) == ours;
}

/* ctx.outer_k is to be gone on from with a program or Python frames: the handler is in force for them, unless its
 * frame was left out, and env is theirs. */
static int
stand_outside(DoeffContext *cx, DoeffHandlerContext *ctx, const KontinuationTarget *target, PyObject *env)
{
    DoeffMachine *m = MACHINE_OF(cx);
    DoeffFiber *outside = m->fiber;
    Py_ssize_t len = outside->len;
    if (ctx->bottom != NULL && ctx->bottom->ret_env != NULL) { /* as if the scope had ended */
        context_set_env(cx, Py_NewRef(ctx->bottom->ret_env));
    }
    if (target->skip == 0 && context_install(cx, ctx->node->handler) < 0) {
        return -1;
    }
    if ((target->skip == 0 ? cesk_adopt_env(cx, env) : cesk_use_env(cx, env)) == 0
        && cesk_push_frames(cx, target->prefix) == 0) {
        if (ctx->bottom != NULL) {
            Py_XSETREF(ctx->bottom->ret_env, Py_NewRef(cx->env)); /* when our own chain has been unwound */
        }
        return 0;
    }
    if (m->fiber != outside) {
        DoeffFiber *scope = m->fiber;
        m->fiber = outside;
        fiber_free(cx->st, scope);
    }
    while (outside->len > len) {
        DoeffFrame frame = outside->frames[--outside->len];
        Py_XDECREF(frame.a);
        Py_XDECREF(frame.b);
    }
    return -1;
}

DoeffStep
handler_go_to(DoeffContext *cx, DoeffHandlerContext *ctx, PyObject *result, PyObject *k, PyObject *env,
              PyObject *store, DoeffStep step, PyObject **out)
{
    DoeffMachine *m = MACHINE_OF(cx);
    KontinuationTarget target;
    PyObject *error = step == DOEFF_RAISE ? PyErr_GetRaisedException() : NULL;
    if (kontinuation_target(cx->st, k, &target) < 0 || cesk_adopt_store(cx, store) < 0) {
        goto wrong;
    }
    DoeffHandlerContext *to = target.ctx == NULL ? ctx : target.ctx;
    if (target.part == K_ORIGIN) {
        if (to->machine != m) {
            PyErr_SetString(PyExc_RuntimeError, "this continuation belongs to another run");
            goto wrong;
        }
        if (already_resumed(to, ctx->node)) {
            goto wrong;
        }
        DoeffFiber *top = NULL, *bottom = NULL;
        if (to != ctx && is_last_owner(ctx, result, k)) {
            top = ctx->top; /* nobody can resume our own chain any more */
            bottom = ctx->bottom;
            ctx->top = ctx->bottom = NULL;
            ctx->state = CTX_RESUMED;
        }
        if (to != ctx) {
            Py_XSETREF(to->resumed_by, (HandlerNode *)Py_NewRef(ctx->node));
            to->rare = 1;
            scopes_leave(cx);
        }
        DoeffHandlerContext *forwarder = step == DOEFF_PROGRAM ? to->inner : NULL;
        if (handler_resume_origin(cx, to) != DOEFF_VALUE) {
            goto wrong;
        }
        cx->forwarder = forwarder; /* a program runs where the effect was first performed */
        if (context_begin(cx) < 0) {
            goto wrong;
        }
        if (target.skip > 0) {
            PyObject *what = step == DOEFF_RAISE ? error : *out;
            error = *out = NULL;
            (void)machine_unwind_frames(m, target.skip, step, what);
            step = DOEFF_RAISE; /* GeneratorExit is set */
        }
        else if (cesk_use_env(cx, env) < 0 || cesk_push_frames(cx, target.prefix) < 0) {
            goto wrong;
        }
        if (top != NULL) {
            machine_orphan(m, top, bottom);
        }
        Py_XDECREF(target.prefix);
        if (error != NULL) {
            PyErr_SetRaisedException(error);
        }
        return step;
    }
    if (target.part == K_REST) {
        PyErr_SetString(PyExc_RuntimeError, "a handler cannot jump to the rest that a frame was given");
        goto wrong;
    }
    HandlerNode *outside = m->fiber->node;
    int goes_on = target.part == K_OUTER && (step == DOEFF_PROGRAM || target.prefix != NULL);
    if (goes_on && stand_outside(cx, ctx, &target, env) < 0) {
        goto wrong;
    }
    Py_CLEAR(target.prefix);
    /* Outward: our own chain is left behind, unwound first if nobody else can resume it. */
    int dropped = is_last_owner(ctx, result, k);
    if (dropped || target.part == K_NOTHING) {
        PyObject *what = step == DOEFF_RAISE ? error : *out;
        *out = NULL;
        DoeffFiber *top = ctx->top, *bottom = ctx->bottom;
        if (target.part == K_NOTHING) {
            if (dropped && link_chain(m, ctx) < 0) {
                Py_DECREF(what);
                return DOEFF_RAISE;
            }
            (void)machine_unwind_all(m, step, what);
            return DOEFF_RAISE;
        }
        ctx->top = ctx->bottom = NULL;
        ctx->state = CTX_RESUMED;
        (void)machine_unwind(m, top, bottom, outside, step, what);
        return DOEFF_RAISE;
    }
    if (!goes_on && ctx->bottom != NULL && ctx->bottom->ret_env != NULL) { /* as if the scope had ended */
        context_set_env(cx, Py_NewRef(ctx->bottom->ret_env));
    }
    scopes_leave(cx);
    if (error != NULL) {
        PyErr_SetRaisedException(error);
    }
    return step;
wrong:
    Py_XDECREF(target.prefix);
    Py_XDECREF(error);
    Py_CLEAR(*out);
    if (ctx->state == CTX_CAPTURED) {
        (void)handler_resume_origin(cx, ctx);
    }
    return DOEFF_RAISE;
}

static DoeffStep
result_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    EngineState *st = cx->st;
    DoeffHandlerContext *ctx = body_ended(cx, frame);
    PyTypeObject *type = Py_TYPE(value);
    if (DOEFF_UNLIKELY(type == st->rec.DirectState->type)) {
        value = RECORD_FIELD(value, 0);
        PyObject *k = RECORD_FIELD(value, 3);
        DoeffStep step = cesk_control(st, RECORD_FIELD(value, 0), out);
        return handler_go_to(cx, ctx, value, k, RECORD_FIELD(value, 1), RECORD_FIELD(value, 2), step, out);
    }
    if (DOEFF_UNLIKELY(type == st->rec.CESKState->type)) {
        PyObject *k = RECORD_FIELD(value, 3);
        if (PyList_CheckExact(k) && PyList_GET_SIZE(k) == 0) {
            k = NULL; /* an empty K means: resume */
        }
        DoeffStep step = cesk_control(st, RECORD_FIELD(value, 0), out);
        return handler_go_to(cx, ctx, value, k, RECORD_FIELD(value, 1), RECORD_FIELD(value, 2), step, out);
    }
    if (DOEFF_UNLIKELY(type == st->rec.ResumeK->type)) { /* k, value, env, store, error */
        PyObject *error = RECORD_FIELD(value, 4);
        DoeffStep step = DOEFF_VALUE;
        if (error != Py_None) {
            PyErr_SetRaisedException(Py_NewRef(error));
            step = DOEFF_RAISE;
        }
        else {
            *out = Py_NewRef(RECORD_FIELD(value, 1));
        }
        return handler_go_to(cx, ctx, value, RECORD_FIELD(value, 0), RECORD_FIELD(value, 2),
                             RECORD_FIELD(value, 3), step, out);
    }
    if (DOEFF_UNLIKELY(type == st->Resumption_Type)) {
        if (ctx->state != CTX_CAPTURED || handler_resume_origin(cx, ctx) == DOEFF_VALUE) {
            resumption_returned(ctx, value);
        }
        return DOEFF_RAISE;
    }
    if (ctx->state == CTX_RESUMED) { /* resumed in the middle of the body: this is the scope's value */
        *out = Py_NewRef(value);
        return DOEFF_VALUE;
    }
    if (already_resumed(ctx, NULL)) {
        return DOEFF_RAISE;
    }
    if (handler_resume_origin(cx, ctx) != DOEFF_VALUE) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(value);
    return DOEFF_VALUE;
}

static DoeffStep
result_error(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(error), PyObject **Py_UNUSED(out))
{
    DoeffHandlerContext *ctx = body_ended(cx, frame);
    DoeffStep step = DOEFF_PASS;
    if (ctx->state == CTX_CAPTURED && handler_resume_origin(cx, ctx) != DOEFF_VALUE) {
        step = DOEFF_RAISE;
    }
    return step;
}

static PyObject *
describe_result(const DoeffFrame *frame)
{
    PyObject *name = node_handler_name(((DoeffHandlerContext *)frame->a)->node);
    if (name != NULL) {
        Py_SETREF(name, PyUnicode_FromFormat("result of %U", name));
    }
    return name;
}

/* A context that nobody else holds, and whose frame has been popped, goes. */
DOEFF_INLINE void
ctx_spent(EngineState *st, DoeffHandlerContext *ctx)
{
#if DOEFF_FREE_LISTS && !defined(Py_REF_DEBUG)
    DoeffMachine *m = ctx->machine;
    HandlerNode *node = ctx->node;
    PyObject *effect = ctx->effect, *env = ctx->env;
    Py_SET_REFCNT(ctx, 0);
    if (DOEFF_LIKELY(freelist_push_capped(&st->free_ctx, (PyObject *)ctx, CONTEXTS_KEPT))) {
        Py_DECREF(m);
        Py_DECREF(node);
        Py_DECREF(env);
        Py_DECREF(effect);
        return;
    }
    Py_SET_REFCNT(ctx, 1);
#endif
    Py_DECREF(ctx);
}

DOEFF_ALWAYS_INLINED int
handler_body_over(DoeffContext *cx, DoeffFiber *fiber, PyObject *value)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)fiber->frames[fiber->len - 1].a;
    if (DOEFF_UNLIKELY(PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HEAPTYPE) || Py_REFCNT(ctx) != 1 || ctx->tracked
                       || ctx->rare)) {
        return 0;
    }
    int over = 1;
    PyObject *after_env = ctx->after_env;
    if (after_env != NULL) { /* resumed in the middle: the scope itself ends here */
        fiber->len--;
        fiber->handling = ctx->outer_body;
        ctx->after_env = NULL;
        context_set_env(cx, after_env);
    }
    else if (ctx->state == CTX_CAPTURED) {
        fiber->len--;
        fiber->handling = ctx->outer_body;
        over = DOEFF_LIKELY(resume_origin(cx, ctx) == DOEFF_VALUE) ? 1 : -1;
    }
    else {
        return 0;
    }
    ctx_spent(cx->st, ctx);
    return over;
}

const DoeffFrameKind handler_result_frame = {
    .name = "HandlerResultFrame",
    .on_value = result_value,
    .on_error = result_error,
    .describe = describe_result,
};

/* Whatever the program gives is the effect's value, even if it looks like a handler's result. */
static DoeffStep
replacement_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    DoeffHandlerContext *ctx = body_ended(cx, frame);
    *out = Py_NewRef(value);
    return handler_resume_origin(cx, ctx);
}

const DoeffFrameKind replacement_frame = {
    .name = "ReplacementFrame",
    .on_value = replacement_value,
    .on_error = result_error,
    .describe = describe_result,
};

/* ---- resuming in the middle of a body ---- */

static int
suspended_grow(DoeffMachine *m)
{
    int cap = m->suspended_cap == 0 ? 64 : m->suspended_cap * 2;
    DoeffSuspended *grown = PyMem_Realloc(m->suspended, sizeof(DoeffSuspended) * (size_t)cap);
    if (grown == NULL) {
        return -1;
    }
    m->suspended = grown;
    m->suspended_cap = cap;
    return 0;
}

/* The frame, directly above ctx's result frame, waits: the collector need not walk it meanwhile, since whoever owns
 * it is a root, or shows it when that ends. No memory to remember it: it stays visible. */
DOEFF_INLINE void
suspended_hide(DoeffMachine *m, DoeffHandlerContext *ctx, DoeffFrame *frame)
{
    if (DOEFF_UNLIKELY(m->suspended_len == m->suspended_cap) && suspended_grow(m) < 0) {
        return;
    }
    m->suspended[m->suspended_len] = (DoeffSuspended){ctx, frame->a};
    ctx->hidden = ++m->suspended_len;
    frame->kind = &suspended_frame;
    PyObject_GC_UnTrack(frame->a);
}

void
suspended_show(DoeffHandlerContext *ctx)
{
    if (ctx->hidden == 0) {
        return;
    }
    DoeffMachine *m = ctx->machine;
    int at = ctx->hidden - 1, last = --m->suspended_len;
    PyObject *generator = m->suspended[at].generator;
    ctx->hidden = 0;
    if (at != last) { /* the last one takes its place */
        m->suspended[at] = m->suspended[last];
        m->suspended[at].ctx->hidden = at + 1;
    }
    if (!PyObject_GC_IsTracked(generator)) { /* a generator may be in two frames */
        PyObject_GC_Track(generator);
    }
}

void
handler_show_resumption(EngineState *st)
{
    if (st->unseen_resumption != NULL) {
        PyObject_GC_Track(st->unseen_resumption);
        st->unseen_resumption = NULL;
    }
}

static DoeffFiber *
body_fiber(DoeffMachine *m, DoeffHandlerContext *ctx)
{
    DoeffFiber *fiber = m->fiber;
    while (fiber->handling == NULL && fiber->in_handler && fiber->parent != NULL) {
        fiber = fiber->parent;
    }
    return fiber->handling == ctx ? fiber : NULL;
}

DoeffStep
resumption_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    Resumption *resumption = (Resumption *)program;
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)resumption->ctx;
    DoeffMachine *m = MACHINE_OF(cx);
    if (DOEFF_UNLIKELY(m->fiber->handling != ctx) && (ctx->machine != m || body_fiber(m, ctx) == NULL)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "ctx.resume and ctx.throw work in the body of the handler that was given ctx; "
                        "elsewhere return ResumeK(k=ctx.k, value=...)");
        return DOEFF_RAISE;
    }
    if (already_resumed(ctx, NULL)) {
        return DOEFF_RAISE;
    }
    if (Py_REFCNT(program) > 1 && cx->st->unseen_resumption == program) {
        handler_show_resumption(cx->st);
    }
    DoeffFiber *fiber = m->fiber;
    DoeffFrame *top = &fiber->frames[fiber->len - 1];
    if (fiber->len > 2 * COMPAT_BODIES_SEEN && top->kind == &return_frame && top[-1].a == (PyObject *)ctx
        && (PyGen_CheckExact(top->a) || PyCoro_CheckExact(top->a))) {
        suspended_hide(m, ctx, top);
    }
    /* When the rest has ended, the body goes on in its own environment. */
    ctx->after_env = ctx->bottom->ret_env;
    ctx->bottom->ret_env = Py_NewRef(cx->env);
    if (DOEFF_UNLIKELY(resume_origin(cx, ctx) != DOEFF_VALUE)) {
        return DOEFF_RAISE;
    }
    if (DOEFF_UNLIKELY(resumption->error != NULL)) {
        PyErr_SetRaisedException(Py_NewRef(resumption->error));
        return DOEFF_RAISE;
    }
#if DOEFF_FREE_LISTS && !defined(Py_REF_DEBUG)
    if (DOEFF_LIKELY(Py_REFCNT(program) == 1 && cx->st->unseen_resumption == program)) {
        *out = resumption->value;
        Py_SET_REFCNT(program, 0);
        if (DOEFF_LIKELY(freelist_push(&cx->st->free_resumptions, program))) {
            cx->st->unseen_resumption = NULL;
            Py_DECREF(ctx); /* which its result frame holds */
            return STEP_SPENT;
        }
        Py_SET_REFCNT(program, 1);
    }
#endif
    *out = Py_NewRef(resumption->value);
    return DOEFF_VALUE;
}

static PyObject *
resumption_new(PyObject *self, PyObject *value, PyObject *error)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    if (ctx->state == CTX_LOOSE) {
        PyErr_SetString(PyExc_RuntimeError, "this HandlerContext was made by hand: there is nothing to resume");
        return NULL;
    }
    EngineState *st = ctx->machine->cx.st;
    Resumption *resumption = (Resumption *)freelist_pop(&st->free_resumptions);
    if (resumption == NULL) {
        resumption = PyObject_GC_New(Resumption, st->Resumption_Type);
        if (resumption == NULL) {
            return NULL;
        }
    }
    resumption->ctx = Py_NewRef(self);
    resumption->value = Py_XNewRef(value);
    resumption->error = Py_XNewRef(error);
    handler_show_resumption(st);
    st->unseen_resumption = (PyObject *)resumption;
    if (!DOEFF_FREE_LISTS) {
        handler_show_resumption(st);
    }
    return (PyObject *)resumption;
}

static PyObject *
ctx_resume(PyObject *self, PyObject *value)
{
    return resumption_new(self, value, NULL);
}

static PyObject *
ctx_throw(PyObject *self, PyObject *error)
{
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", Py_TYPE(error)->tp_name);
        return NULL;
    }
    return resumption_new(self, NULL, error);
}

static PyObject *
ctx_abandon(PyObject *self, PyObject *value)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    if (ctx->state == CTX_LOOSE) {
        PyErr_SetString(PyExc_RuntimeError, "this HandlerContext was made by hand: there is nothing to abandon");
        return NULL;
    }
    EngineState *st = ctx->machine->cx.st;
    PyObject *k = kontinuation_new(st, ctx, K_OUTER);
    if (k == NULL) {
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {k, Py_NewRef(value), Py_NewRef(Py_None), Py_NewRef(Py_None),
                                          Py_NewRef(Py_None)};
    return record_new(st->rec.ResumeK, f);
}

static PyObject *
resumption_repr(PyObject *op)
{
    Resumption *resumption = (Resumption *)op;
    PyObject *name = node_handler_name(((DoeffHandlerContext *)resumption->ctx)->node);
    PyObject *text = NULL;
    int entered = name == NULL ? -1 : Py_ReprEnter(op); /* its value may lead back to it */
    if (entered > 0) {
        text = PyUnicode_FromString("...");
    }
    else if (entered == 0) {
        text = resumption->error != NULL
                   ? PyUnicode_FromFormat("<ctx.throw(%R) of handler %U, to be yielded>", resumption->error, name)
                   : PyUnicode_FromFormat("<ctx.resume(%R) of handler %U, to be yielded>", resumption->value, name);
        Py_ReprLeave(op);
    }
    Py_XDECREF(name);
    return text;
}

static int
resumption_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Resumption *)op)->ctx);
    Py_VISIT(((Resumption *)op)->value);
    Py_VISIT(((Resumption *)op)->error);
    return 0;
}

/* NULL when the collector has taken the module from the type. */
static EngineState *
state_of_resumption(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    DoeffMachine *m = ((DoeffHandlerContext *)((Resumption *)op)->ctx)->machine;
    if (((PyHeapTypeObject *)tp)->ht_module == NULL) {
        return NULL;
    }
    return DOEFF_LIKELY(m != NULL) ? m->cx.st : engine_state_of(tp);
}

static int
resumption_release(PyObject *op)
{
    EngineState *st = state_of_resumption(op);
    Py_XDECREF(((Resumption *)op)->value);
    Py_XDECREF(((Resumption *)op)->error);
    Py_DECREF(((Resumption *)op)->ctx);
    if (st != NULL && freelist_push(&st->free_resumptions, op)) {
        return 1;
    }
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
resumption_dealloc(PyObject *op)
{
    EngineState *st = state_of_resumption(op);
    if (st != NULL && st->unseen_resumption == op) {
        st->unseen_resumption = NULL;
    }
    else if (PyObject_GC_IsTracked(op)) {
        PyObject_GC_UnTrack(op);
    }
    nesting_dealloc(st == NULL ? NULL : &st->nesting, op, resumption_dealloc, resumption_release);
}

static PyType_Slot resumption_slots[] = {
    {Py_tp_dealloc, resumption_dealloc},
    {Py_tp_traverse, resumption_traverse},
    {Py_tp_repr, resumption_repr},
    {0, NULL},
};

static PyType_Spec resumption_spec = {
    .name = "doeff._engine.Resumption",
    .basicsize = sizeof(Resumption),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = resumption_slots,
};

/* ---- HandlerContext as Python sees it ---- */

static PyObject *
loose_field(DoeffHandlerContext *ctx, Py_ssize_t i)
{
    return Py_NewRef(PyTuple_GET_ITEM(ctx->loose, i));
}

static PyObject *
get_store(PyObject *self, void *Py_UNUSED(closure))
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    if (ctx->state == CTX_LOOSE) {
        return loose_field(ctx, 0);
    }
    return Py_XNewRef(context_store(&ctx->machine->cx));
}

static PyObject *
get_env(PyObject *self, void *Py_UNUSED(closure))
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    return ctx->state == CTX_LOOSE ? loose_field(ctx, 1) : Py_NewRef(ctx->env);
}

static PyObject *
get_k(PyObject *self, void *closure)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    KPart part = (KPart)(size_t)closure;
    if (ctx->state == CTX_LOOSE) {
        PyObject *delimited = PyTuple_GET_ITEM(ctx->loose, 2), *outer = PyTuple_GET_ITEM(ctx->loose, 4);
        return part == K_DELIMITED ? Py_NewRef(delimited)
               : part == K_OUTER   ? Py_NewRef(outer)
                                   : PySequence_Concat(delimited, outer);
    }
    return kontinuation_new(ctx->machine->cx.st, ctx, part);
}

static PyObject *
get_depth(PyObject *self, void *Py_UNUSED(closure))
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    return ctx->state == CTX_LOOSE ? loose_field(ctx, 3) : PyLong_FromLong(ctx->node->depth);
}

static PyObject *
get_inherited(PyObject *self, void *Py_UNUSED(closure))
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    if (ctx->state == CTX_LOOSE) {
        return loose_field(ctx, 5);
    }
    DoeffHandlerContext *origin = ctx;
    while (origin->inner != NULL) {
        origin = origin->inner;
    }
    HandlerNode *node = origin->top != NULL ? origin->top->node : origin->node;
    return kontinuation_handlers(ctx->machine->cx.st, node);
}

static PyObject *
ctx_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"store", "env", "delimited_k", "handler_depth", "outer_k",
                               "inherited_handlers", NULL};
    PyObject *store, *env, *delimited, *depth, *outer = NULL, *inherited = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOO|OO:HandlerContext", keywords, &store, &env,
                                     &delimited, &depth, &outer, &inherited)) {
        return NULL;
    }
    PyObject *loose = Py_BuildValue("OOOONN", store, env, delimited, depth,
                                    outer == NULL ? PyList_New(0) : Py_NewRef(outer),
                                    inherited == NULL ? PyList_New(0) : Py_NewRef(inherited));
    if (loose == NULL) {
        return NULL;
    }
    DoeffHandlerContext *ctx = ctx_new(engine_state_of(type));
    if (ctx == NULL) {
        Py_DECREF(loose);
        return NULL;
    }
    ctx->loose = loose;
    handler_track(ctx);
    return (PyObject *)ctx;
}

static PyObject *
ctx_repr(PyObject *self)
{
    DoeffHandlerContext *ctx = (DoeffHandlerContext *)self;
    if (ctx->state == CTX_LOOSE) {
        return PyUnicode_FromString("<HandlerContext made by hand>");
    }
    static const char *const states[] = {"captured", "running", "resumed"};
    PyObject *name = node_handler_name(ctx->node);
    if (name == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("<HandlerContext of %U, continuation %s>", name,
                                          states[ctx->state]);
    Py_DECREF(name);
    return text;
}

static PyGetSetDef ctx_getset[] = {
    {"store", get_store, NULL, PyDoc_STR("The task's current store, a dict that may be changed in place."), NULL},
    {"env", get_env, NULL, PyDoc_STR("The environment at the effect's origin."), NULL},
    {"k", get_k, NULL, PyDoc_STR("delimited_k + outer_k, seen lazily."), (void *)K_ALL},
    {"delimited_k", get_k, NULL, PyDoc_STR("The frames from the origin up to this handler."), (void *)K_DELIMITED},
    {"outer_k", get_k, NULL, PyDoc_STR("This handler's HandlerFrame and everything outside it."), (void *)K_OUTER},
    {"handler_depth", get_depth, NULL, PyDoc_STR("The number of handlers outside this one."), NULL},
    {"inherited_handlers", get_inherited, NULL, PyDoc_STR("The origin's handlers as HandlerFrames, innermost first."), NULL},
    {NULL},
};

static PyMethodDef ctx_methods[] = {
    {"resume", ctx_resume, METH_O,
     PyDoc_STR("resume(value)\n--\n\n`rest = yield ctx.resume(value)`: run the rest of the handled program, up to this "
               "handler, and go on with its value.")},
    {"throw", ctx_throw, METH_O,
     PyDoc_STR("throw(error)\n--\n\nLike resume, but error is raised at the origin of the effect.")},
    {"abandon", ctx_abandon, METH_O,
     PyDoc_STR("abandon(value)\n--\n\n`return ctx.abandon(value)`: give up the rest of the handled program; value is "
               "what WithHandler gives.")},
    {NULL},
};

static PyType_Slot ctx_slots[] = {
    {Py_tp_methods, ctx_methods},
    {Py_tp_new, ctx_tp_new},
    {Py_tp_dealloc, ctx_dealloc},
    {Py_tp_traverse, ctx_traverse},
    {Py_tp_clear, ctx_clear},
    {Py_tp_repr, ctx_repr},
    {Py_tp_getset, ctx_getset},
    {Py_tp_doc, (void *)PyDoc_STR("HandlerContext(store, env, delimited_k, handler_depth, outer_k=[], inherited_handlers=[])\n--\n\n"
                                  "What a handler knows of the effect's origin and holds of the rest of the program.")},
    {0, NULL},
};

static PyType_Spec ctx_spec = {
    .name = "doeff.cesk.handler_frame.HandlerContext",
    .basicsize = sizeof(DoeffHandlerContext),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = ctx_slots,
};

int
handler_room_init(PyObject *module, EngineState *st)
{
    st->HandlerContext_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &ctx_spec, NULL);
    st->Resumption_Type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &resumption_spec, (PyObject *)st->Program_Type);
    if (st->Resumption_Type == NULL) {
        return -1;
    }
    return st->HandlerContext_Type == NULL ? -1 : PyModule_AddType(module, st->HandlerContext_Type);
}
