#include "effects.h"

/* callstack: ProgramCallStack, ProgramCallFrame and GetDebugContext, which look at the pending
 * frames of the task from the inside out. The walk is here; what is made of it, in doeff._callstack.
 *
 * A handler's body stands between the effect that it handles and the rest of the task. While the
 * origin is cut off, the walk takes it in where the body's result frame is: those calls wait for the
 * body. An effect that the body forwards is performed at the origin, where the body does not show. */

typedef struct Place {
    DoeffFiber *fiber;
    Py_ssize_t at; /* how many of its frames are still to be seen */
} Place;

typedef struct Places {
    Place *items;
    Py_ssize_t len, cap;
} Places;

static int
places_push(Places *places, DoeffFiber *fiber, Py_ssize_t at)
{
    if (places->len == places->cap) {
        Py_ssize_t cap = places->cap == 0 ? 16 : places->cap * 2;
        Place *grown = PyMem_Realloc(places->items, sizeof(Place) * (size_t)cap);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        places->items = grown;
        places->cap = cap;
    }
    places->items[places->len++] = (Place){fiber, at};
    return 0;
}

/* A row is (kind, description, generator or None, KleisliProgram or None). */
static int
add_row(PyObject *rows, const char *kind, PyObject *description /* stolen, may be NULL */, PyObject *generator,
        PyObject *kleisli)
{
    if (description == NULL) {
        return -1;
    }
    PyObject *row = Py_BuildValue("sNOO", kind, description, generator == NULL ? Py_None : generator,
                                  kleisli == NULL ? Py_None : kleisli);
    int failed = row == NULL || PyList_Append(rows, row) < 0;
    Py_XDECREF(row);
    return failed ? -1 : 0;
}

static int
add_frame(PyObject *rows, const DoeffFrame *frame, int all)
{
    int generator = frame->kind == &return_frame;
    if (generator ? 0 : !all || frame->kind == &forward_frame) {
        return 0;
    }
    PyObject *description = all && frame->kind->describe != NULL ? frame->kind->describe(frame)
                                                                 : PyUnicode_FromString("");
    return add_row(rows, frame->kind->name, description, generator ? frame->a : NULL,
                   generator ? frame->b : NULL);
}

/* The handlers whose scope is this fiber. */
static int
add_handlers(EngineState *st, PyObject *rows, DoeffFiber *fiber)
{
    for (HandlerNode *node = fiber->node; node != fiber->base && node != NULL; node = node->parent) {
        const char *kind = "HandlerFrame";
        if (node->handler != NULL && Py_IS_TYPE(node->handler, st->NativeHandler_Type)
            && ((NativeHandler *)node->handler)->scope != NULL) {
            kind = ((NativeHandler *)node->handler)->scope->name;
        }
        if (add_row(rows, kind, node_handler_name(node), NULL, NULL) < 0) {
            return -1;
        }
    }
    return 0;
}

/* The task's pending frames, innermost first; only those of generators unless all are wanted. */
static PyObject *
pending_rows(DoeffContext *cx, int all)
{
    Places suspended = {NULL, 0, 0}; /* where to go on after a chain that was cut off */
    PyObject *rows = PyList_New(0);
    DoeffFiber *fiber = MACHINE_OF(cx)->fiber;
    Py_ssize_t i = fiber->len;
    int failed = rows == NULL;
    while (!failed) {
        if (i > 0) {
            DoeffFrame *frame = &fiber->frames[--i];
            failed = add_frame(rows, frame, all) < 0;
            DoeffHandlerContext *ctx =
                frame->kind == &handler_result_frame ? (DoeffHandlerContext *)frame->a : NULL;
            if (ctx != NULL && ctx->state == CTX_CAPTURED && ctx->top != NULL && !failed) {
                failed = places_push(&suspended, fiber, i) < 0;
                fiber = ctx->top;
                i = fiber->len;
            }
            continue;
        }
        failed = all && add_handlers(cx->st, rows, fiber) < 0;
        if (fiber->parent != NULL) {
            fiber = fiber->parent;
            i = fiber->len;
        }
        else if (suspended.len > 0) {
            suspended.len--;
            fiber = suspended.items[suspended.len].fiber;
            i = suspended.items[suspended.len].at;
        }
        else {
            break;
        }
    }
    PyMem_Free(suspended.items);
    if (failed) {
        Py_CLEAR(rows);
    }
    return rows;
}

/* What doeff._callstack.<function>(rows, effect) makes of the task's frames. */
static DoeffStep
look(DoeffContext *cx, PyObject *effect, const char *function, int all, PyObject **out)
{
    if (context_begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *rows = pending_rows(cx, all);
    PyObject *module = rows == NULL ? NULL : PyImport_ImportModule("doeff._callstack");
    *out = module == NULL ? NULL : PyObject_CallMethod(module, function, "OO", rows, effect);
    Py_XDECREF(module);
    Py_XDECREF(rows);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
stack_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return look(cx, effect, "call_stack", 0, out);
}

static DoeffStep
frame_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return look(cx, effect, "call_frame", 0, out);
}

