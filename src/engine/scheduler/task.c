#include "events.h"
#include "scheduler.h"

#include "../effects/effects.h"
#include "../program/kleisli.h"
#include "../report/trace.h"
#include "../support/imports.h"

/* task: the life of a task, and the effects Spawn, Cancel, is_done and Discard. */

int
task_check(EngineState *st, PyObject *op)
{
    return Py_IS_TYPE(op, st->Task_Type);
}

/* ---- making one ---- */

#define FREE_TASKS 4096 /* a megabyte: what spawns many at a time as a rule does so again */

DoeffTask *
task_alloc(EngineState *st, DoeffScheduler *s)
{
    DoeffTask *t = (DoeffTask *)freelist_pop(&st->free_tasks);
    if (t == NULL) {
        t = PyObject_GC_New(DoeffTask, st->Task_Type); /* shown to the collector once it is over */
    }
    if (DOEFF_LIKELY(t != NULL)) {
        memset((char *)t + sizeof(PyObject), 0, sizeof(DoeffTask) - sizeof(PyObject));
        t->w.run = s->run;
        t->priority = t->wake_priority = PRIORITY_NORMAL;
    }
    return t;
}

/* The handler's body that the current effect is yielded by, if there is one. */
static DoeffHandlerContext *
body_at_work(DoeffContext *cx)
{
    DoeffHandlerContext *ctx = cx->forwarder;
    if (ctx == NULL) {
        DoeffFiber *fiber = MACHINE_OF(cx)->fiber;
        while (fiber->handling == NULL) {
            if (!fiber->in_handler || fiber->parent == NULL) {
                return NULL;
            }
            fiber = fiber->parent;
        }
        ctx = fiber->handling;
    }
    while (ctx->inner != NULL) {
        ctx = ctx->inner;
    }
    return ctx->state == CTX_CAPTURED ? ctx : NULL;
}

void
task_origin(DoeffContext *cx, HandlerNode **node, PyObject **env)
{
    DoeffFiber *fiber = MACHINE_OF(cx)->fiber;
    *env = cx->env;
    *node = fiber->node;
    if (DOEFF_UNLIKELY(cx->forwarder != NULL || fiber->in_handler || fiber->handling != NULL)) {
        DoeffHandlerContext *ctx = body_at_work(cx);
        if (ctx != NULL) {
            *node = ctx->top->node;
            if (cx->forwarder != NULL) {
                *env = ctx->env;
            }
        }
    }
}

/* Where the current effect is yielded, for reports. */
static void
note_place(DoeffMachine *m, DoeffTask *t)
{
    DoeffFiber *fiber = m->fiber;
    if (fiber->len == 0 || fiber->frames[fiber->len - 1].kind != &return_frame
        || !PyGen_CheckExact(fiber->frames[fiber->len - 1].a)) {
        return;
    }
    PyObject *frame = m->cx.st->generator_frame(fiber->frames[fiber->len - 1].a, NULL);
    if (frame != NULL && PyFrame_Check(frame)) {
        t->spawned_in = PyFrame_GetCode((PyFrameObject *)frame);
        t->spawned_at = PyFrame_GetLasti((PyFrameObject *)frame);
    }
    else {
        PyErr_Clear();
    }
    Py_XDECREF(frame);
}

/* Of a context that has never been entered: its one referent, the map of its variables. arg: a PyObject *; the map
 * comes out borrowed, anything else as NULL. */
static int
context_part(PyObject *op, void *arg)
{
    PyObject **map = arg;
    if (*map != NULL) {
        *map = NULL;
        return 1;
    }
    *map = op;
    return 0;
}

/* The variables as they are now (strong): one context for as long as they stay the same ones, of which each task makes
 * its own when it starts. Two snapshots with one and the same map are equal, whatever happened in between. */
static PyObject *
context_snapshot(DoeffScheduler *s)
{
    PyObject *now = PyContext_CopyCurrent();
    if (DOEFF_UNLIKELY(now == NULL)) {
        return NULL;
    }
    PyObject *map = NULL;
    (void)Py_TYPE(now)->tp_traverse(now, context_part, &map);
    if (DOEFF_LIKELY(map != NULL && map == s->snapshot_map)) {
        Py_DECREF(now);
        return Py_NewRef(s->snapshot);
    }
    Py_XSETREF(s->snapshot, Py_NewRef(now));
    s->snapshot_map = map;
    return now;
}

