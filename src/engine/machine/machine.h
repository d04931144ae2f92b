/* machine: the loop, and the structures it runs on.
 *
 * A run is one DoeffMachine. Its current continuation is a stack of fibers; each
 * fiber is a contiguous stack of frames above a range of handler nodes. A value or
 * an error goes to the top frame of the current fiber; a fiber without frames is
 * left for its parent.
 *
 *   fiber->node     innermost handler in force while this fiber runs
 *   fiber->base     first node that is not this fiber's own; the range [node, base)
 *                   is the handlers whose scope ends when the fiber ends
 *   fiber->parent   who gets the fiber's result; NULL for a root or a captured chain
 *
 * Nodes form an immutable chain outward and may be shared by any number of fibers
 * and runs. Each node caches type of yielded object -> what to do with it.
 *
 * A Python handler h that gets an effect captures the chain from the current fiber
 * to the one that owns h into the HandlerContext; its body runs as a frame of the
 * fiber outside, above a HandlerResultFrame. Resuming links the chain back. Both
 * are O(1): nothing is copied.
 *
 * Fibers, frames and nodes belong to one run (or to a HandlerContext that holds a
 * captured chain) and are touched by one thread at a time.
 */
#ifndef DOEFF_MACHINE_H
#define DOEFF_MACHINE_H

#include "../state.h"

typedef struct HandlerNode HandlerNode;
typedef struct DoeffFiber DoeffFiber;
typedef struct DoeffMachine DoeffMachine;
typedef struct DoeffHandlerContext DoeffHandlerContext;

/* ---- handler nodes ---- */

typedef struct NodeEntry {
    PyTypeObject *type; /* strong; NULL: empty */
    DoeffEffectFn fn;
    HandlerNode *node;  /* borrowed: on our own chain outward; NULL for the machine's own controls */
    PyObject *data;     /* what a native handler keeps for itself; borrowed from it, or NULL */
} NodeEntry;

#define NODE_CACHE_SIZE 32 /* a power of two; direct-mapped, so a program with more classes only searches more */

struct HandlerNode {
    PyObject_HEAD
    HandlerNode *parent;  /* outward; strong; NULL for the last one, which handles nothing */
    PyObject *handler;    /* what was installed; strong; NULL in the last node */
    PyObject *wants;      /* tuple of classes a Python handler is narrowed to; NULL: all; strong */
    DoeffFiber *owner;    /* hint: the fiber that owns this node in the run that made it, or NULL */
    int depth;            /* handlers outward of this one */
    int foreign;          /* the cache holds classes that are not the engine's */
    int pure;             /* a native handler from here outward has a case for PureEffect */
    NodeEntry *cache;     /* NODE_CACHE_SIZE entries; a constant empty row until first asked */
};

/* A chain with handler in front of parent. wants is worked out from annotations. */
HandlerNode *node_new(EngineState *st, PyObject *handler, HandlerNode *parent);
/* The chain for a run's handlers (a tuple, outermost first; strong). The last chain is kept
 * and used again when the handlers are the same ones and no other run is using it. */
HandlerNode *node_chain_for(EngineState *st, PyObject *handlers);
/* That chain (strong) if it is for these handlers and free; NULL, no error, if not. */
HandlerNode *node_chain_again(EngineState *st, PyObject *const *handlers, Py_ssize_t n);
/* The run that used the chain is over: forget classes that are not ours. */
void node_scrub(HandlerNode *chain);
/* Who serves an object of this type, seen from node outward; NULL with an error set. */
NodeEntry *node_resolve(EngineState *st, HandlerNode *node, PyTypeObject *type);

static inline NodeEntry *
node_probe(HandlerNode *node, PyTypeObject *type)
{
    size_t bits = (size_t)type;
    return &node->cache[((bits >> 5) ^ (bits >> 10)) & (NODE_CACHE_SIZE - 1)];
}

