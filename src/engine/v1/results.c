#include "../effects/effects.h"
#include "../program/kleisli.h"
#include "v1.h"

/* ---- a generator that goes on ---- */

/* The program of a ContinueGenerator. */
typedef struct Driven {
    PyObject_HEAD
    PyObject *generator; /* strong */
    PyObject *value;     /* sent first; strong */
    PyObject *error;     /* thrown first in its place, or NULL; strong */
    PyObject *kleisli;   /* for traces, or NULL; strong */
} Driven;

DoeffStep
driven_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    Driven *driven = (Driven *)program;
    if (context_push(cx, &return_frame, Py_NewRef(driven->generator), Py_XNewRef(driven->kleisli)) < 0) {
        return DOEFF_RAISE;
    }
    if (driven->error != NULL) {
        PyErr_SetRaisedException(Py_NewRef(driven->error));
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(driven->value);
    return DOEFF_VALUE;
}

static int
driven_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((Driven *)op)->generator);
    Py_VISIT(((Driven *)op)->value);
    Py_VISIT(((Driven *)op)->error);
    Py_VISIT(((Driven *)op)->kleisli);
    return 0;
}

static int
driven_release(PyObject *op)
{
    Py_XDECREF(((Driven *)op)->generator);
    Py_XDECREF(((Driven *)op)->value);
    Py_XDECREF(((Driven *)op)->error);
    Py_XDECREF(((Driven *)op)->kleisli);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
driven_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, driven_dealloc, driven_release);
}

static PyType_Slot driven_slots[] = {
    {Py_tp_dealloc, driven_dealloc},
    {Py_tp_traverse, driven_traverse},
    {0, NULL},
};

static PyType_Spec driven_spec = {
    .name = "doeff._engine.Driven",
    .basicsize = sizeof(Driven),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = driven_slots,
};

/* ---- the four results ---- */

enum { GENERATOR, SEND_VALUE, THROW_ERROR, GENERATOR_ENV, GENERATOR_STORE, GENERATOR_K, PROGRAM_CALL };

static const RecordSpec value_spec = {
    .name = "doeff.cesk.frames.ContinueValue",
    .doc = "ContinueValue(value, env, store, k)\n--\n\nGo on: give value to the continuation k. A Request as value is "
           "performed\nand its outcome given to k.\n\nenv, store: what is in force from here on; None keeps what is. "
           "k: task_state.kontinuation, with frames in\nfront or without some of its own; [] ends the task.",
    .fields = {"value", "env", "store", "k"}, .required = 4,
};
static const RecordSpec program_spec = {
    .name = "doeff.cesk.frames.ContinueProgram",
    .doc = "ContinueProgram(program, env, store, k)\n--\n\nGo on: run program on top of the continuation k, where the "
           "effect was performed.",
    .fields = {"program", "env", "store", "k"}, .required = 4,
};
static const RecordSpec error_spec = {
    .name = "doeff.cesk.frames.ContinueError",
    .doc = "ContinueError(error, env, store, k)\n--\n\nGo on: throw error into the continuation k.",
    .fields = {"error", "env", "store", "k"}, .required = 4,
};
static const RecordSpec generator_spec = {
    .name = "doeff.cesk.frames.ContinueGenerator",
    .doc = "ContinueGenerator(generator, send_value, throw_error, env, store, k, program_call=None)\n--\n\n"
           "Go on: resume generator on top of the continuation k, with throw_error if there is one, else with "
           "send_value.\nA fresh generator is sent None. program_call: the call it belongs to, for traces.",
    .fields = {"generator", "send_value", "throw_error", "env", "store", "k", "program_call"}, .required = 6,
};

PyObject *
frame_result_new(RecordInfo *info, PyObject *value, PyObject *env, PyObject *store, PyObject *k)
{
    PyObject *f[RECORD_MAX_FIELDS + 1] = {value, Py_NewRef(env), Py_NewRef(store), Py_NewRef(k)};
    return record_new(info, f);
}

static int
read_program(EngineState *st, PyObject *program, FrameOutcome *o)
{
    if (!program_check(st, program)) {
        const char *hint = Py_IS_TYPE(program, st->Kleisli_Type) ? ": call the @do function"
                           : PyGen_Check(program)                ? ": a generator goes into ContinueGenerator"
                                                                 : "";
        PyErr_Format(PyExc_TypeError, "program of ContinueProgram must be a Program, got %s%s",
                     Py_TYPE(program)->tp_name, hint);
        return -1;
    }
    o->step = DOEFF_PROGRAM;
    o->out = Py_NewRef(program);
    return 1;
}