static int
join_group(DoeffScheduler *s, DoeffTask *t)
{
    DoeffGroup *group = s->current->group;
    if (group == NULL) {
        group = PyMem_Calloc(1, sizeof(DoeffGroup));
        if (group == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        group->members = 1;
        group->active = s->current;
        s->current->group = group;
    }
    group->members++;
    t->group = group;
    return 0;
}

DoeffTask *
task_new(DoeffContext *cx, PyObject *program, HandlerNode *node, PyObject *env, int member, int priority)
{
    EngineState *st = cx->st;
    DoeffMachine *m = MACHINE_OF(cx);
    DoeffScheduler *s = m->scheduler;
    DoeffTask *t = task_alloc(st, s);
    if (t == NULL) {
        Py_DECREF(program);
        return NULL;
    }
    t->answer = program;
    t->member = (unsigned char)member;
    t->priority = t->wake_priority = priority;
    t->context = context_snapshot(s);
    t->node = (HandlerNode *)Py_NewRef((PyObject *)node);
    if (t->context == NULL || nursery_child_new(s, t) < 0 || (member && join_group(s, t) < 0)) {
        Py_DECREF(t);
        return NULL;
    }
    t->env = Py_NewRef(env);
    if (member) {
        t->scopes = Py_XNewRef(cx->scopes);
        t->scope_base = Py_XNewRef(cx->scopes);
    }
    else {
        t->store = Py_NewRef(cx->store);
        t->store_shared = 1;
        cx->store_shared = 1;
    }
    m->nodes_shared = 1;
    note_place(m, t);
    t->older = s->newest;
    *(s->newest == NULL ? &s->oldest : &s->newest->newer) = t;
    s->newest = t;
    s->live++;
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_note(s, EVENT_SPAWNED, t, NULL, NULL);
    }
    t->answer = NULL;
    int nargs = kleisli_take_apart(st, program, TASK_ARGS, &t->function, t->args);
    if (nargs >= 0) {
        t->nargs = (unsigned char)nargs;
        Py_DECREF(program);
        task_wake(s, t, ANSWER_CALL, NULL);
    }
    else {
        kleisli_keep_unseen(st, program);
        task_wake(s, t, ANSWER_PROGRAM, program);
    }
    return t;
}

/* ---- its end ---- */

static void
unlink_live(DoeffScheduler *s, DoeffTask *t)
{
    *(t->older == NULL ? &s->oldest : &t->older->newer) = t->newer;
    *(t->newer == NULL ? &s->newest : &t->newer->older) = t->older;
    t->older = t->newer = NULL;
    s->live--;
    s->daemons -= t->daemon;
    s->swept_live -= t->swept;
}

/* The collector need not see a blocked task's context; its dealloc wants it tracked. */
static void
drop_context(DoeffTask *t)
{
    PyObject *context = t->context;
    t->context = NULL;
    if (context != NULL) {
        if (t->context_hidden) {
            PyObject_GC_Track(context);
        }
        Py_DECREF(context);
    }
}

/* 1 if a cycle could go through an outcome. */
static int
may_be_in_cycle(PyObject *outcome)
{
    return PyObject_IS_GC(outcome) && !(PyTuple_CheckExact(outcome) && !PyObject_GC_IsTracked(outcome));
}

void
scheduler_drop_frames(DoeffScheduler *s, DoeffFiber *fiber)
{
    PyObject *pending = PyErr_GetRaisedException();
    for (; fiber != NULL && s->phase != RUN_ENDS; fiber = fiber->parent) {
        for (Py_ssize_t i = fiber->len; i > 0; i--) {
            if (fiber->frames[i - 1].kind->on_drop != NULL) {
                fiber->frames[i - 1].kind->on_drop(&s->machine->cx, &fiber->frames[i - 1]);
            }
        }
    }
    if (pending != NULL) {
        PyErr_SetRaisedException(pending);
    }
}

DOEFF_ALWAYS_INLINED void
task_release(DoeffScheduler *s, DoeffTask *t)
{
    DoeffFiber *fiber = task_fiber(t);
    if (fiber != NULL) {
        t->fiber = NULL;
        scheduler_drop_frames(s, fiber);
        scheduler_show_generators(t, fiber);
    }
    if (t->group != NULL) {
        group_leave(s, t);
    }
    if (fiber != NULL || t->node != NULL) {
        int discarding = s->machine->discarding;
        s->machine->discarding = 1;
        if (t->node != NULL) {
            task_drop_folded(s, t);
        }
        fiber_free_chain(s->machine->cx.st, fiber);
        s->machine->discarding = discarding;
    }
    Py_CLEAR(t->env);
    Py_CLEAR(t->store);
    Py_CLEAR(t->scopes);
    Py_CLEAR(t->scope_base);
    drop_context(t);
    Py_CLEAR(t->cancel);
}

int
task_interrupts(PyObject *error)
{
    return PyErr_GivenExceptionMatches(error, PyExc_KeyboardInterrupt)
           || PyErr_GivenExceptionMatches(error, PyExc_SystemExit);
}

void
task_end(DoeffScheduler *s, DoeffTask *t, WaitableState state, PyObject *outcome)
{
    unlink_live(s, t);
    if (DOEFF_UNLIKELY(s->events != NULL)) {
        events_note_outcome(s, EVENT_TASK_LEAVE, t, NULL, state, outcome);
    }
    int interrupts = state == WAITABLE_ERROR && task_interrupts(outcome);
    struct DoeffNursery *scope = t->scope;
    t->scope = NULL;
    waitable_settle(s, &t->w, state, outcome);
    task_release(s, t);
    if (scope != NULL) {
        nursery_child_over(s, scope, t);
    }
    if (interrupts) {
        t->w.claimed = 1;
        scheduler_throw_at_main(s, Py_NewRef(outcome));
    }
    if (state == WAITABLE_ERROR && !t->w.claimed) {
        if (Py_REFCNT(t) == 1) {
            report_failure(s, t);
        }
        else { /* somebody may still ask */
            t->reporter = s;
            t->listed = 1;
            t->newer = s->failures;
            if (s->failures != NULL) {
                s->failures->older = t;
            }
            s->failures = t;
        }
    }
    if (Py_REFCNT(t) > 1 && may_be_in_cycle(t->w.outcome)) {
        PyObject_GC_Track((PyObject *)t);
        t->tracked = 1;
    }
    Py_DECREF(t);
}

