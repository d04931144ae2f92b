/* step: driving a program by hand, one turn of the loop at a time.
 *
 * step(state) gives the next CESKState, or Done, Failed or PythonAsyncSyntaxEscape. Between two calls the machine
 * stands still; its state's K (and what is made from it) is what holds it. Each call is a turn: it makes the state
 * that it was given stale, because generators move on, and the K of a stale state cannot be gone on with. When
 * nobody holds the continuation of the last state any more, the run is abandoned: its generators are closed.
 */
#ifndef DOEFF_STEP_H
#define DOEFF_STEP_H

#include "machine.h"

/* The run is over, if need be before its end: closes what is open. */
void step_close(DoeffMachine *m);
int step_room_init(PyObject *module, EngineState *st);

#endif
