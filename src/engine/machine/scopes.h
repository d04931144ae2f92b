/* scopes: the open Listen and CaptureGraph scopes of a task, and those of other families.
 *
 * A scope records what a family shows to its topic while a program runs: Listen what reaches the task's log, whatever
 * the program does to __log__ itself. A topic is an object that is compared by identity: the key of the log, of the
 * graph. cx->scopes is the innermost open one; each links the one further out. The frame
 * that closes a scope has its entries in a and the scope in b, and its kind says so (`records`), so that jumps can
 * find the scopes of a continuation: one that a handler keeps leaves its scopes behind, and opens them again inside
 * those in force where it is resumed.
 */
#ifndef DOEFF_SCOPES_H
#define DOEFF_SCOPES_H

#include "machine.h"

/* Opens a scope that is closed by a frame of this kind, pushed here; entries is its list (stolen). */
int scope_open(DoeffContext *cx, PyObject *topic, const DoeffFrameKind *frame, PyObject *entries);
/* Closes the scope of a popped frame, unless a jump has left it behind already. */
void scope_close(DoeffContext *cx, DoeffFrame *frame);
/* The entries (borrowed) of the innermost open scope of this topic, from *scope outward; moves *scope on. NULL: no
 * more. Begin with *scope = cx->scopes. */
PyObject *scope_next(PyObject **scope, PyObject *topic);

#endif
