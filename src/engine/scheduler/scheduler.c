#include "events.h"
#include "scheduler.h"

#include "../aio/aio.h"
#include "../program/kleisli.h"
#include "../program/program.h"
#include "../report/trace.h"

/* ---- the ready queue: one row of tasks for each priority ---- */

static int
level_index(DoeffScheduler *s, int priority)
{
    int at = 0;
    while (at < s->nlevels && s->levels[at].priority > priority) {
        at++;
    }
    return at;
}

/* The row for a priority, made if there is none. Without memory for it, the nearest one serves. */
static ReadyLevel *
level_for(DoeffScheduler *s, int priority)
{
    int at = level_index(s, priority);
    if (DOEFF_LIKELY(at < s->nlevels && s->levels[at].priority == priority)) {
        return &s->levels[at];
    }
    if (s->nlevels == s->caplevels) {
        int cap = s->caplevels * 2;
        ReadyLevel *grown = PyMem_Realloc(s->levels, sizeof(ReadyLevel) * (size_t)cap);
        if (grown == NULL) {
            return &s->levels[at < s->nlevels ? at : s->nlevels - 1];
        }
        s->levels = grown;
        s->caplevels = cap;
    }
    memmove(&s->levels[at + 1], &s->levels[at], sizeof(ReadyLevel) * (size_t)(s->nlevels - at));
    s->levels[at] = (ReadyLevel){.priority = priority};
    s->nlevels++;
    return &s->levels[at];
}

static void
count_ready(DoeffScheduler *s, DoeffTask *t, int by)
{
    s->ready += by;
    if (!t->daemon) {
        s->ready_regular += by;
    }
}

/* ---- lines of tasks ---- */

static void
append_to(DoeffTask **first, DoeffTask **last, DoeffTask *t)
{
    t->queued = NULL;
    t->ahead = *last;
    *(*last == NULL ? first : &(*last)->queued) = t;
    *last = t;
}

static void
take_from(DoeffTask **first, DoeffTask **last, DoeffTask *t)
{
    *(t->ahead == NULL ? first : &t->ahead->queued) = t->queued;
    *(t->queued == NULL ? last : &t->queued->ahead) = t->ahead;
    t->queued = t->ahead = NULL;
}

static void
queue_up(DoeffScheduler *s, DoeffTask *t)
{
    ReadyLevel *level = level_for(s, t->wake_priority);
    t->wake_priority = t->priority;
    append_to(&level->first, &level->last, t);
    s->machine->cx.attention = 1;
}

/* What a task goes on with and what it waits for, in events. */
static const char *const answer_names[] = {
    [ANSWER_VALUE] = "value",     [ANSWER_ERROR] = "error",  [ANSWER_PROGRAM] = "a program",
    [ANSWER_OUTCOME] = "outcome", [ANSWER_ROW] = "outcomes", [ANSWER_PERMIT] = "permit",
};
static const char *const wait_names[] = {
    [WAITS_ONE] = "Wait",      [WAITS_ROW] = "Gather", [WAITS_TIME] = "time",
    [WAITS_PERMIT] = "permit", [WAITS_SCOPE] = "end of its Scope",
};

static DOEFF_COLD void
note_enqueued(DoeffScheduler *s, DoeffTask *t)
{
    events_note(s, EVENT_ENQUEUED, t, NULL, t->started ? answer_names[t->answer_kind] : "its program");
}

static DOEFF_COLD void
note_blocked(DoeffScheduler *s, DoeffTask *t)
{
    int races = t->waits == WAITS_ROW && t->row->kind == ROW_RACE;
    events_note(s, EVENT_BLOCKED, t, NULL, races ? "Race" : wait_names[t->waits]);
}

/* Whoever listens hears of it before the task goes on. */
static DOEFF_COLD void
note_resumed(DoeffScheduler *s, DoeffTask *t, int starts)
{
    events_note(s, starts ? EVENT_TASK_ENTER : EVENT_RESUMED, t, NULL, starts ? NULL : answer_names[t->answer_kind]);
    events_tell(s);
}

/* t has something to go on with: it joins the queue, or those of its group that wait for their member's end. */
DOEFF_INLINE void
make_ready(DoeffScheduler *s, DoeffTask *t)
{
    count_ready(s, t, 1);
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        note_enqueued(s, t);
    }
    DoeffGroup *group = t->group;
    if (group != NULL) {
        if (group->active != NULL && group->active != t) {
            append_to(&group->ready, &group->ready_last, t);
            return;
        }
        group->active = t;
    }
    queue_up(s, t);
}

/* The member of a group that was queued or running is blocked or over: the next one takes its place. */
static void
group_next(DoeffScheduler *s, DoeffGroup *group)
{
    DoeffTask *t = group->ready;
    group->active = t;
    if (t != NULL) {
        take_from(&group->ready, &group->ready_last, t);
        queue_up(s, t);
    }
}

/* A row that is empty goes; that of most tasks stays. */
static void
level_used(DoeffScheduler *s, int at)
{
    ReadyLevel *level = &s->levels[at];
    if (level->first == NULL && level->priority != PRIORITY_NORMAL) {
        s->nlevels--;
        memmove(level, level + 1, sizeof(ReadyLevel) * (size_t)(s->nlevels - at));
    }
}

static void
leave_level(DoeffScheduler *s, DoeffTask *t)
{
    int at = 0; /* the row that it is in is only of interest if it stands at one end */
    while (at < s->nlevels - 1 && s->levels[at].first != t && s->levels[at].last != t) {
        at++;
    }
    take_from(&s->levels[at].first, &s->levels[at].last, t);
    level_used(s, at);
}

