#include "../machine/cesk.h"
#include "../machine/kontinuation.h"
#include "../support/imports.h"
#include "v1.h"

/* The fields, in the order of the constructor's arguments. */
typedef enum { CONTROL, ENV, KONTINUATION, STATUS, NFIELDS } Field;

static inline PyObject **
slot_of(TaskState *state, Field field)
{
    PyObject **const slots[] = {&state->control, &state->env, &state->kontinuation, &state->status};
    return slots[field];
}

static TaskState *
make(EngineState *st, DoeffHandlerContext *ctx)
{
    TaskState *state = (TaskState *)freelist_pop(&st->free_task_states);
    if (state == NULL) {
        state = PyObject_GC_New(TaskState, st->TaskState_Type);
        if (state == NULL) {
            return NULL;
        }
    }
    state->ctx = (DoeffHandlerContext *)Py_XNewRef((PyObject *)ctx);
    state->control = state->env = state->kontinuation = state->status = NULL;
    return state;
}

TaskState *
task_state_new(EngineState *st, DoeffHandlerContext *ctx)
{
    TaskState *state = make(st, ctx);
    if (state != NULL) {
        state->env = Py_NewRef(ctx->env);
        state->kontinuation = kontinuation_young(st, ctx);
        if (state->kontinuation == NULL) {
            Py_CLEAR(state);
        }
    }
    return state;
}

void
task_state_done(TaskState *state)
{
    if (DOEFF_UNLIKELY(Py_REFCNT(state) > 1) && !PyObject_GC_IsTracked((PyObject *)state)) {
        PyObject_GC_Track((PyObject *)state);
    }
    Py_DECREF(state);
}

static PyObject *
ready(PyObject *value /* borrowed or NULL */)
{
    return value == NULL ? import_call("doeff.cesk.state", "Ready", "()")
                         : import_call("doeff.cesk.state", "Ready", "(O)", value);
}

/* The field (borrowed); control and status are made if nobody has asked before. */
static PyObject *
field_of(TaskState *state, Field field)
{
    PyObject **slot = slot_of(state, field);
    if (*slot != NULL) {
        return *slot;
    }
    static const char *const names[] = {"control", "env", "kontinuation", "status"};
    if (state->ctx == NULL || field == ENV || field == KONTINUATION) {
        PyErr_SetString(PyExc_AttributeError, names[field]); /* somebody deleted it */
        return NULL;
    }
    EngineState *st = engine_state_of(Py_TYPE(state));
    PyObject *made = field == STATUS ? ready(NULL)
                                     : record_new1(st->rec.EffectControl, Py_NewRef(state->ctx->effect));
    if (made != NULL && *slot == NULL) {
        *slot = made;
    }
    else {
        Py_XDECREF(made); /* ready() runs Python code, which may have been here */
    }
    return made == NULL ? NULL : *slot;
}

static PyObject *
get_field(PyObject *op, void *closure)
{
    return Py_XNewRef(field_of((TaskState *)op, (Field)(size_t)closure));
}

static int
set_field(PyObject *op, PyObject *value, void *closure)
{
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a field of a TaskState cannot be deleted");
        return -1;
    }
    PyObject **slot = slot_of((TaskState *)op, (Field)(size_t)closure);
    PyObject *old = *slot;
    *slot = Py_NewRef(value);
    Py_XDECREF(old);
    return 0;
}

/* ---- making and copying ---- */

/* A copy with some fields replaced; NULL keeps. */
static PyObject *
copy_with(PyObject *op, PyObject *control, PyObject *env, PyObject *k, PyObject *status)
{
    TaskState *from = (TaskState *)op;
    TaskState *state = make(engine_state_of(Py_TYPE(op)), from->ctx);
    if (state != NULL) {
        state->control = Py_XNewRef(control != NULL ? control : from->control);
        state->env = Py_XNewRef(env != NULL ? env : from->env);
        state->kontinuation = Py_XNewRef(k != NULL ? k : from->kontinuation);
        state->status = Py_XNewRef(status != NULL ? status : from->status);
        PyObject_GC_Track((PyObject *)state);
    }
    return (PyObject *)state;
}

