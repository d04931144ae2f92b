#include "machine.h"

#include "../aio/aio.h"
#include "../program/kleisli.h"
#include "../program/program.h"
#include "../report/trace.h"
#include "../scheduler/scheduler.h"
#include "../support/imports.h"

/* ---- the frame of a generator: it stays until the generator has ended ---- */

static PyObject *
describe_return(const DoeffFrame *frame)
{
    return program_describe_resume(frame->a, frame->b);
}

/* The loop knows this kind; its functions are never called. */
const DoeffFrameKind return_frame = {
    .name = "ReturnFrame",
    .describe = describe_return,
};

const DoeffFrameKind suspended_frame = {
    .name = "ReturnFrame",
    .describe = describe_return,
};

/* ---- forwarded effects: the origin comes back for a while ---- */

/* Takes the body of c's handler, with everything above it, off the current continuation. Its frames
 * shared a fiber with those of the program outside; they get one of their own, so that what runs at
 * the origin meanwhile lies directly on the outside, as if the handler had never looked. */
static int
set_body_aside(DoeffMachine *m, DoeffHandlerContext *c)
{
    DoeffFiber *above = NULL, *fiber = m->fiber;
    while (fiber->handling != c) {
        above = fiber;
        fiber = fiber->parent;
    }
    Py_ssize_t at = fiber->len - 1;
    while ((fiber->frames[at].kind != &handler_result_frame && fiber->frames[at].kind != &replacement_frame)
           || fiber->frames[at].a != (PyObject *)c) {
        at--;
    }
    DoeffFiber *body = fiber_new(m->cx.st, NULL, fiber->node, fiber->node);
    if (body == NULL) {
        return -1;
    }
    c->rare = 1;
    if (c->tracked) {
        machine_show(m);
    }
    for (Py_ssize_t i = at; i < fiber->len; i++) {
        DoeffFrame *frame = &fiber->frames[i];
        if (body->len == body->cap && fiber_grow(body) < 0) {
            body->len = 0; /* the frames still belong to the fiber */
            fiber_free(m->cx.st, body);
            return -1;
        }
        body->frames[body->len++] = *frame;
    }
    fiber->len = at;
    fiber->handling = c->outer_body;
    body->handling = c;
    body->in_handler = fiber->in_handler;
    c->outer_body = NULL;
    c->body_top = above == NULL ? body : m->fiber;
    c->body_bottom = body;
    if (above != NULL) {
        above->parent = body;
    }
    m->fiber = fiber;
    return 0;
}

static void
put_body_back(DoeffMachine *m, DoeffHandlerContext *c)
{
    c->body_bottom->parent = m->fiber;
    m->fiber = c->body_top;
    c->body_top = c->body_bottom = NULL;
}

static void
detach(DoeffMachine *m, DoeffHandlerContext *c)
{
    ctx_unmark_bottom(c);
    if (c->tracked) {
        machine_show(m);
    }
    c->top = m->fiber;
    m->fiber = c->bottom->parent;
    c->bottom->parent = NULL;
    c->state = CTX_CAPTURED;
}

int
context_enter_origin(DoeffContext *cx)
{
    DoeffMachine *m = MACHINE_OF(cx);
    DoeffHandlerContext *ctx = cx->forwarder;
    cx->forwarder = NULL;
    for (DoeffHandlerContext *c = ctx; c != NULL; c = c->inner) {
        if (c->state != CTX_CAPTURED) {
            PyErr_SetString(PyExc_RuntimeError,
                            "continuation already resumed: the effect that this handler forwards has "
                            "been answered before");
            return -1;
        }
    }
    PyObject *env = Py_NewRef(cx->env);
    DoeffHandlerContext *innermost = NULL;
    for (DoeffHandlerContext *c = ctx; c != NULL; c = c->inner) {
        if (set_body_aside(m, c) < 0) {
            goto undo;
        }
        c->bottom->parent = m->fiber;
        m->fiber = c->top;
        c->state = CTX_ATTACHED;
        ctx_mark_bottom(c);
        c->outward = innermost;
        innermost = c;
    }
    if (fiber_push(m->fiber, &forward_frame, Py_NewRef((PyObject *)ctx), env) == 0) {
        context_set_env(cx, Py_NewRef(innermost->env));
        return 0;
    }
    env = NULL;
undo:
    Py_XDECREF(env);
    for (; innermost != NULL; innermost = innermost->outward) {
        detach(m, innermost);
        put_body_back(m, innermost);
    }
    return -1;
}

/* Are the scopes of all the handlers that forwarded still around us? They are not if the origin was
 * kept by a handler and resumed somewhere else. */
static int
forwarders_around(DoeffMachine *m, DoeffHandlerContext *innermost)
{
    DoeffFiber *fiber = m->fiber;
    for (DoeffHandlerContext *c = innermost; c != NULL; c = c->outward) {
        while (fiber != NULL && fiber != c->bottom) {
            fiber = fiber->parent;
        }
        if (c->bottom == NULL || fiber == NULL) {
            return 0;
        }
    }
    return 1;
}

/* The program at the origin has ended: cut the chains off again and go on in the body. Where there is
 * nothing left that the body could go back to, the outcome is the origin's own, as if nobody had
 * forwarded, and the bodies are unwound. */
static void
leave_origin(DoeffContext *cx, DoeffFrame *frame)
{
    DoeffMachine *m = MACHINE_OF(cx);
    DoeffHandlerContext *c = (DoeffHandlerContext *)frame->a;
    while (c->inner != NULL) {
        c = c->inner;
    }
    int around = forwarders_around(m, c);
    for (; c != NULL; c = c->outward) {
        if (around) {
            detach(m, c);
            put_body_back(m, c);
        }
        else if (c->body_top != NULL) {
            DoeffFiber *top = c->body_top, *bottom = c->body_bottom;
            c->body_top = c->body_bottom = NULL;
            machine_orphan(m, top, bottom);
        }
    }
    if (around) {
        context_set_env(cx, Py_NewRef(frame->b));
    }
}

