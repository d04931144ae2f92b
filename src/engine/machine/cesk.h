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
/* The step that a control (Value, Error, EffectControl, ProgramControl) stands for. */
DoeffStep cesk_control(EngineState *st, PyObject *control, PyObject **out);
/* Takes over the S and E of a state that user code returned; None keeps what is in force. */
int cesk_adopt_store(DoeffContext *cx, PyObject *store);
int cesk_adopt_env(DoeffContext *cx, PyObject *env);
/* The same for what is started now only: a frame puts the environment back. */
int cesk_use_env(DoeffContext *cx, PyObject *env);
/* Goes on with the CESKState that a Python frame returned; its K counts exactly as given. */
DoeffStep cesk_continue(DoeffContext *cx, PyObject *frame, PyObject *state, PyObject **out);
/* Pushes Python frames (a tuple or NULL, innermost first) on the current fiber. */
int cesk_push_frames(DoeffContext *cx, PyObject *prefix);
int cesk_room_init(PyObject *module, EngineState *st);

#endif
