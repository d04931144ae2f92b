#include "scheduler.h"

#include "../effects/effects.h"

/* semaphore: permits that tasks take and give back, first come, first served. */

typedef struct Semaphore {
    PyObject_HEAD
    unsigned run;
    Py_ssize_t permits, initial;
    DoeffTask *first, *last; /* who waits, linked by queued; borrowed: a live task is owned by its run */
} Semaphore;

static void
hand_over(DoeffScheduler *s, Semaphore *sem)
{
    DoeffTask *t = sem->first;
    if (t == NULL) {
        sem->permits++;
        return;
    }
    sem->first = t->queued;
    *(sem->first == NULL ? &sem->last : &sem->first->ahead) = NULL;
    PyObject *own = t->semaphore; /* the reference that it held while it waited */
    t->semaphore = NULL;
    task_wake(s, t, ANSWER_PERMIT, own);
}

void
semaphore_hand_on(DoeffScheduler *s, PyObject *op)
{
    hand_over(s, (Semaphore *)op);
}

void
semaphore_granted(DoeffScheduler *s, PyObject *op, int granting)
{
    Py_XSETREF(s->granted, op);
    s->granting = granting;
    s->machine->cx.attention = 1;
}

void
semaphore_withdraw(DoeffTask *t)
{
    Semaphore *sem = (Semaphore *)t->semaphore;
    *(t->ahead == NULL ? &sem->first : &t->ahead->queued) = t->queued;
    *(t->queued == NULL ? &sem->last : &t->queued->ahead) = t->ahead;
    t->queued = NULL;
    Py_CLEAR(t->semaphore);
}

/* Tasks (borrowed) that wait for a semaphore, for reports. */
DoeffTask *
semaphore_waiters(PyObject *op)
{
    return ((Semaphore *)op)->first;
}

static void
semaphore_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyObject *
semaphore_repr(PyObject *op)
{
    Semaphore *sem = (Semaphore *)op;
    Py_ssize_t waiting = 0;
    for (DoeffTask *t = sem->first; t != NULL; t = t->queued) {
        waiting++;
    }
    return PyUnicode_FromFormat("<Semaphore %zd of %zd permits free, %zd waiting>", sem->permits, sem->initial, waiting);
}

static PyObject *
semaphore_tp_new(PyTypeObject *Py_UNUSED(type), PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    PyErr_SetString(PyExc_TypeError, "a Semaphore is made by `yield CreateSemaphore(permits)`");
    return NULL;
}

static PyType_Slot semaphore_slots[] = {
    {Py_tp_new, semaphore_tp_new},
    {Py_tp_dealloc, semaphore_dealloc},
    {Py_tp_repr, semaphore_repr},
    {Py_tp_doc, (void *)PyDoc_STR("What CreateSemaphore answers.")},
    {0, NULL},
};

static PyType_Spec semaphore_spec = {
    .name = "doeff.effects.semaphore.Semaphore",
    .basicsize = sizeof(Semaphore),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = semaphore_slots,
};

/* ---- effects ---- */

static int
create_init(RecordInfo *Py_UNUSED(info), PyObject **f)
{
    if (f[0] == Py_None) {
        Py_SETREF(f[0], PyLong_FromLong(1));
    }
    if (!PyLong_Check(f[0]) || PyBool_Check(f[0])) {
        PyErr_Format(PyExc_TypeError, "permits must be int, got %s", type_name(f[0]));
        return -1;
    }
    int overflow;
    long n = PyLong_AsLongAndOverflow(f[0], &overflow);
    if (overflow < 0 || (overflow == 0 && n < 1)) {
        PyErr_SetString(PyExc_ValueError, "permits must be >= 1");
        return -1;
    }
    return 0;
}

static DoeffStep
create_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    Semaphore *sem = s == NULL ? NULL : PyObject_New(Semaphore, cx->st->Semaphore_Type);
    if (sem == NULL) {
        return DOEFF_RAISE;
    }
    int overflow;
    long n = PyLong_AsLongAndOverflow(RECORD_FIELD(effect, 0), &overflow);
    sem->run = s->run;
    sem->permits = sem->initial = overflow > 0 ? PY_SSIZE_T_MAX : n;
    sem->first = sem->last = NULL;
    *out = (PyObject *)sem;
    return DOEFF_VALUE;
}

static int
semaphore_init(RecordInfo *info, PyObject **f)
{
    EngineState *st = info->st;
    if (Py_IS_TYPE(f[0], st->Semaphore_Type)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "semaphore must be Semaphore, got %s", type_name(f[0]));
    return -1;
}

