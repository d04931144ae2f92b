#include "scheduler.h"

#include "../effects/effects.h"
#include "../support/imports.h"

/* timer: Delay and WaitUntil, the heap of deadlines, and the clock of the run.
 *
 * Deadlines are ns on the clock of the run: the monotonic clock (the event loop's under async_run), or, from the
 * moment on that a store holds __current_time__, ns since that happened. The controlled clock stands still while tasks
 * run and jumps to the next deadline when nothing else can go on; the store of the running task holds it. */

#define FOREVER 9000000000000000000LL

long long
timer_now(DoeffScheduler *s)
{
    if (s->clock != NULL) {
        return s->clock_ns;
    }
    if (s->machine->loop_time != NULL) { /* Python code: a getter of another thread may see the run end meanwhile */
        long long skew = s->skew;
        PyObject *clock = Py_NewRef(s->machine->loop_time);
        PyObject *now = PyObject_CallNoArgs(clock);
        double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
        Py_XDECREF(now);
        int failed = seconds == -1.0 && PyErr_Occurred() != NULL;
        if (failed) {
            PyErr_WriteUnraisable(clock);
        }
        Py_DECREF(clock);
        return (failed ? queue_clock_ns() : queue_seconds_to_ns(seconds)) + skew;
    }
    return queue_clock_ns() + s->skew;
}

/* ---- the heap ---- */

static inline void
put_at(DoeffScheduler *s, Py_ssize_t at, Timer timer)
{
    s->heap[at] = timer;
    if (timer.task != NULL) {
        timer.task->timer = at;
    }
    else {
        nursery_timer_moved(timer.scope, at);
    }
}

static inline int
before(const Timer *a, const Timer *b)
{
    return a->when < b->when || (a->when == b->when && a->seq < b->seq);
}

static void
sift_up(DoeffScheduler *s, Py_ssize_t at, Timer timer)
{
    while (at > 0) {
        Py_ssize_t up = (at - 1) / 2;
        if (!before(&timer, &s->heap[up])) {
            break;
        }
        put_at(s, at, s->heap[up]);
        at = up;
    }
    put_at(s, at, timer);
}

static void
sift_down(DoeffScheduler *s, Py_ssize_t at, Timer timer)
{
    for (;;) {
        Py_ssize_t down = at * 2 + 1;
        if (down >= s->timers) {
            break;
        }
        if (down + 1 < s->timers && before(&s->heap[down + 1], &s->heap[down])) {
            down++;
        }
        if (!before(&s->heap[down], &timer)) {
            break;
        }
        put_at(s, at, s->heap[down]);
        at = down;
    }
    put_at(s, at, timer);
}

int
timer_add(DoeffScheduler *s, long long when, DoeffTask *t, struct DoeffNursery *scope)
{
    if (s->timers == s->captimers) {
        Py_ssize_t cap = s->captimers == 0 ? 16 : s->captimers * 2;
        Timer *grown = PyMem_Realloc(s->heap, sizeof(Timer) * (size_t)cap);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        s->heap = grown;
        s->captimers = cap;
    }
    s->timers++;
    sift_up(s, s->timers - 1, (Timer){when, s->timer_seq++, t, scope});
    s->machine->cx.attention = 1;
    return 0;
}

void
timer_remove(DoeffScheduler *s, Py_ssize_t at)
{
    Timer last = s->heap[--s->timers];
    if (at == s->timers) {
        return;
    }
    if (at > 0 && before(&last, &s->heap[(at - 1) / 2])) {
        sift_up(s, at, last);
    }
    else {
        sift_down(s, at, last);
    }
}

/* ---- the clocks ---- */

static long long
as_ns(PyObject *ns /* stolen, or NULL */)
{
    long long result = ns == NULL ? -1 : PyLong_AsLongLong(ns);
    Py_XDECREF(ns);
    return result;
}

/* Calls doeff._clock.name, with a if it is not NULL; ns, or -1 with an error. */
static long long
ask_clock(const char *name, PyObject *a)
{
    return as_ns(a == NULL ? import_call("doeff._clock", name, "()") : import_call("doeff._clock", name, "(O)", a));
}

/* a - b in ns, or -1 with an error. */
static long long
clock_difference(PyObject *a, PyObject *b)
{
    PyObject *ns = import_call("doeff._clock", "difference", "(OO)", a, b);
    return as_ns(ns);
}

/* Tasks that wait for a time of day: a list, since the heap moves under our hands; NULL with an error. */
static PyObject *
tasks_with_targets(DoeffScheduler *s)
{
    PyObject *tasks = PyList_New(0);
    for (Py_ssize_t i = 0; tasks != NULL && i < s->timers; i++) {
        DoeffTask *t = s->heap[i].task;
        if (t != NULL && t->answer != NULL && PyList_Append(tasks, (PyObject *)t) < 0) {
            Py_CLEAR(tasks);
        }
    }
    return tasks;
}

