/* presets: the named handlers, which families each serves, and the two lists of them. */
#ifndef DOEFF_PRESETS_H
#define DOEFF_PRESETS_H

#include "../machine/machine.h"

int presets_room_init(PyObject *module, EngineState *st);

#endif