/* A ready task that is being discarded leaves the queue. */
static void
unready(DoeffScheduler *s, DoeffTask *t)
{
    count_ready(s, t, -1);
    DoeffGroup *group = t->group;
    if (group != NULL && group->active != t) {
        take_from(&group->ready, &group->ready_last, t);
        return;
    }
    leave_level(s, t);
    if (group != NULL) {
        group_next(s, group);
    }
}

/* The task that runs next, taken off the queue; NULL: none is ready. The one place where order is decided. */
static DoeffTask *
choose(DoeffScheduler *s)
{
    if (DOEFF_UNLIKELY(s->schedule != NULL) && schedule_reserve(s) < 0) {
        scheduler_throw_at_main(s, PyErr_GetRaisedException());
    }
    for (int i = 0; i < s->nlevels; i++) {
        ReadyLevel *level = &s->levels[i];
        if (level->first == NULL) {
            continue;
        }
        DoeffTask *t = s->schedule == NULL ? level->first : schedule_choose(s, level);
        take_from(&level->first, &level->last, t);
        count_ready(s, t, -1);
        level_used(s, i);
        return t;
    }
    return NULL;
}

/* ---- the state of a task moves in and out of the machine ---- */

static void
leave_context(PyObject *context)
{
    if (context != NULL && PyContext_Exit(context) < 0) {
        PyErr_WriteUnraisable(context); /* the task's program has entered another one and not left it */
    }
}

#define HIDDEN_MOST 8 /* frames of the innermost fiber that are looked at: a small task has one */

static inline int
is_generator(const DoeffFrame *frame)
{
    return frame->kind == &return_frame && (PyGen_CheckExact(frame->a) || PyCoro_CheckExact(frame->a));
}

static void
hide_generators(DoeffTask *t)
{
    DoeffFiber *fiber = t->fiber;
    if (fiber->len > HIDDEN_MOST) {
        return;
    }
    t->hidden = 1;
    for (Py_ssize_t i = 0; i < fiber->len; i++) {
        if (is_generator(&fiber->frames[i])) {
            PyObject_GC_UnTrack(fiber->frames[i].a);
        }
    }
}

/* What hidden objects refer to, for the collector: it would take them for roots. One that somebody else holds too is
 * left out: then it may be one. */
static int
traverse_unseen(PyObject *op, visitproc visit, void *arg)
{
    return Py_REFCNT(op) == 1 ? Py_TYPE(op)->tp_traverse(op, visit, arg) : 0;
}

int
scheduler_traverse_hidden(DoeffTask *t, visitproc visit, void *arg)
{
    int failed = !t->context_hidden || t->context == NULL ? 0 : traverse_unseen(t->context, visit, arg);
    if (t->node != NULL) {
        return failed || t->generator == NULL ? failed : traverse_unseen(t->generator, visit, arg);
    }
    for (Py_ssize_t i = 0; t->hidden && i < t->fiber->len && !failed; i++) {
        if (is_generator(&t->fiber->frames[i])) {
            failed = traverse_unseen(t->fiber->frames[i].a, visit, arg);
        }
    }
    return failed;
}

/* Two frames may have the same generator: a @do function is free to return one that it has returned before. */
static inline void
show(PyObject *generator)
{
    if (!PyObject_GC_IsTracked(generator)) {
        PyObject_GC_Track(generator);
    }
}

void
scheduler_show_generators(DoeffTask *t, DoeffFiber *fiber)
{
    if (!t->hidden) {
        return;
    }
    t->hidden = 0;
    for (Py_ssize_t i = 0; i < fiber->len; i++) {
        if (is_generator(&fiber->frames[i])) {
            show(fiber->frames[i].a);
        }
    }
}

/* A continuation of one generator needs no fiber while it waits: it is folded into the task. */
static int
fold(DoeffScheduler *s, DoeffTask *t)
{
    EngineState *st = s->machine->cx.st;
    DoeffFiber *fiber = t->fiber;
    if (fiber->parent != NULL || fiber->len != 1 || !is_generator(&fiber->frames[0]) || fiber->ret_env != t->env
        || fiber->base != (HandlerNode *)st->root_node || fiber->handling != NULL || fiber->attached != NULL
        || fiber->hinted || fiber->yields_slowly || fiber->unwinding || fiber->ends_dropped) {
        return 0;
    }
    t->node = (HandlerNode *)Py_NewRef((PyObject *)fiber->node);
    t->generator = fiber->frames[0].a;
    t->function = fiber->frames[0].b;
    PyObject_GC_UnTrack(t->generator);
    fiber->len = 0;
    fiber_free_empty(st, fiber);
    return 1;
}

/* Its fiber again, or that of a new task; -1 with an error. */
static int
unfold(DoeffScheduler *s, DoeffTask *t)
{
    EngineState *st = s->machine->cx.st;
    DoeffFiber *fiber = fiber_new(st, NULL, t->node, (HandlerNode *)st->root_node);
    if (DOEFF_UNLIKELY(fiber == NULL)) {
        if (s->spare == NULL) {
            return -1;
        }
        PyErr_Clear();
        fiber = fiber_new_in(s->spare, NULL, t->node, (HandlerNode *)st->root_node);
        s->spare = NULL;
    }
    else if (DOEFF_UNLIKELY(s->spare == NULL)) {
        s->spare = PyMem_Malloc(sizeof(DoeffFiber)); /* without memory for it next time perhaps */
    }
    PyObject *generator = t->generator;
    if (generator != NULL) {
        fiber->frames[fiber->len++] = (DoeffFrame){&return_frame, generator, t->function};
        t->function = NULL;
        show(generator);
    }
    fiber->ret_env = Py_NewRef(t->env); /* what it began with */
    t->fiber = fiber;
    Py_CLEAR(t->node);
    return 0;
}

void
task_drop_folded(DoeffScheduler *s, DoeffTask *t)
{
    DoeffFrame frame = {&return_frame, t->generator, t->function};
    t->generator = t->function = NULL;
    Py_CLEAR(t->node);
    if (frame.a != NULL) {
        show(frame.a);
        frame_release(s->machine->cx.st, frame);
    }
}