void
forward_release(EngineState *st, PyObject *op)
{
    for (DoeffHandlerContext *c = (DoeffHandlerContext *)op; c != NULL; c = c->inner) {
        DoeffFiber *body = c->body_top;
        c->body_top = c->body_bottom = NULL;
        if (c->state == CTX_ATTACHED) { /* the chain goes with whoever drops us */
            if (c->bottom != NULL) {
                ctx_unmark_bottom(c);
            }
            c->state = CTX_RESUMED;
            c->top = c->bottom = NULL;
        }
        fiber_free_chain(st, body);
    }
}

static DoeffStep
forward_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    leave_origin(cx, frame);
    *out = Py_NewRef(value);
    return DOEFF_VALUE;
}

static DoeffStep
forward_error(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(error), PyObject **Py_UNUSED(out))
{
    leave_origin(cx, frame);
    return DOEFF_PASS;
}

const DoeffFrameKind forward_frame = {
    .name = "ForwardFrame",
    .on_value = forward_value,
    .on_error = forward_error,
};

/* The innermost handler body that this yield belongs to, if effect is the one it was given. */
static DoeffHandlerContext *
forwarder_of(DoeffFiber *fiber, PyObject *effect)
{
    while (fiber->handling == NULL) {
        if (!fiber->in_handler || fiber->parent == NULL) {
            return NULL;
        }
        fiber = fiber->parent;
    }
    return fiber->handling->effect == effect ? fiber->handling : NULL;
}

/* ---- scopes ---- */

int
context_install(DoeffContext *cx, PyObject *handler)
{
    DoeffMachine *m = MACHINE_OF(cx);
    DoeffFiber *outside = m->fiber;
    HandlerNode *node = node_new(cx->st, handler, outside->node);
    if (node == NULL) {
        return -1;
    }
    DoeffFiber *fiber = fiber_new(cx->st, outside, node, outside->node);
    Py_DECREF(node);
    if (fiber == NULL) {
        return -1;
    }
    node->owner = fiber;
    fiber->hinted = 1;
    fiber->ret_env = Py_NewRef(cx->env);
    fiber->in_handler = outside->in_handler || outside->handling != NULL;
    m->fiber = fiber;
    return 0;
}

/* A fiber in which only what lies outside node is in force. */
static int
mask(DoeffMachine *m, HandlerNode *node)
{
    DoeffFiber *fiber = fiber_new(m->cx.st, m->fiber, node->parent, node->parent);
    if (fiber == NULL) {
        return -1;
    }
    fiber->ret_env = Py_NewRef(m->cx.env);
    fiber->in_handler = m->fiber->in_handler || m->fiber->handling != NULL;
    m->fiber = fiber;
    return 0;
}

int
context_unshare_store(DoeffContext *cx)
{
    if (Py_REFCNT(cx->store) == 1) { /* whoever had the snapshot is gone */
        cx->store_shared = 0;
        return 0;
    }
    PyObject *copy = PyDict_Copy(cx->store);
    if (copy == NULL) {
        return -1;
    }
    Py_SETREF(cx->store, copy);
    cx->store_shared = 0;
    return 0;
}

/* The current fiber has no frame left: its parent's environment is back in force. */
static void
leave_fiber(DoeffMachine *m)
{
    DoeffFiber *done = m->fiber;
    m->fiber = done->parent;
    if (done->ret_env != NULL) {
        context_set_env(&m->cx, done->ret_env);
        done->ret_env = NULL;
    }
    fiber_free(m->cx.st, done);
}

/* ---- continuations that nobody can resume any more ---- */

/* An abandon frame lies below what is being unwound. a: what comes next, in the way that its kind says.
 * b: the GeneratorExit that it waits for. */
static int
is_abandon(const DoeffFrameKind *kind);

/* The unwinding that the frame waits for has come to its end: by its own GeneratorExit, or by another that a
 * program raised on the way out, but not by that of an unwinding further out, which takes the frame along. */
static int
is_unwound(DoeffMachine *m, const DoeffFrame *frame, PyObject *error)
{
    if (error == frame->b) {
        return 1;
    }
    if (!PyErr_GivenExceptionMatches(error, PyExc_GeneratorExit)) {
        return 0;
    }
    for (DoeffFiber *fiber = m->fiber; fiber != NULL; fiber = fiber->parent) {
        for (Py_ssize_t i = 0; i < fiber->len; i++) {
            if (is_abandon(fiber->frames[i].kind) && fiber->frames[i].b == error) {
                return 0;
            }
        }
    }
    return 1;
}

static DoeffStep
abandon_to_value(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **out)
{
    (void)cx;
    *out = Py_NewRef(frame->a);
    return DOEFF_VALUE;
}

static DoeffStep
abandon_to_program(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **out)
{
    (void)cx;
    *out = Py_NewRef(frame->a);
    return DOEFF_PROGRAM;
}

static DoeffStep
abandon_to_error(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **Py_UNUSED(out))
{
    (void)cx;
    PyErr_SetRaisedException(Py_NewRef(frame->a));
    return DOEFF_RAISE;
}

static DoeffStep
abandon_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    if (!is_unwound(MACHINE_OF(cx), frame, error)) {
        return DOEFF_PASS; /* a finally that raised: whoever comes next gets that */
    }
    trace_drop(MACHINE_OF(cx));
    return frame->kind->on_value(cx, frame, NULL, out);
}

static const DoeffFrameKind abandon_to_value_frame = {
    .name = "AbandonFrame", .on_value = abandon_to_value, .on_error = abandon_error,
};

static const DoeffFrameKind abandon_to_program_frame = {
    .name = "AbandonFrame", .on_value = abandon_to_program, .on_error = abandon_error,
};

/* The loop takes what comes next for the yield of the program below. */
static const DoeffFrameKind abandon_to_yield_frame = {
    .name = "AbandonFrame", .on_value = abandon_to_program, .on_error = abandon_error,
};

static const DoeffFrameKind abandon_to_error_frame = {
    .name = "AbandonFrame", .on_value = abandon_to_error, .on_error = abandon_error,
};

static const DoeffFrameKind *
abandon_kind(DoeffStep next)
{
    return next == DOEFF_VALUE     ? &abandon_to_value_frame
           : next == DOEFF_PROGRAM ? &abandon_to_program_frame
                                   : &abandon_to_error_frame;
}

static int
is_abandon(const DoeffFrameKind *kind)
{
    return kind->on_error == abandon_error;
}