static void
leave_failures(DoeffTask *t)
{
    DoeffScheduler *s = t->reporter;
    t->reporter = NULL;
    t->listed = 0;
    *(t->older == NULL ? &s->failures : &t->older->newer) = t->newer;
    if (t->newer != NULL) {
        t->newer->older = t->older;
    }
    t->older = t->newer = NULL;
}

void
task_claim(DoeffTask *t)
{
    t->w.claimed = 1;
    if (t->listed) {
        leave_failures(t);
    }
}

/* ---- cancellation ---- */

static PyObject *
cancelled_error(DoeffScheduler *s, DoeffTask *t)
{
    PyObject *name = task_name(t);
    PyObject *text = name == NULL ? NULL : PyUnicode_FromFormat("task %U was cancelled", name);
    PyObject *error = text == NULL ? NULL : PyObject_CallOneArg(s->machine->cx.st->TaskCancelledError, text);
    Py_XDECREF(name);
    Py_XDECREF(text);
    return error;
}

int
task_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error)
{
    switch (t->waits) {
    case WAITS_ONE: {
        DoeffWaitable *w = t->one.on;
        if (error != NULL && w->slow && w->state == WAITABLE_OPEN) { /* it ends first */
            int hurried = t->answer != NULL && t->swept; /* the end of the run alone does not disturb its cleanup */
            Py_XSETREF(t->answer, error);
            if (!hurried) {
                external_abandoned(s, w);
            }
            return 0;
        }
        w->slow *= 2; /* at once */
        Py_CLEAR(t->answer);
        Py_INCREF((PyObject *)w);
        waiter_unlink(s, &t->one);
        if (w->external && w->state == WAITABLE_OPEN && w->first == NULL) {
            external_abandoned(s, w);
        }
        Py_DECREF((PyObject *)w);
        break;
    }
    case WAITS_ROW:
        if (!row_withdraw(s, t, error)) {
            return 0;
        }
        break;
    case WAITS_TIME:
        timer_remove(s, t->timer);
        Py_CLEAR(t->answer); /* the target of a WaitUntil */
        break;
    case WAITS_PERMIT:
        semaphore_withdraw(t);
        break;
    case WAITS_SCOPE:
        if (!nursery_withdraw(s, t, error)) {
            return 0;
        }
        break;
    default:
        break;
    }
    t->waits = WAITS_NOT;
    return 1;
}

PyObject *
task_pending_error(DoeffScheduler *s, DoeffTask *t)
{
    switch (t->waits) {
    case WAITS_NOT:
        return t == s->current && s->thrown != NULL       ? s->thrown
               : t->answer_kind == ANSWER_ERROR       ? t->answer
               : t->answer_kind == ANSWER_ERROR_AGAIN ? PyTuple_GET_ITEM(t->answer, 0)
                                                      : NULL;
    case WAITS_ONE:
        return t->answer;
    case WAITS_ROW:
        return t->row->error;
    case WAITS_SCOPE:
        return nursery_pending_error(t);
    default:
        return NULL;
    }
}

void
task_force(DoeffScheduler *s, DoeffTask *t, PyObject *error)
{
    if (t->waits == WAITS_SCOPE) {
        nursery_kill(s, t); /* which wakes it */
        Py_DECREF(error);
        return;
    }
    (void)task_withdraw(s, t, NULL);
    task_wake(s, t, ANSWER_ERROR, error);
    task_discard_members(s);
}

#define CANCELS_MOST 8 /* that a task remembers: one in whose cleanup the next comes may still be on its way out */

void
task_cancelled_by(DoeffTask *t, PyObject *error)
{
    t->cancelled = 1;
    if (t->cancel == NULL) {
        t->cancel = Py_NewRef(error);
        return;
    }
    PyObject *row = PyList_CheckExact(t->cancel) ? t->cancel : PyList_New(0);
    if (row != NULL && row != t->cancel) {
        if (PyList_Append(row, t->cancel) < 0) {
            Py_CLEAR(row);
        }
        else {
            Py_SETREF(t->cancel, row);
        }
    }
    if (row == NULL || PyList_Append(row, error) < 0
        || (PyList_GET_SIZE(row) > CANCELS_MOST && PyList_SetSlice(row, 0, 1, NULL) < 0)) {
        PyErr_Clear(); /* no memory for a list: the latest counts */
        Py_SETREF(t->cancel, Py_NewRef(error));
    }
}

/* error is one of t's cancellations. */
int
task_is_cancel_of(DoeffTask *t, PyObject *error)
{
    if (t->cancel == NULL || !PyList_CheckExact(t->cancel)) {
        return t->cancel == error && error != NULL;
    }
    Py_ssize_t at = PyList_GET_SIZE(t->cancel);
    while (at > 0 && PyList_GET_ITEM(t->cancel, at - 1) != error) {
        at--;
    }
    return at > 0;
}

PyObject *
task_latest_cancel(DoeffTask *t)
{
    return !PyList_CheckExact(t->cancel) ? t->cancel : PyList_GET_ITEM(t->cancel, PyList_GET_SIZE(t->cancel) - 1);
}