/* The store of t, which is its group's if it has one, moves out of the machine... */
static inline void
keep_store(DoeffContext *cx, DoeffTask *t)
{
    if (t->group == NULL) {
        t->store = cx->store;
        t->store_shared = (unsigned char)cx->store_shared;
    }
    else {
        t->group->store = cx->store;
        t->group->store_shared = cx->store_shared;
    }
    cx->store = NULL;
}

/* ...and back into it. */
static inline void
load_store(DoeffContext *cx, DoeffTask *t)
{
    if (t->group == NULL) {
        cx->store = t->store;
        cx->store_shared = t->store_shared;
        t->store = NULL;
    }
    else {
        cx->store = t->group->store;
        cx->store_shared = t->group->store_shared;
        t->group->store = NULL;
    }
}

static void
keep_state(DoeffMachine *m, DoeffTask *t)
{
    DoeffContext *cx = &m->cx;
    t->fiber = m->fiber;
    t->env = cx->env;
    t->scopes = cx->scopes;
    keep_store(cx, t);
    m->fiber = NULL;
    m->scope_base = NULL;
    cx->env = cx->scopes = NULL;
}

static void
save(DoeffMachine *m, DoeffTask *t)
{
    keep_state(m, t);
    leave_context(t->context);
}

static void
enter_context(PyObject *context)
{
    if (context != NULL && PyContext_Enter(context) < 0) {
        PyErr_WriteUnraisable(context);
    }
}

PyObject *
scheduler_context(DoeffMachine *m)
{
    return m->scheduler == NULL || m->scheduler->current == NULL ? NULL : m->scheduler->current->context;
}

void
scheduler_pause(DoeffMachine *m)
{
    leave_context(scheduler_context(m));
}

