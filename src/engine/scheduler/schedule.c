#include "scheduler.h"

#include "../effects/effects.h"

/* schedule: which of the ready tasks goes on, where it is not the first one.
 *
 * A Schedule is both the recipe that a scheduler handler holds (its data) and the record of one run, which every run
 * makes for itself: how it chose, and a list of the choices. A choice is an index into the row of ready tasks of the
 * highest priority; it is made, and written down, only where there are two of them or more. Given as recipe again, a
 * record repeats its run: no choice is made that there is no room to write down. Without memory for more, main is told so, and
 * the first of the ready tasks goes on from then on, which is what a record says by its end. */

typedef struct Schedule {
    PyObject_HEAD
    PyObject *seed;    /* int, or None: first in, first out; strong */
    Py_ssize_t *choices; /* what is to be chosen, or what has been */
    Py_ssize_t made, room; /* of choices */
    int replay;        /* choose what choices says, and then the first */
    int by_blocking;   /* a turn ends only by blocking */
    int over;          /* there was no memory for a choice: no more are made */
    unsigned long long state; /* of the generator of random numbers */
    PyObject *recipe;  /* of a record that repeats: whose choices; strong or NULL */
} Schedule;

/* splitmix64: its own numbers on every Python and every machine */
static unsigned long long
next_random(Schedule *schedule)
{
    unsigned long long z = schedule->state += 0x9e3779b97f4a7c15ULL;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

static Py_ssize_t
choose_of(Schedule *schedule, Py_ssize_t n)
{
    if (schedule->recipe == NULL) {
        return schedule->seed == Py_None ? 0 : (Py_ssize_t)(next_random(schedule) % (unsigned long long)n);
    }
    Schedule *given = (Schedule *)schedule->recipe;
    return schedule->made < given->made ? given->choices[schedule->made] % n : 0;
}

/* Room for so many choices; -1 without memory, no error set. */
static int
reserve(Schedule *schedule, Py_ssize_t room)
{
    if (room <= schedule->room) {
        return 0;
    }
    room = room < 16 ? 16 : room + room / 8;
    Py_ssize_t *grown = PyMem_Realloc(schedule->choices, sizeof(Py_ssize_t) * (size_t)room);
    if (grown == NULL) {
        return -1;
    }
    schedule->choices = grown;
    schedule->room = room;
    return 0;
}

int
schedule_reserve(DoeffScheduler *s)
{
    Schedule *schedule = (Schedule *)s->schedule;
    if (schedule->over || reserve(schedule, schedule->made + 1) == 0) {
        return 0;
    }
    schedule->over = 1;
    PyErr_NoMemory();
    return -1;
}

DoeffTask *
schedule_choose(DoeffScheduler *s, ReadyLevel *level)
{
    Schedule *schedule = (Schedule *)s->schedule;
    Py_ssize_t n = 0;
    for (DoeffTask *t = level->first; t != NULL; t = t->queued) {
        n++;
    }
    if (n < 2) {
        return level->first;
    }
    if (schedule->over) {
        return level->first;
    }
    Py_ssize_t i = choose_of(schedule, n);
    schedule->choices[schedule->made++] = i;
    DoeffTask *t = level->first;
    while (i-- > 0) {
        t = t->queued;
    }
    return t;
}

/* ---- the object ---- */

static int
schedule_traverse(PyObject *op, visitproc visit, void *arg)
{
    Schedule *schedule = (Schedule *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(schedule->recipe);
    return 0;
}

static int
schedule_tp_clear(PyObject *op)
{
    Schedule *schedule = (Schedule *)op;
    Py_CLEAR(schedule->recipe);
    return 0;
}

static void
schedule_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)schedule_tp_clear(op);
    Py_XDECREF(((Schedule *)op)->seed);
    PyMem_Free(((Schedule *)op)->choices);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static Schedule *
schedule_alloc(PyTypeObject *type, PyObject *seed /* borrowed */)
{
    Schedule *schedule = PyObject_GC_New(Schedule, type);
    if (schedule == NULL) {
        return NULL;
    }
    schedule->seed = Py_NewRef(seed);
    schedule->choices = NULL;
    schedule->made = schedule->room = 0;
    schedule->replay = schedule->by_blocking = schedule->over = 0;
    schedule->state = 0;
    schedule->recipe = NULL;
    PyObject_GC_Track((PyObject *)schedule);
    return schedule;
}

/* The ints in op are to be replayed; -1 with an error. */
static int
take_choices(Schedule *schedule, PyObject *op)
{
    PyObject *list = PySequence_List(op);
    if (list == NULL) {
        return -1;
    }
    int failed = reserve(schedule, PyList_GET_SIZE(list));
    if (failed) {
        PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; !failed && i < PyList_GET_SIZE(list); i++) {
        PyObject *item = PyList_GET_ITEM(list, i);
        Py_ssize_t choice = PyLong_Check(item) ? PyLong_AsSsize_t(item) : -1;
        if (choice < 0) {
            PyErr_Format(PyExc_TypeError, "choices must be ints of at least 0, got %R at index %zd", item, i);
            failed = -1;
        }
        schedule->choices[schedule->made++] = choice;
    }
    Py_DECREF(list);
    schedule->replay = 1;
    return failed;
}

/* Schedule(seed=None, choices=None, *, by_blocking=False) */
static PyObject *
schedule_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"seed", "choices", "by_blocking", NULL};
    PyObject *seed = Py_None, *choices = Py_None;
    int by_blocking = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO$p:Schedule", names, &seed, &choices, &by_blocking)) {
        return NULL;
    }
    if (seed != Py_None && !PyLong_Check(seed)) {
        PyErr_Format(PyExc_TypeError, "seed must be int or None, got %s", type_name(seed));
        return NULL;
    }
    Schedule *schedule = schedule_alloc(type, seed);
    if (schedule == NULL || (choices != Py_None && take_choices(schedule, choices) < 0)) {
        Py_XDECREF((PyObject *)schedule);
        return NULL;
    }
    schedule->by_blocking = by_blocking;
    return (PyObject *)schedule;
}

