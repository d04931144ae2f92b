/* scheduler: tasks, what they wait for, and which of them runs next.
 *
 * A machine has a DoeffScheduler from the first effect on that needs one. The running task's state lies in
 * the machine (fiber, env, store, scopes); a task that is not running holds it itself, so that a switch saves and
 * loads a few pointers. An effect function that makes its task wait hangs it on something, calls nothing else,
 * and returns DOEFF_BLOCK; the loop then asks scheduler_next for what to do.
 *
 *   ready       in the queue of its priority, with the answer that it goes on with
 *   running     sched->current
 *   blocked     task->waits says for what; whoever fulfils it calls task_wake
 *   over        the waitable that every task begins with is settled
 *
 * The continuation of a task that is not running is a stack of fibers, or it is folded: of a new one, and of a
 * blocked one that consists of one generator, only the handlers and that generator are kept, in the task itself. A
 * new one's call of a @do function is kept there too, in its parts.
 *
 * Live tasks form a list in order of creation, which owns them; nothing of a live task is known to the cyclic
 * collector but through the machine. A Task object is its own handle: what outlives the end is that object with
 * the outcome, for as long as somebody holds it.
 *
 * Tasks that share a store form a group: one member at a time is queued or running (group->active), the others
 * that are ready wait in the group.
 *
 * Everything here is touched by the thread that drives the machine, but for completion.h.
 */
#ifndef DOEFF_SCHEDULER_H
#define DOEFF_SCHEDULER_H

#include "../machine/machine.h"
#include "completion.h"

typedef struct DoeffTask DoeffTask;
typedef struct DoeffWaitable DoeffWaitable;
typedef struct Waiter Waiter;
typedef struct Waiting Waiting;

/* ---- what can be waited for ---- */

typedef enum { WAITABLE_OPEN = 0, WAITABLE_VALUE, WAITABLE_ERROR, WAITABLE_CANCELLED } WaitableState;

struct DoeffWaitable { /* the head of a Task and of a Future */
    PyObject_HEAD
    PyObject *outcome;   /* value or exception once settled; strong */
    PyObject *traceback; /* of the exception as it failed: each delivery restarts from it; strong or NULL */
    Waiter *first, *last;
    unsigned run;           /* the serial number of its run */
    unsigned char state;    /* WaitableState */
    unsigned char claimed;  /* somebody asked for the outcome */
    unsigned char external; /* settled from outside: a wait for it may last */
    unsigned char slow;     /* cancelling its waiter only asks for its end (a coroutine unwinds first); 2: no more */
};

typedef struct DoeffFuture {
    DoeffWaitable w;
    PyObject *promise; /* the external promise that settles it, while that exists; borrowed; or NULL */
    struct DoeffFuture *next; /* in the queue: settled by an old method, its waiters not woken yet */
} DoeffFuture;

struct Waiter { /* one task waits for one thing */
    DoeffWaitable *on; /* strong; NULL: not linked */
    Waiter *next, *prev;
    int index;              /* in the row of a Gather or Race; -1: it is its task's `one` */
    unsigned char linked;   /* in on's list */
    unsigned char owned;    /* on is a member of this Gather */
    unsigned char holding;  /* counted in the scheduler's external or external_idle */
};

typedef enum { ROW_GATHER, ROW_RACE } RowKind;

struct Waiting { /* a Gather or a Race */
    RowKind kind;
    int count, left;      /* waiters in all; linked ones */
    int winner;           /* race: index */
    int closing;          /* its members are being cancelled right now */
    DoeffTask *task;      /* whose it is; borrowed */
    Waiting *next;        /* in one of the scheduler's lists of rows */
    PyObject *effect;     /* what is waited for, for the answer; strong */
    PyObject *error;      /* gather: the failure to raise once its members have ended; strong or NULL */
    struct DoeffNursery *scope; /* of one whose task was killed: where that belonged; strong or NULL */
    Waiter waiter[];
};

