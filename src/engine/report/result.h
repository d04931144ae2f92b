/* result: RuntimeResult, what a run function gives.
 *
 * It keeps what the run left behind (outcome, store, environment, trace) and makes the
 * three stacks and the texts when somebody asks. Runs that end well allocate this one
 * object and nothing else.
 */
#ifndef DOEFF_RESULT_H
#define DOEFF_RESULT_H

#include "../machine/machine.h"

/* A result from a machine whose run has ended; takes value or error (stolen; the other NULL). */
PyObject *result_new(DoeffMachine *m, PyObject *value, PyObject *error);
int result_room_init(PyObject *module, EngineState *st);

#endif
