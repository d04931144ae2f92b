#include "step.h"

#include "../program/kleisli.h"
#include "../program/program.h"
#include "../report/trace.h"
#include "../scheduler/scheduler.h"
#include "../support/imports.h"
#include "cesk.h"
#include "kontinuation.h"
#include "rundata.h"

/* ---- the end of a run ---- */

void
step_close(DoeffMachine *m)
{
    m->over = 1;
    if (m->scheduler != NULL) {
        scheduler_free(m); /* between two turns no task's context is entered */
    }
    DoeffFiber *fiber = m->fiber;
    m->fiber = NULL;
    fiber_free_chain(m->cx.st, fiber);
}

static PyObject *
done(DoeffMachine *m, PyObject *value /* stolen */)
{
    PyObject *store = run_data_publish(m) < 0 ? NULL : context_store(&m->cx);
    if (store == NULL) {
        Py_DECREF(value);
        return NULL;
    }
    return record_new2(m->cx.st->rec.Done, value, Py_NewRef(store));
}

static PyObject *
failed(DoeffMachine *m, PyObject *error /* stolen */)
{
    PyObject *trace = trace_capture(m, error);
    PyObject *store = trace == NULL || run_data_publish(m) < 0 ? NULL : context_store(&m->cx);
    if (store == NULL) {
        Py_XDECREF(trace);
        Py_DECREF(error);
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {error, Py_NewRef(store), trace};
    return record_new(m->cx.st->rec.Failed, f);
}

/* ---- between two turns ---- */

/* The control that comes next; takes what. */
static PyObject *
control_of(EngineState *st, DoeffStep next, PyObject *what)
{
    if (next == DOEFF_VALUE) {
        return record_new1(st->rec.Value, what);
    }
    if (next == DOEFF_RAISE) {
        return record_new2(st->rec.Error, what, Py_NewRef(Py_None));
    }
    int effect = PyType_IsSubtype(Py_TYPE(what), st->Effect_Type);
    return record_new1(effect ? st->rec.EffectControl : st->rec.ProgramControl, what);
}

static PyObject *
state_after(DoeffMachine *m, const Turn *turn, PyObject *what /* stolen */)
{
    EngineState *st = m->cx.st;
    m->turn_plain = turn->plain;
    PyObject *control = control_of(st, turn->next, what);
    PyObject *store = control == NULL ? NULL : context_store(&m->cx);
    PyObject *k = store == NULL ? NULL : kontinuation_of_turn(st, m);
    if (k == NULL) {
        Py_XDECREF(control);
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {control, Py_NewRef(m->cx.env), Py_NewRef(store), k};
    return record_new(st->rec.CESKState, f);
}

/* An escape whose action gives the state to go on with, with the answer of the program's own action. */
static PyObject *
escape_after(DoeffMachine *m, PyObject *action /* stolen */)
{
    EngineState *st = m->cx.st;
    PyObject *state = state_after(m, &(Turn){.next = DOEFF_VALUE}, Py_NewRef(Py_None));
    PyObject *wrapped = state == NULL ? NULL : import_call("doeff._escape", "resuming", "(OO)", action, state);
    Py_XDECREF(state);
    Py_DECREF(action);
    if (wrapped == NULL) {
        return NULL;
    }
    PyObject *f[RECORD_MAX_FIELDS + 1] = {wrapped};
    return record_new(st->rec.Escape, f);
}

/* ---- one step ---- */

static int
is_control(EngineState *st, PyObject *control)
{
    return Py_IS_TYPE(control, st->rec.Value->type) || Py_IS_TYPE(control, st->rec.Error->type)
           || Py_IS_TYPE(control, st->rec.EffectControl->type) || Py_IS_TYPE(control, st->rec.ProgramControl->type);
}

static int
check_state(EngineState *st, PyObject *state)
{
    if (!Py_IS_TYPE(state, st->rec.CESKState->type)) {
        int over = Py_IS_TYPE(state, st->rec.Done->type) || Py_IS_TYPE(state, st->rec.Failed->type);
        PyErr_Format(PyExc_TypeError, "step() takes a CESKState, got %s%s", Py_TYPE(state)->tp_name,
                     over                                              ? ": the program has ended"
                     : Py_IS_TYPE(state, st->rec.Escape->type) ? ": await its action() to get the next state"
                                                                       : "");
        return -1;
    }
    PyObject *control = RECORD_FIELD(state, 0);
    if (!is_control(st, control)) {
        PyErr_Format(st->InterpreterInvariantError,
                     "C must be Value, Error, EffectControl or ProgramControl, got %s", Py_TYPE(control)->tp_name);
        return -1;
    }
    if (Py_IS_TYPE(control, st->rec.Error->type) && !PyExceptionInstance_Check(RECORD_FIELD(control, 0))) {
        PyErr_Format(PyExc_TypeError, "ex of Error must be an exception, got %s",
                     Py_TYPE(RECORD_FIELD(control, 0))->tp_name);
        return -1;
    }
    if (!PyDict_Check(RECORD_FIELD(state, 2))) {
        PyErr_Format(PyExc_TypeError, "S must be a dict, got %s", Py_TYPE(RECORD_FIELD(state, 2))->tp_name);
        return -1;
    }
    return 0;
}

/* A K of frames written in Python only, which belongs to no run yet. */
static int
is_hand_made(EngineState *st, PyObject *k)
{
    if (!PyList_Check(k)) {
        return 0;
    }
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(k); i++) {
        PyObject *origin;
        PyObject *frame = Py_NewRef(PyList_GET_ITEM(k, i));
        int known = PyObject_GetOptionalAttr(frame, st->str_origin, &origin);
        Py_DECREF(frame);
        if (known < 0) {
            return -1;
        }
        int ours = origin != NULL && PyTuple_CheckExact(origin);
        Py_XDECREF(origin);
        if (ours) {
            return 0;
        }
    }
    return 1;
}

/* The machine (strong) that goes on from the state, with the frames in *prefix (strong or NULL) in front. */
static DoeffMachine *
machine_of(EngineState *st, PyObject *state, PyObject **prefix)
{
    PyObject *k = RECORD_FIELD(state, 3);
    int hand_made = is_hand_made(st, k);
    if (hand_made < 0) {
        return NULL;
    }
    if (hand_made) {
        *prefix = PyList_AsTuple(k);
        return *prefix == NULL ? NULL
                               : machine_new(st, (HandlerNode *)st->root_node, Py_NewRef(RECORD_FIELD(state, 1)),
                                             Py_NewRef(RECORD_FIELD(state, 2)));
    }
    KontinuationTarget target;
    if (kontinuation_target(st, k, &target) < 0) {
        return NULL;
    }
    *prefix = target.prefix;
    if (target.part != K_REST || target.turn == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this continuation belongs to a handler or frame of a run, which alone can go on with it; "
                        "step() goes on with the K of a state that it gave");
        return NULL;
    }
    if (target.machine->thread != 0) {
        PyErr_SetString(PyExc_RuntimeError, "the program of this state is being stepped at this moment");
        return NULL;
    }
    if (target.turn != target.machine->turns || target.machine->over) {
        PyErr_Format(PyExc_RuntimeError,
                     "continuation already resumed: this is the state after step %zu of its program, and step %zu "
                     "has been done%s; go on with the state that it gave",
                     target.turn, target.machine->turns, target.machine->over ? ", the last one" : "");
        return NULL;
    }
    return (DoeffMachine *)Py_NewRef(target.machine);
}