/* ---- tasks ---- */

typedef enum { /* what a task goes on with */
    ANSWER_NONE = 0,
    ANSWER_VALUE,
    ANSWER_ERROR,
    ANSWER_PROGRAM,
    ANSWER_ERROR_AGAIN, /* answer is (error, traceback): others may raise the same error before it is delivered */
    ANSWER_CALL,    /* of task->function: the program of a new one */
    ANSWER_OUTCOME, /* answer is a settled waitable */
    ANSWER_ROW,     /* task->row is settled */
    ANSWER_PERMIT,  /* answer is the semaphore whose permit was handed over */
} AnswerKind;

typedef enum {
    WAITS_NOT = 0, /* ready or running */
    WAITS_ONE,     /* task->one */
    WAITS_ROW,     /* task->row */
    WAITS_TIME,    /* task->timer: its place in the heap */
    WAITS_PERMIT,  /* task->semaphore, linked by task->queued */
    WAITS_SCOPE,   /* for the children of a Scope to end (structure.c) */
} WaitsFor;

typedef struct DoeffGroup {
    int members;
    int store_shared;
    PyObject *store;           /* while no member runs; strong */
    DoeffTask *active;         /* the member that is queued or running */
    DoeffTask *ready, *ready_last; /* other members that could run */
} DoeffGroup;

#define TASK_ARGS 4 /* that lie in the room of a Waiter; a call with more is kept as it is */

struct DoeffTask {
    DoeffWaitable w;
    DoeffTask *older, *newer; /* the list of live tasks; of failures nobody asked for once over */
    DoeffTask *queued, *ahead; /* the next and the one before it in the ready queue, group or semaphore */
    HandlerNode *node;        /* folded: the handlers that its continuation lies under; strong; else NULL */
    union {
        DoeffFiber *fiber;    /* top of its continuation while it is not running */
        PyObject *generator;  /* folded: all of it; NULL: none, it begins with a program; strong, untracked */
    };
    PyObject *function;       /* folded: the KleisliProgram of the generator or of the call; strong or NULL */
    PyObject *env, *store, *scopes; /* while it is not running; store NULL in a group; strong */
    PyObject *scope_base;     /* the scopes of the caller that a group member tells to as well; strong or NULL */
    PyObject *context;        /* contextvars.Context, of a new one the snapshot; strong; NULL: the caller's own (main) */
    PyObject *answer;         /* what it goes on with; strong */
    union {
        DoeffGroup *group;    /* live; NULL: the store is its own */
        struct DoeffScheduler *reporter; /* over, failed, and nobody asked: whose list of failures it is in */
    };
    PyObject *cancel;         /* the error of the cancellation that was delivered, a list if there were several; strong or NULL */
    struct DoeffNursery *scope; /* the Scope that it was spawned in, or a task above it; strong or NULL */
    union {
        PyObject *args[TASK_ARGS]; /* of a call; strong */
        Waiter one;
        Waiting *row;
        Py_ssize_t timer;
        PyObject *semaphore;  /* strong */
        struct DoeffNursery *nursery; /* strong */
    };
    int priority, wake_priority; /* own one; that of the next wake-up */
    unsigned char answer_kind; /* AnswerKind */
    unsigned char waits;      /* WaitsFor */
    unsigned char started : 1, main : 1, member : 1, daemon : 1;
    unsigned char cancelled : 1; /* a cancellation was delivered: it ends as cancelled unless cleanup fails */
    unsigned char idle : 1;   /* waits with PRIORITY_IDLE: does not hold the controlled clock */
    unsigned char swept : 1;  /* cancelled because the run ends */
    unsigned char store_shared : 1;
    unsigned char listed : 1; /* in its reporter's list */
    unsigned char hidden : 1; /* the generators of its innermost fiber are not known to the collector */
    unsigned char context_hidden : 1; /* nor is its context */
    unsigned char nargs : 3;  /* ANSWER_CALL */
    unsigned char tracked : 1; /* it is over, and known to the collector */
    unsigned char finalized : 1; /* the collector remembers that: never to be used again */
    int spawned_at;           /* offset of the instruction in spawned_in */
    PyCodeObject *spawned_in; /* where Spawn was performed; strong or NULL */
};