PyObject *node_handler_name(HandlerNode *node); /* str, strong */
int node_room_init(PyObject *module, EngineState *st);
/* A program that hands effect to a native handler as if it stood next outward. */
PyObject *delegate_new(EngineState *st, PyObject *handler /* borrowed */, PyObject *effect /* borrowed */);
DoeffStep delegate_start(DoeffContext *cx, PyObject *program, PyObject **out);
int delegate_room_init(PyObject *module, EngineState *st);

/* ---- native handlers ---- */

typedef struct NativeCase {
    PyTypeObject *type; /* strong */
    DoeffEffectFn fn;   /* NULL: effects of this type pass, whatever their bases say */
} NativeCase;

typedef struct NativeHandler {
    PyObject_HEAD
    PyObject *name;     /* str */
    PyObject *data;     /* the handler's own state, cx->data while it is in charge; or NULL */
    DoeffEffectFn any;  /* for every effect that no case serves; or NULL */
    const DoeffFrameKind *scope; /* how its fiber shows in stack traces; NULL: HandlerFrame */
    Py_ssize_t ncases;
    NativeCase *cases;
} NativeHandler;

NativeHandler *native_handler_new(EngineState *st, const char *name, PyObject *data /* borrowed or NULL */,
                                  DoeffEffectFn any);
int native_handler_check(PyObject *op); /* 1 if op is one, of any interpreter */
/* The function for an effect of this type, that of the nearest base in its MRO; or NULL. */
DoeffEffectFn native_handler_case(NativeHandler *handler, PyTypeObject *type);
int native_handler_serve(NativeHandler *handler, PyTypeObject *type, DoeffEffectFn fn);

/* ---- fibers ---- */

#define FIBER_INLINE_FRAMES 2 /* 24 bytes each: a task that waits has one as a rule, and is not to pay for more */

struct DoeffFiber {
    DoeffFiber *parent;
    HandlerNode *node;              /* strong */
    HandlerNode *base;              /* borrowed: on node's chain */
    PyObject *ret_env;              /* environment of the parent's frames; strong or NULL */
    DoeffHandlerContext *handling;  /* innermost handler body on this fiber; borrowed from its frame */
    DoeffFrame *frames;             /* inline_frames or a heap block */
    Py_ssize_t len, cap;
    DoeffHandlerContext *attached;  /* contexts whose attached chain ends with this fiber; borrowed, linked */
    union {
        struct {
            unsigned char in_handler; /* opened by a handler's body */
            unsigned char attends;  /* a continuation was dropped while it ran: look before its next effect */
        };
        unsigned short yields_slowly; /* either */
    };
    unsigned char unwinding;        /* being abandoned: handlers of its continuation are out of force */
    unsigned char ends_dropped;     /* the outermost of a dropped chain that is being unwound */
    short hinted;                   /* some node's owner was this fiber: to be looked for at the end */
    DoeffFrame inline_frames[FIBER_INLINE_FRAMES];
};

/* ---- the machine ---- */