int
schedule_begin(DoeffMachine *m, PyObject *recipe)
{
    Schedule *given = (Schedule *)recipe;
    Schedule *own = schedule_alloc(m->cx.st->Schedule_Type, given->seed);
    if (own == NULL || (given->replay && reserve(own, given->made) < 0)) { /* what is to be repeated will be */
        Py_XDECREF((PyObject *)own);
        PyErr_NoMemory();
        return -1;
    }
    own->by_blocking = given->by_blocking;
    if (given->replay) {
        own->recipe = Py_NewRef(recipe);
    }
    if (given->seed != Py_None) {
        own->state = PyLong_AsUnsignedLongLongMask(given->seed);
    }
    Py_XSETREF(m->schedule, (PyObject *)own);
    return own->by_blocking;
}

static PyObject *
get_seed(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(((Schedule *)op)->seed);
}

static PyObject *
get_choices(PyObject *op, void *Py_UNUSED(closure))
{
    Schedule *schedule = (Schedule *)op;
    PyObject *list = PyList_New(schedule->made);
    for (Py_ssize_t i = 0; list != NULL && i < schedule->made; i++) {
        PyObject *choice = PyLong_FromSsize_t(schedule->choices[i]);
        if (choice == NULL) {
            Py_CLEAR(list);
            break;
        }
        PyList_SET_ITEM(list, i, choice);
    }
    return list;
}

static PyObject *
get_by_blocking(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(((Schedule *)op)->by_blocking);
}

static PyObject *
schedule_repr(PyObject *op)
{
    Schedule *schedule = (Schedule *)op;
    PyObject *choices = get_choices(op, NULL);
    PyObject *text = choices == NULL ? NULL
                                     : PyUnicode_FromFormat("Schedule(seed=%R, choices=%R%s)", schedule->seed, choices,
                                                            schedule->by_blocking ? ", by_blocking=True" : "");
    Py_XDECREF(choices);
    return text;
}

static PyGetSetDef schedule_getset[] = {
    {"seed", get_seed, NULL, PyDoc_STR("Of the random numbers that chose, or None."), NULL},
    {"choices", get_choices, NULL,
     PyDoc_STR("What has been chosen, or is to be: a list of ints, one wherever several tasks were ready."), NULL},
    {"by_blocking", get_by_blocking, NULL, PyDoc_STR("Whether a turn ends only where a task has to wait."), NULL},
    {NULL},
};

static PyType_Slot schedule_slots[] = {
    {Py_tp_new, schedule_tp_new},
    {Py_tp_dealloc, schedule_dealloc},
    {Py_tp_traverse, schedule_traverse},
    {Py_tp_clear, schedule_tp_clear},
    {Py_tp_repr, schedule_repr},
    {Py_tp_getset, schedule_getset},
    {Py_tp_doc, (void *)PyDoc_STR(
                    "Schedule(seed=None, choices=None, *, by_blocking=False)\n--\n\nHow a run chooses among the ready tasks of "
                    "its highest priority: at random from a seed, by the choices\nof an earlier run (then first in, first "
                    "out), or first in, first out.")},
    {0, NULL},
};

static PyType_Spec schedule_spec = {
    .name = "doeff.testing.Schedule",
    .basicsize = sizeof(Schedule),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = schedule_slots,
};

/* ---- a scheduler handler that goes by one ---- */

PyObject *
schedule_recipe(DoeffMachine *m)
{
    for (HandlerNode *node = m->fiber->node; node != NULL; node = node->parent) {
        if (node->handler != NULL && native_handler_check(node->handler)) {
            PyObject *data = ((NativeHandler *)node->handler)->data;
            if (data != NULL && Py_IS_TYPE(data, m->cx.st->Schedule_Type)) {
                return data;
            }
        }
    }
    return NULL;
}

/* scheduler_with(schedule): task_scheduler_handler's twin. */
static PyObject *
scheduler_with(PyObject *module, PyObject *schedule)
{
    EngineState *st = PyModule_GetState(module);
    if (!Py_IS_TYPE(schedule, st->Schedule_Type)) {
        PyErr_Format(PyExc_TypeError, "schedule must be Schedule, got %s", type_name(schedule));
        return NULL;
    }
    NativeHandler *original = (NativeHandler *)PyObject_GetAttrString(module, "task_scheduler_handler");
    NativeHandler *twin =
        original == NULL ? NULL : native_handler_new(st, "task_scheduler_handler", schedule, original->any);
    for (Py_ssize_t i = 0; twin != NULL && i < original->ncases; i++) {
        if (native_handler_serve(twin, original->cases[i].type, original->cases[i].fn) < 0) {
            Py_CLEAR(twin);
        }
    }
    Py_XDECREF((PyObject *)original);
    return (PyObject *)twin;
}

static PyMethodDef schedule_functions[] = {
    {"_scheduler_with", scheduler_with, METH_O, NULL},
    {NULL},
};

int
schedule_room_init(PyObject *module, EngineState *st)
{
    st->Schedule_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &schedule_spec, NULL);
    return st->Schedule_Type == NULL || PyModule_AddType(module, st->Schedule_Type) < 0
                   || PyModule_AddFunctions(module, schedule_functions) < 0
               ? -1
               : 0;
}