int
task_cancel(DoeffScheduler *s, DoeffTask *t)
{
    PyObject *error = cancelled_error(s, t);
    if (error == NULL) {
        return -1;
    }
    if (!t->started) {
        task_unready(s, t);
        task_end(s, t, WAITABLE_CANCELLED, error);
        return 0;
    }
    if (!nursery_shields(s, t, error)) {
        task_cancelled_by(t, error);
        (void)task_throw(s, t, error);
    }
    return 0;
}

/* The running task is in the middle of an effect: it may only be cancelled. It comes to that when it discards
 * a task whose Gather or Scope it belongs to. */
static void
discard_alone(DoeffScheduler *s, DoeffTask *t)
{
    if (t == s->current) {
        if (task_cancel(s, t) < 0) {
            PyErr_Clear(); /* no memory for the error: it goes on, and its outcome goes to nobody */
        }
        nursery_adopt(s, t);
        return;
    }
    PyObject *error = cancelled_error(s, t);
    if (error == NULL) { /* no memory: the outcome that needs none */
        PyErr_Clear();
        error = Py_NewRef(PyExc_MemoryError);
    }
    task_unready(s, t);
    if (t->waits != WAITS_NOT) {
        (void)task_withdraw(s, t, NULL);
    }
    nursery_lost(s, t);
    task_end(s, t, WAITABLE_CANCELLED, error);
}

void
task_discard(DoeffScheduler *s, DoeffTask *t)
{
    discard_alone(s, t);
    task_discard_members(s);
}

/* A member may have members, any number of levels deep: their rows wait in a list. */
void
task_discard_members(DoeffScheduler *s)
{
    if (s->discarding) {
        return;
    }
    s->discarding = 1;
    Waiting *row;
    while ((row = s->doomed) != NULL) {
        s->doomed = row->next;
        for (int i = 0; i < row->count; i++) {
            DoeffTask *member = (DoeffTask *)row->waiter[i].on;
            if (row->waiter[i].owned && member->w.state == WAITABLE_OPEN) {
                discard_alone(s, member);
            }
        }
        struct DoeffNursery *scope = row->scope;
        row_dispose(s, row);
        nursery_let_go(s, scope);
    }
    s->discarding = 0;
}

int
scheduler_own_cancel(DoeffContext *cx, PyObject *error)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    return s != NULL && s->current != NULL && (task_is_cancel_of(s->current, error) || nursery_own_cancel(s, error));
}

/* ---- what it is called ---- */

PyObject *
task_name(DoeffTask *t)
{
    if (t->main) {
        return PyUnicode_FromString("main");
    }
    PyObject *program = t->node == NULL        ? NULL
                        : t->generator != NULL ? t->generator
                        : t->function != NULL  ? t->function
                                               : t->answer;
    EngineState *st = engine_state_of(Py_TYPE(t));
    DoeffFiber *root = task_fiber(t);
    while (root != NULL && root->parent != NULL) {
        root = root->parent;
    }
    for (Py_ssize_t i = 0; root != NULL && program == NULL && i < root->len; i++) {
        if (is_return(&root->frames[i])) {
            program = root->frames[i].a;
        }
    }
    PyObject *name = NULL;
    if (program != NULL) {
        name = PyObject_GetAttrString(program, Py_IS_TYPE(program, st->KleisliCall_Type) ? "function_name" : "__name__");
        if (name == NULL || !PyUnicode_Check(name)) {
            PyErr_Clear();
            Py_XDECREF(name);
            const char *type = strrchr(Py_TYPE(program)->tp_name, '.');
            name = PyUnicode_FromString(type == NULL ? Py_TYPE(program)->tp_name : type + 1);
        }
    }
    return name != NULL ? name : PyUnicode_FromString("task");
}

/* ---- the type ---- */

int
task_traverse_live(DoeffTask *t, visitproc visit, void *arg)
{
    Py_VISIT(t->env);
    Py_VISIT(t->store);
    Py_VISIT(t->scopes);
    Py_VISIT(t->scope_base);
    Py_VISIT(t->context);
    Py_VISIT(t->answer);
    Py_VISIT(t->cancel);
    if (t->node != NULL) {
        Py_VISIT(t->node);
        Py_VISIT(t->generator);
        Py_VISIT(t->function);
    }
    for (int i = 0; t->answer_kind == ANSWER_CALL && i < t->nargs; i++) {
        Py_VISIT(t->args[i]);
    }
    int failed = scheduler_traverse_hidden(t, visit, arg);
    return failed ? failed : fiber_traverse(task_fiber(t), visit, arg);
}

static int
task_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return waitable_traverse(&((DoeffTask *)op)->w, visit, arg);
}

static int
task_tp_clear(PyObject *op)
{
    waitable_clear(&((DoeffTask *)op)->w);
    return 0;
}

static int
task_free(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    DoeffTask *t = (DoeffTask *)op;
    Py_XDECREF((PyObject *)t->node);
    Py_XDECREF(t->env);
    Py_XDECREF(t->store);
    Py_XDECREF(t->scopes);
    Py_XDECREF(t->scope_base);
    drop_context(t);
    Py_XDECREF(t->answer);
    Py_XDECREF(t->cancel);
    Py_XDECREF((PyObject *)t->spawned_in);
    Py_XDECREF((PyObject *)t->scope);
    waitable_clear(&t->w);
    PyObject *module = ((PyHeapTypeObject *)tp)->ht_module;
    EngineState *st = module == NULL || t->finalized ? NULL : PyModule_GetState(module);
    if (DOEFF_LIKELY(st != NULL) && freelist_push_capped(&st->free_tasks, op, FREE_TASKS)) {
        return 1;
    }
    tp->tp_free(op);
    return 0;
}