struct DoeffMachine {
    PyObject_HEAD
    DoeffContext cx;                /* first, so that a context is a machine */
    DoeffFiber *fiber;              /* current; NULL before and after the run */
    HandlerNode *at;                /* node in charge of the effect being dispatched; NULL for the machine's own */
    NativeHandler *delegate;        /* called by a handler's body, in charge without a node; borrowed, or NULL */
    PyObject *trace;                /* DoeffTrace of the error in flight, or NULL */
    struct DoeffScheduler *scheduler; /* tasks (scheduler/scheduler.h), from the first effect on that needs them; owned */
    PyObject *scope_base;           /* scopes of the caller that the running task's lie in; borrowed from the task */
    int nodes_shared;               /* tasks share handler nodes: node->owner says nothing */
    struct AsyncRun *aio;           /* the event loop's driver of the run (aio/aio.h); borrowed; NULL: none */
    int paced;                      /* an event loop drives the run, or its turns are counted */
    long long steps_left;           /* of the budget, in STEPS; counts only if there is one */
    long long budget;               /* what there was; 0: none */
    int loop_turn;                  /* the event loop is to get a turn before the run goes on */
    int effects_left;               /* effects until it gets one anyway */
    int unlooked, stride;           /* effects until the clock is read again, and from one reading to the next */
    long long turn_began;           /* when the run was last gone on with, ns */
    long long looked_at;            /* when the clock was last read, ns */
    DoeffStep paused;               /* after RUN_PAUSED: how to go on */
    PyObject *loop_time;            /* the event loop's clock; strong; NULL: no event loop */
    PyObject *schedule;             /* how ready tasks were chosen, or NULL; strong */
    double close_timeout;           /* seconds that tasks have to end in when the run does */
    int unfinished_wait;            /* the end of the run waits for tasks instead of cancelling them */
    PyObject *run_data;             /* dict of what all tasks share (rundata.h), or NULL; strong */
    struct DoeffSuspended *suspended; /* bodies that wait for the rest and that the collector does not see */
    int suspended_len, suspended_cap;
    DoeffFiber **orphans;           /* chains nobody can resume any more, to be unwound: top, bottom, top, ... */
    int orphans_len, orphans_cap;   /* pairs */
    unsigned long thread;           /* who drives it; 0: nobody */
    int over;                       /* the run has ended */
    int discarding;                 /* what is dropped now is closed: no effect of its cleanup is performed */
    int at_work;                    /* it is tracked, but a root: the collector is shown nothing of it */
    int turn_plain;                 /* Turn.plain of the last turn */
    size_t turns;                   /* driven by step(): turns taken; 0: by a run function */
    size_t turn_views;              /* continuations of the state after the last turn that exist */
};

/* A handler's body that waits for the rest of the program (`yield ctx.resume(value)`), hidden from the collector. */
typedef struct DoeffSuspended {
    DoeffHandlerContext *ctx; /* borrowed from its result frame */
    PyObject *generator;      /* borrowed from the frame above that, a suspended_frame */
} DoeffSuspended;

#define MACHINE_OF(context) ((DoeffMachine *)((char *)(context) - offsetof(DoeffMachine, cx)))

typedef enum { RUN_DONE = 0, RUN_FAILED, RUN_ESCAPED, RUN_PAUSED, RUN_STEPPED } RunEnd;

/* What one turn of the loop is told, and where it stopped. */
typedef struct Turn {
    DoeffStep next; /* a value, an error or something to perform comes next */
    int plain;      /* to perform: no yield of a program, so never a forwarded effect */
    int begins;     /* the loop's own: nothing has been done yet */
} Turn;

#define STEPS_PER_TURN 128      /* a program that ends without an effect is one step: a loop over such ends as well */
#define LOOP_TURNS 1000     /* the longest that an event loop waits for a turn: so many effects, */
#define LOOP_NS 1000000LL   /* or so many ns and the effects at work then: one, but after short ones at most LOOP_STRIDE */
#define LOOP_STRIDE 8       /* effects between two readings of the clock (about 20 ns each) where effects are short, */
#define LOOP_SHORT_NS (LOOP_NS / LOOP_TURNS) /* that is, where the number alone would keep within the time */

/* A machine ready to run program under chain; takes env and store (stolen). */
DoeffMachine *machine_new(EngineState *st, HandlerNode *chain /* borrowed */, PyObject *env, PyObject *store);
/* Goes on with what (stolen: a value; NULL with DOEFF_RAISE, for the exception that is set; any object to be
 * performed as a program; NULL with DOEFF_BLOCK, when the current task has been queued) until the run ends, an effect
 * escapes, or the event loop is to get a turn: RUN_DONE and its value, RUN_FAILED and the exception that left it,
 * RUN_ESCAPED and the action, whose answer the run goes on with, RUN_PAUSED and what it goes on with in the way that
 * m->paused says (an exception with DOEFF_RAISE). *out is strong. */
RunEnd machine_run(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject **out);
/* The same for one turn: at most one generator is resumed or one handler called. turn->plain says of how ==
 * DOEFF_PROGRAM what turn->plain said when it came. RUN_STEPPED and the next control (strong), told by *turn. */
RunEnd machine_turn(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject **out, Turn *turn);
/* Unwinds a captured chain by GeneratorExit, which is set for the caller to deliver; its finally
 * blocks perform their effects under the handlers from `outside` on. Then `next` happens with what (stolen:
 * value, program, or exception) at what is the top now. -1 with another error set. */
