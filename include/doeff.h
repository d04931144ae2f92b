/* doeff.h: what a family of effects, its handler and its frames are made of.
 *
 * The machine calls an effect function when an effect of its type is performed
 * and no handler further in has taken it. The function answers in place, raises,
 * hands a program to the machine, or lets the effect pass outward. A program runs
 * at the origin of the effect, with every handler in force there; the function
 * says what is to happen when it is done by pushing frames first.
 *
 * Ownership: arguments are borrowed, *out is a strong reference for DOEFF_VALUE
 * and DOEFF_PROGRAM and untouched otherwise. DOEFF_RAISE goes with an exception
 * that is set.
 */
#ifndef DOEFF_H
#define DOEFF_H

#include <Python.h>

typedef struct DoeffContext DoeffContext; /* the running task, as handlers see it */
typedef struct DoeffFrame DoeffFrame;

typedef enum {
    DOEFF_RAISE = -1, /* an exception is set: raised at the yield */
    DOEFF_VALUE = 0,  /* *out is the answer */
    DOEFF_PROGRAM,    /* *out is to be run; what it gives goes to the frame on top */
    DOEFF_PASS,       /* effect: not mine, the next handler outward; frame: as if I were not there */
    DOEFF_OUTSIDE,    /* effects only: *out (effect or program) is performed in its place, outside this handler */
} DoeffStep;

typedef DoeffStep (*DoeffEffectFn)(DoeffContext *cx, PyObject *effect, PyObject **out);

/* A frame: what to do with a value and what to do with an error, and two objects to do
 * it with. It is popped before either function runs; its references are released after. */
typedef struct DoeffFrameKind {
    const char *name; /* as stack traces show it */
    DoeffStep (*on_value)(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out); /* NULL: pass */
    DoeffStep (*on_error)(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out); /* NULL: pass */
    PyObject *(*describe)(const DoeffFrame *frame); /* str for stack traces; NULL: the empty one */
    int records; /* b is an open scope that records what is told or stepped (effects/scopes.h) */
} DoeffFrameKind;

struct DoeffFrame {
    const DoeffFrameKind *kind;
    PyObject *a; /* strong or NULL */
    PyObject *b; /* strong or NULL */
};

struct DoeffContext {
    PyObject *env;         /* FrozenDict in force; strong; change with context_set_env */
    PyObject *store;       /* dict of the task; strong; write through context_store */
    struct EngineState *st;
    struct DoeffHandlerContext *forwarder; /* a handler's body yielded the effect that it was given; borrowed */
    PyObject *scopes;      /* the innermost open Listen or CaptureGraph scope, or NULL; strong */
    int attention;         /* something waits to be looked at between two effects */
    int store_shared;      /* the dict is also somebody's snapshot: copy before writing */
};

#endif
