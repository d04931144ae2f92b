/* pending: what a task has still to do, as families of effects look at it.
 *
 * A handler's body stands between the effect that it handles and the rest of the task. While the
 * origin is cut off, those calls wait for the body; an effect that the body forwards is performed
 * at the origin, for which the body waits.
 */
#ifndef DOEFF_PENDING_H
#define DOEFF_PENDING_H

#include "machine.h"

/* The task's pending frames, innermost first, as tuples (kind, description, generator or None,
 * KleisliProgram or None); only those of generators unless all are wanted. Bodies of handlers that
 * forwarded the effect at work do not show. */
PyObject *pending_rows(DoeffContext *cx, int all);

/* 1 if match gives 1 for a frame of this kind on which the performer's own progress depends: in its
 * continuation, in what a handler that is at work for it has captured, or in a handler's body that
 * waits for a forwarded effect. A chain that a handler has put away for later does not count: it
 * does not wait for us. 0 if there is none, -1 if match fails. */
int pending_find(DoeffContext *cx, const DoeffFrameKind *kind, int (*match)(const DoeffFrame *frame, void *arg),
                 void *arg);

#endif
