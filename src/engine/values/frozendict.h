/* frozendict: the immutable mapping that environments are.
 *
 * A subclass of dict for reading: every dict read works on it, C code reads it with
 * PyDict_* directly. All writing is refused. `|` with any mapping makes a new one.
 */
#ifndef DOEFF_FROZENDICT_H
#define DOEFF_FROZENDICT_H

#include "../state.h"

/* A FrozenDict with the items of a mapping (strong). */
PyObject *frozendict_from(EngineState *st, PyObject *mapping);
/* base | update: a new FrozenDict, update wins (strong). */
PyObject *frozendict_merge(EngineState *st, PyObject *base, PyObject *update);
int frozendict_room_init(PyObject *module, EngineState *st);

#endif