/* Puts an abandon frame at index `at` of the fiber's frames and sets the GeneratorExit that it waits for. */
static int
insert_abandon(DoeffFiber *fiber, Py_ssize_t at, const DoeffFrameKind *kind, PyObject *what /* stolen */)
{
    PyObject *closing = PyObject_CallNoArgs(PyExc_GeneratorExit);
    if (closing == NULL) {
        Py_DECREF(what);
        return -1;
    }
    if (fiber_push(fiber, kind, what, Py_NewRef(closing)) < 0) {
        Py_DECREF(closing);
        return -1;
    }
    DoeffFrame frame = fiber->frames[fiber->len - 1];
    memmove(fiber->frames + at + 1, fiber->frames + at, sizeof(DoeffFrame) * (size_t)(fiber->len - 1 - at));
    fiber->frames[at] = frame;
    PyErr_SetRaisedException(closing);
    return 0;
}

int
machine_unwind(DoeffMachine *m, DoeffFiber *top, DoeffFiber *bottom, HandlerNode *outside, DoeffStep next,
               PyObject *what)
{
    DoeffFiber *here = m->fiber;
    fiber_mask_chain(top, bottom, outside);
    bottom->parent = NULL;
    if (insert_abandon(here, here->len, abandon_kind(next), what) < 0) {
        fiber_free_chain(m->cx.st, top);
        return -1;
    }
    bottom->parent = here;
    m->fiber = top;
    return 0;
}

int
machine_unwind_frames(DoeffMachine *m, Py_ssize_t count, DoeffStep next, PyObject *what)
{
    DoeffFiber *last = NULL; /* the outermost that is left behind as a whole */
    machine_show(m);         /* the new frame may come between that of a body and what is below it */
    for (DoeffFiber *fiber = m->fiber; fiber != NULL; last = fiber, fiber = fiber->parent) {
        if (count <= fiber->len) {
            if (insert_abandon(fiber, fiber->len - count, abandon_kind(next), what) < 0) {
                return -1;
            }
            if (last != NULL) {
                fiber_mask_chain(m->fiber, last, fiber->node);
            }
            return 0;
        }
        count -= fiber->len + (fiber->node->depth - fiber->base->depth);
        if (count < 0) {
            break;
        }
    }
    Py_DECREF(what);
    PyErr_SetString(PyExc_ValueError, "a part of a continuation cannot begin between two handlers of one list");
    return -1;
}

int
machine_unwind_all(DoeffMachine *m, DoeffStep next, PyObject *what)
{
    DoeffFiber *root = m->fiber;
    while (root->parent != NULL) {
        root = root->parent;
    }
    return insert_abandon(root, 0, abandon_kind(next), what);
}

void
machine_orphan(DoeffMachine *m, DoeffFiber *top, DoeffFiber *bottom)
{
    bottom->parent = NULL;
    if (m->over || m->discarding || (m->fiber == NULL && m->scheduler == NULL)) {
        if (m->scheduler != NULL) { /* of a task that is discarded in the middle of a handler */
            scheduler_drop_frames(m->scheduler, top);
        }
        fiber_free_chain(m->cx.st, top);
        return;
    }
    /* Somebody dropped the last reference in the middle of something: the loop unwinds
       the chain as soon as it is back. */
    if (m->orphans_len == m->orphans_cap) {
        int cap = m->orphans_cap == 0 ? 4 : m->orphans_cap * 2;
        DoeffFiber **grown = PyMem_Realloc(m->orphans, sizeof(DoeffFiber *) * (size_t)cap * 2);
        if (grown == NULL) { /* no memory to defer it: close the generators here */
            if (m->scheduler != NULL) {
                scheduler_drop_frames(m->scheduler, top);
            }
            fiber_free_chain(m->cx.st, top);
            return;
        }
        m->orphans = grown;
        m->orphans_cap = cap;
    }
    m->orphans[m->orphans_len * 2] = top;
    m->orphans[m->orphans_len * 2 + 1] = bottom;
    m->orphans_len++;
    m->cx.attention = 1;
    if (m->fiber != NULL) {
        m->fiber->attends = 1;
    }
}

/* Below a generator that performs effects on its way out: however it ends, the next one outside is closed as well.
 * b: the GeneratorExit. */
static DoeffStep
closing_value(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **Py_UNUSED(out))
{
    (void)cx;
    PyErr_SetRaisedException(Py_NewRef(frame->b));
    return DOEFF_RAISE;
}

static const DoeffFrameKind closing_frame = {
    .name = "AbandonFrame",
    .on_value = closing_value,
};

/* Without memory for it, the rest of the chain goes on with the generator's value. */
static void
keep_closing(DoeffFiber *fiber, PyObject *closing)
{
    if (fiber->len > 1 && fiber->frames[fiber->len - 2].kind == &closing_frame) {
        return;
    }
    if (fiber_push(fiber, &closing_frame, NULL, Py_NewRef(closing)) < 0) {
        PyErr_Clear();
        return;
    }
    DoeffFrame frame = fiber->frames[fiber->len - 1];
    fiber->frames[fiber->len - 1] = fiber->frames[fiber->len - 2];
    fiber->frames[fiber->len - 2] = frame;
}

/* Between two dropped chains, which are unwound one after the other. b: the GeneratorExit of all of them. */
static DoeffStep
next_dropped_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    DoeffMachine *m = MACHINE_OF(cx);
    if (!is_unwound(m, frame, error)) { /* a finally that raised: that comes out below the next chain */
        DoeffFiber *end = m->fiber;
        while (!end->ends_dropped) {
            end = end->parent;
        }
        if (fiber_push(end->parent, &abandon_to_error_frame, Py_NewRef(error), Py_NewRef(frame->b)) < 0) {
            return DOEFF_RAISE;
        }
        trace_park(m, error);
    }
    trace_drop(m);
    return closing_value(cx, frame, NULL, out);
}

static const DoeffFrameKind next_dropped_frame = {
    .name = "AbandonFrame", .on_value = closing_value, .on_error = next_dropped_error,
};

/* Unwinds all the dropped chains, the first one first; then what (stolen) happens here, as kind says. The
 * exception to go on with meanwhile is set. */
