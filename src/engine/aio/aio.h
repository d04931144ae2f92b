/* aio: the bridge to asyncio. Await and its two handlers (bridge.c), the wait of an idle run in an event loop
 * (parking.c), and async_run (async_run.c).
 *
 * Await makes an external promise, and a Bridge: a coroutine in C around what is awaited, which an asyncio task of its
 * own drives. When the awaited thing ends, the bridge settles the promise, in the same step of the loop. The asyncio
 * task is made by the run's own loop (python_async_syntax_escape_handler) or by the loop of a background thread
 * (sync_await_handler). Under async_run the first of the two makes it in place; whoever else drives the machine gets an
 * escape with the action that makes it.
 *
 * A bridge belongs to the thread of the loop that drives it; completion.h is what it shares with its run. Cancelling
 * the doeff task asks the asyncio task to end, and the promise is settled once it has; asking again ends it at once.
 */
#ifndef DOEFF_AIO_H
#define DOEFF_AIO_H

#include "../run.h"
#include "../scheduler/scheduler.h"

typedef struct AsyncRun AsyncRun;
typedef struct Bridge Bridge;

struct Bridge {
    PyObject_HEAD
    PyObject *awaitable;   /* what was given, until it is begun; strong */
    PyObject *inner;       /* its iterator, from then on; strong */
    PyObject *promise;     /* strong; NULL once settled */
    PyObject *ending;      /* exception to end with, when its run has been told; strong or NULL */
    PyObject *task;        /* the asyncio task that drives us, until it has ended; strong or NULL */
    PyObject *loop;        /* another thread's; strong; NULL: it is on the thread of the run */
    AsyncRun *run;         /* whose row we are in, which holds us; borrowed; NULL: none */
    Bridge *next, *prev;   /* in that row */
    unsigned char begun;
    unsigned char over;    /* nothing is driven any more */
    unsigned char sending; /* the inner one is at work right now */
    unsigned char held;    /* by itself: it is driven, and in no row */
    unsigned char untold;  /* it has ended, but there was no memory to wake its run */
};

typedef enum { ASYNC_NEW = 0, ASYNC_RUNNING, ASYNC_SUSPENDED, ASYNC_LINGERS, ASYNC_OVER } AsyncState;

struct AsyncRun {
    PyObject_HEAD
    PyObject *program, *handlers, *env, *store; /* until it begins; strong; the last two may be NULL */
    RunOptions options;
    DoeffMachine *m;       /* strong, while the run lasts */
    HandlerNode *chain;    /* strong, with it */
    PyObject *loop;        /* strong, with it */
    PyObject *parking;     /* of its latest wait, for the next one; strong or NULL */
    PyObject *task_factory; /* loop.get_task_factory, where tasks may be made without create_task; strong or NULL */
    PyObject *awaiting;    /* coroutine of the escape that the run stands at; strong or NULL */
    PyObject *what;        /* else: what it goes on with (m->paused says how); strong */
    PyObject *outcome;     /* while it lingers: result, or exception to raise; strong */
    Bridge *bridges;       /* asyncio tasks that have not ended; strong: loops hold their tasks weakly */
    PyObject *weakrefs;
    unsigned long thread;  /* that drives it */
    unsigned char state;   /* AsyncState */
    unsigned char failed;  /* outcome is an exception */
    unsigned char cancelled; /* its own asyncio task was cancelled */
    unsigned char turns;   /* of lingering */
    unsigned char looked;  /* task_factory is known */
};

/* The running event loop (strong); NULL with the RuntimeError of asyncio. */
PyObject *aio_loop(EngineState *st);

/* Drives a coroutine or generator one step: *out is what it yields, returns or NULL with the error set. throw: the
 * exception to raise in it (borrowed), or NULL. */
PySendResult aio_send(PyObject *coroutine, PyObject *throw, PyObject **out);

/* Has it what a coroutine has? -1 with an error. */
int aio_is_coroutine(EngineState *st, PyObject *op);

/* A program has failed with a RuntimeError: if that says that there is no event loop here, it is told of Await. */
void aio_explain(PyObject *error);

/* What a Python-level send() gives for the result of a step (value stolen). */
PyObject *aio_sent(PySendResult sent, PyObject *value);
/* Sets the exception that the arguments of throw() name. */
void aio_raise_thrown(PyObject *const *args, Py_ssize_t nargs);

/* loop.create_task for a bridge, or the same without a detour; r is linked to. -1 with an error. */
int bridge_start(EngineState *st, Bridge *b, PyObject *loop, AsyncRun *r);
/* Out of its run's row, or no longer held by itself; the caller has a reference if it is to survive. */
void bridge_unlink(Bridge *b);
/* Ends it here and now; its asyncio task notices in its next step. */
void bridge_kill(Bridge *b);
/* A program that will never run: closes the coroutines of the Awaits in it. */
void await_abandon(EngineState *st, PyObject *program);
int bridge_room_init(PyObject *module, EngineState *st);

/* The same for the coroutine in which an idle run waits. */
PySendResult parking_send(PyObject *op, PyObject *Py_UNUSED(value), PyObject **out);
void parking_leave(PyObject *op);
int parking_sleeps(PyObject *op); /* nothing has woken it yet */
int parking_room_init(PyObject *module, EngineState *st);

int async_run_room_init(PyObject *module, EngineState *st);

int aio_room_init(PyObject *module, EngineState *st);

#endif
