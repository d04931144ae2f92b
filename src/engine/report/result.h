/* result: RuntimeResult, what a run function gives.
 *
 * It keeps what the run left behind (outcome, store, environment, trace) and makes the
 * three stacks and the texts when somebody asks. Runs that end well allocate this one
 * object and nothing else.
 *
 *   value, error  exactly one of them is there
 *   traceback     of error as the run ended: put back before error is raised again, so that
 *                 looking at value often does not lengthen it; strong or NULL
 *   trace         NULL: the run ended well, or there was no memory for one
 *   captured      the CapturedTraceback of error; NULL as trace
 */
#ifndef DOEFF_RESULT_H
#define DOEFF_RESULT_H

#include "../machine/machine.h"

/* A result from a machine whose run has ended; takes value or error (stolen; the other NULL). */
PyObject *result_new(DoeffMachine *m, PyObject *value, PyObject *error);
int result_room_init(PyObject *module, EngineState *st);

#endif
