/* scopes: the open Listen and CaptureGraph scopes of a task.
 *
 * A scope records what reaches the task's log (or graph) while its program runs, whatever the program does to
 * __log__ (or __graph__) itself. cx->scopes is the innermost open one; each links the one further out. The frame
 * that closes a scope has its entries in a and the scope in b, and its kind says so (`records`), so that jumps can
 * find the scopes of a continuation: one that a handler keeps leaves its scopes behind, and opens them again inside
 * those in force where it is resumed.
 */
#ifndef DOEFF_SCOPES_H
#define DOEFF_SCOPES_H

#include "../machine/machine.h"

typedef enum { SCOPE_LOG, SCOPE_GRAPH } ScopeKind;

/* Opens a scope that is closed by a frame of this kind, pushed here; entries is its list (stolen). */
int scope_open(DoeffContext *cx, ScopeKind kind, const DoeffFrameKind *frame, PyObject *entries);
/* Closes the scope of a popped frame, unless a jump has left it behind already. */
void scope_close(DoeffContext *cx, DoeffFrame *frame);
/* The entries (borrowed) of the innermost open scope of this kind, from *scope outward; moves *scope on. NULL: no
 * more. Begin with *scope = cx->scopes. */
PyObject *scope_next(PyObject **scope, ScopeKind kind);

#endif
