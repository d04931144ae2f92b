#include "pending.h"

/* ---- everything, from the inside out ---- */

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
    int generator = is_return(frame);
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
add_handlers(DoeffEngine *st, PyObject *rows, DoeffFiber *fiber)
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

PyObject *
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

/* ---- one frame, wherever it is ---- */

/* Fibers that are still to be searched. */
typedef struct FiberStack {
    DoeffFiber **items;
    Py_ssize_t len, cap;
} FiberStack;

static int
push_fiber(FiberStack *stack, DoeffFiber *fiber)
{
    if (stack->len == stack->cap) {
        Py_ssize_t cap = stack->cap == 0 ? 16 : stack->cap * 2;
        DoeffFiber **grown = PyMem_Realloc(stack->items, sizeof(DoeffFiber *) * (size_t)cap);
        if (grown == NULL) {
            PyErr_NoMemory();
            return -1;
        }
        stack->items = grown;
        stack->cap = cap;
    }
    stack->items[stack->len++] = fiber;
    return 0;
}

/* What match says of the fiber's frames. Puts what waits for them on the stack. */
static int
search_fiber(DoeffFiber *fiber, const DoeffFrameKind *kind, int (*match)(const DoeffFrame *, void *), void *arg,
             FiberStack *todo)
{
    for (DoeffHandlerContext *ctx = fiber->handling; ctx != NULL; ctx = ctx->outer_body) {
        if (ctx->state == CTX_CAPTURED && push_fiber(todo, ctx->top) < 0) {
            return -1;
        }
    }
    for (Py_ssize_t i = 0; i < fiber->len; i++) {
        DoeffFrame *frame = &fiber->frames[i];
        if (frame->kind == &forward_frame) {
            for (DoeffHandlerContext *ctx = (DoeffHandlerContext *)frame->a; ctx != NULL; ctx = ctx->inner) {
                if (ctx->body_top != NULL && push_fiber(todo, ctx->body_top) < 0) {
                    return -1;
                }
            }
        }
        if (frame->kind == kind) {
            int found = match(frame, arg);
            if (found != 0) {
                return found;
            }
        }
    }
    return 0;
}

int
pending_find(DoeffContext *cx, const DoeffFrameKind *kind, int (*match)(const DoeffFrame *, void *), void *arg)
{
    FiberStack todo = {NULL, 0, 0};
    int found = push_fiber(&todo, MACHINE_OF(cx)->fiber);
    while (found == 0 && todo.len > 0) {
        for (DoeffFiber *fiber = todo.items[--todo.len]; fiber != NULL && found == 0; fiber = fiber->parent) {
            found = search_fiber(fiber, kind, match, arg, &todo);
        }
    }
    PyMem_Free(todo.items);
    return found;
}
