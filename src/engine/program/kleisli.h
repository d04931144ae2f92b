/* kleisli: @do functions, their calls, and how arguments that are programs are evaluated.
 *
 * do(f) gives a KleisliProgram; calling it gives a KleisliCall and runs nothing. When
 * the call is performed, each passed argument that is a program is evaluated first,
 * unless its parameter's annotation asks for a program; then f is called. The table of
 * such parameters (the plan) is worked out once per function, at its first run.
 *
 * A KleisliCall holds its arguments inline: positionals, then keyword values in the
 * order of kwnames. It is immutable and comes from a free list by size.
 */
#ifndef DOEFF_KLEISLI_H
#define DOEFF_KLEISLI_H

#include "combinators.h"

typedef struct Kleisli {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    EngineState *st;   /* borrowed: our type keeps the module */
    PyObject *func;    /* the user's function; strong */
    PyObject *plan;    /* NULL: not worked out; None: every program argument is evaluated; else what
                          doeff._annotations.plan made of the annotations */
    PyObject *names;   /* dict of names visible where @do was applied that its annotations use; or NULL */
    PyObject *dict;    /* __name__, __doc__ ... and what users add */
    PyObject *weakrefs;
    int runs_result;   /* KleisliProgram(func): a program that func returns is run */
} Kleisli;

typedef struct KleisliBound {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *kleisli; /* strong */
    PyObject *self;    /* strong */
} KleisliBound;

/* k.partial(...), and k >> f, k << f: calling one makes a program of what calling target gives. */
typedef struct KleisliDerived {
    Kleisli base;      /* func and metadata of the innermost target; its plan is not used */
    PyObject *target;  /* anything of this room that can be called; strong */
    PyObject *args;    /* partial: tuple; strong */
    PyObject *kwargs;  /* partial: dict, never shown; strong */
    PyObject *f;       /* composed: strong */
    BindKind bind;     /* composed: what f is to the program */
} KleisliDerived;

typedef struct KleisliCall {
    PyObject_VAR_HEAD          /* ob_size: all arguments, keywords included */
    Kleisli *kleisli;          /* strong */
    PyObject *kwnames;         /* tuple or NULL; strong */
    PyObject *created_at;      /* strong or NULL */
    int nursery;               /* slot of the nursery; -1: the collector knows the call */
    int bound;                 /* the first argument is an instance or class: never evaluated */
    PyObject *args[];
} KleisliCall;

DoeffStep kleisli_call_start(DoeffContext *cx, PyObject *call, PyObject **out);
/* Calls a Python handler with (effect, ctx), arguments as they are; its result frame is on top. */
DoeffStep kleisli_call_handler(DoeffContext *cx, PyObject *handler, PyObject *effect, PyObject *ctx,
                               PyObject **out);
/* Shows every young call to the collector. */
void kleisli_empty_nursery(EngineState *st);
int kleisli_room_init(PyObject *module, EngineState *st);

#endif