void
scheduler_go_on(DoeffMachine *m)
{
    PyObject *pending = PyErr_GetRaisedException();
    enter_context(scheduler_context(m));
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

/* -1 with an error: no memory to go on with the task. */
static int
load(DoeffMachine *m, DoeffTask *t)
{
    DoeffContext *cx = &m->cx;
    if (t->node == NULL) {
        scheduler_show_generators(t, t->fiber);
    }
    else if (unfold(m->scheduler, t) < 0) {
        return -1;
    }
    if (!t->started) {
        PyObject *own = PyContext_Copy(t->context);
        if (own == NULL) {
            return -1;
        }
        Py_SETREF(t->context, own);
        t->started = 1;
    }
    m->fiber = t->fiber;
    cx->env = t->env;
    cx->scopes = t->scopes;
    t->fiber = NULL;
    t->env = t->scopes = NULL;
    m->scope_base = t->scope_base;
    load_store(cx, t);
    enter_context(t->context);
    return 0;
}

/* The state that lies in the machine belongs to nobody any more. */
static void
unload(DoeffMachine *m)
{
    DoeffFiber *fiber = m->fiber;
    m->fiber = NULL;
    m->scope_base = NULL;
    fiber_free_chain(m->cx.st, fiber);
    Py_CLEAR(m->cx.env);
    Py_CLEAR(m->cx.store);
    Py_CLEAR(m->cx.scopes);
    m->cx.store_shared = 0;
}

/* ---- answers ---- */

static void
drop_call(DoeffTask *t)
{
    PyObject *args[TASK_ARGS];
    memcpy(args, t->args, sizeof(args));
    Py_CLEAR(t->function);
    for (int i = 0; i < t->nargs; i++) {
        Py_DECREF(args[i]);
    }
}

static void
drop_answer(DoeffScheduler *s, DoeffTask *t)
{
    PyObject *answer = t->answer;
    AnswerKind kind = t->answer_kind;
    t->answer = NULL;
    t->answer_kind = ANSWER_NONE;
    if (kind == ANSWER_ROW) {
        row_free(s, t);
    }
    else if (kind == ANSWER_PERMIT) {
        semaphore_hand_on(s, answer);
    }
    else if (kind == ANSWER_CALL) {
        drop_call(t);
    }
    else if (kind == ANSWER_PROGRAM) {
        await_abandon(s->machine->cx.st, answer);
    }
    Py_XDECREF(answer);
}

/* What the loaded task goes on with. */
static DoeffStep
take_answer(DoeffScheduler *s, DoeffTask *t, PyObject **out)
{
    PyObject *answer = t->answer;
    AnswerKind kind = t->answer_kind;
    t->answer = NULL;
    t->answer_kind = ANSWER_NONE;
    switch (kind) {
    case ANSWER_VALUE:
        *out = answer;
        return DOEFF_VALUE;
    case ANSWER_PROGRAM:
        *out = answer;
        return DOEFF_PROGRAM;
    case ANSWER_CALL: {
        PyObject *args[TASK_ARGS], *function = t->function;
        memcpy(args, t->args, sizeof(args));
        t->function = NULL;
        PyObject *generator = s->machine->turns > 0 ? NULL : kleisli_begin(function, args, t->nargs);
        if (DOEFF_UNLIKELY(generator == NULL)) { /* or a turn of its own begins with the call */
            *out = kleisli_put_together(s->machine->cx.st, function, args, t->nargs);
            return *out == NULL ? DOEFF_RAISE : DOEFF_PROGRAM;
        }
        DoeffFiber *fiber = s->machine->fiber; /* which is new */
        fiber->frames[fiber->len++] = (DoeffFrame){&return_frame, generator, function};
        for (int i = 0; i < t->nargs; i++) {
            Py_DECREF(args[i]);
        }
        *out = Py_NewRef(Py_None);
        return DOEFF_VALUE;
    }
    case ANSWER_ERROR:
        PyErr_SetRaisedException(answer);
        return DOEFF_RAISE;
    case ANSWER_ERROR_AGAIN: {
        PyObject *error = Py_NewRef(PyTuple_GET_ITEM(answer, 0));
        (void)PyException_SetTraceback(error, PyTuple_GET_ITEM(answer, 1));
        Py_DECREF(answer);
        PyErr_SetRaisedException(error);
        return DOEFF_RAISE;
    }
    case ANSWER_OUTCOME: {
        DoeffStep step = waitable_outcome((DoeffWaitable *)answer, out);
        Py_DECREF(answer);
        return step;
    }
    case ANSWER_ROW:
        return row_answer(s, t, out);
    default: /* ANSWER_PERMIT: it has it */
        semaphore_granted(s, answer, 0);
        *out = Py_NewRef(Py_None);
        return DOEFF_VALUE;
    }
}

void
task_wake(DoeffScheduler *s, DoeffTask *t, AnswerKind kind, PyObject *what)
{
    t->waits = WAITS_NOT;
    t->idle = 0;
    t->answer_kind = (unsigned char)kind;
    t->answer = what;
    if (t->wake_priority < s->woken_lowest) {
        s->woken_lowest = t->wake_priority;
    }
    make_ready(s, t);
}

int
task_throw(DoeffScheduler *s, DoeffTask *t, PyObject *error)
{
    if (t == s->current && t->waits == WAITS_NOT && t->answer_kind == ANSWER_NONE) {
        Py_XSETREF(s->thrown, error); /* as soon as its effect has been answered */
        s->machine->cx.attention = 1;
        return 1;
    }
    if (t->waits == WAITS_NOT) {
        drop_answer(s, t);
        t->answer = error;
        t->answer_kind = ANSWER_ERROR;
        return 1;
    }
    if (!task_withdraw(s, t, error)) {
        return 0;
    }
    task_wake(s, t, ANSWER_ERROR, error);
    return 1;
}

/* ---- turns ---- */

/* The yield that has just been answered is one of a handler's own generator, which is atomic. */
static int
in_handler_body(DoeffFiber *fiber)
{
    if (fiber->handling == NULL || fiber->len < 2) {
        return 0;
    }
    const DoeffFrame *below = &fiber->frames[fiber->len - 2];
    return below->kind == &handler_result_frame || below->kind == &replacement_frame;
}

/* An error of the wait, or a signal's. The second of two interrupts does not wait for what the first one asked to end. */
static void
throw_from_outside(DoeffScheduler *s, PyObject *error)
{
    PyObject *pending = s->main_over || s->main->waits == WAITS_NOT ? NULL : task_pending_error(s, s->main);
    if (pending != NULL && task_interrupts(pending) && task_interrupts(error)) {
        task_force(s, s->main, error);
    }
    else {
        scheduler_throw_at_main(s, error);
    }
}

/* What has happened outside meanwhile makes tasks ready. */
static inline void
look_outside(DoeffScheduler *s)
{
    queue_apply(s->queue);
    if (timers_run(s)) {
        timer_fire(s);
    }
    if (DOEFF_UNLIKELY(s->interrupted != NULL)) {
        PyObject *error = s->interrupted;
        s->interrupted = NULL;
        throw_from_outside(s, error);
    }
}

/* Nobody gets the permit that was to be the answer. */
static void
give_back(DoeffScheduler *s)
{
    PyObject *semaphore = s->granted;
    s->granted = NULL;
    if (semaphore != NULL) {
        semaphore_hand_on(s, semaphore);
        Py_DECREF(semaphore);
    }
}

int
scheduler_turn_ends(DoeffMachine *m)
{
    DoeffScheduler *s = m->scheduler;
    DoeffTask *t = s->current;
    if (DOEFF_LIKELY(t != NULL)) { /* what arrives while the wait handler is at work is left for that to take */
        look_outside(s);
    }
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_tell(s);
    }
    if (DOEFF_UNLIKELY(s->granted != NULL)) {
        if (!s->granting) { /* its task has gone on with it */
            Py_CLEAR(s->granted);
        }
        s->granting = 0;
    }
    if (t == NULL) {
        m->cx.attention |= s->nlevels > 1 || s->levels[0].first != NULL;
        return 0;
    }
    m->cx.attention |= timers_run(s) || m->orphans_len > 0;
    if (DOEFF_UNLIKELY(s->phase == RUN_CLOSES)) { /* for so long and no longer */
        m->cx.attention = 1;
        if (queue_clock_ns() >= s->close_at) {
            return 1;
        }
    }
    if (DOEFF_UNLIKELY(s->thrown != NULL)) {
        give_back(s);
        PyErr_SetRaisedException(s->thrown);
        s->thrown = NULL;
        s->keep_turn = 0;
        m->cx.attention = 1;
        return -1;
    }
    int at = 0;
    while (at < s->nlevels && s->levels[at].first == NULL) {
        at++;
    }
    if (at == s->nlevels) {
        s->keep_turn = 0;
        t->wake_priority = t->priority;
        return 0;
    }
    m->cx.attention = 1;
    if (in_handler_body(m->fiber)) {
        if (m->cx.forwarder == NULL) {
            s->keep_turn = 0;
        }
        return 0;
    }
    if (s->keep_turn) {
        s->keep_turn = 0;
        return 0;
    }
    if (s->levels[at].priority < t->wake_priority) {
        /* whoever becomes ready sets it again */
        m->cx.attention = timers_run(s) || m->orphans_len > 0 || s->phase == RUN_CLOSES;
        return 0;
    }
    return !s->by_blocking;
}

/* An error that somebody else holds as well, with its traceback as it is now; NULL: no memory for that. */
static PyObject *
error_again(PyObject *error)
{
    PyObject *traceback = PyException_GetTraceback(error);
    PyObject *pair = PyTuple_Pack(2, error, traceback == NULL ? Py_None : traceback);
    Py_XDECREF(traceback);
    if (pair == NULL) {
        PyErr_Clear();
    }
    return pair;
}