static void
move_timer(DoeffScheduler *s, DoeffTask *t, long long when)
{
    Timer timer = s->heap[t->timer];
    timer_remove(s, t->timer);
    timer.when = when;
    sift_up(s, s->timers++, timer);
}

/* They do so on the controlled clock from now on; -1 with an error. */
static int
targets_move(DoeffScheduler *s)
{
    PyObject *tasks = tasks_with_targets(s);
    for (Py_ssize_t i = 0; tasks != NULL && i < PyList_GET_SIZE(tasks); i++) {
        DoeffTask *t = (DoeffTask *)PyList_GET_ITEM(tasks, i);
        long long ns = clock_difference(t->answer, s->clock);
        if (ns == -1 && PyErr_Occurred()) {
            if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
                Py_CLEAR(tasks);
                break;
            }
            PyErr_Clear(); /* a clock of numbers: so much longer as it was to last */
            continue;
        }
        move_timer(s, t, ns);
    }
    Py_XDECREF(tasks);
    return tasks == NULL ? -1 : 0;
}

int
clock_was_put(DoeffContext *cx)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    PyObject *value = PyDict_GetItemWithError(cx->store, cx->st->str_current_time);
    if (value == NULL || value == Py_None || value == s->clock) {
        return PyErr_Occurred() ? -1 : 0;
    }
    Py_INCREF(value);
    long long ns = clock_difference(value, s->clock == NULL ? value : s->clock);
    if (ns == -1 && PyErr_Occurred()) {
        Py_DECREF(value);
        if (PyErr_ExceptionMatches(PyExc_TypeError)) { /* no time that could move: GetTime still answers it */
            PyErr_Clear();
            return 0;
        }
        return -1;
    }
    if (s->clock == NULL) {
        long long now = timer_now(s);
        for (Py_ssize_t i = 0; i < s->timers; i++) {
            s->heap[i].when -= now;
        }
        s->clock_ns = 0;
        s->clock = value;
        if (targets_move(s) < 0) {
            return -1;
        }
        timer_fire(s);
        return 0;
    }
    if (ns > 0 ? s->clock_ns > FOREVER - ns : s->clock_ns < -FOREVER - ns) { /* centuries: as far as it goes */
        s->clock_ns = ns > 0 ? FOREVER : -FOREVER;
    }
    else {
        s->clock_ns += ns;
    }
    Py_XSETREF(s->clock, value);
    timer_fire(s);
    return 0;
}

int
Doeff_ClockWasSet(DoeffContext *cx)
{
    return scheduler_if_any(cx) == NULL ? 0 : clock_was_put(cx); /* a scheduler looks for itself as it is made */
}

int
clock_sync_in(DoeffMachine *m)
{
    DoeffScheduler *s = m->scheduler;
    PyObject *key = m->cx.st->str_current_time;
    PyObject *known = PyDict_GetItemWithError(m->cx.store, key);
    if (known == s->clock) {
        return 0;
    }
    PyObject *store = PyErr_Occurred() ? NULL : context_store(&m->cx);
    return store == NULL ? -1 : PyDict_SetItem(store, key, s->clock);
}

int
timer_jump(DoeffScheduler *s)
{
    long long ns = s->heap[0].when - s->clock_ns;
    if (ns > 0) {
        PyObject *later = import_call("doeff._clock", "later", "(OL)", s->clock, ns);
        if (later == NULL) {
            return -1;
        }
        Py_SETREF(s->clock, later);
        s->clock_ns += ns;
    }
    timer_fire(s);
    return 0;
}

static long long
later_by(long long when, long long ns)
{
    return ns > 0 && when > FOREVER - ns ? FOREVER : when + ns;
}

#define CLOCKS_AGREE 1000000 /* ns that two looks at both clocks may differ by: equal targets have equal deadlines */
#define LOOK_EVERY 10000000000 /* ns after which a clock that was set is noticed */
#define LOOK_MOST 200000     /* ns that a look may take before it is taken again */

/* Both clocks at one moment; -1 with an error. */
static int
look_at_clocks(DoeffScheduler *s, long long *wall, long long *now)
{
    long long before;
    int looks = 0;
    *now = timer_now(s);
    do {
        before = *now;
        *wall = ask_clock("wall", NULL);
        if (*wall == -1 && PyErr_Occurred()) {
            return -1;
        }
        *now = timer_now(s);
    } while (*now - before > LOOK_MOST && ++looks < 3);
    *wall += s->skew;
    return 0;
}

