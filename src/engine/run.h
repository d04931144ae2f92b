/* run: sync_run, from its arguments to a RuntimeResult, and what async_run (aio/) shares with it. The functions only
 * drive the machine: they know no queue, no promise and no task.
 */
#ifndef DOEFF_RUN_H
#define DOEFF_RUN_H

#include "machine/machine.h"

extern const char *const RUN_PARAMETERS[]; /* of both run functions; the first four by position */

typedef struct RunOptions {
    double close_timeout;
    int unfinished_wait;
} RunOptions;

typedef struct RunRequest { /* borrowed; env and store may be NULL */
    PyObject *handlers, *env, *store;
    RunOptions options;
} RunRequest;

/* From the arguments (borrowed; NULL: not given); -1 with an error. */
int run_options(RunOptions *options, PyObject *close_timeout, PyObject *unfinished);
/* A machine that is ready to perform a program (strong), and its handlers (strong); NULL with an error. */
DoeffMachine *run_begin(EngineState *st, const RunRequest *request, HandlerNode **chain);
/* 0 with a TypeError for what is no program. */
int run_accepts(EngineState *st, PyObject *program);
/* machine_run, as a run function calls it. program: the one that is run, if the caller of the function holds it (borrowed). */
RunEnd run_step(DoeffMachine *m, DoeffStep how, PyObject *what, PyObject *program, PyObject **out);
/* The run has ended with value or error (stolen, the other NULL): its result; NULL with the error that leaves it.
 * raises: this error does, whatever it is. */
PyObject *run_end(DoeffMachine *m, HandlerNode *chain, PyObject *value, PyObject *error, int raises);
/* The run is dropped where it stands. */
void run_abandon(DoeffMachine *m, HandlerNode *chain);
int run_is_async_cancelled(PyObject *error);
int run_room_init(PyObject *module, EngineState *st);

#endif