/* The control as the loop takes it: an exception is set for DOEFF_RAISE. */
static DoeffStep
begin_turn(DoeffMachine *m, PyObject *state, PyObject *prefix, PyObject **what)
{
    EngineState *st = m->cx.st;
    PyObject *control = RECORD_FIELD(state, 0);
    int fresh = m->turns == 1 && m->fiber->len == 0 && m->fiber->parent == NULL;
    if (cesk_adopt_store(&m->cx, RECORD_FIELD(state, 2)) < 0 || cesk_use_env(&m->cx, RECORD_FIELD(state, 1)) < 0
        || cesk_push_frames(&m->cx, prefix) < 0) {
        return DOEFF_RAISE;
    }
    DoeffStep step = cesk_control(st, control, what);
    if (step == DOEFF_PROGRAM && fresh && !program_check(st, *what)) {
        PyObject *name = PyType_GetName(Py_TYPE(*what));
        if (name != NULL) {
            PyErr_Format(PyExc_TypeError, "Cannot convert %U to generator: a state needs a Program", name);
            Py_DECREF(name);
        }
        Py_CLEAR(*what);
        return DOEFF_RAISE;
    }
    return step;
}

static PyObject *
take_turn(DoeffMachine *m, PyObject *state, PyObject *prefix)
{
    EngineState *st = m->cx.st;
    Turn turn = {.plain = m->turn_plain};
    PyObject *what = NULL, *out = NULL;
    m->turns++;
    m->turn_views = 0;
    m->thread = PyThread_get_thread_ident();
    if (PyObject_GC_IsTracked((PyObject *)m)) {
        PyObject_GC_UnTrack((PyObject *)m); /* at work it is a root */
    }
    DoeffStep how = begin_turn(m, state, prefix, &what);
    RunEnd end = machine_turn(m, how, what, &out, &turn);
    m->thread = 0;
    kleisli_show_calls(st, NULL);
    PyObject *result = end == RUN_STEPPED   ? state_after(m, &turn, out)
                       : end == RUN_ESCAPED ? escape_after(m, out)
                       : end == RUN_DONE    ? done(m, out)
                                            : failed(m, out);
    if ((end == RUN_DONE || end == RUN_FAILED || result == NULL) && !m->over) {
        PyObject *pending = PyErr_GetRaisedException();
        step_close(m);
        if (pending != NULL) {
            PyErr_SetRaisedException(pending);
        }
    }
    if (Py_REFCNT(m) > 1) {
        machine_track(m);
    }
    return result;
}

