/* cesk: the machine's state as Python values: the controls, CESKState, ResumeK, DirectState.
 *
 * They are what a handler may return and what step() will speak; the loop never
 * runs on them. CESKState's K is any list-like thing; E is frozen when given.
 */
#ifndef DOEFF_CESK_H
#define DOEFF_CESK_H

#include "machine.h"

/* A FrozenDict of a mapping (strong; env itself if it is one); TypeError for anything else. */
PyObject *cesk_freeze_env(EngineState *st, PyObject *env);
int cesk_room_init(PyObject *module, EngineState *st);

#endif
