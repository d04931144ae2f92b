/* trace: where an error came from and what it crossed.
 *
 * A trace hangs on the machine while an error is in flight: it begins where the
 * exception was raised (with the effect that raised it, if one did), gets an entry for
 * each frame the error crosses, and is dropped when the error is caught. It keeps
 * the innermost 200 entries and the outermost 50, and holds no Python frame: code
 * objects and offsets, and texts. An exception that somebody keeps while its generator
 * goes on (a finally that performs effects) carries its trace along in its __dict__
 * under __doeff_trace__, so that raising it again continues the old trace.
 */
#ifndef DOEFF_TRACE_H
#define DOEFF_TRACE_H

#include "../machine/machine.h"

/* Takes the exception that is set (strong) and starts its trace, or goes on with the one it carries. */
PyObject *trace_begin(DoeffMachine *m, PyObject *effect /* borrowed or NULL */);
/* The error is about to cross (or has just ended) this frame. Never fails. */
void trace_note(DoeffMachine *m, const DoeffFrame *frame, PyObject *error);
/* The error leaves a fiber: its handlers' scopes end. */
void trace_note_scope(DoeffMachine *m, DoeffFiber *fiber);
/* A generator caught the error and goes on. */
void trace_park(DoeffMachine *m, PyObject *error);
static inline void
trace_drop(DoeffMachine *m)
{
    Py_CLEAR(m->trace);
}
int trace_room_init(PyObject *module, EngineState *st);

#endif