void
scheduler_requeue(DoeffMachine *m, AnswerKind kind, PyObject *what)
{
    DoeffScheduler *s = m->scheduler;
    DoeffTask *t = s->current;
    if (kind == ANSWER_ERROR && Py_REFCNT(what) > 1) {
        PyObject *again = error_again(what);
        if (again != NULL) {
            kind = ANSWER_ERROR_AGAIN;
            Py_SETREF(what, again);
        }
    }
    if (DOEFF_UNLIKELY(s->granted != NULL) && kind == ANSWER_VALUE) { /* a cancelled task does not keep it */
        Py_SETREF(what, s->granted);
        kind = ANSWER_PERMIT;
        s->granted = NULL;
    }
    t->answer_kind = (unsigned char)kind;
    t->answer = what;
    count_ready(s, t, 1);
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_note(s, EVENT_ENQUEUED, t, NULL, "its turn is over");
    }
    queue_up(s, t); /* of a group it stays the active member */
}

/* ---- idle: the wait handler's turn ---- */

static int
could_still_wake(DoeffScheduler *s)
{
    return s->timers > 0 || s->external > 0 || s->external_idle > 0;
}

void
scheduler_interrupted(DoeffScheduler *s, PyObject *error)
{
    if (s->interrupted == NULL) {
        s->interrupted = error;
    }
    else {
        Py_DECREF(error); /* one is enough */
    }
    s->machine->cx.attention = 1;
}

static void begin_closing(DoeffScheduler *s);

/* An error that belongs to no task is raised where main is suspended. When main is over there is nobody left to
 * take it: the run function raises an interrupt. What is left of the run is cancelled, the next time discarded. */
void
scheduler_throw_at_main(DoeffScheduler *s, PyObject *error)
{
    if (!s->main_over) {
        (void)task_throw(s, s->main, error);
        return;
    }
    int drains = s->phase == RUN_DRAINS;
    s->phase = RUN_ENDS;
    if (PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        PyErr_SetRaisedException(error);
        PyErr_WriteUnraisable((PyObject *)s->node);
    }
    else if (s->interrupt == NULL) {
        s->interrupt = error;
    }
    else {
        Py_DECREF(error); /* one is enough */
    }
    if (drains) {
        begin_closing(s);
    }
}

/* Main, which is ready, runs next, whatever runs now. */
static void
main_goes_first(DoeffScheduler *s)
{
    DoeffTask *t = s->main;
    DoeffGroup *group = t->group;
    if (group == NULL || group->active == t) {
        leave_level(s, t);
    }
    else { /* a member that never waits would keep it out for ever */
        take_from(&group->ready, &group->ready_last, t);
        leave_level(s, group->active);
        append_to(&group->ready, &group->ready_last, group->active);
        group->active = t;
    }
    t->wake_priority = PRIORITY_MOST;
    queue_up(s, t);
}

DoeffStep
scheduler_interrupt(DoeffMachine *m, AnswerKind kind, PyObject *what, PyObject *error, int force)
{
    DoeffScheduler *s = m->scheduler;
    if (s == NULL || s->current == NULL || s->current == s->main) { /* nobody is current: its wait handler is at work */
        Py_DECREF(what);
        if (s != NULL) {
            give_back(s);
        }
        PyErr_SetRaisedException(error);
        return DOEFF_RAISE;
    }
    scheduler_requeue(m, kind, what);
    if (force) { /* from the loop, so that its context has been entered */
        save(m, s->current); /* it may be cancelled or killed now, and have to be named */
        s->current = NULL;
        s->main->priority = s->main->wake_priority = PRIORITY_MOST; /* its cleanup too */
    }
    PyObject *pending = s->main_over || s->main->waits == WAITS_NOT ? NULL : task_pending_error(s, s->main);
    if (force && pending != NULL && Py_IS_TYPE(pending, Py_TYPE(error))) {
        task_force(s, s->main, error);
    }
    else {
        scheduler_throw_at_main(s, error);
    }
    if (!s->main_over && s->main->answer_kind != ANSWER_NONE) {
        main_goes_first(s);
    }
    return DOEFF_BLOCK;
}

static DoeffStep
idle_value(DoeffContext *cx, DoeffFrame *Py_UNUSED(frame), PyObject *value, PyObject **Py_UNUSED(out))
{
    DoeffScheduler *s = scheduler_if_any(cx);
    if (queue_apply_answer(s->queue, value) < 0) {
        scheduler_throw_at_main(s, PyErr_GetRaisedException());
    }
    return DOEFF_BLOCK;
}

static DoeffStep
idle_error(DoeffContext *cx, DoeffFrame *Py_UNUSED(frame), PyObject *error, PyObject **Py_UNUSED(out))
{
    trace_park(MACHINE_OF(cx), error);
    MACHINE_OF(cx)->loop_turn = 1; /* main may wait for the end of a coroutine all the same, for which the loop must turn */
    throw_from_outside(scheduler_if_any(cx), Py_NewRef(error));
    return DOEFF_BLOCK;
}

static const DoeffFrameKind idle_frame = {
    .name = "WaitForExternalCompletion",
    .on_value = idle_value,
    .on_error = idle_error,
};

/* The wait handler works on main's store while main waits, on a copy of it once main is over. */
static void
lend_main_store(DoeffMachine *m)
{
    DoeffScheduler *s = m->scheduler;
    if (s->main_over) {
        m->cx.store = Py_NewRef(s->main_store);
        m->cx.store_shared = 1;
    }
    else {
        load_store(&m->cx, s->main);
    }
}

static void
return_main_store(DoeffMachine *m)
{
    DoeffScheduler *s = m->scheduler;
    if (!s->main_over && m->cx.store != NULL) {
        keep_store(&m->cx, s->main);
    }
}