static PyObject *
state_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"control", "env", "kontinuation", "status", NULL};
    PyObject *control, *env, *k, *status = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOO|O:TaskState", keywords, &control, &env, &k, &status)) {
        return NULL;
    }
    EngineState *st = engine_state_of(type);
    PyObject *own_status = status == NULL ? ready(NULL) : Py_NewRef(status);
    PyObject *own_env = own_status == NULL ? NULL : cesk_freeze_env(st, env);
    TaskState *state = own_env == NULL ? NULL : make(st, NULL);
    if (state == NULL) {
        Py_XDECREF(own_status);
        Py_XDECREF(own_env);
        return NULL;
    }
    state->control = Py_NewRef(control);
    state->env = own_env;
    state->kontinuation = Py_NewRef(k);
    state->status = own_status;
    PyObject_GC_Track((PyObject *)state);
    return (PyObject *)state;
}

static PyObject *
state_initial(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"program", "env", NULL};
    PyObject *program, *env = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:initial", keywords, &program, &env)) {
        return NULL;
    }
    EngineState *st = engine_state_of((PyTypeObject *)cls);
    PyObject *control = record_new1(st->rec.ProgramControl, Py_NewRef(program));
    PyObject *k = control == NULL ? NULL : PyList_New(0);
    PyObject *state = k == NULL ? NULL : PyObject_CallFunctionObjArgs(cls, control, env, k, NULL);
    Py_XDECREF(control);
    Py_XDECREF(k);
    return state;
}

static PyObject *
with_control(PyObject *op, PyObject *control)
{
    return copy_with(op, control, NULL, NULL, NULL);
}

static PyObject *
with_env(PyObject *op, PyObject *env)
{
    PyObject *frozen = cesk_freeze_env(engine_state_of(Py_TYPE(op)), env);
    PyObject *state = frozen == NULL ? NULL : copy_with(op, NULL, frozen, NULL, NULL);
    Py_XDECREF(frozen);
    return state;
}

static PyObject *
with_kontinuation(PyObject *op, PyObject *k)
{
    return copy_with(op, NULL, NULL, k, NULL);
}

static PyObject *
with_status(PyObject *op, PyObject *status)
{
    return copy_with(op, NULL, NULL, NULL, status);
}

static PyObject *
resume_with(PyObject *op, PyObject *value)
{
    EngineState *st = engine_state_of(Py_TYPE(op));
    PyObject *control = record_new1(st->rec.Value, Py_NewRef(value));
    PyObject *status = control == NULL ? NULL : ready(value);
    PyObject *state = status == NULL ? NULL : copy_with(op, control, NULL, NULL, status);
    Py_XDECREF(control);
    Py_XDECREF(status);
    return state;
}

static PyObject *
fail_with(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"error", "tb", NULL};
    PyObject *error, *tb = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:fail_with", keywords, &error, &tb)) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", Py_TYPE(error)->tp_name);
        return NULL;
    }
    EngineState *st = engine_state_of(Py_TYPE(op));
    PyObject *control = record_new2(st->rec.Error, Py_NewRef(error), Py_NewRef(tb));
    PyObject *status = control == NULL ? NULL : ready(NULL);
    PyObject *state = status == NULL ? NULL : copy_with(op, control, NULL, NULL, status);
    Py_XDECREF(control);
    Py_XDECREF(status);
    return state;
}

static PyObject *
state_richcompare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int equal = 1;
    for (Field field = CONTROL; equal > 0 && field < NFIELDS; field++) {
        PyObject *x = Py_XNewRef(field_of((TaskState *)a, field));
        PyObject *y = x == NULL ? NULL : Py_XNewRef(field_of((TaskState *)b, field));
        equal = y == NULL ? -1 : PyObject_RichCompareBool(x, y, Py_EQ);
        Py_XDECREF(x);
        Py_XDECREF(y);
    }
    return equal < 0 ? NULL : PyBool_FromLong(equal == (op == Py_EQ));
}

static PyObject *
state_repr(PyObject *op)
{
    PyObject *f[NFIELDS] = {NULL};
    PyObject *text = NULL;
    for (Field field = CONTROL; field < NFIELDS; field++) {
        f[field] = Py_XNewRef(field_of((TaskState *)op, field));
        if (f[field] == NULL) {
            goto done;
        }
    }
    text = PyUnicode_FromFormat("TaskState(control=%R, env=%R, kontinuation=%R, status=%R)", f[CONTROL], f[ENV],
                                f[KONTINUATION], f[STATUS]);
done:
    for (Field field = CONTROL; field < NFIELDS; field++) {
        Py_XDECREF(f[field]);
    }
    return text;
}

