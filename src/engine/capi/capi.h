/* capi: the functions of doeff.h, and the table of them that other extensions get.
 *
 * Each is a thin layer over a room's own function; the families inside the engine call them directly, and
 * link-time optimisation leaves nothing of the layer. The table is constant: what a function works on, it
 * reaches through the context, a record class or the engine that it is given.
 */
#ifndef DOEFF_CAPI_H
#define DOEFF_CAPI_H

#include "../state.h"

int capi_room_init(PyObject *module, EngineState *st); /* doeff._engine.C_API */

#endif
