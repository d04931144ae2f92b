#include "kleisli.h"

#include "../machine/cesk.h"
#include "../support/imports.h"

/* ---- pools of calls ---- */

static inline PyObject *
pool_pop(CallPool *pool)
{
    DoeffFreeList list = {pool->free, 0};
    PyObject *op = freelist_pop(&list);
    pool->free = list.head;
    return op;
}

static inline void
pool_push(CallPool *pool, KleisliCall *call)
{
    DoeffFreeList list = {pool->free, 0};
    (void)freelist_push(&list, (PyObject *)call);
    pool->free = list.head;
}

/* ---- running a call ---- */

/* What the function gave (stolen; NULL with an exception set). */
static DoeffStep
function_outcome(DoeffContext *cx, Kleisli *kleisli, PyObject *result, PyObject **out)
{
    if (DOEFF_UNLIKELY(result == NULL)) {
        program_wrap_stop_iteration();
        return DOEFF_RAISE;
    }
    if (DOEFF_UNLIKELY(kleisli->runs_result) && program_check(cx->st, result)) {
        *out = result;
        return DOEFF_PROGRAM;
    }
    return program_outcome(cx, result, (PyObject *)kleisli, out);
}

static inline size_t
positionals_of(KleisliCall *call)
{
    return (size_t)(Py_SIZE(call) - (call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames)));
}

DOEFF_INLINE PyObject *
function_call(PyObject *func, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return DOEFF_LIKELY(PyFunction_Check(func)) ? ((PyFunctionObject *)func)->vectorcall(func, args, nargsf, kwnames)
                                                : PyObject_Vectorcall(func, args, nargsf, kwnames);
}

DOEFF_INLINE DoeffStep
call_function(DoeffContext *cx, Kleisli *kleisli, PyObject *const *args, size_t nargsf, PyObject *kwnames,
              PyObject **out)
{
    return function_outcome(cx, kleisli, function_call(kleisli->func, args, nargsf, kwnames), out);
}

/* ---- arguments that are programs ---- */

/* 1, 0, or -1 with MemoryError set. */
static int
has_annotations(PyObject *func, EngineState *st)
{
    PyObject *annotations;
    if (compat_plainly_unannotated(func) || PyCFunction_Check(func)) {
        return 0;
    }
    if (!PyFunction_Check(func)) {
        return 1; /* a class, a partial, a callable object: what it ends in may be annotated */
    }
    if (PyObject_GetOptionalAttr(func, st->str_annotations, &annotations) < 0) {
        if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
            return -1;
        }
        PyErr_Clear();
        return 1; /* lazily evaluated annotations that fail: let the slow way look at each */
    }
    int any = annotations != NULL && !(PyDict_Check(annotations) && PyDict_GET_SIZE(annotations) == 0);
    Py_XDECREF(annotations);
    return any;
}

static int
make_plan(EngineState *st, Kleisli *kleisli)
{
    int annotated = has_annotations(kleisli->func, st);
    if (annotated <= 0) {
        kleisli->plan = annotated < 0 ? NULL : Py_NewRef(Py_None);
        return annotated;
    }
    kleisli->plan = import_call("doeff._annotations", "plan", "(O)", kleisli);
    return kleisli->plan == NULL ? -1 : 0;
}

/* Is argument i of the call to be handed over as it is? The plan is a tuple (positional flags,
 * flag of *args, {keyword: flag}, flag of **kwargs). */
static int
passed_as_is(KleisliCall *call, Py_ssize_t i)
{
    PyObject *plan = call->kleisli->plan;
    if (plan == Py_None) {
        return 0;
    }
    Py_ssize_t positionals = Py_SIZE(call) - (call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames));
    if (i < positionals) {
        PyObject *flags = PyTuple_GET_ITEM(plan, 0);
        return (i < PyTuple_GET_SIZE(flags) ? PyTuple_GET_ITEM(flags, i) : PyTuple_GET_ITEM(plan, 1)) == Py_True;
    }
    PyObject *name = PyTuple_GET_ITEM(call->kwnames, i - positionals);
    PyObject *flag = PyDict_GetItemWithError(PyTuple_GET_ITEM(plan, 2), name);
    return (flag != NULL ? flag : PyTuple_GET_ITEM(plan, 3)) == Py_True;
}

static inline int
is_to_be_run(EngineState *st, KleisliCall *call, Py_ssize_t i)
{
    return DOEFF_UNLIKELY(program_check(st, call->args[i])) && !(call->bound && i == 0)
           && !passed_as_is(call, i);
}

/* a: the call, b: list of the arguments finished so far. */
static DoeffStep resolve_arguments(DoeffContext *cx, KleisliCall *call, PyObject *done, PyObject **out);

static DoeffStep
arguments_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    if (PyList_Append(frame->b, value) < 0) {
        return DOEFF_RAISE;
    }
    return resolve_arguments(cx, (KleisliCall *)frame->a, frame->b, out);
}

static PyObject *
describe_arguments(const DoeffFrame *frame)
{
    KleisliCall *call = (KleisliCall *)frame->a;
    PyObject *name = PyObject_GetAttrString((PyObject *)call->kleisli, "__name__");
    if (name != NULL) {
        Py_SETREF(name, PyUnicode_FromFormat("argument %zd of %S", PyList_GET_SIZE(frame->b) + 1, name));
    }
    return name;
}

static const DoeffFrameKind arguments_frame = {
    .name = "ArgumentsFrame",
    .on_value = arguments_value,
    .describe = describe_arguments,
};

static DoeffStep
resolve_arguments(DoeffContext *cx, KleisliCall *call, PyObject *done /* borrowed */, PyObject **out)
{
    Py_ssize_t n = Py_SIZE(call);
    for (Py_ssize_t i = PyList_GET_SIZE(done); i < n; i++) {
        if (is_to_be_run(cx->st, call, i)) {
            if (context_push(cx, &arguments_frame, Py_NewRef((PyObject *)call), Py_NewRef(done)) < 0) {
                return DOEFF_RAISE;
            }
            *out = Py_NewRef(call->args[i]);
            return DOEFF_PROGRAM;
        }
        if (PyList_Append(done, call->args[i]) < 0) {
            return DOEFF_RAISE;
        }
    }
    /* The list is ours alone by now, but the function may run anything: give it a tuple. */
    PyObject *values = PyList_AsTuple(done);
    if (values == NULL) {
        return DOEFF_RAISE;
    }
    Py_ssize_t positionals = n - (call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames));
    DoeffStep step = call_function(cx, call->kleisli, &PyTuple_GET_ITEM(values, 0), (size_t)positionals,
                                   call->kwnames, out);
    Py_DECREF(values);
    return step;
}

