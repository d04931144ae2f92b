#include "program.h"

/* `await program` in an async program: an iterator that yields the program to the machine once
 * and gives what the machine sends back. */

typedef struct Awaiting {
    PyObject_HEAD
    PyObject *program; /* strong; NULL once it has been yielded */
} Awaiting;

PyObject *
program_await(PyObject *program)
{
    EngineState *st = engine_state_by_def(program);
    Awaiting *self = st == NULL ? NULL : PyObject_GC_New(Awaiting, st->Awaiting_Type);
    if (self != NULL) {
        self->program = Py_NewRef(program);
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

static PySendResult
awaiting_send(PyObject *op, PyObject *value, PyObject **out)
{
    Awaiting *self = (Awaiting *)op;
    if (self->program != NULL) {
        *out = self->program;
        self->program = NULL;
        return PYGEN_NEXT;
    }
    *out = Py_NewRef(value);
    return PYGEN_RETURN;
}

static PyObject *
awaiting_next(PyObject *op)
{
    Awaiting *self = (Awaiting *)op;
    PyObject *program = self->program;
    self->program = NULL;
    return program; /* the second time: the end, with None */
}

/* From 3.12 on the interpreter looks for the method, not for am_send. */
static PyObject *
awaiting_send_method(PyObject *op, PyObject *value)
{
    PyObject *out;
    if (awaiting_send(op, value, &out) == PYGEN_NEXT) {
        return out;
    }
    PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, out); /* a tuple must stay one argument */
    Py_DECREF(out);
    if (stop != NULL) {
        PyErr_SetRaisedException(stop);
    }
    return NULL;
}

/* throw(error): raised at the await. A StopIteration would pass there for a value. */
static PyObject *
awaiting_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw expected from 1 to 3 arguments");
        return NULL;
    }
    Py_CLEAR(((Awaiting *)op)->program);
    if (PyExceptionInstance_Check(args[0])) {
        PyErr_SetRaisedException(Py_NewRef(args[0]));
    }
    else if (PyExceptionClass_Check(args[0])) { /* the old form: class, value, traceback */
        PyErr_SetObject(args[0], nargs > 1 ? args[1] : Py_None);
    }
    else {
        PyErr_Format(PyExc_TypeError, "exceptions must be classes or instances deriving from BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
    }
    program_wrap_stop_iteration();
    return NULL;
}

static int
awaiting_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Awaiting *)op)->program);
    return 0;
}

static int
awaiting_clear(PyObject *op)
{
    Py_CLEAR(((Awaiting *)op)->program);
    return 0;
}

static int
awaiting_release(PyObject *op)
{
    (void)awaiting_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
awaiting_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, awaiting_dealloc, awaiting_release);
}

static PyMethodDef awaiting_methods[] = {
    {"send", awaiting_send_method, METH_O, NULL},
    {"throw", (PyCFunction)(void (*)(void))awaiting_throw, METH_FASTCALL, NULL},
    {NULL},
};

static PyType_Slot awaiting_slots[] = {
    {Py_tp_dealloc, awaiting_dealloc},
    {Py_tp_traverse, awaiting_traverse},
    {Py_tp_clear, awaiting_clear},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_tp_iternext, awaiting_next},
    {Py_am_send, awaiting_send},
    {Py_tp_methods, awaiting_methods},
    {0, NULL},
};

static PyType_Spec awaiting_spec = {
    .name = "doeff._engine.Awaiting",
    .basicsize = sizeof(Awaiting),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = awaiting_slots,
};

int
await_room_init(PyObject *module, EngineState *st)
{
    st->Awaiting_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &awaiting_spec, NULL);
    return st->Awaiting_Type == NULL ? -1 : 0;
}
