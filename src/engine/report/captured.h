/* captured: CapturedTraceback, the detailed trace that an Err carries.
 *
 * It keeps the error and its trace; frames and texts are made when somebody looks. It holds no
 * Python frame and no local variable of its own. What pickle gets are the finished parts.
 */
#ifndef DOEFF_CAPTURED_H
#define DOEFF_CAPTURED_H

#include "trace.h"

PyObject *captured_new(EngineState *st, PyObject *error /* borrowed */, DoeffTrace *trace /* borrowed or NULL */);
int captured_room_init(PyObject *module, EngineState *st);

#endif