static int
check_exception(PyObject *error, const char *what)
{
    if (PyExceptionInstance_Check(error)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s must be an exception, got %s", what,
                 PyExceptionClass_Check(error) ? "an exception class: make an instance of it"
                                               : Py_TYPE(error)->tp_name);
    return -1;
}

/* A generator that has ended would swallow the value without a word. */
static int
check_generator(PyObject *generator)
{
    int generators = PyGen_Check(generator) || PyCoro_CheckExact(generator);
    if (!generators && !PyIter_Check(generator)) {
        PyErr_Format(PyExc_TypeError, "generator of ContinueGenerator must be a generator, got %s",
                     Py_TYPE(generator)->tp_name);
        return -1;
    }
    if (!PyGen_Check(generator)) {
        return 0;
    }
    PyObject *frame = PyObject_GetAttrString(generator, "gi_frame");
    if (frame == Py_None) {
        PyErr_Format(PyExc_RuntimeError, "generator of ContinueGenerator has ended already: %R", generator);
        Py_CLEAR(frame);
    }
    Py_XDECREF(frame);
    return frame == NULL ? -1 : 0;
}

static int
read_generator(EngineState *st, PyObject *result, FrameOutcome *o)
{
    PyObject *generator = RECORD_FIELD(result, GENERATOR), *error = RECORD_FIELD(result, THROW_ERROR);
    PyObject *call = RECORD_FIELD(result, PROGRAM_CALL);
    if (check_generator(generator) < 0 || (error != Py_None && check_exception(error, "throw_error") < 0)) {
        return -1;
    }
    Driven *driven = PyObject_GC_New(Driven, st->Driven_Type);
    if (driven == NULL) {
        return -1;
    }
    driven->generator = Py_NewRef(generator);
    driven->value = Py_NewRef(RECORD_FIELD(result, SEND_VALUE));
    driven->error = error == Py_None ? NULL : Py_NewRef(error);
    driven->kleisli =
        Py_IS_TYPE(call, st->KleisliCall_Type) ? Py_NewRef((PyObject *)((KleisliCall *)call)->kleisli) : NULL;
    PyObject_GC_Track(driven);
    o->step = DOEFF_PROGRAM;
    o->out = (PyObject *)driven;
    o->env = RECORD_FIELD(result, GENERATOR_ENV);
    o->store = RECORD_FIELD(result, GENERATOR_STORE);
    o->k = RECORD_FIELD(result, GENERATOR_K);
    return 1;
}

int
frame_result_read(EngineState *st, PyObject *result, FrameOutcome *o)
{
    PyTypeObject *type = Py_TYPE(result);
    *o = (FrameOutcome){.step = DOEFF_VALUE};
    if (type == st->rec.ContinueGenerator->type) {
        return read_generator(st, result, o);
    }
    if (type != st->rec.ContinueValue->type && type != st->rec.ContinueProgram->type
        && type != st->rec.ContinueError->type) {
        return 0;
    }
    PyObject *what = RECORD_FIELD(result, 0);
    o->env = RECORD_FIELD(result, 1);
    o->store = RECORD_FIELD(result, 2);
    o->k = RECORD_FIELD(result, 3);
    if (type == st->rec.ContinueProgram->type) {
        return read_program(st, what, o);
    }
    if (type == st->rec.ContinueError->type) {
        if (check_exception(what, "error of ContinueError") < 0) {
            return -1;
        }
        o->step = DOEFF_RAISE;
        o->error = Py_NewRef(what);
        return 1;
    }
    o->out = Py_NewRef(what);
    return 1;
}

/* ---- requests ---- */

static int
action_init(RecordInfo *Py_UNUSED(type), PyObject **f)
{
    return check_callable(f[0], "action");
}

static int
program_init(RecordInfo *type, PyObject **f)
{
    return check_program(type->st, f[0], "program");
}

static int
spawn_init(RecordInfo *type, PyObject **f)
{
    if (check_program(type->st, f[0], "program") < 0 || check_str(f[1], "backend") < 0) {
        return -1;
    }
    if (PyUnicode_CompareWithASCIIString(f[1], "thread") != 0
        && PyUnicode_CompareWithASCIIString(f[1], "process") != 0) {
        PyErr_Format(PyExc_ValueError, "backend must be 'thread' or 'process', got %R", f[1]);
        return -1;
    }
    return 0;
}

static int
effect_init(RecordInfo *type, PyObject **f)
{
    if (!PyType_IsSubtype(Py_TYPE(f[0]), type->st->Effect_Type)) {
        PyErr_Format(PyExc_TypeError, "effect must be Effect, got %s", type_name(f[0]));
        return -1;
    }
    return 0;
}