int machine_unwind(DoeffMachine *m, DoeffFiber *top, DoeffFiber *bottom, HandlerNode *outside /* borrowed */,
                   DoeffStep next, PyObject *what);
/* The same for the innermost `count` frames and handlers of the current continuation. */
int machine_unwind_frames(DoeffMachine *m, Py_ssize_t count, DoeffStep next, PyObject *what);
/* The same for the whole current continuation: the task ends with what. */
int machine_unwind_all(DoeffMachine *m, DoeffStep next, PyObject *what);
/* The last reference to a captured chain is gone: it is unwound before the next effect is performed, after those
 * that were dropped before it. */
void machine_orphan(DoeffMachine *m, DoeffFiber *top, DoeffFiber *bottom);
/* 1 if a step is not what it says: no object, no exception, a wait without a scheduler. */
static inline int
step_is_broken(DoeffMachine *m, DoeffStep step, PyObject *answer)
{
    return answer == NULL && step != DOEFF_PASS && !(step == DOEFF_RAISE && PyErr_Occurred())
           && !(step == DOEFF_BLOCK && m->scheduler != NULL);
}

/* What an effect function answered breaks its promise: SystemError that names the handler. */
DoeffStep machine_blame(DoeffMachine *m, PyObject *effect, DoeffStep step);
int machine_room_init(PyObject *module, EngineState *st);

/* The function for a program's type, or NULL. Calls of @do functions are started by the loop itself. */
DoeffEffectFn machine_program_fn(EngineState *st, PyTypeObject *type);

DoeffFiber *fiber_new(EngineState *st, DoeffFiber *parent, HandlerNode *node /* borrowed */,
                      HandlerNode *base);
/* The same in a block of its size from PyMem_Malloc (stolen): cannot fail. */
DoeffFiber *fiber_new_in(void *block, DoeffFiber *parent, HandlerNode *node /* borrowed */, HandlerNode *base);
void fiber_free(EngineState *st, DoeffFiber *fiber);
/* Gives up a frame that is on no stack any more; a generator that nobody else holds is closed. */
void frame_release(EngineState *st, DoeffFrame frame);
/* The same for one that has run out of frames. */
static inline void
fiber_free_empty(EngineState *st, DoeffFiber *fiber)
{
    if (DOEFF_UNLIKELY(fiber->attached != NULL || fiber->hinted || fiber->frames != fiber->inline_frames)) {
        fiber_free(st, fiber);
        return;
    }
    HandlerNode *node = fiber->node;
    PyObject *ret_env = fiber->ret_env;
    if (!freelist_push_raw(&st->free_fibers, fiber)) {
        PyMem_Free(fiber);
    }
    Py_DECREF(node);
    Py_XDECREF(ret_env);
}

/* Frees top and all its parents, innermost frame first. */
void fiber_free_chain(EngineState *st, DoeffFiber *top);
/* A chain is being abandoned: only what lies outside it is in force in it from now on. */
void fiber_mask_chain(DoeffFiber *top, DoeffFiber *bottom, HandlerNode *outside);
/* A kept chain is resumed where the handlers outside it are others: its own get twins above outside. */
int fiber_rebase_chain(EngineState *st, DoeffFiber *top, DoeffFiber *bottom, HandlerNode *outside);
int fiber_traverse(DoeffFiber *top, visitproc visit, void *arg);
int fiber_grow(DoeffFiber *fiber);

/* Pushes a frame; takes a and b (stolen, also on failure). */
static inline int
fiber_push(DoeffFiber *fiber, const DoeffFrameKind *kind, PyObject *a, PyObject *b)
{
    if (DOEFF_UNLIKELY(fiber->len == fiber->cap) && fiber_grow(fiber) < 0) {
        Py_XDECREF(a);
        Py_XDECREF(b);
        return -1;
    }
    fiber->frames[fiber->len++] = (DoeffFrame){kind, a, b};
    return 0;
}

/* ---- what effect functions use ---- */

