/* v1: the handler API of the first version, as a layer over the same machine.
 *
 * A v1 handler is a plain function handler(effect, task_state, store) that gives a FrameResult. The
 * layer is one native handler, inside the preset: its cases are the classes of the user's dictionary,
 * so that what the dictionary leaves alone never comes here. For a case the machine captures the chain
 * up to the layer, as for a handler written with @do, calls the function in place (no frame, no
 * generator) and goes where the result says.
 *
 *   dictionary   class -> function, the user's entries only; the layer's data
 *   cases        the same classes, and with no function those that the dictionary leaves to the preset
 *
 * A Request is performed by a handler body in Python (doeff._v1), above a handler_result_frame of the
 * same context: it may block, and it performs its effects outside the layer.
 */
#ifndef DOEFF_V1_H
#define DOEFF_V1_H

#include "../machine/machine.h"

/* ---- results.c: the four FrameResults and the Requests ---- */

/* What a FrameResult says. out is strong; error is strong; the others are borrowed from the result. */
typedef struct FrameOutcome {
    DoeffStep step;   /* DOEFF_VALUE, DOEFF_PROGRAM: out. DOEFF_RAISE: error */
    PyObject *out;
    PyObject *error;
    PyObject *env, *store, *k;
} FrameOutcome;

/* 1: result was read into outcome; 0: it is no FrameResult; -1: a field of it is wrong, TypeError. */
int frame_result_read(EngineState *st, PyObject *result, FrameOutcome *outcome);
/* A new FrameResult; value is stolen, also on failure. */
PyObject *frame_result_new(RecordInfo *info, PyObject *value, PyObject *env, PyObject *store, PyObject *k);
int request_check(EngineState *st, PyObject *op);
/* Starts the generator of a ContinueGenerator. */
DoeffStep driven_start(DoeffContext *cx, PyObject *program, PyObject **out);

/* ---- taskstate.c ---- */

/* What a v1 handler sees of the task. Environment and continuation are there from the start, as members, which
 * the interpreter reads without a call; the other two are made when somebody asks. */
typedef struct TaskState {
    PyObject_HEAD
    DoeffHandlerContext *ctx; /* strong; NULL: made by hand, and then every field is there */
    PyObject *control, *env, *kontinuation, *status; /* strong; NULL: not asked for yet, or deleted */
} TaskState;

/* The collector knows nothing of it, nor of its continuation and context. */
TaskState *task_state_new(EngineState *st, DoeffHandlerContext *ctx /* borrowed */);
/* The handler has returned: lets go of the state, which the collector is shown if somebody kept it. */
void task_state_done(TaskState *state /* stolen */);

/* ---- defaults.c ---- */

/* The entry of default_handlers() for exactly this class? */
int default_entry_is_for(EngineState *st, PyObject *op, PyObject *type);
/* Calls f with each effect class that the presets serve until it gives -1. */
int default_classes(PyObject *module, int (*f)(PyTypeObject *type, NativeHandler *server, void *arg), void *arg);

int v1_results_init(PyObject *module, EngineState *st);
int v1_taskstate_init(PyObject *module, EngineState *st);
int v1_defaults_init(PyObject *module, EngineState *st);
int v1_tasks_init(PyObject *module, EngineState *st);
int v1_layer_init(PyObject *module, EngineState *st);
int v1_room_init(PyObject *module, EngineState *st);

#endif
