#include "trace.h"

PyObject *
trace_begin(DoeffMachine *m, PyObject *effect)
{
    (void)effect;
    trace_drop(m);
    return PyErr_GetRaisedException();
}

void
trace_note(DoeffMachine *m, const DoeffFrame *frame, PyObject *error)
{
    (void)m, (void)frame, (void)error;
}

void
trace_note_scope(DoeffMachine *m, DoeffFiber *fiber)
{
    (void)m, (void)fiber;
}

void
trace_park(DoeffMachine *m, PyObject *error)
{
    (void)error;
    trace_drop(m);
}

int
trace_room_init(PyObject *module, EngineState *st)
{
    (void)module, (void)st;
    return 0;
}