/* Some argument is a program: is one of them to be run? */
static DoeffStep
start_with_programs(DoeffContext *cx, KleisliCall *call, PyObject **out)
{
    if (call->kleisli->plan == NULL && make_plan(cx->st, call->kleisli) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *done = PyList_New(0);
    if (done == NULL) {
        return DOEFF_RAISE;
    }
    DoeffStep step = resolve_arguments(cx, call, done, out);
    Py_DECREF(done);
    return step;
}

static inline void
call_release_arguments(KleisliCall *call)
{
    PyObject **end = call->args + Py_SIZE(call);
    for (PyObject **arg = call->args; arg < end; arg++) {
        Py_DECREF(*arg);
    }
    if (DOEFF_UNLIKELY(call->kwnames != NULL)) {
        Py_DECREF(call->kwnames);
    }
    if (DOEFF_UNLIKELY(call->created_at != NULL)) {
        Py_DECREF(call->created_at);
    }
}

/* The loop's reference goes, unless the loop needs the call for the trace of an error. */
static DoeffStep
call_done(KleisliCall *call, DoeffStep step)
{
    if (step != DOEFF_RAISE) {
        Py_DECREF(call);
    }
    return step;
}

/* Gives up a call that has been performed. The frame that was pushed for it has taken its reference
 * to the function: if nobody else holds the call, both go without a detour. */
static inline void
call_spent(DoeffContext *cx, KleisliCall *call)
{
#ifndef Py_REF_DEBUG
    if (DOEFF_LIKELY(call->pooled && Py_REFCNT(call) == 1)) {
        Py_SET_REFCNT(call, 0); /* dead from here on, also for kleisli_show_calls */
        call_release_arguments(call);
        pool_push(&cx->st->calls[Py_SIZE(call)], call);
        return;
    }
#endif
    Py_INCREF(call->kleisli);
    Py_DECREF(call);
}

DOEFF_INLINE int
has_programs(EngineState *st, KleisliCall *call)
{
    if (DOEFF_UNLIKELY(call->suspect)) {
        for (Py_ssize_t i = call->bound; i < Py_SIZE(call); i++) {
            if (program_check(st, call->args[i])) {
                return 1;
            }
        }
    }
    return 0;
}

DOEFF_ALWAYS_INLINED DoeffStep
kleisli_call_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    KleisliCall *call = (KleisliCall *)program;
    Kleisli *kleisli = call->kleisli;
    if (DOEFF_UNLIKELY(has_programs(cx->st, call))) {
        return call_done(call, start_with_programs(cx, call, out));
    }
    PyObject *result = function_call(kleisli->func, call->args, positionals_of(call), call->kwnames);
    if (DOEFF_LIKELY(result != NULL && PyGen_CheckExact(result))) {
        DoeffFiber *fiber = MACHINE_OF(cx)->fiber;
        if (DOEFF_UNLIKELY(fiber->len == fiber->cap) && fiber_grow(fiber) < 0) {
            Py_DECREF(result);
            return DOEFF_RAISE;
        }
        fiber->frames[fiber->len++] = (DoeffFrame){&return_frame, result, (PyObject *)kleisli};
        *out = result;
        call_spent(cx, call);
        return DOEFF_PASS;
    }
    return call_done(call, function_outcome(cx, kleisli, result, out));
}

/* ---- handlers ---- */