static void
unwind_orphans(DoeffMachine *m, const DoeffFrameKind *kind, PyObject *what)
{
    DoeffFiber *here = m->fiber;
    if (insert_abandon(here, here->len, kind, what) < 0) { /* no memory: their generators are closed here */
        PyObject *error = PyErr_GetRaisedException();
        while (m->orphans_len > 0) {
            m->orphans_len--;
            fiber_free_chain(m->cx.st, m->orphans[m->orphans_len * 2]);
        }
        PyErr_SetRaisedException(error);
        return;
    }
    PyObject *closing = here->frames[here->len - 1].b;
    while (m->orphans_len > 0) {
        m->orphans_len--;
        DoeffFiber *top = m->orphans[m->orphans_len * 2];
        DoeffFiber *bottom = m->orphans[m->orphans_len * 2 + 1];
        if (m->orphans_len > 0 && fiber_push(top, &next_dropped_frame, NULL, Py_NewRef(closing)) < 0) {
            PyErr_SetRaisedException(Py_NewRef(closing));
            fiber_free_chain(m->cx.st, top); /* no memory: its generators are closed here */
            continue;
        }
        fiber_mask_chain(top, bottom, here->node);
        bottom->ends_dropped = 1;
        bottom->in_handler = 0; /* whatever body it was opened by */
        Py_XSETREF(bottom->ret_env, Py_NewRef(m->cx.env)); /* it ends somewhere else than it began */
        bottom->parent = m->fiber;
        m->fiber = top;
    }
}

/* ---- the loop ---- */

/* PyIter_Send without its detour for what has no am_send: generators and coroutines have it. */
static inline PySendResult
send_into(PyObject *gen, PyObject *value, PyObject **out)
{
    PyAsyncMethods *async = Py_TYPE(gen)->tp_as_async;
    return DOEFF_LIKELY(async != NULL && async->am_send != NULL) ? async->am_send(gen, value, out)
                                                                : PyIter_Send(gen, value, out);
}

/* The generator that gen delegates to and that has not ended (strong); NULL if there is none, no error. */
static PyObject *
delegate_of(PyObject *gen)
{
    int coroutine = PyCoro_CheckExact(gen);
    PyObject *sub = !coroutine && !PyGen_CheckExact(gen)
                        ? NULL
                        : PyObject_GetAttrString(gen, coroutine ? "cr_await" : "gi_yieldfrom");
    coroutine = sub != NULL && PyCoro_CheckExact(sub);
    if (sub != NULL && !coroutine && !PyGen_CheckExact(sub)) {
        Py_CLEAR(sub);
    }
    PyObject *frame = sub == NULL ? NULL : PyObject_GetAttrString(sub, coroutine ? "cr_frame" : "gi_frame");
    if (frame == NULL || frame == Py_None) {
        Py_CLEAR(sub);
    }
    Py_XDECREF(frame);
    PyErr_Clear();
    return sub;
}

/* gen.throw(GeneratorExit) closes what gen delegates to, and a finally there may not yield then. So it is thrown
 * into the innermost one first, and outward as they end. What comes out at last (strong), or NULL with the
 * exception that is to go into gen itself in *exc (stolen and given anew). */
static PyObject *
throw_exit(EngineState *st, PyObject *gen, PyObject **exc)
{
    PyObject *inner;
    while ((inner = delegate_of(gen)) != NULL) {
        for (PyObject *sub; (sub = delegate_of(inner)) != NULL; inner = sub) {
            Py_DECREF(inner);
        }
        PyObject *yielded = PyObject_CallMethodOneArg(inner, st->str_throw, *exc);
        Py_DECREF(inner);
        if (yielded != NULL) {
            Py_CLEAR(*exc);
            return yielded;
        }
        if (PyErr_ExceptionMatches(PyExc_StopIteration)) {
            PyErr_Clear(); /* it returned all the same: that changes nothing for the one outside */
        }
        else {
            Py_SETREF(*exc, PyErr_GetRaisedException());
        }
    }
    return NULL;
}