/* Top of its continuation; NULL if it is folded or running. */
static inline DoeffFiber *
task_fiber(DoeffTask *t)
{
    return t->node == NULL ? t->fiber : NULL;
}

/* Who waits; of one that is linked. */
static inline DoeffTask *
waiter_task(Waiter *waiter)
{
    return waiter->index < 0 ? (DoeffTask *)((char *)waiter - offsetof(DoeffTask, one))
                             : ((Waiting *)((char *)(waiter - waiter->index) - offsetof(Waiting, waiter)))->task;
}

#define PRIORITY_MOST 1000000000 /* beyond it all are equal */
#define PRIORITY_INVALID (-PRIORITY_MOST - 1)
#define PRIORITY_IDLE 0
#define PRIORITY_NORMAL 10
#define PRIORITY_HIGH 20

typedef struct ReadyLevel {
    int priority;
    DoeffTask *first, *last;
} ReadyLevel;

typedef struct Timer {
    long long when; /* ns on the clock of the run */
    unsigned long long seq;
    DoeffTask *task;     /* borrowed; NULL: a Timeout's, in scope */
    struct DoeffNursery *scope;
} Timer;

typedef enum { RUN_GOES_ON = 0, RUN_DRAINS /* EN-1 */, RUN_CLOSES /* EN-2 */, RUN_ENDS } RunPhase;

typedef struct DoeffScheduler {
    unsigned run;
    DoeffMachine *machine;    /* borrowed: it owns us */
    HandlerNode *node;        /* the scheduler handler's; strong */
    DoeffTask *main;          /* strong */
    DoeffTask *current;       /* borrowed; NULL while idle */
    DoeffTask *oldest, *newest; /* live ones but main */
    DoeffTask *failures;      /* over, failed, claimed by nobody; borrowed, linked by newer */
    ReadyLevel *levels;       /* highest priority first */
    int nlevels, caplevels;
    int live, daemons;        /* tasks but main; those of them that are daemons */
    int swept_live;           /* those that the end of the run has cancelled */
    int ready, ready_regular; /* queued or in a group; those that are no daemons */
    int woken_lowest;         /* the lowest priority at which a task was woken, for whoever wakes some */
    int keep_turn;            /* the answer that comes now does not end the turn */
    int external;             /* waiters on open external things that hold the clock */
    int external_idle;        /* and those that do not */
    int by_blocking;          /* a turn ends only by blocking */
    RunPhase phase;
    DoeffQueue *queue;        /* strong */
    Timer *heap;
    Py_ssize_t timers, captimers;
    unsigned long long timer_seq;
    PyObject *clock;          /* the controlled clock, as stored; strong or NULL: real time */
    long long clock_ns;       /* the same in ns */
    long long wall_offset;    /* ns from the wall clock to the run's, as deadlines of times of day are reckoned */
    long long look_at;        /* when to look whether the wall clock has been set, on the run's clock; 0: nobody waits for it */
    long long skew;           /* ns that a wait handler has let the real clock jump */
    long long close_at;       /* ns, while closing */
    /* how main ended */
    int main_over, main_failed, finished;
    PyObject *main_outcome, *main_env, *main_store, *main_trace;
    Waiting *closing, *closing_last; /* rows whose members are to be cancelled */
    Waiting *doomed;          /* rows of discarded tasks, whose members are to be discarded */
    int at_closing, discarding; /* somebody works on these lists */
    int canceller;            /* a program cancels or discards right now: it is told what on_cancel callbacks raise */
    PyObject *callback_errors; /* list of that; strong or NULL */
    PyObject *granted;        /* the semaphore whose permit is the answer of the effect just performed; strong or NULL */
    int granting;             /* that effect has been performed right now */
    PyObject *thrown;         /* is raised in the running task at its next effect; strong or NULL */
    PyObject *interrupted;    /* is to be raised in main; strong or NULL */
    PyObject *interrupt;      /* what was raised at nobody: the run function raises it; strong or NULL */
    int reported;             /* failures nobody asked for, spelled out or not */
    PyObject *swept;          /* list of names of the tasks that the end cancelled; strong or NULL */
    PyObject *internal;       /* what old scheduler effects keep (internal.c); strong or NULL */
    long long stall_at;       /* ns, when to look next for what is awaited for too long; 0: not yet said */
    struct DoeffEvents *events; /* what happens is told to somebody (events.h); owned; NULL: nobody */
    PyObject *schedule;       /* how to choose (schedule.c); borrowed from the machine; NULL: first in, first out */
    PyObject *snapshot;       /* contextvars.Context as it was at the last Spawn, never entered; strong or NULL */
    PyObject *snapshot_map;   /* its variables; borrowed from it; NULL: not known */
    void *spare;              /* room for a fiber, so that waking does not fail when memory begins to; or NULL */
} DoeffScheduler;

