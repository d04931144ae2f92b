/* kontinuation: a continuation as Python sees it, a lazy sequence of frames.
 *
 * ctx.k, ctx.delimited_k and ctx.outer_k are views of one HandlerContext: making one
 * is O(1), and handing one back unchanged resumes in O(1). Frames become FrameView
 * objects only when somebody indexes, iterates or compares. [frame, ...] + k is a
 * view with a prefix of Python frames; every other list operation gives a list.
 */
#ifndef DOEFF_KONTINUATION_H
#define DOEFF_KONTINUATION_H

#include "machine.h"

typedef enum {
    K_ALL,       /* from the origin to the root */
    K_DELIMITED, /* from the origin up to the handler */
    K_OUTER,     /* from the handler outward */
    K_REST,      /* what comes below a Python frame that is being run */
    K_ORIGIN,    /* target only: resume where the effect was performed */
    K_NOTHING,   /* target only: the empty continuation, which ends the task */
} KPart;

typedef struct KontinuationTarget {
    DoeffHandlerContext *ctx; /* borrowed from k; NULL: the one of the handler itself */
    DoeffMachine *machine;    /* borrowed from k; of K_REST */
    size_t turn;              /* K_REST: of a state after this turn of step(); 0: of a frame in a run */
    KPart part;               /* K_ORIGIN, K_OUTER, K_REST or K_NOTHING */
    Py_ssize_t skip;          /* K_ORIGIN: frames to leave behind first, counted from the innermost */
    PyObject *prefix;         /* strong or NULL: tuple of Python frames to run first, innermost first; or NULL */
} KontinuationTarget;

PyObject *kontinuation_new(EngineState *st, DoeffHandlerContext *ctx /* borrowed */, KPart part);
/* The whole of ctx's continuation; neither is shown to the collector before kontinuation_track. */
PyObject *kontinuation_young(EngineState *st, DoeffHandlerContext *ctx /* borrowed */);
void kontinuation_track(PyObject *k);
/* The continuation of the state after the machine's last turn; when all of them are gone, so is the run. */
PyObject *kontinuation_of_turn(EngineState *st, DoeffMachine *machine /* borrowed */);
PyObject *kontinuation_rest(EngineState *st, DoeffMachine *machine /* borrowed */);
/* What a K given back by a handler means; -1 with TypeError for what is no continuation. NULL:
 * K_ORIGIN. The caller releases prefix. */
int kontinuation_target(EngineState *st, PyObject *k, KontinuationTarget *target);
/* k, which must be a Kontinuation, is all of ctx's continuation, nothing in front? */
int kontinuation_is_whole(PyObject *k, DoeffHandlerContext *ctx);
/* The context that a continuation object looks at (borrowed), or NULL. k may be any object. */
DoeffHandlerContext *kontinuation_context(PyObject *k);
/* The handlers from node outward as a list of HandlerFrame views. */
PyObject *kontinuation_handlers(EngineState *st, HandlerNode *node);
int kontinuation_room_init(PyObject *module, EngineState *st);

#endif