static DoeffStep
go_idle(DoeffMachine *m, PyObject **out)
{
    DoeffScheduler *s = m->scheduler;
    EngineState *st = m->cx.st;
    HandlerNode *outside = s->node->parent;
    RecordInfo *kind = st->rec.WaitForExternal;
    NodeEntry *entry = node_resolve(st, outside, kind->type);
    if (entry != NULL && entry->node == NULL && m->aio == NULL) { /* no wait handler: block in place, if somebody does that */
        entry = node_resolve(st, outside, st->rec.BlockForExternal->type);
        kind = entry != NULL && entry->node != NULL ? st->rec.BlockForExternal : kind;
    }
    PyObject *effect = entry == NULL ? NULL : record_new1(kind, Py_NewRef((PyObject *)s->queue));
    DoeffFiber *fiber = effect == NULL ? NULL : fiber_new(st, NULL, outside, (HandlerNode *)st->root_node);
    if (fiber == NULL || fiber_push(fiber, &idle_frame, NULL, NULL) < 0) {
        Py_XDECREF(effect);
        if (fiber != NULL) {
            fiber_free(st, fiber);
        }
        PyObject *error = PyErr_GetRaisedException();
        if (!s->main_over && s->main->waits != WAITS_NOT && task_pending_error(s, s->main) != NULL) {
            task_force(s, s->main, error); /* it has been told, and waits for something to end: no waiting without memory */
        }
        else {
            scheduler_throw_at_main(s, error);
        }
        return DOEFF_BLOCK;
    }
    m->fiber = fiber;
    m->cx.env = Py_NewRef(s->main_over ? s->main_env : s->main->env);
    lend_main_store(m);
    *out = effect;
    return DOEFF_PROGRAM;
}

/* ---- the end of a run ---- */

/* EN-2: whatever is left is cancelled, in order of creation; again: what the cleanup has spawned, once it has begun. */
static void
sweep(DoeffScheduler *s, int again)
{
    for (DoeffTask *t = s->oldest; t != NULL;) {
        if (t->swept || (again && !t->started)) {
            t = t->newer;
            continue;
        }
        DoeffTask *before = (DoeffTask *)Py_XNewRef((PyObject *)t->older);
        Py_INCREF(t);
        t->swept = 1;
        s->swept_live++;
        if (!t->daemon && !t->w.claimed) {
            report_swept(s, t);
        }
        t->w.claimed = 1;
        if (task_cancel(s, t) < 0) {
            PyErr_Clear(); /* no memory for the error: it is discarded at the end */
        }
        DoeffTask *next = t->newer;
        if (t->w.state != WAITABLE_OPEN) { /* it had not started, and is off the list */
            next = before == NULL || before->w.state != WAITABLE_OPEN ? s->oldest : before->newer;
        }
        Py_DECREF(t);
        Py_XDECREF((PyObject *)before);
        t = next;
    }
}

static void
begin_closing(DoeffScheduler *s)
{
    s->phase = RUN_CLOSES;
    s->close_at = queue_clock_ns() + queue_seconds_to_ns(s->machine->close_timeout);
    sweep(s, 0);
}

static void
discard_rest(DoeffScheduler *s)
{
    while (s->newest != NULL) {
        task_discard(s, s->newest);
    }
}

typedef enum {
    LEFT_NOTHING, /* the run is over */
    LEFT_TO_WAIT, /* for time or the outside */
    LEFT_READY,   /* a task has been made ready, or the phase has changed: look again */
} LeftToDo;

/* What is left to do now that no task is ready. */
static LeftToDo
out_of_work(DoeffScheduler *s)
{
    if (s->phase == RUN_GOES_ON) {
        if (could_still_wake(s)) {
            return LEFT_TO_WAIT;
        }
        PyObject *error = report_deadlock(s);
        DoeffTask *t = s->main;
        PyObject *pending = t->waits == WAITS_NOT ? NULL : task_pending_error(s, t);
        if (pending != NULL && PyErr_GivenExceptionMatches(pending, s->machine->cx.st->SchedulerDeadlockError)) {
            task_force(s, t, error); /* what it waits for takes no cancellation */
        }
        else {
            scheduler_throw_at_main(s, error);
        }
        return LEFT_READY;
    }
    if (s->live == 0) {
        return LEFT_NOTHING;
    }
    if (could_still_wake(s)) {
        return s->phase != RUN_CLOSES || queue_clock_ns() < s->close_at ? LEFT_TO_WAIT : LEFT_NOTHING;
    }
    if (s->phase == RUN_DRAINS) {
        begin_closing(s);
        return LEFT_READY;
    }
    if (s->swept_live < s->live) {
        sweep(s, 1);
        return LEFT_READY;
    }
    return LEFT_NOTHING;
}

/* The run is over: the machine gets back what main left. */
static DoeffStep
finish(DoeffMachine *m, PyObject **out, int *failed)
{
    DoeffScheduler *s = m->scheduler;
    s->phase = RUN_ENDS;
    discard_rest(s);
    report_end(s);
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_tell(s);
    }
    if (s->interrupt == NULL) {
        s->interrupt = s->interrupted;
        s->interrupted = NULL;
    }
    s->finished = 1;
    m->cx.env = s->main_env;
    m->cx.store = s->main_store;
    m->cx.store_shared = 0;
    m->trace = s->main_trace;
    s->main_env = s->main_store = s->main_trace = NULL;
    m->fiber = s->main->fiber;
    s->main->fiber = NULL;
    *out = s->main_outcome;
    *failed = s->main_failed;
    s->main_outcome = NULL;
    if (s->interrupt != NULL) {
        Py_SETREF(*out, s->interrupt);
        s->interrupt = NULL;
        *failed = 1;
    }
    return DOEFF_OUTSIDE;
}