/* ---- for the loop ---- */

/* Between two effects, with attention set: 1 if the task's turn ends here. effect_done: an effect (and no
 * program) has been answered. -1 with an error that is to be raised at the yield. */
int scheduler_turn_ends(DoeffMachine *m);
/* The current task gives up its turn and goes on later with kind and what (stolen). */
void scheduler_requeue(DoeffMachine *m, AnswerKind kind, PyObject *what);
/* The next task is loaded: what it goes on with. DOEFF_OUTSIDE: the run has ended, *out is its value or, with
 * *failed, its error. */
DoeffStep scheduler_next(DoeffMachine *m, PyObject **out, int *failed);
/* The current task's last frame is gone: it ended with value, or with error (stolen, the other one NULL). */
void scheduler_task_over(DoeffMachine *m, PyObject *value, PyObject *error);
/* The run stops in the middle, at an escape, and goes on: the running task's contextvars.Context is left and entered. */
void scheduler_pause(DoeffMachine *m);
void scheduler_go_on(DoeffMachine *m);
/* The run has paused between two effects and was to go on with what (stolen), as kind says; error (stolen) comes first,
 * in main. force (only in the loop, of a run that has not paused): main comes first from now on, and if it still cannot get the last error of this class, what it waits for
 * is killed. How to go on: DOEFF_RAISE with error set, or DOEFF_BLOCK. */
DoeffStep scheduler_interrupt(DoeffMachine *m, AnswerKind kind, PyObject *what, PyObject *error, int force);
/* The contextvars.Context of the running task (borrowed); NULL: the caller's own. */
PyObject *scheduler_context(DoeffMachine *m);
/* Frames that will not be left leave nobody waiting for their end; the first of them is fiber's, then outward. */
void scheduler_drop_frames(DoeffScheduler *s, DoeffFiber *fiber);
/* Frees everything at once, generators closed. */
void scheduler_free(DoeffMachine *m);
int scheduler_traverse(DoeffScheduler *s, visitproc visit, void *arg);

/* ---- for the rooms of this folder ---- */

DoeffScheduler *scheduler_new(DoeffContext *cx); /* NULL with an error */

/* Made when first asked for; NULL with an error, also while no task runs. */
static inline DoeffScheduler *
scheduler_of(DoeffContext *cx)
{
    DoeffScheduler *s = MACHINE_OF(cx)->scheduler;
    return DOEFF_LIKELY(s != NULL && s->current != NULL) ? s : scheduler_new(cx);
}

static inline DoeffScheduler *
scheduler_if_any(DoeffContext *cx)
{
    return MACHINE_OF(cx)->scheduler;
}