static PyObject *
step(PyObject *module, PyObject *state)
{
    EngineState *st = PyModule_GetState(module);
    if (check_state(st, state) < 0) {
        return NULL;
    }
    PyObject *prefix = NULL;
    DoeffMachine *m = machine_of(st, state, &prefix);
    PyObject *result = m == NULL ? NULL : take_turn(m, state, prefix);
    Py_XDECREF(m);
    Py_XDECREF(prefix);
    return result;
}

static PyMethodDef functions[] = {
    {"step", step, METH_O,
     PyDoc_STR("step(state)\n--\n\nDo one step of a program: resume one generator, call one handler or pop one frame.\n\n"
               "state: a CESKState, as CESKState.initial(program, env, store) or the last step gives it. Gives the next\n"
               "CESKState, or Done(value, store), Failed(exception, store, captured_traceback) or, when the program\n"
               "escapes, PythonAsyncSyntaxEscape, whose action is awaited for the next state. A state is stepped once:\n"
               "RuntimeError for one that is stale.\n\n>>> state = step(CESKState.initial(program))\n\n"
               "Contract: programs, part 3.2.")},
    {NULL},
};

static const RecordSpec done_spec = {
    .name = "doeff.cesk.result.Done",
    .doc = "Done(value, store)\n--\n\nWhat step() gives when the program has ended with a value.",
    .fields = {"value", "store"}, .required = 2,
};

static const RecordSpec failed_spec = {
    .name = "doeff.cesk.result.Failed",
    .doc = "Failed(exception, store, captured_traceback=None)\n--\n\nWhat step() gives when an exception has left the "
           "program.",
    .fields = {"exception", "store", "captured_traceback"}, .required = 2,
};

int
step_room_init(PyObject *module, EngineState *st)
{
    st->rec.Done = record_type_new(module, st, &done_spec);
    st->rec.Failed = record_type_new(module, st, &failed_spec);
    return st->rec.Done == NULL || st->rec.Failed == NULL ? -1 : PyModule_AddFunctions(module, functions);
}