static void
main_ended(DoeffMachine *m, PyObject *value, PyObject *error)
{
    DoeffScheduler *s = m->scheduler;
    DoeffTask *t = s->main;
    DoeffContext *cx = &m->cx;
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_note_outcome(s, EVENT_TASK_LEAVE, t, NULL, error != NULL ? WAITABLE_ERROR : WAITABLE_VALUE, error);
    }
    s->main_over = 1;
    s->main_failed = error != NULL;
    s->main_outcome = error != NULL ? error : value;
    s->main_env = cx->env;
    s->main_store = cx->store;
    s->main_trace = m->trace;
    m->trace = NULL;
    t->fiber = m->fiber;
    m->fiber = NULL;
    if (t->group != NULL) { /* what other members still do shows in their copy */
        t->group->store = Py_NewRef(cx->store);
        t->group->store_shared = 1;
        group_leave(s, t);
    }
    cx->env = cx->store = NULL;
    Py_CLEAR(cx->scopes);
    cx->store_shared = 0;
    s->phase = RUN_DRAINS;
    if (error != NULL) {
        begin_closing(s);
    }
}

/* ---- who goes on ---- */

DoeffStep
scheduler_next(DoeffMachine *m, PyObject **out, int *failed)
{
    DoeffScheduler *s = m->scheduler;
    DoeffTask *old = s->current;
    Py_CLEAR(s->granted);
    if (old == NULL) {
        if (m->fiber != NULL) { /* the wait handler's */
            return_main_store(m);
            unload(m);
        }
    }
    else if (DOEFF_UNLIKELY(s->thrown != NULL)) { /* while its effect made it wait */
        PyObject *error = s->thrown;
        s->thrown = NULL;
        (void)task_throw(s, old, error);
    }
    for (;;) {
        look_outside(s);
        if (old != NULL && old->waits != WAITS_NOT) { /* it blocks */
            if (DOEFF_UNLIKELY(s->events != NULL)) {
                note_blocked(s, old);
            }
            save(m, old);
            if (!fold(s, old)) {
                hide_generators(old);
            }
            if (old->context != NULL) {
                PyObject_GC_UnTrack(old->context);
                old->context_hidden = 1;
            }
            if (old->group != NULL) {
                group_next(s, old->group);
            }
            s->current = old = NULL;
        }
        if (DOEFF_UNLIKELY(s->phase != RUN_GOES_ON)) {
            if (s->phase == RUN_DRAINS && s->ready_regular == 0 && !(m->unfinished_wait && s->live > s->daemons)) {
                begin_closing(s);
            }
            else if (s->phase == RUN_CLOSES && s->swept_live == 0 && s->live > 0 && s->ready_regular == 0) {
                sweep(s, 1); /* nobody waits for what is left */
            }
            if (s->phase == RUN_ENDS || (s->phase == RUN_CLOSES && queue_clock_ns() >= s->close_at)) {
                if (old != NULL) {
                    save(m, old);
                    s->current = NULL;
                }
                return finish(m, out, failed);
            }
        }
        DoeffTask *t = choose(s);
        if (t != NULL) {
            int starts = !t->started;
            if (t != old) {
                if (old != NULL) {
                    save(m, old);
                }
                if (load(m, t) < 0) {
                    s->current = old = NULL;
                    drop_answer(s, t);
                    task_end(s, t, WAITABLE_ERROR, PyErr_GetRaisedException());
                    continue;
                }
                s->current = t;
                if (DOEFF_UNLIKELY(s->clock != NULL) && clock_sync_in(m) < 0) {
                    drop_answer(s, t);
                    return DOEFF_RAISE;
                }
            }
            m->cx.attention = 1;
            if (DOEFF_UNLIKELY(s->events != NULL)) {
                note_resumed(s, t, starts);
            }
            return take_answer(s, t, out);
        }
        if (old != NULL) {
            save(m, old);
            s->current = old = NULL;
        }
        if (s->clock != NULL && s->timers > 0 && s->external == 0) {
            if (timer_jump(s) < 0) {
                scheduler_throw_at_main(s, PyErr_GetRaisedException());
            }
            continue;
        }
        LeftToDo left = out_of_work(s);
        if (left == LEFT_NOTHING) {
            return finish(m, out, failed);
        }
        if (left == LEFT_TO_WAIT && DOEFF_UNLIKELY(m->cx.st->stall_ns != 0)) {
            report_stall(s);
            if (s->ready > 0 || s->phase == RUN_ENDS) { /* it asks whether sources are alive */
                continue;
            }
        }
        if (DOEFF_UNLIKELY(s->events != NULL)) {
            if (left == LEFT_TO_WAIT) {
                events_note(s, EVENT_EXTERNAL_WAIT, NULL, NULL, s->external + s->external_idle > 0 ? "outside" : "time");
            }
            events_tell(s);
            if (s->ready > 0 || s->phase == RUN_ENDS) { /* whoever listens has done something */
                continue;
            }
        }
        DoeffStep step = left == LEFT_TO_WAIT ? go_idle(m, out) : DOEFF_BLOCK;
        if (step != DOEFF_BLOCK) {
            return step;
        }
    }
}

void
scheduler_task_over(DoeffMachine *m, PyObject *value, PyObject *error)
{
    DoeffScheduler *s = m->scheduler;
    DoeffTask *t = s->current;
    Py_CLEAR(s->thrown);
    if (DOEFF_UNLIKELY(t->main)) {
        main_ended(m, value, error);
        s->current = NULL;
        return;
    }
    WaitableState state = error == NULL ? WAITABLE_VALUE : WAITABLE_ERROR;
    if (error != NULL) {
        task_note_spawn(m, t, error);
        trace_park_pending(m, error);
        if (t->cancelled && PyErr_GivenExceptionMatches(error, m->cx.st->TaskCancelledError)) {
            state = WAITABLE_CANCELLED;
        }
    }
    else if (t->cancelled) { /* it swallowed the cancellation: its value comes too late */
        Py_SETREF(value, Py_NewRef(task_latest_cancel(t)));
        state = WAITABLE_CANCELLED;
    }
    DoeffFiber *fiber = m->fiber;
    m->fiber = NULL;
    fiber_free_empty(m->cx.st, fiber);
    save(m, t);
    s->current = NULL;
    task_end(s, t, state, error != NULL ? error : value);
}

