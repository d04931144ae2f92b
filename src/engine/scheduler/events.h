/* events: what a scheduler tells the sink of set_scheduler_trace.
 *
 * A run that begins to have tasks while a sink is set gets a DoeffEvents (s->events); for all others that stays NULL,
 * which is all that the scheduler tests. events_note writes an event down where it happens and runs no foreign code
 * but the names of programs; events_tell hands over what has been written, where the scheduler is whole and may be
 * entered again: before a task goes on, after its effect, before the run waits, at its end.
 */
#ifndef DOEFF_EVENTS_H
#define DOEFF_EVENTS_H

#include "../machine/machine.h"

struct DoeffScheduler;
struct DoeffTask;
typedef struct DoeffEvents DoeffEvents;

typedef enum {
    EVENT_START = 0,          /* the run has tasks from now on */
    EVENT_SPAWNED,            /* by the current task */
    EVENT_ENQUEUED,           /* ready, what: what it goes on with */
    EVENT_TASK_ENTER,         /* its program begins */
    EVENT_RESUMED,            /* what: what it goes on with */
    EVENT_BLOCKED,            /* what: what for */
    EVENT_TASK_LEAVE,         /* it is over, what: how */
    EVENT_EXTERNAL_CREATED,   /* by the current task */
    EVENT_EXTERNAL_COMPLETED, /* from anywhere, what: how */
    EVENT_EXTERNAL_CANCELLED, /* nobody waits for it any more */
    EVENT_EXTERNAL_WAIT,      /* the run is idle */
    EVENTS
} EventKind;

/* If there is a sink; without memory for it there are no events. */
void events_begin(struct DoeffScheduler *s);
/* about: an external promise (any thread), for the kinds that are about one; task: whose event it is; either NULL. what: a
 * static text or NULL. An error that is set stays set. */
void events_note(struct DoeffScheduler *s, EventKind kind, struct DoeffTask *task, PyObject *about, const char *what);
/* The same for the end of a task or promise, described by its outcome. */
void events_note_outcome(struct DoeffScheduler *s, EventKind kind, struct DoeffTask *task, PyObject *about, int state,
                         PyObject *outcome);
void events_tell(struct DoeffScheduler *s);
void events_free(struct DoeffScheduler *s);
int events_room_init(PyObject *module, EngineState *st);

#endif