DoeffStep
kleisli_call_handler(DoeffContext *cx, PyObject *handler, PyObject *effect, PyObject *ctx, PyObject **out)
{
    EngineState *st = cx->st;
    PyObject *args[4] = {NULL, NULL, effect, ctx};
    while (Py_IS_TYPE(handler, st->KleisliComposed_Type)) { /* h >> f: h's arguments are a handler's, too */
        KleisliDerived *composed = (KleisliDerived *)handler;
        if (combinator_push(cx, composed->bind, composed->f) < 0) {
            return DOEFF_RAISE;
        }
        handler = composed->target;
    }
    if (DOEFF_LIKELY(Py_IS_TYPE(handler, st->Kleisli_Type))) {
        Kleisli *kleisli = (Kleisli *)handler;
        PyObject *result = function_call(kleisli->func, args + 2, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (DOEFF_UNLIKELY(result == NULL || !PyGen_CheckExact(result))) {
            return function_outcome(cx, kleisli, result, out);
        }
        DoeffFiber *fiber = MACHINE_OF(cx)->fiber;
        if (DOEFF_UNLIKELY(fiber->len == fiber->cap) && fiber_grow(fiber) < 0) {
            Py_DECREF(result);
            return DOEFF_RAISE;
        }
        fiber->frames[fiber->len++] = (DoeffFrame){&return_frame, result, Py_NewRef(handler)};
        *out = result;
        return STEP_BODY;
    }
    if (Py_IS_TYPE(handler, st->KleisliBound_Type)) {
        args[1] = ((KleisliBound *)handler)->self;
        return call_function(cx, (Kleisli *)((KleisliBound *)handler)->kleisli, args + 1,
                             3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL, out);
    }
    PyObject *result = PyObject_Vectorcall(handler, args + 2, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    if (result == NULL) {
        program_wrap_stop_iteration();
        return DOEFF_RAISE;
    }
    if (PyGen_CheckExact(result)) {
        return program_drive(cx, result, NULL, out);
    }
    if (Py_IS_TYPE(result, st->KleisliCall_Type)) {
        /* A @do function behind a plain one: its arguments are the handler's, never evaluated. */
        KleisliCall *call = (KleisliCall *)result;
        size_t positionals =
            (size_t)(Py_SIZE(call) - (call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames)));
        DoeffStep step = call_function(cx, call->kleisli, call->args, positionals, call->kwnames, out);
        Py_DECREF(result);
        return step;
    }
    if (program_check(st, result)) {
        *out = result;
        return DOEFF_PROGRAM;
    }
    PyTypeObject *type = Py_TYPE(result);
    if (type == st->rec.CESKState->type || type == st->rec.ResumeK->type
        || type == st->rec.DirectState->type) {
        *out = result;
        return DOEFF_VALUE;
    }
    PyErr_Format(PyExc_TypeError,
                 "handler %R is a plain function and returned %s; it must return a program, a generator, a "
                 "CESKState or a ResumeK. Decorate it with @do to answer with a plain value, and forward what "
                 "it does not know with `return (yield effect)`",
                 handler, type->tp_name);
    if (PyCoro_CheckExact(result)) { /* it will never run: do not let it complain */
        PyObject *error = PyErr_GetRaisedException();
        Py_XDECREF(PyObject_CallMethodNoArgs(result, st->str_close));
        PyErr_Clear();
        PyErr_SetRaisedException(error);
    }
    Py_DECREF(result);
    return DOEFF_RAISE;
}

/* ---- KleisliCall ---- */

#define CALLS_UNSHOWN 32 /* that many calls later one that is still alive is shown */

void
kleisli_show_calls(EngineState *st, PyObject *except)
{
    st->calls_left = st->record_origins ? 0 : CALLS_UNSHOWN;
    for (int n = 0; n < CALL_POOLS; n++) {
        CallPool *pool = &st->calls[n];
        Py_ssize_t kept = 0;
        for (Py_ssize_t i = 0; i < pool->count; i++) {
            KleisliCall *call = (KleisliCall *)pool->members[i];
            if (Py_REFCNT(call) == 0 || (PyObject *)call == except) {
                pool->members[kept++] = (PyObject *)call;
            }
            else {
                call->pooled = 0;
                if (!call->unseen) {
                    PyObject_GC_Track(call);
                }
            }
        }
        pool->count = kept;
    }
}

void
kleisli_drain_calls(EngineState *st)
{
    kleisli_show_calls(st, NULL);
    for (int n = 0; n < CALL_POOLS; n++) {
        DoeffFreeList dead = {st->calls[n].free, 0};
        st->calls[n].free = NULL;
        st->calls[n].count = 0;
        freelist_drain(&dead);
    }
}

/* Takes a call that the collector does not know, alive or about to be freed; 1 if there was room. */
static inline int
pool_add(EngineState *st, KleisliCall *call)
{
    CallPool *pool = Py_SIZE(call) < CALL_POOLS ? &st->calls[Py_SIZE(call)] : NULL;
    if (!DOEFF_FREE_LISTS || pool == NULL || pool->count == CALL_POOL_SIZE) {
        return 0;
    }
    pool->members[pool->count++] = (PyObject *)call;
    call->pooled = 1;
    return 1;
}

DOEFF_INLINE void
call_fill(KleisliCall *call, Kleisli *kleisli, PyObject *self /* borrowed or NULL */, PyObject *const *args,
          Py_ssize_t n, PyObject *kwnames)
{
    Py_ssize_t bound = self != NULL;
    char suspect = 0;
    Py_SET_SIZE(call, n); /* the free list keeps its link there */
    call->kleisli = (Kleisli *)Py_NewRef(kleisli);
    call->kwnames = kwnames == NULL || PyTuple_GET_SIZE(kwnames) == 0 ? NULL : Py_NewRef(kwnames);
    call->created_at = NULL;
    call->bound = (int)bound;
    if (bound) {
        call->args[0] = Py_NewRef(self);
    }
    for (Py_ssize_t i = bound; i < n; i++) {
        PyObject *arg = Py_NewRef(args[i - bound]);
        call->args[i] = arg;
        suspect |= PyType_HasFeature(Py_TYPE(arg), Py_TPFLAGS_HEAPTYPE) != 0; /* static types are never ours */
    }
    call->suspect = suspect;
    call->unseen = 0;
}

void
kleisli_keep_unseen(EngineState *st, PyObject *program)
{
    if (Py_IS_TYPE(program, st->KleisliCall_Type) && Py_REFCNT(program) == 2) {
        ((KleisliCall *)program)->unseen = 1;
    }
}

int
kleisli_take_apart(EngineState *st, PyObject *program, int most, PyObject **kleisli, PyObject **args)
{
    KleisliCall *call = (KleisliCall *)program;
    if (!Py_IS_TYPE(program, st->KleisliCall_Type) || Py_REFCNT(program) != 2 || Py_SIZE(program) > most
        || call->kwnames != NULL || call->created_at != NULL || call->bound || has_programs(st, call)) {
        return -1;
    }
    *kleisli = Py_NewRef((PyObject *)call->kleisli);
    for (Py_ssize_t i = 0; i < Py_SIZE(program); i++) {
        args[i] = Py_NewRef(call->args[i]);
    }
    return (int)Py_SIZE(program);
}

/* The long way: no member of the pool is free, the time to show calls has come, or origins are recorded. */
static PyObject *
call_new_slowly(EngineState *st, Kleisli *kleisli, PyObject *self /* borrowed or NULL */, PyObject *const *args,
                Py_ssize_t n, PyObject *kwnames)
{
    CallPool *pool = n < CALL_POOLS ? &st->calls[n] : NULL;
    if (st->calls_left <= 0 || (pool != NULL && pool->count == CALL_POOL_SIZE)) {
        kleisli_show_calls(st, NULL);
    }
    KleisliCall *call;
    if (pool != NULL && pool->free != NULL) {
        call = (KleisliCall *)pool_pop(pool);
        call_fill(call, kleisli, self, args, n, kwnames);
    }
    else {
        call = PyObject_GC_NewVar(KleisliCall, st->KleisliCall_Type, n);
        if (call == NULL) {
            return NULL;
        }
        call_fill(call, kleisli, self, args, n, kwnames);
        if (!pool_add(st, call)) {
            call->pooled = 0;
            PyObject_GC_Track(call);
        }
    }
    if (DOEFF_UNLIKELY(st->record_origins)) {
        call->created_at = import_call("doeff._origin", "capture", "()");
        if (call->created_at == NULL) {
            Py_DECREF(call);
            return NULL;
        }
    }
    return (PyObject *)call;
}

DOEFF_INLINE PyObject *
call_new(EngineState *st, Kleisli *kleisli, PyObject *self /* borrowed or NULL */, PyObject *const *args,
         Py_ssize_t nargs, PyObject *kwnames)
{
    Py_ssize_t n = nargs + (self != NULL) + (kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames));
    if (DOEFF_LIKELY(n < CALL_POOLS && st->calls_left > 0 && st->calls[n].free != NULL)) {
        st->calls_left--;
        PyObject *op = pool_pop(&st->calls[n]);
        call_fill((KleisliCall *)op, kleisli, self, args, n, kwnames);
        return op;
    }
    return call_new_slowly(st, kleisli, self, args, n, kwnames);
}