static DoeffStep
debug_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    return look(cx, effect, "debug_context", 1, out);
}

static int
frame_init(EngineState *st, PyObject **f)
{
    (void)st;
    if (!PyLong_Check(f[0])) {
        PyErr_Format(PyExc_TypeError, "depth must be int, got %s", Py_TYPE(f[0])->tp_name);
        return -1;
    }
    if (!PyLong_CheckExact(f[0])) { /* bool counts as int */
        PyObject *plain = PyNumber_Long(f[0]);
        if (plain == NULL) {
            return -1;
        }
        Py_SETREF(f[0], plain);
    }
    PyObject *zero = PyLong_FromLong(0);
    int negative = zero == NULL ? -1 : PyObject_RichCompareBool(f[0], zero, Py_LT);
    Py_XDECREF(zero);
    if (negative > 0) {
        PyErr_Format(PyExc_ValueError, "depth must not be negative, got %R", f[0]);
    }
    return negative == 0 ? 0 : -1;
}

/* ProgramCallFrame(depth=0) */
static PyObject *
frame_construct(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (nargs > 0 || kwnames != NULL) {
        return record_construct(info, args, nargs, kwnames);
    }
    PyObject *zero = PyLong_FromLong(0);
    PyObject *effect = zero == NULL ? NULL : record_construct(info, &zero, 1, NULL);
    Py_XDECREF(zero);
    return effect;
}

static const RecordSpec stack_spec = {
    .name = "doeff.effects.callstack.ProgramCallStackEffect",
    .doc = "ProgramCallStackEffect()\n--\n\nThe pending @do calls of the task.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};
static const RecordSpec frame_spec = {
    .name = "doeff.effects.callstack.ProgramCallFrameEffect",
    .doc = "ProgramCallFrameEffect(depth)\n--\n\nOne of the pending @do calls of the task.",
    .fields = {"depth"}, .required = 1, .effect = 1, .subclassable = 1, .init = frame_init,
};
static const RecordSpec debug_spec = {
    .name = "doeff.effects.debug.GetDebugContextEffect",
    .doc = "GetDebugContextEffect()\n--\n\nEverything that the task has pending.",
    .fields = {NULL}, .effect = 1, .subclassable = 1,
};
static const RecordSpec call_frame_spec = {
    .name = "doeff.types.CallFrame",
    .doc = "CallFrame(kleisli, function_name, args, kwargs, depth, created_at)\n--\n\nA pending @do call: the function, what "
           "it was called with, how many calls lie inside it, and\nwhere it was called (None if nobody knows).",
    .fields = {"kleisli", "function_name", "args", "kwargs", "depth", "created_at"}, .required = 5,
};

static PyMethodDef stack_def = {
    "ProgramCallStack", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("ProgramCallStack()\n--\n\nThe pending @do calls of the current task as a tuple of CallFrame, innermost first. "
              "Arguments are\nread from the suspended function: one that was given a new value shows the new one.\n\n"
              ">>> names = [f.function_name for f in (yield ProgramCallStack())]\n\nContract: effects, part 3.11.")};
static PyMethodDef frame_def = {
    "ProgramCallFrame", (PyCFunction)(void (*)(void))frame_construct, EFFECT_FLAGS,
    PyDoc_STR("ProgramCallFrame(depth=0)\n--\n\nElement depth of what ProgramCallStack gives; IndexError is raised at the "
              "yield if there is none.\n\n>>> me = yield ProgramCallFrame()\n\nContract: effects, part 3.11.")};
static PyMethodDef debug_def = {
    "GetDebugContext", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("GetDebugContext()\n--\n\nA DebugContext: the pending calls, frames and the way to this effect, with methods that "
              "print them.\n\n>>> print((yield GetDebugContext()).format_all())\n\nContract: effects, part 3.11.")};

int
effects_callstack_init(PyObject *module, EngineState *st, NativeHandler *core)
{
    st->rec.CallFrame = record_type_new(module, st, &call_frame_spec);
    st->rec.CallStack = effect_define(module, st, core, &(EffectDef){&stack_spec, &stack_def, stack_perform});
    st->rec.CallFrameAt = effect_define(module, st, core, &(EffectDef){&frame_spec, &frame_def, frame_perform});
    st->rec.DebugContext = effect_define(module, st, core, &(EffectDef){&debug_spec, &debug_def, debug_perform});
    return st->rec.CallFrame == NULL || st->rec.CallStack == NULL || st->rec.CallFrameAt == NULL
                   || st->rec.DebugContext == NULL
               ? -1
               : 0;
}