void
task_unready(DoeffScheduler *s, DoeffTask *t)
{
    if (t->answer_kind != ANSWER_NONE) {
        unready(s, t);
        drop_answer(s, t);
    }
}

void
group_leave(DoeffScheduler *s, DoeffTask *t)
{
    DoeffGroup *group = t->group;
    t->group = NULL;
    if (group->active == t) {
        group_next(s, group);
    }
    if (--group->members == 0) {
        Py_XDECREF(group->store);
        PyMem_Free(group);
    }
}

/* ---- the object ---- */

DoeffScheduler *
scheduler_new(DoeffContext *cx)
{
    DoeffMachine *m = MACHINE_OF(cx);
    EngineState *st = cx->st;
    DoeffScheduler *s = m->scheduler;
    if (s != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a wait handler runs while no task does: it cannot perform effects "
                                            "of tasks");
        return NULL;
    }
    s = PyMem_Calloc(1, sizeof(DoeffScheduler));
    if (s == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    s->run = ++st->runs_ever;
    s->machine = m;
    s->caplevels = 2;
    s->levels = PyMem_New(ReadyLevel, 2);
    s->spare = PyMem_Malloc(sizeof(DoeffFiber));
    s->main = task_alloc(st, s);
    s->queue = queue_new(st, s);
    PyObject *recipe = schedule_recipe(m);
    s->by_blocking = recipe == NULL ? 0 : schedule_begin(m, recipe);
    s->schedule = m->schedule;
    if (s->by_blocking < 0 || s->levels == NULL || s->spare == NULL || s->main == NULL || s->queue == NULL) {
        if (!PyErr_Occurred()) {
            PyErr_NoMemory();
        }
        goto error;
    }
    s->levels[0] = (ReadyLevel){.priority = PRIORITY_NORMAL};
    s->nlevels = 1;
    s->main->main = s->main->started = 1;
    s->current = s->main;
    s->node = (HandlerNode *)Py_NewRef((PyObject *)m->at);
    m->scheduler = s;
    m->cx.attention = 1;
    if (clock_was_put(cx) < 0) {
        m->scheduler = NULL;
        goto error;
    }
    events_begin(s);
    return s;
error:
    Py_XDECREF((PyObject *)s->node);
    Py_XDECREF((PyObject *)s->main);
    Py_XDECREF((PyObject *)s->queue);
    Py_XDECREF(s->clock);
    PyMem_Free(s->levels);
    PyMem_Free(s->spare);
    PyMem_Free(s);
    return NULL;
}

/* Whatever is left of the run goes at once. */
void
scheduler_free(DoeffMachine *m)
{
    DoeffScheduler *s = m->scheduler;
    m->scheduler = NULL;
    s->phase = RUN_ENDS;
    if (!s->finished) { /* dropped in the middle of its run: paused at an escape, its context is left */
        if (s->current != NULL && m->fiber != NULL) {
            keep_state(m, s->current);
        }
        s->current = NULL;
        unload(m);
    }
    discard_rest(s);
    DoeffTask *t = s->main;
    task_unready(s, t);
    if (t->waits != WAITS_NOT) {
        (void)task_withdraw(s, t, NULL);
        task_discard_members(s);
    }
    task_release(s, t);
    Py_DECREF(t);
    report_end(s);
    if (s->interrupted != NULL) { /* there is no run function left to raise it */
        PyErr_SetRaisedException(s->interrupted);
        PyErr_WriteUnraisable((PyObject *)s->node);
    }
    queue_close(s->queue);
    if (s->events != NULL) {
        events_tell(s);
        if (s->events != NULL) {
            events_free(s);
        }
    }
    Py_DECREF((PyObject *)s->queue);
    Py_XDECREF((PyObject *)s->node);
    Py_XDECREF(s->snapshot);
    Py_XDECREF(s->clock);
    Py_XDECREF(s->interrupt);
    Py_XDECREF(s->thrown);
    Py_XDECREF(s->granted);
    Py_XDECREF(s->internal);
    Py_XDECREF(s->main_outcome);
    Py_XDECREF(s->main_env);
    Py_XDECREF(s->main_store);
    Py_XDECREF(s->main_trace);
    for (Py_ssize_t i = 0; i < s->timers; i++) { /* Timeouts in continuations that somebody keeps */
        if (s->heap[i].task == NULL) {
            nursery_timer_moved(s->heap[i].scope, -1);
        }
    }
    PyMem_Free(s->levels);
    PyMem_Free(s->heap);
    PyMem_Free(s->spare);
    PyMem_Free(s);
}

int
scheduler_traverse(DoeffScheduler *s, visitproc visit, void *arg)
{
    Py_VISIT(s->node);
    Py_VISIT(s->snapshot);
    Py_VISIT(s->queue);
    Py_VISIT(s->clock);
    Py_VISIT(s->interrupt);
    Py_VISIT(s->interrupted);
    Py_VISIT(s->thrown);
    Py_VISIT(s->internal);
    Py_VISIT(s->main_outcome);
    Py_VISIT(s->main_env);
    Py_VISIT(s->main_store);
    Py_VISIT(s->main_trace);
    int failed = task_traverse_live(s->main, visit, arg);
    for (DoeffTask *t = s->oldest; t != NULL && !failed; t = t->newer) {
        failed = task_traverse_live(t, visit, arg);
    }
    return failed;
}
