/* trace: where an error came from and what it crossed.
 *
 * A trace hangs on the machine while an error is in flight: it begins where the
 * exception was raised (with the effect that raised it, if one did), gets an entry for
 * each frame the error crosses, and is dropped when the error is caught. It keeps
 * the innermost TRACE_INNER entries and the outermost TRACE_OUTER, and holds no Python
 * frame: code objects and offsets, and texts. An exception that somebody keeps while its
 * generator goes on (a finally that performs effects, the Err of a Safe) carries its trace
 * along in its __dict__ under __doeff_trace__; raising it again continues a copy of that.
 *
 * Recording never fails: without memory the trace has gaps, or there is none.
 *
 *   error   whose trace this is; borrowed and only ever compared
 *   effect  what raised it: an effect or a program that failed as it started; its text
 *           takes its place as soon as somebody keeps the trace for good
 *   mark    first entry of error's traceback that is recorded already; borrowed and only compared
 */
#ifndef DOEFF_TRACE_H
#define DOEFF_TRACE_H

#include "../machine/machine.h"

#define TRACE_INNER 200 /* as the contract words it */
#define TRACE_OUTER 50
#define TRACE_SMALL 4   /* a caught error rarely crosses more */

typedef struct TraceEntry {
    const char *kind; /* the frame's name; NULL: seen in the Python stack only (a helper, a sub-generator) */
    PyObject *code;   /* of a Python frame; strong, or NULL */
    PyObject *text;   /* description of the frame; strong, or NULL: none, or made from the code */
    int lasti;        /* byte offset of the failing instruction in code; -1: not known */
} TraceEntry;

typedef struct DoeffTrace {
    PyObject_HEAD
    PyObject *error;
    PyObject *effect;      /* strong or NULL */
    PyObject *effect_name; /* str, strong or NULL: Ask */
    PyObject *effect_args; /* str, strong or NULL: 'key' */
    int is_effect;         /* effect is an effect, not another program */
    const void *mark;
    Py_ssize_t count;      /* entries ever added */
    Py_ssize_t cap;        /* room in inner */
    TraceEntry *inner;     /* small or a heap block */
    TraceEntry *outer;     /* ring of TRACE_OUTER; NULL until inner is full */
    TraceEntry small[TRACE_SMALL];
} DoeffTrace;

/* Takes the exception that is set (strong) and starts its trace, or goes on with the one it carries. */
PyObject *trace_begin(DoeffMachine *m, PyObject *effect /* borrowed or NULL */);
/* The error is about to cross (or has just ended) this frame. Never fails. */
void trace_note(DoeffMachine *m, const DoeffFrame *frame, PyObject *error);
/* The error leaves a fiber: its handlers' scopes end. */
void trace_note_scope(DoeffMachine *m, DoeffFiber *fiber);
/* A generator caught the error and goes on. */
void trace_park(DoeffMachine *m, PyObject *error);
/* The same for an error that is raised again later, by whoever holds the caller's reference. */
static inline void
trace_park_pending(DoeffMachine *m, PyObject *error)
{
    Py_INCREF(error); /* parking wants to see that somebody else holds it */
    trace_park(m, error);
    Py_DECREF(error);
}
static inline void
trace_drop(DoeffMachine *m)
{
    Py_CLEAR(m->trace);
}

/* The CapturedTraceback (strong) of an error that a frame catches for good, for Err's
 * captured_traceback; NULL with an error set. To be called from the frame's on_error. It is
 * cheap: stacks and texts are built when somebody looks. error carries the trace along. */
PyObject *trace_capture(DoeffMachine *m, PyObject *error);

/* The trace of the error in flight, completed and free of the user's objects; strong, or NULL
 * when nothing could be recorded (no error set). */
DoeffTrace *trace_finish(DoeffMachine *m, PyObject *error);

/* Entries that are there: 0 is the innermost. */
static inline Py_ssize_t
trace_kept(const DoeffTrace *t)
{
    return t->count < TRACE_INNER + TRACE_OUTER ? t->count : TRACE_INNER + TRACE_OUTER;
}

/* Entries that were dropped between number TRACE_INNER - 1 and number TRACE_INNER. */
static inline Py_ssize_t
trace_gap(const DoeffTrace *t)
{
    return t->count - trace_kept(t);
}

static inline const TraceEntry *
trace_entry(const DoeffTrace *t, Py_ssize_t i)
{
    return i < TRACE_INNER ? &t->inner[i] : &t->outer[(i + trace_gap(t) - TRACE_INNER) % TRACE_OUTER];
}

int trace_room_init(PyObject *module, EngineState *st);

#endif