/* Its failure is told while it is whole: the collector may clear the exception before it frees the task. */
static void
task_finalize(PyObject *op)
{
    DoeffTask *t = (DoeffTask *)op;
    t->finalized = 1;
    if (t->listed) {
        DoeffScheduler *s = t->reporter;
        leave_failures(t);
        report_failure(s, t);
    }
}

static void
task_dealloc(PyObject *op)
{
    if (((DoeffTask *)op)->listed && PyObject_CallFinalizerFromDealloc(op) < 0) {
        return; /* whoever showed the warning has kept it */
    }
    if (((DoeffTask *)op)->tracked) {
        ((DoeffTask *)op)->tracked = 0;
        PyObject_GC_UnTrack(op);
    }
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, task_dealloc, task_free);
}

static PyObject *
task_repr(PyObject *op)
{
    static const char *const ends[] = {"", "done", "failed", "cancelled"};
    DoeffTask *t = (DoeffTask *)op;
    const char *state = ends[t->w.state];
    if (t->w.state == WAITABLE_OPEN) {
        state = t->cancelled ? "cancelling" : !t->started ? "new" : t->waits != WAITS_NOT ? "blocked" : "ready";
        if (t->started && t->env == NULL) {
            state = "running";
        }
    }
    PyObject *name = t->w.state == WAITABLE_OPEN ? task_name(t) : PyUnicode_FromString("");
    if (name == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("<Task %U%sbackend='thread' %s>", name,
                                          PyUnicode_GET_LENGTH(name) > 0 ? " " : "", state);
    Py_DECREF(name);
    return text;
}

static PyObject *
task_effect(PyObject *op, RecordInfo *info)
{
    return record_new1(info, Py_NewRef(op));
}

static PyObject *
task_cancel_method(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return task_effect(op, engine_state_of(Py_TYPE(op))->rec.TaskCancel);
}

static PyObject *
task_is_done_method(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return task_effect(op, engine_state_of(Py_TYPE(op))->rec.TaskIsDone);
}

static PyObject *
task_join_method(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (PyErr_WarnEx(PyExc_DeprecationWarning, "task.join() is an old spelling of Wait(task)", 1) < 0) {
        return NULL;
    }
    return record_new2(engine_state_of(Py_TYPE(op))->rec.Wait, Py_NewRef(op), Py_NewRef(Py_None));
}

static PyObject *
task_backend(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    return PyUnicode_FromString("thread");
}

static PyObject *
get_handle(PyObject *op, void *Py_UNUSED(closure))
{
    return handle_of(engine_state_of(Py_TYPE(op)), op);
}

static PyObject *
task_env_snapshot(PyObject *op, void *Py_UNUSED(closure))
{
    DoeffTask *t = (DoeffTask *)op;
    DoeffFiber *root = task_fiber(t);
    while (root != NULL && root->parent != NULL) {
        root = root->parent;
    }
    PyObject *env = root != NULL ? root->ret_env : t->env;
    return Py_NewRef(env == NULL ? engine_state_of(Py_TYPE(op))->empty_env : env);
}

static PyObject *
task_state_snapshot(PyObject *op, void *Py_UNUSED(closure))
{
    DoeffTask *t = (DoeffTask *)op;
    PyObject *store = t->group != NULL && !t->listed ? t->group->store : t->store;
    return store == NULL ? PyDict_New() : PyDict_Copy(store);
}

static Py_hash_t
task_hash(PyObject *op)
{
    Py_hash_t hash = (Py_hash_t)((size_t)op >> 4);
    return hash == -1 ? -2 : hash;
}

static PyGetSetDef task_getset[] = {
    {"backend", task_backend, NULL, PyDoc_STR("What runs the task: 'thread', the run's own."), NULL},
    {"_handle", get_handle, NULL, NULL, NULL},
    {"_env_snapshot", task_env_snapshot, NULL, NULL, NULL},
    {"_state_snapshot", task_state_snapshot, NULL, NULL, NULL},
    {NULL},
};

static PyMethodDef task_methods[] = {
    {"cancel", task_cancel_method, METH_NOARGS,
     PyDoc_STR("cancel()\n--\n\n`yield task.cancel()`: True if the task was still live; it is raised TaskCancelledError "
               "at its yield.")},
    {"is_done", task_is_done_method, METH_NOARGS, PyDoc_STR("is_done()\n--\n\n`yield task.is_done()`: True once it has ended.")},
    {"join", task_join_method, METH_NOARGS, PyDoc_STR("join()\n--\n\nDeprecated spelling of Wait(task).")},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot task_slots[] = {
    {Py_tp_dealloc, task_dealloc},
    {Py_tp_traverse, task_traverse},
    {Py_tp_clear, task_tp_clear},
    {Py_tp_finalize, task_finalize},
    {Py_tp_repr, task_repr},
    {Py_tp_hash, task_hash},
    {Py_tp_methods, task_methods},
    {Py_tp_getset, task_getset},
    {Py_tp_doc, (void *)PyDoc_STR("A spawned program: what Spawn answers. Wait for it, cancel it, ask whether it is done.")},
    {0, NULL},
};

static PyType_Spec task_spec = {
    .name = "doeff.effects.spawn.Task",
    .basicsize = sizeof(DoeffTask),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = task_slots,
};

/* ---- Spawn ---- */

static int
spawn_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    static const char *const known[] = {"thread", "process", "ray"};
    if (check_program(st, f[0], "program") < 0) {
        return -1;
    }
    if (f[1] != Py_None) {
        int found = 0;
        for (int i = 0; i < 3 && PyUnicode_Check(f[1]); i++) {
            found |= PyUnicode_CompareWithASCIIString(f[1], known[i]) == 0;
        }
        if (!found) {
            PyErr_Format(PyExc_ValueError, "preferred_backend must be 'thread', 'process', 'ray' or None, got %R", f[1]);
            return -1;
        }
    }
    if (f[2] == Py_None) {
        Py_SETREF(f[2], Py_NewRef(st->empty_env));
    }
    if (f[3] == Py_None) {
        Py_SETREF(f[3], PyLong_FromLong(PRIORITY_NORMAL));
    }
    if (priority_of(f[3], PRIORITY_NORMAL) == PRIORITY_INVALID) {
        return -1;
    }
    int daemon = f[4] == Py_None ? 0 : PyObject_IsTrue(f[4]);
    if (daemon < 0) {
        return -1;
    }
    Py_SETREF(f[4], Py_NewRef(daemon ? Py_True : Py_False));
    return 0;
}

int
priority_of(PyObject *value, int none)
{
    if (value == NULL || value == Py_None) {
        return none;
    }
    if (!PyLong_Check(value)) {
        PyErr_Format(PyExc_TypeError, "priority must be int, got %s", type_name(value));
        return PRIORITY_INVALID;
    }
    int overflow;
    long n = PyLong_AsLongAndOverflow(value, &overflow);
    if (overflow != 0 || n > PRIORITY_MOST || n < -PRIORITY_MOST) {
        return (overflow == 0 ? n : overflow) > 0 ? PRIORITY_MOST : -PRIORITY_MOST;
    }
    return (int)n;
}

static PyObject *
spawn_stamped(RecordInfo *info, PyObject **f)
{
    PyObject *effect = record_new(info, f);
    if (effect != NULL && DOEFF_UNLIKELY(info->st->record_origins) && record_stamp(info, effect) < 0) {
        Py_CLEAR(effect);
    }
    return effect;
}

/* What spawn_init would make of a program alone. */
static PyObject *
spawn_plain(RecordInfo *info, PyObject *program)
{
    EngineState *st = info->st;
    PyObject *effect = record_blank(info);
    if (effect != NULL) {
        RECORD_FIELD(effect, 0) = Py_NewRef(program);
        RECORD_FIELD(effect, 1) = Py_NewRef(Py_None);
        RECORD_FIELD(effect, 2) = Py_NewRef(st->empty_env);
        RECORD_FIELD(effect, 3) = Py_NewRef(st->normal_priority);
        RECORD_FIELD(effect, 4) = Py_NewRef(Py_False);
        RECORD_FIELD(effect, 5) = NULL; /* created_at */
        record_track(effect);
    }
    return effect;
}

/* Spawn(program, *, preferred_backend=None, priority=PRIORITY_NORMAL, daemon=False, **options) */
static PyObject *
spawn_construct(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    RecordInfo *info = (RecordInfo *)op;
    EngineState *st = info->st;
    PyObject *f[6] = {NULL, Py_None, NULL, Py_None, Py_None, NULL}; /* borrowed; created_at */
    PyObject *options = NULL;
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    if (DOEFF_LIKELY(nargs == 1 && nkw == 0 && !st->record_origins)
        && (Py_IS_TYPE(args[0], st->KleisliCall_Type) || program_check(st, args[0]))) {
        return spawn_plain(info, args[0]);
    }
    if (nargs > 1) {
        PyErr_Format(PyExc_TypeError, "Spawn() takes 1 positional argument but %zd were given", nargs);
        return NULL;
    }
    f[0] = nargs == 1 ? args[0] : NULL;
    for (Py_ssize_t i = 0; i < nkw; i++) {
        PyObject *name = PyTuple_GET_ITEM(kwnames, i), *value = args[nargs + i];
        int at = PyUnicode_CompareWithASCIIString(name, "program") == 0             ? 0
                 : PyUnicode_CompareWithASCIIString(name, "preferred_backend") == 0 ? 1
                 : PyUnicode_CompareWithASCIIString(name, "priority") == 0          ? 3
                 : PyUnicode_CompareWithASCIIString(name, "daemon") == 0            ? 4
                                                                                    : -1;
        if (at == 0 && f[0] != NULL) {
            PyErr_SetString(PyExc_TypeError, "Spawn() got multiple values for argument 'program'");
            goto error;
        }
        if (at < 0 && PyUnicode_CompareWithASCIIString(name, "backend") == 0
            && !(PyUnicode_Check(value) && PyUnicode_CompareWithASCIIString(value, "thread") == 0)) {
            PyErr_Format(PyExc_ValueError,
                         "backend %R is not available: a task runs on the thread of its run ('thread'); "
                         "preferred_backend= is the hint that never fails",
                         value);
            goto error;
        }
        if (at >= 0) {
            f[at] = value;
        }
        else if ((options == NULL && (options = PyDict_New()) == NULL) || PyDict_SetItem(options, name, value) < 0) {
            goto error;
        }
    }
    if (f[0] == NULL) {
        PyErr_SetString(PyExc_TypeError, "Spawn() missing 1 required positional argument: 'program'");
        goto error;
    }
    f[2] = options == NULL ? Py_None : options;
    for (int i = 0; i < 5; i++) {
        Py_INCREF(f[i]);
    }
    Py_XDECREF(options);
    if (spawn_init(info, f) < 0) {
        for (int i = 0; i < 5; i++) {
            Py_XDECREF(f[i]);
        }
        return NULL;
    }
    return spawn_stamped(info, f);
error:
    Py_XDECREF(options);
    return NULL;
}

DoeffTask *
task_spawn(DoeffContext *cx, PyObject *effect)
{
    HandlerNode *node;
    PyObject *env;
    task_origin(cx, &node, &env);
    PyObject *wanted = RECORD_FIELD(effect, 3);
    int priority = wanted == cx->st->normal_priority ? PRIORITY_NORMAL : priority_of(wanted, PRIORITY_NORMAL);
    DoeffTask *t = task_new(cx, Py_NewRef(RECORD_FIELD(effect, 0)), node, env, 0, priority);
    if (t != NULL && RECORD_FIELD(effect, 4) == Py_True) {
        DoeffScheduler *s = scheduler_if_any(cx);
        t->daemon = 1;
        s->daemons++;
        s->ready_regular--;
        nursery_child_is_daemon(t);
    }
    return t;
}

static DoeffStep
spawn_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    DoeffTask *t = s == NULL ? NULL : task_spawn(cx, effect);
    if (t == NULL) {
        return DOEFF_RAISE;
    }
    s->keep_turn = 1;
    *out = Py_NewRef((PyObject *)t);
    return DOEFF_VALUE;
}

