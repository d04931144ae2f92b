/* boundedlog: a list that drops its oldest entries beyond a bound; the log that Listen gives. */
#ifndef DOEFF_BOUNDEDLOG_H
#define DOEFF_BOUNDEDLOG_H

#include "../state.h"

/* An empty one without a bound (strong); filled with PyList_* like any list. */
PyObject *boundedlog_new(EngineState *st);
int boundedlog_room_init(PyObject *module, EngineState *st);

#endif