PyObject *
kleisli_begin(PyObject *kleisli, PyObject *const *args, int n)
{
    PyObject *func = ((Kleisli *)kleisli)->func;
    if (!PyFunction_Check(func) || !(((PyCodeObject *)PyFunction_GET_CODE(func))->co_flags & CO_GENERATOR)) {
        return NULL; /* anything else may run code of the user's, once */
    }
    PyObject *result = function_call(func, args, (size_t)n, NULL);
    if (DOEFF_LIKELY(result != NULL && PyGen_CheckExact(result))) {
        return result;
    }
    PyErr_Clear(); /* wrong arguments: performing the call finds that again */
    Py_XDECREF(result);
    return NULL;
}

PyObject *
kleisli_put_together(EngineState *st, PyObject *kleisli, PyObject **args, int n)
{
    PyObject *call = call_new(st, (Kleisli *)kleisli, NULL, args, n, NULL);
    Py_DECREF(kleisli);
    for (int i = 0; i < n; i++) {
        Py_DECREF(args[i]);
    }
    return call;
}

static int
call_traverse(PyObject *op, visitproc visit, void *arg)
{
    KleisliCall *call = (KleisliCall *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(call->kleisli);
    Py_VISIT(call->kwnames);
    Py_VISIT(call->created_at);
    for (Py_ssize_t i = 0; i < Py_SIZE(op); i++) {
        Py_VISIT(call->args[i]);
    }
    return 0;
}

static int
call_release(PyObject *op)
{
    KleisliCall *call = (KleisliCall *)op;
    Kleisli *kleisli = call->kleisli;
    /* A type that the collector has cleared no longer leads to the state; a member of a pool does. */
    int alone = !call->pooled && ((PyHeapTypeObject *)Py_TYPE(op))->ht_module == NULL;
    EngineState *st = alone ? NULL : kleisli->st;
    call_release_arguments(call);
    int kept = st != NULL && (call->pooled || pool_add(st, call));
    if (kept) {
        pool_push(&st->calls[Py_SIZE(op)], call);
    }
    else {
        Py_TYPE(op)->tp_free(op);
    }
    Py_DECREF(kleisli);
    return kept;
}

static void
call_dealloc(PyObject *op)
{
    if (DOEFF_LIKELY(((KleisliCall *)op)->pooled)) {
        (void)call_release(op); /* the pools are small, so few of these are nested */
        return;
    }
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, call_dealloc, call_release);
}

static PyObject *
call_positionals(PyObject *op, void *Py_UNUSED(closure))
{
    KleisliCall *call = (KleisliCall *)op;
    Py_ssize_t n = Py_SIZE(op) - (call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames));
    PyObject *args = PyTuple_New(n);
    for (Py_ssize_t i = 0; args != NULL && i < n; i++) {
        PyTuple_SET_ITEM(args, i, Py_NewRef(call->args[i]));
    }
    return args;
}

static PyObject *
call_keywords(PyObject *op, void *Py_UNUSED(closure))
{
    KleisliCall *call = (KleisliCall *)op;
    PyObject *kwargs = PyDict_New();
    Py_ssize_t nkw = call->kwnames == NULL ? 0 : PyTuple_GET_SIZE(call->kwnames);
    for (Py_ssize_t i = 0; kwargs != NULL && i < nkw; i++) {
        if (PyDict_SetItem(kwargs, PyTuple_GET_ITEM(call->kwnames, i), call->args[Py_SIZE(op) - nkw + i]) < 0) {
            Py_CLEAR(kwargs);
        }
    }
    return kwargs;
}

static PyObject *
call_name(PyObject *op, void *Py_UNUSED(closure))
{
    return PyObject_GetAttrString((PyObject *)((KleisliCall *)op)->kleisli, "__name__");
}

static PyObject *
call_repr(PyObject *op)
{
    PyObject *text = import_call("doeff._repr", "call", "(O)", op);
    return text;
}

static int
call_setattro(PyObject *op, PyObject *name, PyObject *Py_UNUSED(value))
{
    PyErr_Format(PyExc_AttributeError, "a %s is immutable: cannot set %R", "KleisliProgramCall", name);
    (void)op;
    return -1;
}

static PyObject *
call_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *parts = import_call("doeff._kleisli", "reduce_call", "(O)", op);
    return parts;
}

static PyMethodDef call_methods[] = {
    {"__reduce__", call_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyMemberDef call_members[] = {
    {"_bound", T_INT, offsetof(KleisliCall, bound), READONLY, NULL},
    {"kleisli_source", T_OBJECT_EX, offsetof(KleisliCall, kleisli), READONLY, NULL},
    {"created_at", T_OBJECT, offsetof(KleisliCall, created_at), READONLY, NULL},
    {NULL},
};

static PyGetSetDef call_getset[] = {
    {"args", call_positionals, NULL, NULL, NULL},
    {"kwargs", call_keywords, NULL, NULL, NULL},
    {"function_name", call_name, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot call_slots[] = {
    {Py_tp_dealloc, call_dealloc},
    {Py_tp_traverse, call_traverse},
    {Py_tp_repr, call_repr},
    {Py_tp_setattro, call_setattro},
    {Py_tp_methods, call_methods},
    {Py_tp_members, call_members},
    {Py_tp_getset, call_getset},
    {Py_tp_doc, (void *)PyDoc_STR("A call of a @do function: a program that has not been run.")},
    {0, NULL},
};

static PyType_Spec call_spec = {
    .name = "doeff.program.KleisliProgramCall",
    .basicsize = offsetof(KleisliCall, args),
    .itemsize = sizeof(PyObject *),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = call_slots,
};

/* ---- KleisliProgram ---- */

static PyObject *
kleisli_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    return call_new(((Kleisli *)self)->st, (Kleisli *)self, NULL, args, PyVectorcall_NARGS(nargsf),
                    kwnames);
}

static PyObject *
bound_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    KleisliBound *bound = (KleisliBound *)self;
    return call_new(((Kleisli *)bound->kleisli)->st, (Kleisli *)bound->kleisli, bound->self, args,
                    PyVectorcall_NARGS(nargsf), kwnames);
}

/* The names that annotations written as strings use and the frame applying @do can see: None or a
 * dict (strong). They are looked up now, so that no frame has to be kept. */
static PyObject *
visible_names(EngineState *st, PyObject *func)
{
    int annotated = has_annotations(func, st);
    if (annotated <= 0) {
        return annotated < 0 ? NULL : Py_NewRef(Py_None);
    }
    PyObject *names = import_call("doeff._annotations", "visible_names", "(O)", func);
    return names;
}

static PyObject *
kleisli_new(EngineState *st, PyObject *func /* borrowed */, int runs_result)
{
    PyObject *dict = import_call("doeff._kleisli", "metadata", "(O)", func);
    PyObject *names = dict == NULL ? NULL : visible_names(st, func);
    if (names == NULL) {
        Py_XDECREF(dict);
        return NULL;
    }
    Kleisli *kleisli = PyObject_GC_New(Kleisli, st->Kleisli_Type);
    if (kleisli == NULL) {
        Py_DECREF(names);
        Py_DECREF(dict);
        return NULL;
    }
    kleisli->vectorcall = kleisli_vectorcall;
    kleisli->st = st;
    kleisli->func = Py_NewRef(func);
    kleisli->plan = NULL;
    kleisli->names = names;
    kleisli->dict = dict;
    kleisli->weakrefs = NULL;
    kleisli->runs_result = runs_result;
    PyObject_GC_Track(kleisli);
    return (PyObject *)kleisli;
}

static PyObject *
kleisli_tp_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"func", NULL};
    PyObject *func;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O:KleisliProgram", keywords, &func)) {
        return NULL;
    }
    if (!PyCallable_Check(func)) {
        PyErr_Format(PyExc_TypeError, "func must be callable, got %s", Py_TYPE(func)->tp_name);
        return NULL;
    }
    return kleisli_new(engine_state_of(type), func, 1);
}