static const RecordSpec spawn_spec = {
    .name = "doeff.effects.spawn.SpawnEffect",
    .doc = "SpawnEffect(program, preferred_backend=None, options=None, priority=None, daemon=None)\n--\n\nStart a program as a task.",
    .fields = {"program", "preferred_backend", "options", "priority", "daemon"},
    .required = 1, .compared = 2, .effect = 1, .subclassable = 1, .init = spawn_init,
};

static PyMethodDef spawn_def = {
    "Spawn", (PyCFunction)(void (*)(void))spawn_construct, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Spawn(program, *, preferred_backend=None, priority=10, daemon=False, **options)\n--\n\nStart program as a task "
              "of this run.\n\nprogram: a program or effect; TypeError for anything else. priority: an int, higher goes first.\n"
              "daemon: the run does not wait for it at its end. preferred_backend: a hint; ValueError if unknown.\n"
              "Gives a Task at once; the child has a snapshot of the store and runs when the turn of this task\nhas ended.\n\n"
              ">>> task = yield Spawn(fetch(url))\n>>> page = yield Wait(task)\n\nContract: concurrency, parts 1.3 and 2.4.")};

/* ---- Cancel, is_done, Discard ---- */

static int
task_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    if (task_check(st, f[0])) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "task must be Task, got %s%s", type_name(f[0]),
                 Py_IS_TYPE(f[0], st->rec.Spawn->type) ? " (yield the Spawn, that gives the Task)" : "");
    return -1;
}

