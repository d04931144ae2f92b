/* kleisli: @do functions, their calls, and how arguments that are programs are evaluated.
 *
 * do(f) gives a KleisliProgram; calling it gives a KleisliCall and runs nothing. When
 * the call is performed, each passed argument that is a program is evaluated first,
 * unless its parameter's annotation asks for a program; then f is called. The table of
 * such parameters (the plan) is worked out once per function, at its first run.
 *
 * A KleisliCall holds its arguments inline: positionals, then keyword values in the
 * order of kwnames. It is immutable. Most calls are performed and gone at once, so a
 * fresh one comes from a small pool by size, whose members the collector does not know;
 * one that lives on leaves the pool, and the collector is told.
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
    int bound;                 /* the first argument is an instance or class: never evaluated */
    char pooled;               /* 0: the collector knows the call */
    char suspect;              /* some argument may be a program */
    char unseen;               /* no need to show it: its owner is a live task */
    PyObject *args[];
} KleisliCall;

/* Performs a call (stolen, but not by DOEFF_RAISE). DOEFF_PASS: *out is a generator on top that has not
 * begun (borrowed from its frame). */
DoeffStep kleisli_call_start(DoeffContext *cx, PyObject *call, PyObject **out);
/* Calls a Python handler with (effect, ctx), arguments as they are; its result frame is on top. STEP_BODY: *out is the
 * generator of its body (borrowed from its frame). */
DoeffStep kleisli_call_handler(DoeffContext *cx, PyObject *handler, PyObject *effect, PyObject *ctx,
                               PyObject **out);
/* Shows the calls of the pools that are alive, but for one (borrowed or NULL), to the collector: they are
 * members no longer. */
void kleisli_show_calls(EngineState *st, PyObject *except);
/* The same, and the dead ones are freed. */
void kleisli_drain_calls(EngineState *st);
/* A call that only its task and the effect that spawned it know: the collector need not see it. */
void kleisli_keep_unseen(EngineState *st, PyObject *program);
/* The number of its arguments, if program is such a call, plain and of so many at most: they and its KleisliProgram
 * (all strong) say what it said. -1: it is anything else. */
int kleisli_take_apart(EngineState *st, PyObject *program, int most, PyObject **kleisli, PyObject **args);
/* The generator (strong) that performing the call of these parts begins with. NULL, no error: that does not begin with
 * one; it is to be put together and performed. */
PyObject *kleisli_begin(PyObject *kleisli, PyObject *const *args, int n);
/* A call of that again (strong); NULL with an error. Takes its parts, also on failure. */
PyObject *kleisli_put_together(EngineState *st, PyObject *kleisli, PyObject **args, int n);
int kleisli_room_init(PyObject *module, EngineState *st);

#endif