/* do(f) */
static PyObject *
do_function(PyObject *module, PyObject *func)
{
    EngineState *st = PyModule_GetState(module);
    if (PyObject_TypeCheck(func, st->Kleisli_Type) || Py_IS_TYPE(func, st->KleisliBound_Type)) {
        return Py_NewRef(func);
    }
    int of_class = PyObject_TypeCheck(func, &PyClassMethod_Type);
    if (of_class || PyObject_TypeCheck(func, &PyStaticMethod_Type)) {
        PyObject *inner = PyObject_GetAttrString(func, "__func__");
        PyObject *wrapped = inner == NULL ? NULL : do_function(module, inner);
        Py_XDECREF(inner);
        PyObject *descriptor = of_class ? NULL : Py_NewRef((PyObject *)Py_TYPE(func));
        if (wrapped != NULL && of_class) {
            descriptor = import_attr("doeff._kleisli", "KleisliClassMethod");
        }
        if (wrapped != NULL) {
            Py_SETREF(wrapped, descriptor == NULL ? NULL : PyObject_CallOneArg(descriptor, wrapped));
        }
        Py_XDECREF(descriptor);
        return wrapped;
    }
    if (!PyCallable_Check(func)) {
        PyErr_Format(PyExc_TypeError, "@do needs a function, got %s", Py_TYPE(func)->tp_name);
        return NULL;
    }
    return kleisli_new(st, func, 0);
}

static int
kleisli_traverse(PyObject *op, visitproc visit, void *arg)
{
    Kleisli *kleisli = (Kleisli *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(kleisli->func);
    Py_VISIT(kleisli->plan);
    Py_VISIT(kleisli->names);
    Py_VISIT(kleisli->dict);
    return 0;
}

static int
kleisli_clear(PyObject *op)
{
    Kleisli *kleisli = (Kleisli *)op;
    Py_CLEAR(kleisli->func);
    Py_CLEAR(kleisli->plan);
    Py_CLEAR(kleisli->names);
    Py_CLEAR(kleisli->dict);
    return 0;
}

static int
kleisli_release(PyObject *op)
{
    (void)kleisli_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
kleisli_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    if (((Kleisli *)op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, kleisli_dealloc, kleisli_release);
}

static PyObject *
kleisli_get(PyObject *self, PyObject *obj, PyObject *Py_UNUSED(owner))
{
    if (obj == NULL || obj == Py_None) {
        return Py_NewRef(self);
    }
    EngineState *st = engine_state_of(Py_TYPE(self));
    KleisliBound *bound = PyObject_GC_New(KleisliBound, st->KleisliBound_Type);
    if (bound != NULL) {
        bound->vectorcall = bound_vectorcall;
        bound->kleisli = Py_NewRef(self);
        bound->self = Py_NewRef(obj);
        PyObject_GC_Track(bound);
    }
    return (PyObject *)bound;
}

static void derived_dealloc(PyObject *op);
static void bound_dealloc(PyObject *op);
static PyObject *derived_partial(PyObject *target, PyObject *args, PyObject *kwargs);
static PyObject *derived_compose(BindKind bind, PyObject *target, PyObject *f);

static PyObject *
method_and_then_k(PyObject *self, PyObject *binder)
{
    return derived_compose(BIND_FLAT_MAP, self, binder);
}

static PyObject *
method_fmap(PyObject *self, PyObject *f)
{
    return derived_compose(BIND_MAP, self, f);
}

/* Operations that are not on any hot path live in doeff._kleisli. */
static PyObject *
python_operation(const char *name, PyObject *self)
{
    PyObject *result = import_call("doeff._kleisli", name, "(O)", self);
    return result;
}

static PyObject *
method_reduce(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    return python_operation("reduce", self);
}

/* Whatever this room makes of functions, for operands of which nothing is known: a foreign type has
 * no module of ours to ask, and each of our types has its own dealloc or a base's. */
static int
is_kleisli(PyObject *op)
{
    destructor dealloc = Py_TYPE(op)->tp_dealloc;
    return dealloc == kleisli_dealloc || dealloc == derived_dealloc || dealloc == bound_dealloc;
}

static PyObject *
compose_operands(BindKind bind, PyObject *left, PyObject *right)
{
    if (is_kleisli(left)) {
        return derived_compose(bind, left, right);
    }
    /* From 3.13 on, classmethod binds by a plain method object. */
    if (PyMethod_Check(left) && is_kleisli(PyMethod_GET_FUNCTION(left))) {
        PyObject *function = PyMethod_GET_FUNCTION(left);
        PyObject *bound = Py_TYPE(function)->tp_descr_get == NULL
                              ? Py_NewRef(left)
                              : Py_TYPE(function)->tp_descr_get(function, PyMethod_GET_SELF(left), NULL);
        PyObject *composed = bound == NULL ? NULL : derived_compose(bind, bound, right);
        Py_XDECREF(bound);
        return composed;
    }
    Py_RETURN_NOTIMPLEMENTED;
}

static PyObject *
kleisli_rshift(PyObject *left, PyObject *right)
{
    return compose_operands(BIND_FLAT_MAP, left, right);
}

static PyObject *
kleisli_lshift(PyObject *left, PyObject *right)
{
    return compose_operands(BIND_MAP, left, right);
}

/* What is worked out when somebody asks. */
static PyObject *
kleisli_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError) || !PyUnicode_Check(name)) {
        return value;
    }
    if (PyUnicode_CompareWithASCIIString(name, "__signature__") == 0) {
        PyErr_Clear();
        return python_operation("signature", self);
    }
    if (PyUnicode_CompareWithASCIIString(name, "__annotations__") == 0) {
        PyErr_Clear();
        return PyObject_GetAttr(((Kleisli *)self)->func, name);
    }
    return NULL;
}