int
of_this_run(DoeffScheduler *s, DoeffWaitable *w)
{
    if (DOEFF_LIKELY(w->run == s->run)) {
        return 1;
    }
    PyErr_Format(PyExc_ValueError, "%R belongs to another run", (PyObject *)w);
    return 0;
}

static DoeffTask *
task_of_effect(DoeffContext *cx, PyObject *effect, DoeffScheduler **s)
{
    DoeffTask *t = (DoeffTask *)RECORD_FIELD(effect, 0);
    *s = scheduler_of(cx);
    return *s != NULL && of_this_run(*s, &t->w) ? t : NULL;
}

/* The cancellation is over: 1 with an error if one is set (failed), or callbacks of promises have raised meanwhile. */
static int
callbacks_failed(DoeffScheduler *s, int failed)
{
    PyObject *errors = s->callback_errors;
    s->callback_errors = NULL;
    s->canceller = 0;
    if (errors == NULL || PyList_GET_SIZE(errors) == 0) { /* empty: there was no memory to write one down */
        Py_XDECREF(errors);
        return failed;
    }
    PyObject *first = failed ? PyErr_GetRaisedException() : NULL;
    PyObject *error = import_call("doeff._errors", "ExternalPromiseCancelCallbackError", "(O)", errors);
    if (error == NULL) { /* no memory for it: it is raised on top of the first one, the others are reported */
        error = PyErr_GetRaisedException();
        if (error != PyList_GET_ITEM(errors, 0)) { /* which may be the last MemoryError that there is */
            PyException_SetContext(error, Py_NewRef(PyList_GET_ITEM(errors, 0)));
        }
        for (Py_ssize_t i = 1; i < PyList_GET_SIZE(errors); i++) {
            PyErr_SetRaisedException(Py_NewRef(PyList_GET_ITEM(errors, i)));
            PyErr_WriteUnraisable((PyObject *)s->node);
        }
    }
    Py_DECREF(errors);
    if (first != NULL && first != error) {
        PyException_SetContext(error, first);
    }
    else {
        Py_XDECREF(first);
    }
    PyErr_SetRaisedException(error);
    return 1;
}

