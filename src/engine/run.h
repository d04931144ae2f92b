/* run: sync_run, from its arguments to a RuntimeResult. The functions only drive the machine:
 * they know no queue, no promise and no task.
 */
#ifndef DOEFF_RUN_H
#define DOEFF_RUN_H

#include "machine/machine.h"

int run_room_init(PyObject *module, EngineState *st);

#endif