static int
state_traverse(PyObject *op, visitproc visit, void *arg)
{
    TaskState *state = (TaskState *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(state->ctx);
    Py_VISIT(state->control);
    Py_VISIT(state->env);
    Py_VISIT(state->kontinuation);
    Py_VISIT(state->status);
    return 0;
}

/* Its members can be set by users, so cycles may run through it alone. The context stays: it has a tp_clear
 * of its own, and the state could not make its fields without it. */
static int
state_clear(PyObject *op)
{
    TaskState *state = (TaskState *)op;
    Py_CLEAR(state->control);
    Py_CLEAR(state->env);
    Py_CLEAR(state->kontinuation);
    Py_CLEAR(state->status);
    return 0;
}

/* The engine's state by way of the context, which is cheaper than by way of the type. */
static inline EngineState *
engine_of(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    DoeffHandlerContext *ctx = ((TaskState *)op)->ctx;
    if (((PyHeapTypeObject *)tp)->ht_module == NULL) {
        return NULL;
    }
    return ctx != NULL && ctx->machine != NULL ? ctx->machine->cx.st : engine_state_of(tp);
}

static int
state_release(PyObject *op)
{
    EngineState *st = engine_of(op);
    (void)state_clear(op);
    Py_XDECREF(((TaskState *)op)->ctx);
    if (st != NULL && freelist_push(&st->free_task_states, op)) {
        return 1;
    }
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
state_dealloc(PyObject *op)
{
    if (PyObject_GC_IsTracked(op)) {
        PyObject_GC_UnTrack(op);
    }
    EngineState *st = engine_of(op);
    nesting_dealloc(st == NULL ? NULL : &st->nesting, op, state_dealloc, state_release);
}

static PyGetSetDef state_getset[] = {
    {"control", get_field, set_field, PyDoc_STR("What the task is at: EffectControl, Value, Error or ProgramControl."),
     (void *)CONTROL},
    {"status", get_field, set_field, PyDoc_STR("Ready, Blocked, Requesting or Done."), (void *)STATUS},
    {NULL},
};

static PyMemberDef state_members[] = {
    {"env", Py_T_OBJECT_EX, offsetof(TaskState, env), 0, PyDoc_STR("The environment where the effect was performed.")},
    {"kontinuation", Py_T_OBJECT_EX, offsetof(TaskState, kontinuation), 0,
     PyDoc_STR("All frames from the effect outward, seen lazily.")},
    {NULL},
};

static PyMethodDef state_methods[] = {
    {"initial", (PyCFunction)(void (*)(void))state_initial, METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("initial(program, env=None)\n--\n\nThe state in which a task that runs program begins.")},
    {"with_control", with_control, METH_O, PyDoc_STR("with_control(control)\n--\n\nA copy with another control.")},
    {"with_env", with_env, METH_O, PyDoc_STR("with_env(env)\n--\n\nA copy with another environment.")},
    {"with_kontinuation", with_kontinuation, METH_O,
     PyDoc_STR("with_kontinuation(kontinuation)\n--\n\nA copy with another continuation.")},
    {"with_status", with_status, METH_O, PyDoc_STR("with_status(status)\n--\n\nA copy with another status.")},
    {"resume_with", resume_with, METH_O, PyDoc_STR("resume_with(value)\n--\n\nA copy that is ready to go on with value.")},
    {"fail_with", (PyCFunction)(void (*)(void))fail_with, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("fail_with(error, tb=None)\n--\n\nA copy that is ready to go on with error.")},
    {NULL},
};

static PyType_Slot state_slots[] = {
    {Py_tp_new, state_tp_new},
    {Py_tp_dealloc, state_dealloc},
    {Py_tp_traverse, state_traverse},
    {Py_tp_clear, state_clear},
    {Py_tp_richcompare, state_richcompare},
    {Py_tp_hash, PyObject_HashNotImplemented},
    {Py_tp_repr, state_repr},
    {Py_tp_members, state_members},
    {Py_tp_getset, state_getset},
    {Py_tp_methods, state_methods},
    {Py_tp_doc, (void *)PyDoc_STR("TaskState(control, env, kontinuation, status=Ready())\n--\n\n"
                                  "One task as a v1 handler sees it.")},
    {0, NULL},
};

static PyType_Spec state_spec = {
    .name = "doeff.cesk.state.TaskState",
    .basicsize = sizeof(TaskState),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = state_slots,
};

int
v1_taskstate_init(PyObject *module, EngineState *st)
{
    st->TaskState_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &state_spec, NULL);
    return st->TaskState_Type == NULL ? -1 : PyModule_AddType(module, st->TaskState_Type);
}
