#include "captured.h"

#include <time.h>

#include "format.h"
#include "stacks.h"

typedef struct Captured {
    PyObject_HEAD
    PyObject *error;         /* strong */
    DoeffTrace *trace;       /* strong; NULL: nothing recorded, or the parts are there */
    PyObject *python_frames; /* tuple; strong; NULL: not asked for yet */
    PyObject *effect_frames;
    double timestamp;        /* seconds since the epoch */
} Captured;

static PyObject *
captured_make(EngineState *st, PyObject *error, DoeffTrace *trace, double timestamp)
{
    Captured *c = PyObject_GC_New(Captured, st->CapturedTraceback_Type);
    if (c == NULL) {
        return NULL;
    }
    c->error = Py_NewRef(error);
    c->trace = (DoeffTrace *)Py_XNewRef(trace);
    c->python_frames = c->effect_frames = NULL;
    c->timestamp = timestamp;
    PyObject_GC_Track(c);
    return (PyObject *)c;
}

PyObject *
captured_new(EngineState *st, PyObject *error, DoeffTrace *trace)
{
    struct timespec now = {0, 0};
    (void)timespec_get(&now, TIME_UTC);
    return captured_make(st, error, trace, (double)now.tv_sec + (double)now.tv_nsec * 1e-9);
}

static int
captured_traverse(PyObject *op, visitproc visit, void *arg)
{
    Captured *c = (Captured *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(c->error);
    Py_VISIT(c->trace);
    Py_VISIT(c->python_frames);
    Py_VISIT(c->effect_frames);
    return 0;
}

static int
captured_clear(PyObject *op)
{
    Captured *c = (Captured *)op;
    Py_CLEAR(c->error);
    Py_CLEAR(c->trace);
    Py_CLEAR(c->python_frames);
    Py_CLEAR(c->effect_frames);
    return 0;
}

static void
captured_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    (void)captured_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyType_Slot captured_slots[] = {
    {Py_tp_dealloc, captured_dealloc},
    {Py_tp_traverse, captured_traverse},
    {Py_tp_clear, captured_clear},
    {0, NULL},
};

static PyType_Spec captured_spec = {
    .name = "doeff.cesk_traceback.CapturedTraceback",
    .basicsize = sizeof(Captured),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = captured_slots,
};

int
captured_room_init(PyObject *module, EngineState *st)
{
    st->CapturedTraceback_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &captured_spec, NULL);
    if (st->CapturedTraceback_Type == NULL || PyModule_AddType(module, st->CapturedTraceback_Type) < 0) {
        return -1;
    }
    return stacks_room_init(module, st);
}
