#include "presets.h"

#include "../effects/effects.h"
#include "../scheduler/events.h"
#include "../scheduler/scheduler.h"

static NativeHandler *
add_handler(PyObject *module, EngineState *st, const char *name)
{
    NativeHandler *handler = native_handler_new(st, name, NULL, NULL);
    if (handler != NULL && PyModule_AddObjectRef(module, name, (PyObject *)handler) < 0) {
        Py_CLEAR(handler);
    }
    return handler;
}

static PyObject *
preset_of(PyObject *module, const char *const *names, const char *name)
{
    PyObject *list = PyList_New(0);
    for (; list != NULL && *names != NULL; names++) {
        PyObject *handler = PyObject_GetAttrString(module, *names);
        if (handler == NULL || PyList_Append(list, handler) < 0) {
            Py_CLEAR(list);
        }
        Py_XDECREF(handler);
    }
    if (list != NULL && PyModule_AddObjectRef(module, name, list) < 0) {
        Py_CLEAR(list);
    }
    return list;
}

int
presets_room_init(PyObject *module, EngineState *st)
{
    static const char *const sync_names[] = {"scheduler_state_handler", "sync_external_wait_handler",
                                             "task_scheduler_handler", "sync_await_handler", "core_handler", NULL};
    static const char *const async_names[] = {"scheduler_state_handler", "async_external_wait_handler",
                                              "task_scheduler_handler", "python_async_syntax_escape_handler",
                                              "core_handler", NULL};
    static const char *const others[] = {"scheduler_state_handler", "sync_external_wait_handler",
                                         "async_external_wait_handler", "task_scheduler_handler",
                                         "sync_await_handler", "python_async_syntax_escape_handler", NULL};
    for (const char *const *name = others; *name != NULL; name++) {
        NativeHandler *handler = add_handler(module, st, *name);
        if (handler == NULL) {
            return -1;
        }
        Py_DECREF(handler);
    }
    NativeHandler *core = add_handler(module, st, "core_handler");
    if (core == NULL) {
        return -1;
    }
    int failed = 0;
#define INIT_FAMILY(name) failed = failed || effects_##name##_init(module, st, (PyObject *)core) < 0;
    ENGINE_FAMILIES(INIT_FAMILY)
    Py_DECREF(core);
    if (failed) {
        return -1;
    }
    NativeHandler *tasks = (NativeHandler *)PyObject_GetAttrString(module, "task_scheduler_handler");
    if (tasks == NULL || task_room_init(module, st, tasks) < 0 || promise_room_init(module, st, tasks) < 0
        || wait_room_init(module, st, tasks) < 0 || completion_room_init(module, st, tasks) < 0
        || semaphore_room_init(module, st, tasks) < 0 || timer_room_init(module, st, tasks) < 0
        || structure_room_init(module, st, tasks) < 0 || internal_room_init(module, st, tasks) < 0
        || schedule_room_init(module, st) < 0 || events_room_init(module, st) < 0 || report_room_init(module, st) < 0 || gather_core_init(module, st) < 0) {
        Py_XDECREF((PyObject *)tasks);
        return -1;
    }
    Py_DECREF((PyObject *)tasks);
    st->sync_preset = preset_of(module, sync_names, "sync_handlers_preset");
    st->async_preset = preset_of(module, async_names, "async_handlers_preset");
    return st->sync_preset == NULL || st->async_preset == NULL ? -1 : 0;
}