/* Keeps bottom known to the fiber while ctx is attached, so that a split or an end of the fiber is seen. */
void ctx_mark_bottom(DoeffHandlerContext *ctx);
void ctx_unmark_bottom(DoeffHandlerContext *ctx);

/* A forward_frame is dropped unfinished: frees the bodies that wait for it. op: its context. */
void forward_release(EngineState *st, PyObject *op);

/* To be called first by an effect function that runs a program: puts a forwarded effect's
 * origin back in force, so that frames land there and cx->env is the one there. */
int context_enter_origin(DoeffContext *cx);

static inline int
context_begin(DoeffContext *cx)
{
    return cx->forwarder == NULL ? 0 : context_enter_origin(cx);
}

static inline int
context_push(DoeffContext *cx, const DoeffFrameKind *kind, PyObject *a /* stolen */, PyObject *b /* stolen */)
{
    return fiber_push(MACHINE_OF(cx)->fiber, kind, a, b);
}

static inline void
context_set_env(DoeffContext *cx, PyObject *env /* stolen */)
{
    Py_SETREF(cx->env, env);
}

int context_unshare_store(DoeffContext *cx);

/* The task's dict, ready to be written to (borrowed); NULL with an error. */
static inline PyObject *
context_store(DoeffContext *cx)
{
    if (DOEFF_UNLIKELY(cx->store_shared) && context_unshare_store(cx) < 0) {
        return NULL;
    }
    return cx->store;
}

/* The open scopes follow jumps (scopes.h). A captured chain comes back: its scopes
 * are opened again, inside those that are open here. A chain is left behind without an end: only
 * the scopes of the current continuation stay open. */
void scopes_rejoin(DoeffContext *cx, DoeffFiber *top, DoeffFiber *bottom);
void scopes_leave(DoeffContext *cx);

/* Opens a fiber in which handler (strong reference taken by the node) is in force; the
 * program started next runs in it. */
int context_install(DoeffContext *cx, PyObject *handler);

/* ---- frame kinds of the machine ---- */

extern const DoeffFrameKind return_frame;         /* a: generator, b: KleisliProgram or NULL */
extern const DoeffFrameKind suspended_frame;      /* the same, of a body that waits; the collector need not see a */
extern const DoeffFrameKind handler_result_frame; /* a: HandlerContext */
extern const DoeffFrameKind replacement_frame;    /* a: HandlerContext */
extern const DoeffFrameKind forward_frame;        /* a: HandlerContext of the forwarder, b: its env */
extern const DoeffFrameKind object_frame;         /* a: an object with on_value and on_error */

/* The frame of a generator, at work or suspended. */
static inline int
is_return(const DoeffFrame *frame)
{
    return frame->kind == &return_frame || frame->kind == &suspended_frame;
}

/* ---- handler contexts ---- */

typedef enum {
    CTX_CAPTURED, /* holds the chain top..bottom */
    CTX_ATTACHED, /* the chain is linked into the run for a forwarded effect's program */
    CTX_RESUMED,  /* the chain went back into the run for good */
    CTX_LOOSE,    /* made by hand, for unit tests of handlers */
} CtxState;

struct DoeffHandlerContext {
    PyObject_HEAD
    unsigned char state;        /* CtxState */
    unsigned char body_done;    /* its HandlerResultFrame is gone */
    unsigned char tracked;      /* the collector knows it */
    unsigned char rare;         /* one of the fields at the end has been set */
    int hidden;                 /* its body is machine->suspended[hidden - 1]; 0: the collector sees it */
    DoeffMachine *machine;      /* strong; NULL when loose */
    DoeffFiber *top, *bottom;   /* owned while captured */
    HandlerNode *node;          /* the handler at work; strong */
    PyObject *effect;           /* strong */
    PyObject *env;              /* at the origin; strong */
    DoeffHandlerContext *outer_body; /* handler body further down on the same fiber; borrowed */
    PyObject *scopes;           /* open scopes at the origin; strong or NULL */
    PyObject *after_env;        /* resumed in the middle: environment where the scope ends; strong */
    /* From here on all is NULL as a rule, in contexts of the free list always: two cache lines are enough. */
    DoeffHandlerContext *inner; /* forwarded: the context of the handler whose body yielded it; strong */
    DoeffHandlerContext *outward; /* attached: the forwarder one handler further out; borrowed */
    DoeffHandlerContext *attached_next; /* the next one on bottom->attached */
    DoeffFiber *body_top, *body_bottom; /* its body, while a forwarded effect's program runs; owned */
    HandlerNode *resumed_by;    /* whose body resumed it, if that was another handler; strong */
    PyObject *loose;            /* tuple of the constructor's arguments, when loose */
};