/* A task that runs program (stolen) under node, in env, with the store of share's group (borrowed, joined) or a
 * snapshot of the current one; it is ready, behind the others. Borrowed: the list of live tasks owns it. */
DoeffTask *task_new(DoeffContext *cx, PyObject *program, HandlerNode *node, PyObject *env, int member, int priority);
/* The handlers and the environment that a task spawned now begins with; borrowed. */
void task_origin(DoeffContext *cx, HandlerNode **node, PyObject **env);
/* A blocked task (hung on nothing any more) is ready to go on with kind and what (stolen). Never fails. */
void task_wake(DoeffScheduler *s, DoeffTask *t, AnswerKind kind, PyObject *what);
/* Takes a blocked task off what it waits for; 0 if that has to end first: error (stolen then) is raised after it. */
int task_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error);
/* The task has ended (it is saved, and not current): settles it and lets go of everything. Takes outcome. */
void task_end(DoeffScheduler *s, DoeffTask *t, WaitableState state, PyObject *outcome /* stolen */);
/* t leaves its group for good. */
void group_leave(DoeffScheduler *s, DoeffTask *t);
/* A ready task that is being dropped leaves its queue and loses its answer. */
void task_unready(DoeffScheduler *s, DoeffTask *t);
void scheduler_throw_at_main(DoeffScheduler *s, PyObject *error /* stolen */);
/* The same for an interrupt that comes in the middle of something: as soon as the run looks around. */
void scheduler_interrupted(DoeffScheduler *s, PyObject *error /* stolen */);
/* error (stolen) is raised at t's yield, instead of what it waits for or was to go on with. 0 if it waits for
 * something that must end first: it will be raised then. */
int task_throw(DoeffScheduler *s, DoeffTask *t, PyObject *error);
/* What will be raised there; borrowed or NULL. */
PyObject *task_pending_error(DoeffScheduler *s, DoeffTask *t);
/* The same for a blocked task, at once: what it waits for is discarded. */
void task_force(DoeffScheduler *s, DoeffTask *t, PyObject *error);
/* The same as task_throw with a TaskCancelledError, counted as a cancellation; drops it if it never started. -1: no memory. */
int task_cancel(DoeffScheduler *s, DoeffTask *t);
/* That cancellation has been delivered. */
void task_cancelled_by(DoeffTask *t, PyObject *error /* borrowed */);
int task_is_cancel_of(DoeffTask *t, PyObject *error); /* it is one of those */
PyObject *task_latest_cancel(DoeffTask *t); /* of one that was cancelled; borrowed */
/* The hard kill. */
void task_discard(DoeffScheduler *s, DoeffTask *t);
void task_discard_members(DoeffScheduler *s); /* of what has been withdrawn for it */
PyObject *task_name(DoeffTask *t); /* of its program; strong */
int task_check(EngineState *st, PyObject *op);
DoeffTask *task_alloc(EngineState *st, DoeffScheduler *s);
DoeffTask *task_spawn(DoeffContext *cx, PyObject *effect); /* a SpawnEffect, performed; borrowed */
/* The collector need not see the generators of a blocked task; they must be shown again before they run or go.
 * fiber: the task's, which is not folded. */
void scheduler_show_generators(DoeffTask *t, DoeffFiber *fiber);
int scheduler_traverse_hidden(DoeffTask *t, visitproc visit, void *arg); /* and what it does not see */
/* A folded task that is over gives up what was to run. */
void task_drop_folded(DoeffScheduler *s, DoeffTask *t);
void task_release(DoeffScheduler *s, DoeffTask *t);
int task_interrupts(PyObject *error); /* KeyboardInterrupt or SystemExit */
void task_claim(DoeffTask *t); /* somebody asks for its outcome */
int task_traverse_live(DoeffTask *t, visitproc visit, void *arg);
/* An int, or `none` for None; PRIORITY_INVALID with a TypeError. */
int priority_of(PyObject *value, int none);
/* 0 with a ValueError for a handle of another run. */
int of_this_run(DoeffScheduler *s, DoeffWaitable *w);

