/* completion: the queue through which the outside world reaches a run. The only part of the scheduler that any
 * thread, signal handler or __del__ may touch.
 *
 * Every entry is made under the interpreter's lock and runs no foreign code, so a completion is one step for all
 * other threads; getters sleep on a lock of their own with the interpreter's lock released. A closed queue (its
 * run is over) takes nothing and keeps nothing alive.
 */
#ifndef DOEFF_COMPLETION_H
#define DOEFF_COMPLETION_H

#include "../machine/machine.h"

struct DoeffScheduler;
struct DoeffWaitable;

typedef struct DoeffQueue DoeffQueue;

DoeffQueue *queue_new(EngineState *st, struct DoeffScheduler *s);
/* The run is over. */
void queue_close(DoeffQueue *q);
/* Its scheduler, for the thread that drives it; NULL on other threads and once it is closed. */
struct DoeffScheduler *queue_scheduler(DoeffQueue *q);
/* Applies what has been completed meanwhile: waiters become ready, in order of the calls. */
void queue_apply(DoeffQueue *q);
/* future, of a promise without an outside, is being settled; who waits for it becomes ready when the queue is applied. -1
 * with an error if a run that sleeps could not be woken. */
int queue_settles(DoeffQueue *q, struct DoeffWaitable *future);
/* What a wait handler answered: if it did not take it from the queue but names an open external promise of the
 * run, that is completed. -1 with an error. */
int queue_apply_answer(DoeffQueue *q, PyObject *answer);
/* Sleeps until there is something to take, and takes it; NULL with an error. For wait handlers that block. */
PyObject *queue_take(DoeffQueue *q);
/* future is open and has lost its last waiter by a cancellation: its promise's callbacks run. */
void external_abandoned(struct DoeffScheduler *s, struct DoeffWaitable *future);
struct DoeffWaitable *external_future(PyObject *promise); /* borrowed */
/* A new promise of the run that s belongs to, as CreateExternalPromise answers it; strong. */
PyObject *external_new(EngineState *st, struct DoeffScheduler *s);
/* promise.complete and promise.fail. on_loop: called from a callback of the event loop that drives the run, if one does.
 * 1 if this decides; -1 with MemoryError if a run that sleeps could not be woken: to be called again. */
int external_decide(PyObject *promise, int failed, PyObject *outcome, int on_loop);
/* promise.on_cancel(callback); -1 with an error. */
int external_on_cancel(PyObject *promise, PyObject *callback);
/* How a run is woken that sleeps in an event loop, once for each sleep; -1 with an error. on_loop: as above. */
typedef int (*QueueWaker)(PyObject *sleeper, int on_loop);
/* Wakes sleeper (borrowed; NULL: nobody) when something arrives; 1: something is there, and nobody will be woken. */
int queue_watch(DoeffQueue *q, QueueWaker wake, PyObject *sleeper);
/* ns until the run must look again; -1: it need not. */
long long queue_deadline_ns(DoeffQueue *q);

/* What effect says of how long promise should take and who settles it, by its fields deadline and deadline + 1. */
void external_expect(PyObject *promise, PyObject *effect, int deadline);
/* The check of these two; -1 with a TypeError. */
int external_check_expected(PyObject *deadline, PyObject *source_alive);
/* Since when (ns) it has been waited for, as far as known, and the effect (borrowed) or None. */
long long external_since(PyObject *promise, PyObject **effect);

PyObject *external_promise_new(DoeffContext *cx);
/* 1 if op is an external promise; 0 with a TypeError. */
int external_promise_check(EngineState *st, PyObject *op);
/* Settles an external promise with value, or with error if that is not NULL. Any thread. 1 if this is the first
 * decision and the run goes on, 0 if not, -1 with TypeError, or with MemoryError as above. */
int external_promise_complete(PyObject *op, PyObject *value, PyObject *error);

/* Monotonic ns, on the clock that the waits of this process sleep on. */
long long queue_clock_ns(void);
long long queue_seconds_to_ns(double seconds); /* at least 0; the largest there is for what does not fit */

#endif