/* exc (stolen) goes into gen at its yield. What PyIter_Send would say of the outcome. */
static PySendResult
throw_into(EngineState *st, PyObject *gen, PyObject *exc, PyObject **out)
{
    if (PyErr_GivenExceptionMatches(exc, PyExc_GeneratorExit)
        && (*out = throw_exit(st, gen, &exc)) != NULL) {
        return PYGEN_NEXT;
    }
    *out = PyObject_CallMethodOneArg(gen, st->str_throw, exc);
    Py_DECREF(exc);
    if (*out != NULL) {
        return PYGEN_NEXT;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    PyObject *stop = PyErr_GetRaisedException();
    if (!PyErr_GivenExceptionMatches(stop, PyExc_StopIteration)) { /* no memory to normalise it */
        PyErr_SetRaisedException(stop);
        return PYGEN_ERROR;
    }
    *out = PyObject_GetAttrString(stop, "value");
    Py_DECREF(stop);
    return *out == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

DoeffStep
machine_blame(DoeffMachine *m, PyObject *effect, DoeffStep step)
{
    if (PyErr_Occurred()) { /* a value was promised, and an error came instead: that tells more */
        return DOEFF_RAISE;
    }
    PyObject *name = m->delegate != NULL ? Py_NewRef(m->delegate->name)
                     : m->at != NULL     ? node_handler_name(m->at)
                                         : PyUnicode_FromString("of the machine");
    if (name != NULL) {
        PyErr_Format(PyExc_SystemError,
                     step == DOEFF_RAISE ? "handler %U failed on %R without setting an exception"
                                         : "handler %U answered %R without giving an object",
                     name, effect);
        Py_DECREF(name);
    }
    return DOEFF_RAISE;
}

/* The same for a frame. */
static DoeffStep
blame_frame(const DoeffFrame *frame, DoeffStep step)
{
    if (!PyErr_Occurred()) {
        PyErr_Format(PyExc_SystemError,
                     step == DOEFF_RAISE ? "frame %s failed without setting an exception"
                                         : "frame %s answered without giving an object",
                     frame->kind->name);
    }
    return DOEFF_RAISE;
}

static inline DoeffStep
checked(DoeffMachine *m, const DoeffFrame *frame, DoeffStep step, PyObject *answer)
{
    if (DOEFF_UNLIKELY(step_is_broken(m, step, answer))) {
        return blame_frame(frame, step);
    }
    return step;
}

/* The time is up; if not, the clock is read again after as many effects as were short. */
static int
loop_time_is_up(DoeffMachine *m)
{
    long long now = compat_monotonic_ns();
    int stride = now - m->looked_at > m->stride * LOOP_SHORT_NS ? 1 : m->stride * 2;
    m->unlooked = m->stride = stride < LOOP_STRIDE ? stride : LOOP_STRIDE;
    m->looked_at = now;
    return now - m->turn_began >= LOOP_NS;
}

/* The event loop drives the run: is it to get a turn now? */
static int
loop_is_due(DoeffMachine *m)
{
    return m->loop_turn || --m->effects_left <= 0 || (--m->unlooked <= 0 && loop_time_is_up(m));
}

typedef enum { PACE_ON = 0, PACE_LOOP_TURN, PACE_BUDGET_SPENT } Pace;

/* Of a run that is paced: so many steps have been taken. Every effect leads here, by the attention that it sets. */
static Pace
pace(DoeffMachine *m, int steps)
{
    m->cx.attention = 1;
    if (m->budget != 0) {
        m->steps_left -= steps;
        if (m->steps_left < 0) {
            m->steps_left = m->budget * STEPS_PER_TURN;
            return PACE_BUDGET_SPENT;
        }
    }
    return m->aio != NULL && loop_is_due(m) ? PACE_LOOP_TURN : PACE_ON;
}

/* StepBudgetExceeded comes before what (stolen), in main. As scheduler_interrupt. */
static DoeffStep
budget_spent(DoeffMachine *m, AnswerKind kind, PyObject *what)
{
    PyObject *generator = Py_None;
    for (DoeffFiber *fiber = m->fiber; fiber != NULL && generator == Py_None; fiber = fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0 && generator == Py_None; i--) {
            generator = fiber->frames[i - 1].kind == &return_frame ? fiber->frames[i - 1].a : Py_None;
        }
    }
    PyObject *error = import_call("doeff._errors", "budget_spent", "(LO)", m->budget, generator);
    return scheduler_interrupt(m, kind, what, error != NULL ? error : PyErr_GetRaisedException(), 1);
}

static RunEnd
pause_run(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject **out)
{
    m->paused = how;
    *out = what;
    scheduler_pause(m);
    return RUN_PAUSED;
}

/* The loop, compiled twice: for a run, where turn is NULL and its tests vanish, and for step(), which stops where
 * the next turn would begin. */
#define TURN_ENDS(what_next, control, is_plain)                              \
    if (turn != NULL && !turn->begins) {                                    \
        *turn = (Turn){.next = (what_next), .plain = (is_plain)};             \
        *out = (control);                                                     \
        scheduler_pause(m);                                                   \
        return RUN_STEPPED;                                                   \
    }                                                                         \
    if (turn != NULL) {                                                       \
        turn->begins = 0;                                                     \
    }

DOEFF_INLINE RunEnd
loop(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject **out, Turn *turn)
{
    EngineState *st = m->cx.st;
    PyObject *value = what;   /* control: a value on its way down */
    PyObject *error = NULL;   /* control: an error on its way down */
    PyObject *yielded = what; /* control: something to perform */
    PyObject *rest;           /* control: either, when the budget of turns is spent, as rest_kind says */
    AnswerKind rest_kind;
    Pace next;                /* of a paced run, for `paced` */
    DoeffHandlerContext *forwarder = NULL;
    HandlerNode *node = m->fiber->node;
    if (m->scheduler != NULL) {
        scheduler_go_on(m);
    }
    if (how == DOEFF_RAISE) {
        error = trace_begin(m, NULL);
        goto fail;
    }
    if (how == DOEFF_PROGRAM) {
        if (turn != NULL && !turn->plain) {
            goto yielded;
        }
        if (turn != NULL) {
            turn->begins = 0;
        }
        if (DOEFF_UNLIKELY(m->orphans_len > 0)) {
            unwind_orphans(m, &abandon_to_program_frame, yielded);
            goto raised;
        }
        goto perform;
    }
    if (how == DOEFF_BLOCK) {
        goto next_task;
    }
    if (DOEFF_UNLIKELY(m->orphans_len > 0)) { /* dropped while nobody drove the run */
        goto unwind_orphan;
    }
    goto deliver;

deliver: /* value goes to the top frame */
    TURN_ENDS(DOEFF_VALUE, value, 0)
    {
        DoeffFiber *fiber = m->fiber;
        if (DOEFF_UNLIKELY(fiber->len == 0)) {
            if (fiber->parent == NULL) {
                if (DOEFF_UNLIKELY(m->orphans_len > 0)) {
                    goto unwind_orphan;
                }
                if (m->scheduler == NULL) {
                    *out = value;
                    return RUN_DONE;
                }
                scheduler_task_over(m, value, NULL);
                goto next_task;
            }
            leave_fiber(m);
            goto deliver;
        }
        DoeffFrame *top = &fiber->frames[fiber->len - 1];
        if (DOEFF_LIKELY(top->kind == &return_frame)) {
        send:;
            PySendResult sent = send_into(top->a, value, &yielded);
            Py_DECREF(value);
            if (DOEFF_LIKELY(sent == PYGEN_NEXT)) {
                goto yielded;
            }
            if (sent == PYGEN_RETURN) {
                goto generator_returned;
            }
            goto generator_failed;
        }
        if (top->kind == &suspended_frame) {
            top->kind = &return_frame;
            suspended_show(fiber->handling);
            goto send;
        }
        if (top->kind == &handler_result_frame) {
            int over = handler_body_over(&m->cx, fiber, value);
            if (DOEFF_LIKELY(over > 0)) {
                if (DOEFF_UNLIKELY(m->cx.attention) && m->fiber != fiber) {
                    m->cx.forwarder = NULL;
                    goto attend; /* a Python handler has answered an effect */
                }
                goto deliver;
            }
            if (over < 0) {
                error = trace_begin(m, NULL);
                Py_DECREF(value);
                goto fail;
            }
        }
        DoeffFrame frame = *top;
        fiber->len--;
        DoeffStep step = DOEFF_PASS;
        PyObject *answer = NULL;
        if (frame.kind->on_value != NULL) {
            step = frame.kind->on_value(&m->cx, &frame, value, &answer);
            step = checked(m, &frame, step, answer);
        }
        if (step == DOEFF_PASS) {
            answer = value;
        }
        else {
            Py_DECREF(value);
        }
        if (DOEFF_UNLIKELY(step == DOEFF_RAISE)) {
            error = trace_begin(m, NULL);
        }
        Py_XDECREF(frame.a);
        Py_XDECREF(frame.b);
        if (step == DOEFF_PROGRAM) {
            yielded = answer;
            if (DOEFF_UNLIKELY(frame.kind == &abandon_to_yield_frame)) {
                goto yielded;
            }
            goto run_program;
        }
        if (DOEFF_UNLIKELY(step == DOEFF_RAISE)) {
            goto fail;
        }
        if (DOEFF_UNLIKELY(step == DOEFF_BLOCK)) {
            goto next_task;
        }
        value = answer;
        if (DOEFF_UNLIKELY(m->cx.attention) && frame.kind == &handler_result_frame && m->fiber != fiber) {
            m->cx.forwarder = NULL;
            goto attend; /* a Python handler has answered an effect */
        }
        goto deliver;
    }

generator_returned: /* yielded is what the top frame's generator returned */
    {
        DoeffFiber *fiber = m->fiber;
        DoeffFrame done = fiber->frames[--fiber->len];
        value = yielded;
        Py_DECREF(done.a);
        Py_XDECREF(done.b);
        if (DOEFF_UNLIKELY(m->cx.attention)) {
            if (m->orphans_len > 0) { /* its locals held a continuation */
                goto unwind_orphan;
            }
            goto breathe;
        }
        goto deliver;
    }

yielded: /* by the program of the current fiber */
    TURN_ENDS(DOEFF_PROGRAM, yielded, 0)
    {
        DoeffFiber *fiber = m->fiber;
        node = fiber->node;
        forwarder = NULL;
        if (DOEFF_UNLIKELY(fiber->handling != NULL || fiber->yields_slowly)) {
            fiber->attends = 0;
            if (m->orphans_len > 0) { /* it has dropped a continuation since its last yield */
                unwind_orphans(m, &abandon_to_yield_frame, yielded);
                goto raised;
            }
            forwarder = forwarder_of(fiber, yielded);
        }
        goto perform;
    }

run_program: /* handed to the machine by a frame or an effect function */
    TURN_ENDS(DOEFF_PROGRAM, yielded, 1)
    node = m->fiber->node;
    forwarder = NULL;

perform:
    {
        PyTypeObject *type = Py_TYPE(yielded);
        if (type == st->KleisliCall_Type) {
            goto call;
        }
        NodeEntry *entry = node_probe(node, type);
        if (DOEFF_UNLIKELY(entry->type != type)) {
            entry = node_resolve(st, node, type);
            if (entry == NULL) {
                goto perform_failed;
            }
        }
        PyObject *answer = NULL;
        m->at = entry->node;
        m->cx.data = entry->data;
        m->cx.forwarder = forwarder;
        DoeffStep step = entry->fn(&m->cx, yielded, &answer);
        if (DOEFF_LIKELY(step == DOEFF_VALUE && answer != NULL)) {
            Py_DECREF(yielded);
            value = answer;
            if (DOEFF_UNLIKELY(m->cx.attention)) {
                if (m->at == NULL && m->orphans_len == 0) { /* a program has been started */
                    goto breathe;
                }
                goto attend;
            }
            goto deliver;
        }
        if (step == STEP_BODY) {
            Py_DECREF(yielded);
            if (turn == NULL && DOEFF_LIKELY(!m->cx.attention)) {
                PySendResult sent = Py_TYPE(answer)->tp_as_async->am_send(answer, Py_None, &yielded);
                if (DOEFF_LIKELY(sent == PYGEN_NEXT)) {
                    goto yielded;
                }
                if (sent == PYGEN_RETURN) {
                    goto generator_returned;
                }
                goto generator_failed;
            }
            value = Py_NewRef(Py_None);
            if (m->cx.attention) {
                goto attend;
            }
            goto deliver;
        }
        if (step == STEP_SPENT) {
            value = answer;
            if (DOEFF_UNLIKELY(m->cx.attention)) {
                if (m->orphans_len == 0) {
                    goto breathe;
                }
                goto attend;
            }
            goto deliver;
        }
        if (DOEFF_UNLIKELY(step_is_broken(m, step, answer))) {
            step = machine_blame(m, yielded, step);
        }
        switch (step) {
        case DOEFF_PROGRAM:
            Py_SETREF(yielded, answer);
            goto run_program;
        case DOEFF_PASS:
            node = m->at->parent;
            goto perform;
        case DOEFF_OUTSIDE:
            node = m->at->parent;
            Py_SETREF(yielded, answer);
            forwarder = NULL;
            if (mask(m, m->at) < 0) { /* an effect may carry a program, which runs outside too */
                goto perform_failed;
            }
            goto perform;
        case DOEFF_BLOCK:
            Py_CLEAR(yielded);
            goto next_task;
        case DOEFF_ESCAPE:
            Py_CLEAR(yielded);
            *out = answer;
            scheduler_pause(m);
            return RUN_ESCAPED;
        default:
            goto perform_failed;
        }
    }

call: /* of a @do function */
    {
        PyObject *answer;
        m->cx.forwarder = NULL;
        DoeffStep step = kleisli_call_start(&m->cx, yielded, &answer);
        if (DOEFF_UNLIKELY(step == DOEFF_RAISE)) {
            goto perform_failed;
        }
        if (DOEFF_LIKELY(step == DOEFF_PASS && m->orphans_len == 0)) {
            PySendResult sent = Py_TYPE(answer)->tp_as_async->am_send(answer, Py_None, &yielded);
            if (sent == PYGEN_RETURN) {
                goto generator_returned;
            }
            if (DOEFF_LIKELY(sent == PYGEN_NEXT)) {
                goto yielded;
            }
            goto generator_failed;
        }
        if (step == DOEFF_PROGRAM) {
            yielded = answer;
            goto run_program;
        }
        value = step == DOEFF_PASS ? Py_NewRef(Py_None) : answer;
        if (DOEFF_UNLIKELY(m->orphans_len > 0)) {
            goto unwind_orphan;
        }
        goto breathe;
    }

perform_failed:
    error = trace_begin(m, yielded);
    Py_CLEAR(yielded);
    if (DOEFF_UNLIKELY(m->cx.attention && m->scheduler != NULL)) { /* an error is an answer as well */
        int ends = scheduler_turn_ends(m);
        if (ends < 0) {
            Py_SETREF(error, trace_begin(m, NULL));
        }
        else if (ends) {
            trace_park_pending(m, error);
            scheduler_requeue(m, ANSWER_ERROR, error);
            error = NULL;
            goto next_task;
        }
    }
    if (DOEFF_UNLIKELY(m->paced)) {
    pace_error:
        switch (pace(m, STEPS_PER_TURN)) {
        case PACE_LOOP_TURN:
            trace_park_pending(m, error);
            return pause_run(m, DOEFF_RAISE, error, out);
        case PACE_BUDGET_SPENT:
            trace_park_pending(m, error);
            rest = error;
            rest_kind = ANSWER_ERROR;
            error = NULL;
            goto spent;
        default:
            break;
        }
    }
    goto fail;

generator_failed: /* the top frame's generator is finished by the exception that is set */
    {
        DoeffFiber *fiber = m->fiber;
        error = trace_begin(m, NULL);
        if (Py_IS_TYPE(error, (PyTypeObject *)PyExc_RuntimeError)) {
            aio_explain(error);
        }
        trace_note(m, &fiber->frames[fiber->len - 1], error);
        DoeffFrame done = fiber->frames[--fiber->len];
        Py_DECREF(done.a);
        Py_XDECREF(done.b);
        goto fail;
    }

fail: /* error goes to the top frame */
    TURN_ENDS(DOEFF_RAISE, error, 0)
    if (DOEFF_UNLIKELY(m->orphans_len > 0)) {
        trace_park_pending(m, error);
        unwind_orphans(m, &abandon_to_error_frame, error); /* raised again when they are closed */
        error = trace_begin(m, NULL);
    }
    {
        DoeffFiber *fiber = m->fiber;
        if (fiber->len == 0) {
            trace_note_scope(m, fiber);
            if (fiber->parent == NULL) {
                if (m->scheduler == NULL) {
                    *out = error;
                    return RUN_FAILED;
                }
                scheduler_task_over(m, NULL, error);
                error = NULL;
                goto next_task;
            }
            leave_fiber(m);
            goto fail;
        }
        DoeffFrame *top = &fiber->frames[fiber->len - 1];
        if (top->kind == &suspended_frame) {
            top->kind = &return_frame;
            suspended_show(fiber->handling);
        }
        if (DOEFF_LIKELY(top->kind == &return_frame)) {
            PyObject *thrown = Py_NewRef(error);
            PySendResult sent = throw_into(st, top->a, error, &yielded);
            if (sent == PYGEN_ERROR) {
                Py_DECREF(thrown);
                goto generator_failed;
            }
            trace_park(m, thrown);
            if (DOEFF_UNLIKELY(fiber->unwinding && Py_IS_TYPE(thrown, (PyTypeObject *)PyExc_GeneratorExit))) {
                if (sent == PYGEN_RETURN) { /* it does not stop the unwinding */
                    DoeffFrame done = fiber->frames[--fiber->len];
                    Py_DECREF(yielded);
                    Py_DECREF(done.a);
                    Py_XDECREF(done.b);
                    PyErr_SetRaisedException(thrown);
                    goto raised;
                }
                keep_closing(fiber, thrown);
            }
            Py_DECREF(thrown);
            if (sent == PYGEN_NEXT) {
                goto yielded;
            }
            goto generator_returned;
        }
        DoeffFrame frame = *top;
        trace_note(m, top, error);
        fiber->len--;
        DoeffStep step = DOEFF_PASS;
        PyObject *answer = NULL;
        if (frame.kind->on_error != NULL) {
            step = frame.kind->on_error(&m->cx, &frame, error, &answer);
            step = checked(m, &frame, step, answer);
        }
        if (step == DOEFF_RAISE) {
            Py_SETREF(error, trace_begin(m, NULL));
        }
        Py_XDECREF(frame.a);
        Py_XDECREF(frame.b);
        if (step == DOEFF_PASS || step == DOEFF_RAISE) {
            goto fail;
        }
        trace_drop(m);
        Py_CLEAR(error);
        if (step == DOEFF_PROGRAM) {
            yielded = answer;
            if (DOEFF_UNLIKELY(frame.kind == &abandon_to_yield_frame)) {
                goto yielded;
            }
            goto run_program;
        }
        if (DOEFF_UNLIKELY(step == DOEFF_BLOCK)) {
            goto next_task;
        }
        value = answer;
        goto deliver;
    }

next_task: /* the current task waits, is over, or has had its turn */
    {
        PyObject *answer = NULL;
        int failed = 0;
        switch (scheduler_next(m, &answer, &failed)) {
        case DOEFF_VALUE:
            value = answer;
            if (DOEFF_UNLIKELY(m->orphans_len > 0)) { /* of a task that is over */
                goto unwind_orphan;
            }
            goto turn_begins;
        case DOEFF_PROGRAM:
            yielded = answer;
            if (DOEFF_UNLIKELY(m->paced)) {
                switch (pace(m, STEPS_PER_TURN)) {
                case PACE_LOOP_TURN:
                    return pause_run(m, DOEFF_PROGRAM, yielded, out);
                case PACE_BUDGET_SPENT:
                    rest = yielded;
                    rest_kind = ANSWER_PROGRAM;
                    goto spent;
                default:
                    break;
                }
            }
            goto run_program;
        case DOEFF_RAISE:
            error = trace_begin(m, NULL);
            if (DOEFF_UNLIKELY(m->paced)) {
                goto pace_error;
            }
            goto fail;
        default: /* the run is over */
            *out = answer;
            return failed ? RUN_FAILED : RUN_DONE;
        }
    }

attend: /* between two effects: value is the answer of the last one */
    if (m->orphans_len > 0) {
    unwind_orphan: /* attention stays: a task may wait */
        unwind_orphans(m, &abandon_to_value_frame, value);
    raised:
        error = trace_begin(m, NULL); /* GeneratorExit, or no memory for it */
        goto fail;
    }
    m->cx.attention = 0;
    if (m->scheduler != NULL) {
        int ends = scheduler_turn_ends(m);
        if (ends < 0) {
            Py_CLEAR(value);
            error = trace_begin(m, NULL);
            goto fail;
        }
        if (ends) {
            scheduler_requeue(m, ANSWER_VALUE, value);
            goto next_task;
        }
    }

turn_begins: /* with value */
    if (DOEFF_LIKELY(!m->paced)) {
        goto deliver;
    }
    next = pace(m, STEPS_PER_TURN);
    goto paced;

breathe: /* value is what goes on; where an event loop drives the run, it may get its turn first */
    if (DOEFF_LIKELY(!m->paced)) {
        goto deliver;
    }
    next = pace(m, 1);
paced:
    if (next == PACE_LOOP_TURN) {
        return pause_run(m, DOEFF_VALUE, value, out);
    }
    if (next == PACE_BUDGET_SPENT) {
        rest = value;
        rest_kind = ANSWER_VALUE;
        goto spent;
    }
    goto deliver;

spent: /* the run's budget of turns; rest is what the task was to go on with */
    if (budget_spent(m, rest_kind, rest) == DOEFF_RAISE) {
        error = trace_begin(m, NULL);
        goto fail;
    }
    goto next_task;
}

RunEnd
machine_run(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject **out)
{
    return loop(m, how, what, out, NULL);
}

RunEnd
machine_turn(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject **out, Turn *turn)
{
    turn->begins = 1;
    return loop(m, how, what, out, turn);
}

/* ---- the object ---- */

void
machine_show(DoeffMachine *m)
{
    while (m->suspended_len > 0) {
        suspended_show(m->suspended[m->suspended_len - 1].ctx);
    }
}

void
machine_track(DoeffMachine *m)
{
    machine_show(m);
    if (!PyObject_GC_IsTracked((PyObject *)m)) {
        PyObject_GC_Track((PyObject *)m);
    }
}

DoeffMachine *
machine_new(EngineState *st, HandlerNode *chain, PyObject *env, PyObject *store)
{
    DoeffMachine *m = (DoeffMachine *)freelist_pop(&st->free_machines);
    if (m == NULL) {
        m = PyObject_GC_New(DoeffMachine, st->Machine_Type);
    }
    if (m == NULL) {
        Py_DECREF(env);
        Py_DECREF(store);
        return NULL;
    }
    m->cx = (DoeffContext){.env = env, .store = store, .st = st};
    m->fiber = NULL;
    m->at = NULL;
    m->delegate = NULL;
    m->trace = NULL;
    m->run_data = NULL;
    m->scheduler = NULL;
    m->scope_base = m->loop_time = m->schedule = NULL;
    m->nodes_shared = m->loop_turn = m->unfinished_wait = 0;
    m->aio = NULL;
    m->budget = st->step_budget;
    m->steps_left = m->budget * STEPS_PER_TURN + STEPS_PER_TURN - 1;
    m->cx.attention = m->paced = m->budget != 0;
    m->close_timeout = 5.0;
    m->suspended = NULL;
    m->suspended_len = m->suspended_cap = 0;
    m->orphans = NULL;
    m->orphans_len = m->orphans_cap = 0;
    m->thread = 0;
    m->over = m->discarding = m->at_work = 0;
    m->turns = m->turn_views = 0;
    m->turn_plain = 0;
    m->fiber = fiber_new(st, NULL, chain, (HandlerNode *)st->root_node);
    if (m->fiber == NULL) {
        Py_DECREF(m);
        return NULL;
    }
    return m;
}

static int
machine_traverse(PyObject *op, visitproc visit, void *arg)
{
    DoeffMachine *m = (DoeffMachine *)op;
    Py_VISIT(Py_TYPE(op));
    if (m->at_work) {
        return 0;
    }
    Py_VISIT(m->cx.env);
    Py_VISIT(m->cx.store);
    Py_VISIT(m->cx.scopes);
    Py_VISIT(m->trace);
    Py_VISIT(m->run_data);
    for (int i = 0; i < m->orphans_len; i++) {
        int failed = fiber_traverse(m->orphans[i * 2], visit, arg);
        if (failed) {
            return failed;
        }
    }
    Py_VISIT(m->loop_time);
    Py_VISIT(m->schedule);
    int failed = m->scheduler == NULL ? 0 : scheduler_traverse(m->scheduler, visit, arg);
    return failed ? failed : fiber_traverse(m->fiber, visit, arg);
}

static int
machine_clear(PyObject *op)
{
    DoeffMachine *m = (DoeffMachine *)op;
    m->over = 1;
    if (m->scheduler != NULL) {
        scheduler_free(m);
    }
    DoeffFiber *fiber = m->fiber;
    m->fiber = NULL;
    fiber_free_chain(m->cx.st, fiber);
    while (m->orphans_len > 0) {
        m->orphans_len--;
        fiber_free_chain(m->cx.st, m->orphans[m->orphans_len * 2]);
    }
    Py_CLEAR(m->cx.env);
    Py_CLEAR(m->cx.store);
    Py_CLEAR(m->cx.scopes);
    Py_CLEAR(m->trace);
    Py_CLEAR(m->run_data);
    Py_CLEAR(m->loop_time);
    Py_CLEAR(m->schedule);
    return 0;
}

static void
machine_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    if (PyObject_GC_IsTracked(op)) {
        PyObject_GC_UnTrack(op);
    }
    (void)machine_clear(op);
    PyMem_Free(((DoeffMachine *)op)->orphans);
    PyMem_Free(((DoeffMachine *)op)->suspended);
    if (((PyHeapTypeObject *)tp)->ht_module != NULL
        && freelist_push(&((DoeffMachine *)op)->cx.st->free_machines, op)) {
        return;
    }
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyType_Slot machine_slots[] = {
    {Py_tp_dealloc, machine_dealloc},
    {Py_tp_traverse, machine_traverse},
    {Py_tp_clear, machine_clear},
    {0, NULL},
};

static PyType_Spec machine_spec = {
    .name = "doeff._engine.Machine",
    .basicsize = sizeof(DoeffMachine),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = machine_slots,
};

int
machine_room_init(PyObject *module, EngineState *st)
{
    st->Machine_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &machine_spec, NULL);
    return st->Machine_Type == NULL ? -1 : 0;
}