/* 1 if error is the cancellation of the running task itself, which Safe lets pass. */
int scheduler_own_cancel(DoeffContext *cx, PyObject *error);

/* What op is a handle of (strong: a _handle of the user's may be all that knows it), or NULL with a TypeError. */
DoeffWaitable *waitable_of(EngineState *st, PyObject *op);
void waitable_claim(EngineState *st, DoeffWaitable *w); /* somebody asks for its outcome */
/* Settles w with value or error (stolen, the other NULL; error with cancelled set for a cancellation) and wakes who waits. */
void waitable_settle(DoeffScheduler *s, DoeffWaitable *w, WaitableState state, PyObject *outcome);
/* The two halves of that: w has its outcome (stolen), and who waits becomes ready. */
void waitable_decide(DoeffWaitable *w, WaitableState state, PyObject *outcome);
void waitable_wake(DoeffScheduler *s, DoeffWaitable *w);
/* The current task waits for w: DOEFF_BLOCK, or its outcome at once. */
DoeffStep waitable_wait(DoeffContext *cx, DoeffWaitable *w, PyObject **out);
/* The outcome of a settled one. */
DoeffStep waitable_outcome(DoeffWaitable *w, PyObject **out);
/* waiter is number index in the row of task, or (-1) its `one`. */
void waiter_link(DoeffScheduler *s, Waiter *waiter, DoeffWaitable *w /* stolen */, DoeffTask *task, int index);
void waiter_unlink(DoeffScheduler *s, Waiter *waiter);
void waitable_clear(DoeffWaitable *w);
int waitable_traverse(DoeffWaitable *w, visitproc visit, void *arg);
PyObject *handle_of(EngineState *st, PyObject *op); /* the value of _handle; strong */
PyObject *future_new(EngineState *st, DoeffScheduler *s); /* strong */
DoeffTask *semaphore_waiters(PyObject *semaphore); /* first in line, linked by queued; borrowed */
/* One of the things that a row waits for is settled. */
void row_settled(DoeffScheduler *s, Waiter *waiter);
/* The answer of the current task's row, which is freed. */
DoeffStep row_answer(DoeffScheduler *s, DoeffTask *t, PyObject **out);
void row_free(DoeffScheduler *s, DoeffTask *t);
void row_dispose(DoeffScheduler *s, Waiting *row); /* one that is no task's any more */
/* The row's waiter is to get error (stolen): 1 if at once, 0 if members must end first (error is kept). */
int row_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error);

/* ---- semaphores (semaphore.c) ---- */

/* The task that a permit was handed to cannot use it: to the next in line. */
void semaphore_hand_on(DoeffScheduler *s, PyObject *semaphore);
/* The running task has been given a permit. Until its next effect something else may take the place of that answer. */
void semaphore_granted(DoeffScheduler *s, PyObject *semaphore /* stolen */, int granting);
void semaphore_withdraw(DoeffTask *t);

/* ---- reports (report.c): what is said about tasks ---- */

/* Logs who has waited for something from outside for too long, if it is time to. */
void report_stall(DoeffScheduler *s);
PyObject *report_deadlock(DoeffScheduler *s);       /* the SchedulerDeadlockError, or another error; strong */
void report_swept(DoeffScheduler *s, DoeffTask *t); /* the end of the run cancels it, and nobody asked for it */
void report_failure(DoeffScheduler *s, DoeffTask *t);
void report_end(DoeffScheduler *s);                 /* warns of all that is left to be said */
void task_note_spawn(DoeffMachine *m, DoeffTask *t, PyObject *error); /* where it was spawned, for its trace */

/* ---- the order (schedule.c) ---- */