static PyObject *
kleisli_repr(PyObject *self)
{
    PyObject *name = PyObject_GetAttrString(self, "__qualname__");
    if (name == NULL) {
        return NULL;
    }
    PyObject *text = PyUnicode_FromFormat("<%s %S>", strrchr(Py_TYPE(self)->tp_name, '.') + 1, name);
    Py_DECREF(name);
    return text;
}

static PyObject *
class_getitem(PyObject *cls, PyObject *item)
{
    return Py_GenericAlias(cls, item);
}

static PyMethodDef kleisli_methods[] = {
    {"partial", (PyCFunction)(void (*)(void))derived_partial, METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR("partial(*args, **kwargs)\n--\n\nThe same function with these arguments bound in front; keywords given at the call win.")},
    {"and_then_k", method_and_then_k, METH_O,
     PyDoc_STR("and_then_k(binder)\n--\n\nx -> self(x).flat_map(binder); also written self >> binder.")},
    {"fmap", method_fmap, METH_O,
     PyDoc_STR("fmap(f)\n--\n\nx -> self(x).map(f); also written self << f.")},
    {"__reduce__", method_reduce, METH_NOARGS, NULL},
    {"__class_getitem__", class_getitem, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyMemberDef kleisli_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Kleisli, vectorcall), READONLY, NULL},
    {"__dictoffset__", T_PYSSIZET, offsetof(Kleisli, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(Kleisli, weakrefs), READONLY, NULL},
    {"func", T_OBJECT_EX, offsetof(Kleisli, func), READONLY, NULL},
    {"_names", T_OBJECT, offsetof(Kleisli, names), READONLY, NULL},
    {NULL},
};

static PyGetSetDef kleisli_getset[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL},
};

static PyType_Slot kleisli_slots[] = {
    {Py_tp_new, kleisli_tp_new},
    {Py_tp_dealloc, kleisli_dealloc},
    {Py_tp_traverse, kleisli_traverse},
    {Py_tp_clear, kleisli_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, kleisli_get},
    {Py_tp_getattro, kleisli_getattro},
    {Py_tp_repr, kleisli_repr},
    {Py_tp_methods, kleisli_methods},
    {Py_tp_members, kleisli_members},
    {Py_tp_getset, kleisli_getset},
    {Py_nb_rshift, kleisli_rshift},
    {Py_nb_lshift, kleisli_lshift},
    {Py_tp_doc, (void *)PyDoc_STR("What @do makes of a function: calling it gives a program.")},
    {0, NULL},
};

static PyType_Spec kleisli_spec = {
    .name = "doeff.kleisli.KleisliProgram",
    .basicsize = sizeof(Kleisli),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = kleisli_slots,
};

/* ---- bound methods ---- */

static int
bound_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((KleisliBound *)op)->kleisli);
    Py_VISIT(((KleisliBound *)op)->self);
    return 0;
}

static int
bound_clear(PyObject *op)
{
    Py_CLEAR(((KleisliBound *)op)->kleisli);
    Py_CLEAR(((KleisliBound *)op)->self);
    return 0;
}

static int
bound_release(PyObject *op)
{
    (void)bound_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
bound_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, bound_dealloc, bound_release);
}