static const RecordSpec perform_io_spec = {
    .name = "doeff.cesk.state.PerformIO",
    .doc = "PerformIO(action)\n--\n\nRequest: call action, without arguments; its result, or what it raises, goes to k.",
    .fields = {"action"}, .required = 1, .init = action_init,
};
static const RecordSpec await_external_spec = {
    .name = "doeff.cesk.state.AwaitExternal",
    .doc = "AwaitExternal(awaitable)\n--\n\nRequest: await, as the effect Await of the runtime in use does.",
    .fields = {"awaitable"}, .required = 1,
};
static const RecordSpec create_task_spec = {
    .name = "doeff.cesk.state.CreateTask",
    .doc = "CreateTask(program)\n--\n\nRequest: a new task on the same store. Gives a TaskHandle, which Wait, Gather and "
           "Race take.",
    .fields = {"program"}, .required = 1, .init = program_init,
};
static const RecordSpec create_future_spec = {
    .name = "doeff.cesk.state.CreateFuture",
    .doc = "CreateFuture()\n--\n\nRequest: a FutureHandle that nobody has resolved yet.",
    .fields = {NULL}, .required = 0,
};
static const RecordSpec resolve_future_spec = {
    .name = "doeff.cesk.state.ResolveFuture",
    .doc = "ResolveFuture(future_id, value)\n--\n\nRequest: settle a future. Gives None. RuntimeError if it was settled "
           "before, KeyError if\nno CreateFuture gave that id.",
    .fields = {"future_id", "value"}, .required = 2,
};
static const RecordSpec create_spawn_spec = {
    .name = "doeff.cesk.state.CreateSpawn",
    .doc = "CreateSpawn(program, backend)\n--\n\nRequest: run program on a backend, \"thread\" or \"process\", with "
           "snapshots of environment and store.\nGives a SpawnHandle, which Wait, Gather and Race take.",
    .fields = {"program", "backend"}, .required = 2, .init = spawn_init,
};
static const RecordSpec perform_effect_spec = {
    .name = "doeff.cesk.state.PerformEffect",
    .doc = "PerformEffect(effect)\n--\n\nRequest: perform effect outside the v1 handlers, as if they had not been there.",
    .fields = {"effect"}, .required = 1, .init = effect_init,
};

int
request_check(EngineState *st, PyObject *op)
{
    return PyType_HasFeature(Py_TYPE(op), Py_TPFLAGS_HEAPTYPE) && PyType_IsSubtype(Py_TYPE(op), st->Request_Type);
}

/* ---- bases ---- */

static PyType_Slot frame_result_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("What a v1 handler gives: one of the four Continue classes.")},
    {0, NULL},
};
static PyType_Spec frame_result_spec = {
    .name = "doeff.cesk.frames.FrameResult",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = frame_result_slots,
};
static PyType_Slot request_slots[] = {
    {Py_tp_doc, (void *)PyDoc_STR("What the runtime does for a v1 handler that gives it as the value of a ContinueValue.")},
    {0, NULL},
};
static PyType_Spec request_spec = {
    .name = "doeff.cesk.state.Request",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = request_slots,
};

int
v1_results_init(PyObject *module, EngineState *st)
{
    st->Driven_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &driven_spec, (PyObject *)st->Program_Type);
    st->FrameResult_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &frame_result_spec, NULL);
    st->Request_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &request_spec, NULL);
    if (st->Driven_Type == NULL || st->FrameResult_Type == NULL || st->Request_Type == NULL
        || PyModule_AddType(module, st->FrameResult_Type) < 0 || PyModule_AddType(module, st->Request_Type) < 0) {
        return -1;
    }
    const struct {
        RecordInfo **slot;
        const RecordSpec *spec;
        PyTypeObject *base;
    } records[] = {
        {&st->rec.ContinueValue, &value_spec, st->FrameResult_Type},
        {&st->rec.ContinueProgram, &program_spec, st->FrameResult_Type},
        {&st->rec.ContinueError, &error_spec, st->FrameResult_Type},
        {&st->rec.ContinueGenerator, &generator_spec, st->FrameResult_Type},
        {&st->rec.PerformIO, &perform_io_spec, st->Request_Type},
        {&st->rec.AwaitExternal, &await_external_spec, st->Request_Type},
        {&st->rec.CreateTask, &create_task_spec, st->Request_Type},
        {&st->rec.CreateFuture, &create_future_spec, st->Request_Type},
        {&st->rec.ResolveFuture, &resolve_future_spec, st->Request_Type},
        {&st->rec.CreateSpawn, &create_spawn_spec, st->Request_Type},
        {&st->rec.PerformEffect, &perform_effect_spec, st->Request_Type},
    };
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        *records[i].slot = record_type_new_under(module, st, records[i].spec, records[i].base);
        if (*records[i].slot == NULL) {
            return -1;
        }
    }
    return 0;
}