/* Before each choice: room to write it down. -1 with an error: there is none, and there will be no more choices. */
int schedule_reserve(DoeffScheduler *s);
DoeffTask *schedule_choose(DoeffScheduler *s, ReadyLevel *level);
/* What a scheduler handler in force says of it; borrowed, NULL: nothing. */
PyObject *schedule_recipe(DoeffMachine *m);
/* The run begins its own record of it, m->schedule. 1 if a turn is to end only by blocking, -1 with an error. */
int schedule_begin(DoeffMachine *m, PyObject *recipe);

/* ---- time (timer.c) ---- */

long long timer_now(DoeffScheduler *s); /* ns on the clock of the run */
int timer_add(DoeffScheduler *s, long long when, DoeffTask *t, struct DoeffNursery *scope);
/* The same for a Timeout's, so many seconds from now. */
int timer_after(DoeffContext *cx, PyObject *seconds, struct DoeffNursery *scope);
int timer_check_seconds(PyObject *seconds); /* -1 with an error for what Delay would not take */
void timer_remove(DoeffScheduler *s, Py_ssize_t at);
/* Deadlines that come by themselves: on the controlled clock none do. */
static inline int
timers_run(DoeffScheduler *s)
{
    return s->timers > 0 && s->clock == NULL;
}

/* Wakes the tasks whose time has come. */
void timer_fire(DoeffScheduler *s);
/* Jumps the controlled clock to the earliest deadline; -1 with an error. */
int timer_jump(DoeffScheduler *s);
/* The store of the running task holds the controlled clock. */
int clock_sync_in(DoeffMachine *m);
/* A task has put the clock, or the run began with one. */
int clock_was_put(DoeffContext *cx);

/* ---- structure (structure.c) ---- */

/* A task that the current one spawns joins the innermost Scope; -1 with an error. */
int nursery_child_new(DoeffScheduler *s, DoeffTask *t);
void nursery_child_is_daemon(DoeffTask *t);
/* t has ended and been released; scope (stolen) is the one that it belonged to. */
void nursery_child_over(DoeffScheduler *s, struct DoeffNursery *scope, DoeffTask *t);
/* t is killed: the children of its open Scopes are cancelled, and belong where it did. */
void nursery_lost(DoeffScheduler *s, DoeffTask *t);
PyObject *nursery_pending_error(DoeffTask *t); /* of one that waits for children; borrowed or NULL */
/* The Gather of the member t is gone, and t only cancelled: it is a child of its Scope from now on. */
void nursery_adopt(DoeffScheduler *s, DoeffTask *t);
/* The Scope that t belongs to (strong or NULL) lasts until it is let go (stolen): t is killed, and its members will be. */
struct DoeffNursery *nursery_hold(DoeffTask *t);
void nursery_let_go(DoeffScheduler *s, struct DoeffNursery *held);
/* The children that t waits for are killed. */
void nursery_kill(DoeffScheduler *s, DoeffTask *t);
void nursery_timer(DoeffScheduler *s, struct DoeffNursery *scope);
void nursery_timer_moved(struct DoeffNursery *scope, Py_ssize_t at); /* its place in the heap; -1: none any more */
/* A cancellation of t has to wait for a Shield, which keeps error (stolen then; NULL only asks). */
int nursery_shields(DoeffScheduler *s, DoeffTask *t, PyObject *error);
/* error ends a program of the running task early. */
int nursery_own_cancel(DoeffScheduler *s, PyObject *error);
/* The task waits for the children of a Scope: as task_withdraw. */
int nursery_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error);

/* Each file's types and effects; handler is task_scheduler_handler. */
int task_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int wait_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
/* Gather under core_handler alone, without a scheduler. */
int gather_core_init(PyObject *module, EngineState *st);
int completion_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int promise_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int semaphore_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int timer_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int internal_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int structure_room_init(PyObject *module, EngineState *st, NativeHandler *handler);
int schedule_room_init(PyObject *module, EngineState *st);
int report_room_init(PyObject *module, EngineState *st);

#endif