static PyObject *
bound_getattro(PyObject *op, PyObject *name)
{
    PyObject *kleisli = ((KleisliBound *)op)->kleisli;
    if (PyUnicode_Check(name)
        && (PyUnicode_CompareWithASCIIString(name, "__doc__") == 0
            || PyUnicode_CompareWithASCIIString(name, "__module__") == 0)) {
        return PyObject_GetAttr(kleisli, name); /* not those of our type */
    }
    PyObject *value = PyObject_GenericGetAttr(op, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    PyErr_Clear();
    if (PyUnicode_Check(name) && PyUnicode_CompareWithASCIIString(name, "__signature__") == 0) {
        return python_operation("signature", op);
    }
    return PyObject_GetAttr(kleisli, name);
}

static PyObject *
bound_repr(PyObject *op)
{
    PyObject *name = PyObject_GetAttrString(((KleisliBound *)op)->kleisli, "__qualname__");
    PyObject *text = name == NULL ? NULL
                                  : PyUnicode_FromFormat("<bound KleisliProgram %S of %s object at %p>", name,
                                                         Py_TYPE(((KleisliBound *)op)->self)->tp_name,
                                                         (void *)((KleisliBound *)op)->self);
    Py_XDECREF(name);
    return text;
}

static PyObject *
bound_richcompare(PyObject *a, PyObject *b, int op)
{
    if ((op != Py_EQ && op != Py_NE) || Py_TYPE(a) != Py_TYPE(b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    int same = ((KleisliBound *)a)->kleisli == ((KleisliBound *)b)->kleisli
               && ((KleisliBound *)a)->self == ((KleisliBound *)b)->self;
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
bound_hash(PyObject *op)
{
    size_t bits = ((size_t)((KleisliBound *)op)->kleisli >> 4) ^ ((size_t)((KleisliBound *)op)->self >> 3);
    return (Py_hash_t)bits == -1 ? -2 : (Py_hash_t)bits;
}

static PyMemberDef bound_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(KleisliBound, vectorcall), READONLY, NULL},
    {"__func__", T_OBJECT_EX, offsetof(KleisliBound, kleisli), READONLY, NULL},
    {"__self__", T_OBJECT_EX, offsetof(KleisliBound, self), READONLY, NULL},
    {NULL},
};

static PyMethodDef bound_methods[] = {
    {"partial", (PyCFunction)(void (*)(void))derived_partial, METH_VARARGS | METH_KEYWORDS, NULL},
    {"and_then_k", method_and_then_k, METH_O, NULL},
    {"fmap", method_fmap, METH_O, NULL},
    {"__reduce__", method_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot bound_slots[] = {
    {Py_tp_dealloc, bound_dealloc},
    {Py_tp_traverse, bound_traverse},
    {Py_tp_clear, bound_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, bound_getattro},
    {Py_tp_repr, bound_repr},
    {Py_tp_richcompare, bound_richcompare},
    {Py_tp_hash, bound_hash},
    {Py_tp_members, bound_members},
    {Py_tp_methods, bound_methods},
    {Py_nb_rshift, kleisli_rshift},
    {Py_nb_lshift, kleisli_lshift},
    {0, NULL},
};

static PyType_Spec bound_spec = {
    .name = "doeff.kleisli.BoundKleisliProgram",
    .basicsize = sizeof(KleisliBound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = bound_slots,
};

/* ---- partial application and composition ---- */

static int
derived_traverse(PyObject *op, visitproc visit, void *arg)
{
    KleisliDerived *self = (KleisliDerived *)op;
    Py_VISIT(self->target);
    Py_VISIT(self->args);
    Py_VISIT(self->kwargs);
    Py_VISIT(self->f);
    return kleisli_traverse(op, visit, arg);
}

static int
derived_clear(PyObject *op)
{
    KleisliDerived *self = (KleisliDerived *)op;
    Py_CLEAR(self->target);
    Py_CLEAR(self->args);
    Py_CLEAR(self->kwargs);
    Py_CLEAR(self->f);
    return kleisli_clear(op);
}

static int
derived_release(PyObject *op)
{
    (void)derived_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
derived_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    if (((Kleisli *)op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, derived_dealloc, derived_release);
}

static KleisliDerived *
derived_new(PyTypeObject *type, PyObject *target /* borrowed */, vectorcallfunc vectorcall)
{
    PyObject *kleisli =
        Py_TYPE(target)->tp_dealloc == bound_dealloc ? ((KleisliBound *)target)->kleisli : target;
    PyObject *dict = PyDict_Copy(((Kleisli *)kleisli)->dict);
    if (dict == NULL) {
        return NULL;
    }
    KleisliDerived *self = PyObject_GC_New(KleisliDerived, type);
    if (self == NULL) {
        Py_DECREF(dict);
        return NULL;
    }
    self->base.vectorcall = vectorcall;
    self->base.func = Py_NewRef(((Kleisli *)kleisli)->func);
    self->base.plan = NULL;
    self->base.names = NULL;
    self->base.st = ((Kleisli *)kleisli)->st;
    self->base.dict = dict;
    self->base.weakrefs = NULL;
    self->base.runs_result = 0;
    self->target = Py_NewRef(target);
    self->args = self->kwargs = self->f = NULL;
    self->bind = BIND_MAP;
    return self;
}

static PyObject *
partial_vectorcall(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    KleisliDerived *self = (KleisliDerived *)op;
    Py_ssize_t given = PyVectorcall_NARGS(nargsf);
    Py_ssize_t nkw = kwnames == NULL ? 0 : PyTuple_GET_SIZE(kwnames);
    Py_ssize_t bound = PyTuple_GET_SIZE(self->args);
    PyObject *small[8];
    PyObject **all = bound + given + nkw <= 8 ? small : PyMem_New(PyObject *, (size_t)(bound + given + nkw));
    if (all == NULL) {
        return PyErr_NoMemory();
    }
    for (Py_ssize_t i = 0; i < bound; i++) {
        all[i] = PyTuple_GET_ITEM(self->args, i);
    }
    for (Py_ssize_t i = 0; i < given + nkw; i++) {
        all[bound + i] = args[i];
    }
    PyObject *call = NULL;
    if (Py_EnterRecursiveCall(" in a partially applied program") < 0) {
        goto done;
    }
    if (PyDict_GET_SIZE(self->kwargs) == 0) {
        call = PyObject_Vectorcall(self->target, all, (size_t)(bound + given), kwnames);
    }
    else {
        PyObject *kwargs = PyDict_Copy(self->kwargs);
        int failed = kwargs == NULL;
        for (Py_ssize_t i = 0; !failed && i < nkw; i++) { /* those of the call win */
            failed = PyDict_SetItem(kwargs, PyTuple_GET_ITEM(kwnames, i), args[given + i]) < 0;
        }
        if (!failed) {
            call = PyObject_VectorcallDict(self->target, all, (size_t)(bound + given), kwargs);
        }
        Py_XDECREF(kwargs);
    }
    Py_LeaveRecursiveCall();
done:
    if (all != small) {
        PyMem_Free(all);
    }
    return call;
}

static PyObject *
derived_partial(PyObject *target, PyObject *args, PyObject *kwargs)
{
    EngineState *st = engine_state_of(Py_TYPE(target));
    PyObject *bound = NULL;
    PyObject *keywords = NULL;
    if (Py_IS_TYPE(target, st->KleisliPartial_Type)) { /* one level is enough */
        KleisliDerived *inner = (KleisliDerived *)target;
        bound = PySequence_Concat(inner->args, args);
        keywords = PyDict_Copy(inner->kwargs);
        target = inner->target;
    }
    else {
        bound = Py_NewRef(args);
        keywords = PyDict_New();
    }
    KleisliDerived *self = NULL;
    if (bound != NULL && keywords != NULL && (kwargs == NULL || PyDict_Update(keywords, kwargs) == 0)) {
        self = derived_new(st->KleisliPartial_Type, target, partial_vectorcall);
    }
    if (self == NULL) {
        Py_XDECREF(bound);
        Py_XDECREF(keywords);
        return NULL;
    }
    self->args = bound;
    self->kwargs = keywords;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

/* The functions of a long k >> f >> g ... are applied in a loop, innermost first. */
static PyObject *
composed_vectorcall(PyObject *op, PyObject *const *args, size_t nargsf, PyObject *kwnames)
{
    PyTypeObject *type = Py_TYPE(op);
    EngineState *st = engine_state_of(type);
    Py_ssize_t n = 0;
    PyObject *root = op;
    for (; Py_IS_TYPE(root, type); root = ((KleisliDerived *)root)->target) {
        n++;
    }
    KleisliDerived *one;
    KleisliDerived **links = n == 1 ? &one : PyMem_New(KleisliDerived *, (size_t)n);
    if (links == NULL) {
        return PyErr_NoMemory();
    }
    root = op;
    for (Py_ssize_t i = n - 1; i >= 0; i--) {
        links[i] = (KleisliDerived *)root;
        root = links[i]->target;
    }
    PyObject *program = PyObject_Vectorcall(root, args, nargsf, kwnames);
    for (Py_ssize_t i = 0; program != NULL && i < n; i++) {
        Py_SETREF(program, combinator_bind(st, links[i]->bind, program, links[i]->f));
    }
    if (links != &one) {
        PyMem_Free(links);
    }
    return program;
}

static PyObject *
derived_compose(BindKind bind, PyObject *target, PyObject *f)
{
    if (!PyCallable_Check(f)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable, got %s", bind == BIND_MAP ? "mapper" : "binder",
                     Py_TYPE(f)->tp_name);
        return NULL;
    }
    EngineState *st = engine_state_of(Py_TYPE(target));
    KleisliDerived *self = derived_new(st->KleisliComposed_Type, target, composed_vectorcall);
    if (self != NULL) {
        self->f = Py_NewRef(f);
        self->bind = bind;
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

/* As functools.partial: an attribute of a class that is partially applied does not bind. */
static PyObject *
partial_get(PyObject *self, PyObject *Py_UNUSED(obj), PyObject *Py_UNUSED(owner))
{
    return Py_NewRef(self);
}

static PyObject *
composed_get(PyObject *op, PyObject *obj, PyObject *owner)
{
    KleisliDerived *self = (KleisliDerived *)op;
    descrgetfunc get = Py_TYPE(self->target)->tp_descr_get;
    if (obj == NULL || obj == Py_None || get == NULL) {
        return Py_NewRef(op);
    }
    if (Py_EnterRecursiveCall(" in a composed program") < 0) {
        return NULL;
    }
    PyObject *target = get(self->target, obj, owner);
    Py_LeaveRecursiveCall();
    PyObject *bound = target == NULL ? NULL : derived_compose(self->bind, target, self->f);
    Py_XDECREF(target);
    return bound;
}

static PyObject *
derived_keywords(PyObject *op, void *Py_UNUSED(closure))
{
    return PyDict_Copy(((KleisliDerived *)op)->kwargs);
}

static PyObject *
composed_method(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(((KleisliDerived *)op)->bind == BIND_MAP ? "fmap" : "and_then_k");
}

static PyMemberDef partial_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Kleisli, vectorcall), READONLY, NULL},
    {"target", T_OBJECT_EX, offsetof(KleisliDerived, target), READONLY, NULL},
    {"args", T_OBJECT_EX, offsetof(KleisliDerived, args), READONLY, NULL},
    {NULL},
};

static PyGetSetDef partial_getset[] = {
    {"keywords", derived_keywords, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot partial_slots[] = {
    {Py_tp_dealloc, derived_dealloc},
    {Py_tp_traverse, derived_traverse},
    {Py_tp_clear, derived_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, partial_get},
    {Py_tp_members, partial_members},
    {Py_tp_getset, partial_getset},
    {Py_tp_doc, (void *)PyDoc_STR("A @do function with some of its arguments given: what k.partial(...) makes.")},
    {0, NULL},
};

static PyType_Spec partial_spec = {
    .name = "doeff.kleisli.PartiallyAppliedKleisliProgram",
    .basicsize = sizeof(KleisliDerived),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = partial_slots,
};

static PyMemberDef composed_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(Kleisli, vectorcall), READONLY, NULL},
    {"target", T_OBJECT_EX, offsetof(KleisliDerived, target), READONLY, NULL},
    {"f", T_OBJECT_EX, offsetof(KleisliDerived, f), READONLY, NULL},
    {NULL},
};

static PyGetSetDef composed_getset[] = {
    {"method", composed_method, NULL, NULL, NULL},
    {NULL},
};

static PyType_Slot composed_slots[] = {
    {Py_tp_dealloc, derived_dealloc},
    {Py_tp_traverse, derived_traverse},
    {Py_tp_clear, derived_clear},
    {Py_tp_call, PyVectorcall_Call},
    {Py_tp_descr_get, composed_get},
    {Py_tp_members, composed_members},
    {Py_tp_getset, composed_getset},
    {Py_tp_doc, (void *)PyDoc_STR("A @do function followed by another function: what k >> f and k << f make.")},
    {0, NULL},
};

static PyType_Spec composed_spec = {
    .name = "doeff.kleisli.ComposedKleisliProgram",
    .basicsize = sizeof(KleisliDerived),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_HAVE_VECTORCALL
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = composed_slots,
};

static PyMethodDef module_functions[] = {
    {"do", do_function, METH_O,
     PyDoc_STR("do(function)\n--\n\nMake a function whose calls are programs.\n\n"
               "function: a generator function that yields effects and programs, or an ordinary or async\n"
               "function. Returns a KleisliProgram. Raises TypeError for what cannot be called.\n\n"
               ">>> @do\n... def double(key):\n...     n = yield Ask(key)\n...     return 2 * n\n\n"
               "Contract: programs, part 2.3.")},
    {NULL},
};

int
kleisli_room_init(PyObject *module, EngineState *st)
{
    st->KleisliCall_Type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &call_spec, (PyObject *)st->Program_Type);
    st->Kleisli_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &kleisli_spec, NULL);
    st->KleisliBound_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &bound_spec, NULL);
    if (st->KleisliCall_Type == NULL || st->Kleisli_Type == NULL || st->KleisliBound_Type == NULL) {
        return -1;
    }
    PyObject *base = (PyObject *)st->Kleisli_Type;
    st->KleisliPartial_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &partial_spec, base);
    st->KleisliComposed_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &composed_spec, base);
    st->Kleisli_Type->tp_flags &= ~Py_TPFLAGS_BASETYPE; /* these two only: our functions ask the type for its module */
    if (st->KleisliPartial_Type == NULL || st->KleisliComposed_Type == NULL
        || PyModule_AddType(module, st->KleisliPartial_Type) < 0
        || PyModule_AddType(module, st->KleisliComposed_Type) < 0) {
        return -1;
    }
    if (PyModule_AddType(module, st->KleisliCall_Type) < 0 || PyModule_AddType(module, st->Kleisli_Type) < 0
        || PyModule_AddType(module, st->KleisliBound_Type) < 0) {
        return -1;
    }
    return PyModule_AddFunctions(module, module_functions);
}
