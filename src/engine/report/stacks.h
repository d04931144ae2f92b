/* stacks: what a trace looks like from Python: the three stacks of a RuntimeResult and the frames
 * of a CapturedTraceback. Everything here is made when somebody looks; what a list leaves out
 * shows as one entry that says how many are missing.
 *
 * Frames of the package's own Python files are not shown. All functions give strong references, or
 * NULL with an error set. A NULL trace gives the empty stack.
 */
#ifndef DOEFF_STACKS_H
#define DOEFF_STACKS_H

#include "trace.h"

PyObject *stacks_k(EngineState *st, const DoeffTrace *trace);
PyObject *stacks_python(EngineState *st, const DoeffTrace *trace);
/* traceback: where the arguments of the calls are looked up; NULL: shown without them. */
PyObject *stacks_effects(EngineState *st, const DoeffTrace *trace, PyObject *traceback /* borrowed or NULL */);

/* Tuples of PythonFrame and of EffectFrame, outermost first. */
PyObject *stacks_python_frames(EngineState *st, const DoeffTrace *trace);
PyObject *stacks_effect_frames(EngineState *st, const DoeffTrace *trace);

/* The line of a summary: ReturnFrame, HandlerFrame x5. frames: the tuple of a KStackTrace. */
PyObject *stacks_k_summary(PyObject *frames);
/* Appends the two lines of a frame that has filename, line, function and code_context. */
int stacks_add_place(PyObject *lines, PyObject *frame);
int stacks_room_init(PyObject *module, EngineState *st);

#endif