static DoeffStep
cancel_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s;
    DoeffTask *t = task_of_effect(cx, effect, &s);
    if (t == NULL) {
        return DOEFF_RAISE;
    }
    task_claim(t);
    int live = t->w.state == WAITABLE_OPEN;
    if (live && t == s->current && !nursery_shields(s, t, NULL)) {
        PyObject *error = cancelled_error(s, t);
        if (error != NULL) {
            task_cancelled_by(t, error);
            PyErr_SetRaisedException(error);
        }
        return DOEFF_RAISE;
    }
    s->canceller = 1;
    Py_INCREF((PyObject *)t);
    int failed = live && task_cancel(s, t) < 0;
    Py_DECREF((PyObject *)t);
    if (callbacks_failed(s, failed)) {
        return DOEFF_RAISE;
    }
    *out = PyBool_FromLong(live);
    return DOEFF_VALUE;
}

static DoeffStep
is_done_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s;
    DoeffTask *t = task_of_effect(cx, effect, &s);
    if (t == NULL) {
        return DOEFF_RAISE;
    }
    *out = PyBool_FromLong(t->w.state != WAITABLE_OPEN);
    return DOEFF_VALUE;
}

static DoeffStep
discard_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s;
    DoeffTask *t = task_of_effect(cx, effect, &s);
    if (t == NULL) {
        return DOEFF_RAISE;
    }
    task_claim(t);
    if (t == s->current) {
        PyErr_SetString(PyExc_RuntimeError, "a task cannot discard itself: let it return or raise");
        return DOEFF_RAISE;
    }
    s->canceller = 1;
    if (t->w.state == WAITABLE_OPEN) {
        task_discard(s, t);
    }
    if (callbacks_failed(s, 0)) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static const RecordSpec cancel_spec = {
    .name = "doeff.effects.spawn.TaskCancelEffect",
    .doc = "TaskCancelEffect(task)\n--\n\nCancel a task.",
    .fields = {"task"}, .required = 1, .effect = 1, .subclassable = 1, .init = task_init,
};

static PyMethodDef cancel_def = {
    "Cancel", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Cancel(task)\n--\n\nCancel a task: TaskCancelledError is raised at its yield, its cleanup runs.\n\ntask: a Task; "
              "TypeError for anything else, ValueError for one of another run. Gives True if it was still\nlive. Never blocks. "
              "A task that has not started does not run at all.\n\n>>> was_live = yield Cancel(task)\n\n"
              "Contract: concurrency, part 1.7.")};

static const RecordSpec is_done_spec = {
    .name = "doeff.effects.spawn.TaskIsDoneEffect",
    .doc = "TaskIsDoneEffect(task)\n--\n\nAsk whether a task has ended.",
    .fields = {"task"}, .required = 1, .effect = 1, .subclassable = 1, .init = task_init,
};

static const RecordSpec discard_spec = {
    .name = "doeff.effects.spawn.TaskDiscardEffect",
    .doc = "TaskDiscardEffect(task)\n--\n\nKill a task without its cleanup.",
    .fields = {"task"}, .required = 1, .effect = 1, .subclassable = 1, .init = task_init,
};

static PyMethodDef discard_def = {
    "Discard", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Discard(task)\n--\n\nKill a task: its generators are closed, effects in their finally blocks are not performed.\n\n"
              "task: a Task; TypeError for anything else. Gives None. Who waits for it gets TaskCancelledError;\npermits that it "
              "holds stay taken.\n\n>>> yield Discard(task)\n\nContract: concurrency, CA-9.")};

int
task_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->Task_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &task_spec, NULL);
    st->normal_priority = PyLong_FromLong(PRIORITY_NORMAL);
    if (st->normal_priority == NULL) {
        return -1;
    }
    for (PyGetSetDef *def = PyGen_Type.tp_getset; def->name != NULL; def++) {
        if (strcmp(def->name, "gi_frame") == 0) {
            st->generator_frame = def->get;
        }
    }
    if (st->generator_frame == NULL) {
        PyErr_SetString(PyExc_SystemError, "generators have no gi_frame");
        return -1;
    }
    if (st->Task_Type == NULL || PyModule_AddType(module, st->Task_Type) < 0) {
        return -1;
    }
    st->rec.Spawn = effect_define(module, st, handler, &(EffectDef){&spawn_spec, &spawn_def, spawn_perform});
    st->rec.TaskCancel = effect_define(module, st, handler, &(EffectDef){&cancel_spec, &cancel_def, cancel_perform});
    st->rec.TaskIsDone = effect_define(module, st, handler, &(EffectDef){&is_done_spec, NULL, is_done_perform});
    st->rec.TaskDiscard = effect_define(module, st, handler, &(EffectDef){&discard_spec, &discard_def, discard_perform});
    return st->rec.Spawn == NULL || st->rec.TaskCancel == NULL || st->rec.TaskIsDone == NULL
                   || st->rec.TaskDiscard == NULL
               ? -1
               : 0;
}
