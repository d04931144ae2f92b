#include "../effects/effects.h"
#include "../scheduler/scheduler.h"
#include "v1.h"

/* CreateTask: what Spawn does, but on the store of the task that asks. Programs have Gather for that; only
 * the body of a request performs this effect. */

static int
create_task_init(RecordInfo *type, PyObject **f)
{
    return check_program(type->st, f[0], "program");
}

static DoeffStep
create_task_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    DoeffScheduler *s = scheduler_of(cx);
    if (s == NULL) {
        return DOEFF_RAISE;
    }
    HandlerNode *node;
    PyObject *env;
    task_origin(cx, &node, &env);
    DoeffTask *t = task_new(cx, Py_NewRef(RECORD_FIELD(effect, 0)), node, env, 1, PRIORITY_NORMAL);
    if (t == NULL) {
        return DOEFF_RAISE;
    }
    s->keep_turn = 1;
    *out = Py_NewRef((PyObject *)t);
    return DOEFF_VALUE;
}

static const RecordSpec create_task_spec = {
    .name = "doeff._engine._CreateTaskEffect",
    .doc = "_CreateTaskEffect(program)\n--\n\nStart a program as a task on the same store.",
    .fields = {"program"}, .required = 1, .effect = 1, .init = create_task_init,
};

int
v1_tasks_init(PyObject *module, EngineState *st)
{
    PyObject *handler = PyObject_GetAttrString(module, "task_scheduler_handler");
    RecordInfo *info = handler == NULL ? NULL
                                       : effect_define(module, st, (NativeHandler *)handler,
                                                       &(EffectDef){&create_task_spec, NULL, create_task_perform});
    Py_XDECREF(handler);
    return info == NULL ? -1 : 0;
}