static int
clocks_agree(DoeffScheduler *s, long long offset)
{
    return offset - s->wall_offset <= CLOCKS_AGREE && s->wall_offset - offset <= CLOCKS_AGREE;
}

/* The deadline for a time of the wall clock: 1 if that lies ahead, 0 if it has come; -1 with an error. */
static int
wall_deadline(DoeffScheduler *s, PyObject *target, long long *when)
{
    long long at = ask_clock("instant", target), wall, now;
    if ((at == -1 && PyErr_Occurred()) || look_at_clocks(s, &wall, &now) < 0) {
        return -1;
    }
    if (at <= wall) {
        return 0;
    }
    if (!clocks_agree(s, now - wall) || later_by(at, s->wall_offset) <= now) {
        s->wall_offset = now - wall;
    }
    *when = later_by(at, s->wall_offset);
    return 1;
}

#define LOOK_AGAIN 1000000 /* ns after an interrupt came in between */

/* A task waits for a time of the wall clock: 1 if that has come. 0: it has not, and the task is armed again. -1 with an
 * error of the target (its tzinfo is Python code). */
static int
target_reached(DoeffScheduler *s, DoeffTask *t)
{
    if (t->answer == NULL || s->clock != NULL) {
        return 1;
    }
    long long when;
    int ahead = wall_deadline(s, t->answer, &when);
    if (ahead < 0) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            return -1;
        }
        scheduler_interrupted(s, PyErr_GetRaisedException());
        when = later_by(timer_now(s), LOOK_AGAIN);
    }
    if (ahead != 0) {
        sift_down(s, t->timer, (Timer){when, s->heap[t->timer].seq, t, NULL});
    }
    return ahead == 0;
}

/* The wall clock has been set, or the machine was asleep: times of day are reckoned anew. -1 with an error. */
static int
targets_follow(DoeffScheduler *s)
{
    PyObject *tasks = tasks_with_targets(s);
    long long wall, now;
    if (tasks == NULL || look_at_clocks(s, &wall, &now) < 0) {
        Py_XDECREF(tasks);
        return -1;
    }
    s->look_at = PyList_GET_SIZE(tasks) > 0 ? later_by(now, LOOK_EVERY) : 0;
    int agree = clocks_agree(s, now - wall);
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(tasks) && !agree; i++) {
        DoeffTask *t = (DoeffTask *)PyList_GET_ITEM(tasks, i);
        long long when = now;
        if (wall_deadline(s, t->answer, &when) < 0) { /* at once: it gets the error */
            PyErr_Clear();
        }
        move_timer(s, t, when);
    }
    Py_DECREF(tasks);
    return 0;
}

void
timer_fire(DoeffScheduler *s)
{
    long long now = timer_now(s);
    if (DOEFF_UNLIKELY(s->look_at != 0) && now >= s->look_at && s->clock == NULL) {
        s->look_at = later_by(now, LOOK_EVERY);
        if (targets_follow(s) < 0) {
            PyErr_ExceptionMatches(PyExc_Exception) ? PyErr_Clear() : scheduler_interrupted(s, PyErr_GetRaisedException());
        }
    }
    while (s->timers > 0 && s->heap[0].when <= now) {
        DoeffTask *t = s->heap[0].task;
        if (t == NULL) {
            struct DoeffNursery *scope = s->heap[0].scope;
            timer_remove(s, 0);
            nursery_timer(s, scope);
            continue;
        }
        int reached = target_reached(s, t);
        if (reached != 0) {
            PyObject *error = reached < 0 ? PyErr_GetRaisedException() : NULL;
            timer_remove(s, t->timer); /* Python code was asked for the time, which may have moved it */
            Py_CLEAR(t->answer);
            task_wake(s, t, error == NULL ? ANSWER_VALUE : ANSWER_ERROR, error == NULL ? Py_NewRef(Py_None) : error);
        }
    }
}

/* The current task need not sleep: an event loop gets its turn. */
static DoeffStep
sleep_over(DoeffScheduler *s, PyObject **out)
{
    s->machine->loop_turn = 1;
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

/* It sleeps; target (borrowed or NULL) is a time of the wall clock. */
static DoeffStep
sleep_until(DoeffScheduler *s, long long when, PyObject *target)
{
    DoeffTask *t = s->current;
    if (timer_add(s, when, t, NULL) < 0) {
        return DOEFF_RAISE;
    }
    if (target != NULL && s->clock == NULL && s->look_at == 0) {
        s->look_at = later_by(timer_now(s), LOOK_EVERY);
    }
    t->answer = Py_XNewRef(target);
    t->waits = WAITS_TIME;
    return DOEFF_BLOCK;
}

/* ---- Delay ---- */

int
timer_check_seconds(PyObject *op)
{
    double seconds = PyFloat_AsDouble(op);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError)) {
            PyErr_Clear();
            return 0;
        }
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Format(PyExc_TypeError, "seconds must be a number, got %s", type_name(op));
        }
        return -1;
    }
    if (!(seconds >= 0) || seconds > 1e300) {
        PyErr_Format(PyExc_ValueError, "seconds must be finite and at least 0, got %R", op);
        return -1;
    }
    return 0;
}