static Semaphore *
semaphore_of(DoeffScheduler *s, PyObject *effect)
{
    Semaphore *sem = (Semaphore *)RECORD_FIELD(effect, 0);
    if (s != NULL && sem->run != s->run) {
        PyErr_SetString(PyExc_ValueError, "this semaphore belongs to another run");
        return NULL;
    }
    return s == NULL ? NULL : sem;
}

static DoeffStep
acquire_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    Semaphore *sem = semaphore_of(s, effect);
    if (sem == NULL) {
        return DOEFF_RAISE;
    }
    if (sem->permits > 0) {
        sem->permits--;
        semaphore_granted(s, Py_NewRef((PyObject *)sem), 1);
        *out = Py_NewRef(Py_None);
        return DOEFF_VALUE;
    }
    DoeffTask *t = s->current;
    t->waits = WAITS_PERMIT;
    t->semaphore = Py_NewRef((PyObject *)sem);
    t->queued = NULL;
    t->ahead = sem->last;
    *(sem->last == NULL ? &sem->first : &sem->last->queued) = t;
    sem->last = t;
    return DOEFF_BLOCK;
}

static DoeffStep
release_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    Semaphore *sem = semaphore_of(s, effect);
    if (sem == NULL) {
        return DOEFF_RAISE;
    }
    if (sem->permits >= sem->initial) {
        PyErr_SetString(PyExc_RuntimeError, "semaphore released too many times");
        return DOEFF_RAISE;
    }
    hand_over(s, sem);
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

static const RecordSpec create_spec = {
    .name = "doeff.effects.semaphore.CreateSemaphoreEffect",
    .doc = "CreateSemaphoreEffect(permits=1)\n--\n\nMake a semaphore.",
    .fields = {"permits"}, .effect = 1, .subclassable = 1, .init = create_init,
};

static PyMethodDef create_def = {
    "CreateSemaphore", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CreateSemaphore(permits=1)\n--\n\nMake a semaphore.\n\npermits: an int of at least 1; TypeError or ValueError else. "
              "Gives an opaque Semaphore of this run.\n\n>>> limit = yield CreateSemaphore(10)\n\n"
              "Contract: concurrency, part 1.10.")};

static const RecordSpec acquire_spec = {
    .name = "doeff.effects.semaphore.AcquireSemaphoreEffect",
    .doc = "AcquireSemaphoreEffect(semaphore)\n--\n\nTake a permit.",
    .fields = {"semaphore"}, .required = 1, .effect = 1, .subclassable = 1, .init = semaphore_init,
};

static PyMethodDef acquire_def = {
    "AcquireSemaphore", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("AcquireSemaphore(semaphore)\n--\n\nTake a permit, waiting in line for one if none is free.\n\nTypeError for anything "
              "but a Semaphore, ValueError for one of another run. Gives None.\n\n>>> yield AcquireSemaphore(limit)\n\n"
              "Contract: concurrency, part 1.10.")};

static const RecordSpec release_spec = {
    .name = "doeff.effects.semaphore.ReleaseSemaphoreEffect",
    .doc = "ReleaseSemaphoreEffect(semaphore)\n--\n\nGive a permit back.",
    .fields = {"semaphore"}, .required = 1, .effect = 1, .subclassable = 1, .init = semaphore_init,
};

static PyMethodDef release_def = {
    "ReleaseSemaphore", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("ReleaseSemaphore(semaphore)\n--\n\nGive a permit back; the first in line gets it at once.\n\nAny task may. RuntimeError "
              "if none is taken. Gives None. Put it into a finally block.\n\n>>> yield ReleaseSemaphore(limit)\n\n"
              "Contract: concurrency, part 1.10.")};

int
semaphore_room_init(PyObject *module, EngineState *st, NativeHandler *handler)
{
    st->Semaphore_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &semaphore_spec, NULL);
    if (st->Semaphore_Type == NULL || PyModule_AddType(module, st->Semaphore_Type) < 0) {
        return -1;
    }
    st->rec.CreateSemaphore = effect_define(module, st, handler, &(EffectDef){&create_spec, &create_def, create_perform});
    st->rec.AcquireSemaphore =
        effect_define(module, st, handler, &(EffectDef){&acquire_spec, &acquire_def, acquire_perform});
    st->rec.ReleaseSemaphore =
        effect_define(module, st, handler, &(EffectDef){&release_spec, &release_def, release_perform});
    return st->rec.CreateSemaphore == NULL || st->rec.AcquireSemaphore == NULL || st->rec.ReleaseSemaphore == NULL ? -1 : 0;
}
