/* nesting: a bound on how deep deallocs nest on the C stack.
 *
 * Freeing one object may free the next: Safe(p.map(f)) made in a loop, Ok of Ok, a call whose
 * argument is a call. The interpreter's own trash can lets 10,000 of these nest on 3.13, which is more
 * than the stack of a thread may hold. Here it is NESTING_LIMIT: what dies deeper than that waits in a
 * list and goes when the stack is shallow again.
 *
 * Every dealloc of ours whose object may hold user data ends in nesting_dealloc, with the object
 * untracked and its weak references cleared. An object that waits is dead and known to nobody; the
 * list's link lies in the word that held its count, and its turn comes by a second call of the dealloc.
 *
 * The depth belongs to the interpreter and not to the thread: a dealloc may run Python code, and with it
 * another thread, whose deallocs count on from there. So the limit is a bound, and what one thread
 * leaves waiting another may free.
 */
#ifndef DOEFF_NESTING_H
#define DOEFF_NESTING_H

#include "compat.h"

typedef struct DoeffNesting {
    PyObject *waiting; /* dead objects, linked */
    int depth;         /* deallocs at work */
    int draining;
} DoeffNesting;

#define NESTING_LIMIT 32 /* with tuples, dicts and generators in between some 30 KB of stack */

void nesting_wait(DoeffNesting *nesting, PyObject *op);
void nesting_drain(DoeffNesting *nesting);

/* Frees op, now or later. dealloc: the type's own. release gives up the fields and the memory, but for
 * the reference to the type: 1 if a free list took both. nesting: NULL if the type's module is gone. */
DOEFF_INLINE void
nesting_dealloc(DoeffNesting *nesting, PyObject *op, destructor dealloc, int (*release)(PyObject *op))
{
    PyTypeObject *tp = Py_TYPE(op);
    if (DOEFF_UNLIKELY(nesting == NULL || !DOEFF_FREE_LISTS)) {
        Py_TRASHCAN_BEGIN(op, dealloc);
        if (!release(op)) {
            Py_DECREF(tp);
        }
        Py_TRASHCAN_END;
        return;
    }
    if (DOEFF_UNLIKELY(nesting->depth >= NESTING_LIMIT)) {
        nesting_wait(nesting, op);
        return;
    }
    nesting->depth++;
    int kept = release(op);
    nesting->depth--;
    if (DOEFF_UNLIKELY(nesting->waiting != NULL && nesting->depth < NESTING_LIMIT / 2)) {
        nesting_drain(nesting);
    }
    if (!kept) { /* last: the type keeps the module, which keeps the list */
        Py_DECREF(tp);
    }
}

#endif