static int
delay_init(RecordInfo *Py_UNUSED(info), PyObject **f)
{
    return timer_check_seconds(f[0]);
}

/* The ns of checked seconds, on the clock as it stands; -1 with an error. */
static long long
ns_from_now(DoeffContext *cx, DoeffScheduler *s, PyObject *op)
{
    double seconds = PyFloat_AsDouble(op);
    if (seconds == -1.0 && PyErr_Occurred()) {
        if (!PyErr_ExceptionMatches(PyExc_OverflowError)) {
            return -1;
        }
        PyErr_Clear();
        seconds = 1e300;
    }
    if (clock_was_put(cx) < 0) { /* by a handler that wrote to the dict itself */
        return -1;
    }
    long long ns = queue_seconds_to_ns(seconds);
    return ns == 0 && seconds > 0 ? 1 : ns;
}

int
timer_after(DoeffContext *cx, PyObject *seconds, struct DoeffNursery *scope)
{
    DoeffScheduler *s = scheduler_if_any(cx);
    long long ns = ns_from_now(cx, s, seconds);
    if (ns < 0) {
        return -1;
    }
    return timer_add(s, later_by(timer_now(s), ns), NULL, scope);
}

static DoeffStep
delay_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    long long ns = s == NULL ? -1 : ns_from_now(cx, s, RECORD_FIELD(effect, 0));
    if (ns < 0) {
        return DOEFF_RAISE;
    }
    return ns == 0 ? sleep_over(s, out) : sleep_until(s, later_by(timer_now(s), ns), NULL);
}

static const RecordSpec delay_spec = {
    .name = "doeff.effects.time.DelayEffect",
    .doc = "DelayEffect(seconds)\n--\n\nSleep.",
    .fields = {"seconds"}, .required = 1, .effect = 1, .subclassable = 1, .init = delay_init,
};

static PyMethodDef delay_def = {
    "Delay", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Delay(seconds)\n--\n\nLet this task sleep; others go on.\n\nseconds: a number; ValueError if it is negative or not "
              "finite, TypeError if it is none. Gives None. On a\ncontrolled clock (__current_time__ in the store) no time passes.\n\n"
              ">>> yield Delay(0.5)\n\nContract: concurrency, part 3.")};

/* ---- WaitUntil ---- */

static int
wait_until_init(RecordInfo *Py_UNUSED(info), PyObject **f)
{
    long long ns = ask_clock("instant", f[0]);
    return ns == -1 && PyErr_Occurred() ? -1 : 0;
}

static DoeffStep
wait_until_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    PyObject *target = RECORD_FIELD(effect, 0);
    if (s == NULL || clock_was_put(cx) < 0) {
        return DOEFF_RAISE;
    }
    long long when;
    int ahead;
    if (s->clock == NULL) {
        ahead = wall_deadline(s, target, &when);
    }
    else {
        long long ns = clock_difference(target, s->clock);
        ahead = ns == -1 && PyErr_Occurred() ? -1 : ns > 0;
        when = later_by(s->clock_ns, ns);
    }
    if (ahead < 0) {
        return DOEFF_RAISE;
    }
    return ahead == 0 ? sleep_over(s, out) : sleep_until(s, when, target);
}

static const RecordSpec wait_until_spec = {
    .name = "doeff.effects.time.WaitUntilEffect",
    .doc = "WaitUntilEffect(target_time)\n--\n\nSleep until a time of day.",
    .fields = {"target_time"}, .required = 1, .effect = 1, .subclassable = 1, .init = wait_until_init,
};

static PyMethodDef wait_until_def = {
    "WaitUntil", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("WaitUntil(target_time)\n--\n\nLet this task sleep until the clock has reached target_time.\n\ntarget_time: a datetime, "
              "naive (local) or aware; TypeError for anything else. One in the past only ends\nthe turn. Gives None.\n\n"
              ">>> yield WaitUntil(datetime(2030, 1, 1))\n\nContract: concurrency, part 3.")};

int
timer_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->rec.Delay = effect_define(module, st, handler, &(EffectDef){&delay_spec, &delay_def, delay_perform});
    st->rec.WaitUntil = effect_define(module, st, handler, &(EffectDef){&wait_until_spec, &wait_until_def, wait_until_perform});
    return st->rec.Delay == NULL || st->rec.WaitUntil == NULL ? -1 : 0;
}