/* ---- what the collector sees ---- */

/* All bodies that are hidden are shown: from here on something that owns frames may be garbage. */
void machine_show(DoeffMachine *m);
/* The machine, which is not at work, is no root any more. */
void machine_track(DoeffMachine *m);
/* The body of ctx, which waited, has been popped, or goes on: it is shown, if it is hidden. */
void suspended_show(DoeffHandlerContext *ctx);

/* ---- handlers at work ---- */

/* What only the two functions below say to the loop. */
#define STEP_BODY ((DoeffStep)16)  /* the generator of a body has been pushed, and is to be started */
#define STEP_SPENT ((DoeffStep)17) /* *out is the answer; the reference to what was performed is taken */

/* The effect function of every Python handler: capture, call, run the body. */
DoeffStep python_handler_fn(DoeffContext *cx, PyObject *effect, PyObject **out);
/* The frame on top of the current fiber is a handler_result_frame, and value the result of its body: 1 if that is over,
 * the usual way, and value goes on; -1 if so does the exception that is set; 0 if the frame is to be asked. */
int handler_body_over(DoeffContext *cx, DoeffFiber *fiber, PyObject *value /* borrowed */);
/* For the effect function of a native handler: program (stolen) is run in place of effect, outside
 * the handler, as a handler's body: yielding the effect again forwards it, its origin unchanged. */
DoeffStep handler_replace(DoeffContext *cx, PyObject *effect, PyObject *program, PyObject **out);
/* For effect functions: takes the continuation of effect up to the handler in charge off and gives it (a
 * HandlerContext, strong). The machine stands outside the handler from then on. */
PyObject *handler_keep(DoeffContext *cx, PyObject *effect);
/* Links a kept continuation above the current frames: its effect gives value, or raises the exception that is set
 * if value is NULL. */
DoeffStep handler_resume(DoeffContext *cx, PyObject *k, PyObject *value /* borrowed or NULL */, PyObject **out);
/* For handlers of another shape (v1), which are called in place: captures the chain up to the handler in
 * charge (m->at), so that the current fiber is the one outside it. Nothing has been pushed. Strong. */
DoeffHandlerContext *handler_capture(DoeffContext *cx, PyObject *effect);
/* From here on what runs is the handler's body, until the frame of this kind that ends it. */
int handler_begin_body(DoeffContext *cx, DoeffHandlerContext *ctx, const DoeffFrameKind *kind);
/* Back at the origin, with a value or an error. */
DoeffStep handler_resume_origin(DoeffContext *cx, DoeffHandlerContext *ctx);
/* Goes to continuation k from a handler whose own chain is in ctx; step and *out (or the exception that
 * is set) say with what. result is the object that held k: nobody else may know it, nor then the chain. */
DoeffStep handler_go_to(DoeffContext *cx, DoeffHandlerContext *ctx, PyObject *result, PyObject *k, PyObject *env,
                        PyObject *store, DoeffStep step, PyObject **out);
/* From here on it may be part of a cycle: the collector sees it, and through it the chain that it owns. */
void handler_track(DoeffHandlerContext *ctx);
/* Others than the caller hold the context: its chain may be resumed later. */
void handler_track_if_kept(DoeffHandlerContext *ctx);
/* ctx.resume(value) and ctx.throw(error): the collector gets to know the last one, if it is alive. */
void handler_show_resumption(EngineState *st);
/* They are performed. */
DoeffStep resumption_start(DoeffContext *cx, PyObject *program, PyObject **out);
int handler_room_init(PyObject *module, EngineState *st);

#endif
