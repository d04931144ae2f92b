#include "combinators.h"

#include "../support/imports.h"
#include "kleisli.h"

typedef struct Combinator Combinator;

typedef struct CombinatorKind {
    const char *name; /* as the repr shows it */
    DoeffStep (*start)(DoeffContext *cx, Combinator *self, PyObject **out);
    PyObject *(*finish)(Combinator *self, PyObject *values); /* builders: what a list of values becomes (strong) */
    int of_call; /* still shows the call that it was made from */
} CombinatorKind;

struct Combinator {
    PyObject_HEAD
    const CombinatorKind *kind;
    PyObject *source; /* program that runs first; strong or NULL */
    PyObject *f;      /* function, second program, name, key, names: by kind; strong or NULL */
    PyObject *items;  /* tuple: what builders evaluate, arguments of a projected call; strong or NULL */
};

/* A combinator; references to the parts are taken. */
static PyObject *
combinator_new(EngineState *st, const CombinatorKind *kind, PyObject *source /* borrowed or NULL */,
               PyObject *f /* borrowed or NULL */, PyObject *items /* borrowed or NULL */)
{
    Combinator *self = PyObject_GC_New(Combinator, st->Combinator_Type);
    if (self == NULL) {
        return NULL;
    }
    self->kind = kind;
    self->source = Py_XNewRef(source);
    self->f = Py_XNewRef(f);
    self->items = Py_XNewRef(items);
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

DoeffStep
combinator_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    Combinator *self = (Combinator *)program;
    return self->kind->start(cx, self, out);
}

static PyObject *
describe_function(const DoeffFrame *frame)
{
    PyObject *name = PyObject_GetAttrString(frame->a, "__name__");
    if (name == NULL || !PyUnicode_Check(name)) {
        PyErr_Clear();
        Py_XSETREF(name, PyType_GetName(Py_TYPE(frame->a)));
    }
    return name;
}

/* ---- map, flat_map, then ---- */

/* a: the function. */
static DoeffStep
map_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    (void)cx;
    *out = PyObject_CallOneArg(frame->a, value);
    if (DOEFF_UNLIKELY(*out == NULL)) {
        program_wrap_stop_iteration();
        return DOEFF_RAISE;
    }
    return DOEFF_VALUE;
}

static const DoeffFrameKind map_frame = {
    .name = "MapFrame",
    .on_value = map_value,
    .describe = describe_function,
};

/* Calls f(value) for a program: a strong reference, or NULL with an error set. */
static PyObject *
call_binder(EngineState *st, PyObject *f, PyObject *value)
{
    PyObject *program = PyObject_CallOneArg(f, value);
    if (DOEFF_UNLIKELY(program == NULL)) {
        program_wrap_stop_iteration();
        return NULL;
    }
    if (DOEFF_UNLIKELY(!program_check(st, program))) {
        PyErr_Format(PyExc_TypeError, "binder must return a Program; got %s", Py_TYPE(program)->tp_name);
        Py_CLEAR(program);
    }
    return program;
}

static DoeffStep
flat_map_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    *out = call_binder(cx->st, frame->a, value);
    return *out == NULL ? DOEFF_RAISE : DOEFF_PROGRAM;
}

static const DoeffFrameKind flat_map_frame = {
    .name = "FlatMapFrame",
    .on_value = flat_map_value,
    .describe = describe_function,
};

/* a: the program that is next. */
static DoeffStep
then_value(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **out)
{
    (void)cx;
    *out = Py_NewRef(frame->a);
    return DOEFF_PROGRAM;
}

static const DoeffFrameKind then_frame = {
    .name = "ThenFrame",
    .on_value = then_value,
};

static DoeffStep
start_source(DoeffContext *cx, const DoeffFrameKind *frame, Combinator *self, PyObject **out)
{
    if (DOEFF_UNLIKELY(context_push(cx, frame, Py_NewRef(self->f), NULL) < 0)) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(self->source);
    return DOEFF_PROGRAM;
}

static DoeffStep
map_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    return start_source(cx, &map_frame, self, out);
}

static DoeffStep
flat_map_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    return start_source(cx, &flat_map_frame, self, out);
}

static DoeffStep
then_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    return start_source(cx, &then_frame, self, out);
}

static const CombinatorKind map_kind = {.name = "map", .start = map_start, .of_call = 1};
static const CombinatorKind flat_map_kind = {.name = "flat_map", .start = flat_map_start, .of_call = 1};
static const CombinatorKind then_kind = {.name = "then", .start = then_start, .of_call = 1};

PyObject *
combinator_bind(EngineState *st, BindKind kind, PyObject *source, PyObject *f)
{
    return combinator_new(st, kind == BIND_MAP ? &map_kind : &flat_map_kind, source, f, NULL);
}

int
combinator_push(DoeffContext *cx, BindKind kind, PyObject *f)
{
    return context_push(cx, kind == BIND_MAP ? &map_frame : &flat_map_frame, Py_NewRef(f), NULL);
}

static PyObject *
bind(BindKind kind, PyObject *self, PyObject *f, const char *role)
{
    if (!PyCallable_Check(f)) {
        PyErr_Format(PyExc_TypeError, "%s must be callable, got %s", role, Py_TYPE(f)->tp_name);
        return NULL;
    }
    EngineState *st = engine_state_by_def(self);
    return st == NULL ? NULL : combinator_bind(st, kind, self, f);
}

static PyObject *
program_map(PyObject *self, PyObject *f)
{
    return bind(BIND_MAP, self, f, "mapper");
}

static PyObject *
program_flat_map(PyObject *self, PyObject *f)
{
    return bind(BIND_FLAT_MAP, self, f, "binder");
}

static PyObject *
program_then(PyObject *self, PyObject *next)
{
    EngineState *st = engine_state_by_def(self);
    if (st == NULL) {
        return NULL;
    }
    if (!program_check(st, next)) {
        PyErr_Format(PyExc_TypeError, "next must be Program, got %s", Py_TYPE(next)->tp_name);
        return NULL;
    }
    return combinator_new(st, &then_kind, self, next, NULL);
}

static PyObject *
program_intercept(PyObject *self, PyObject *transforms)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &doeff_engine_module);
    PyObject *constructor = module == NULL ? NULL : PyObject_GetAttrString(module, "Intercept");
    if (constructor == NULL) {
        return NULL;
    }
    PyObject *head = PyTuple_Pack(1, self);
    PyObject *args = head == NULL ? NULL : PySequence_Concat(head, transforms);
    PyObject *effect = args == NULL ? NULL : PyObject_CallObject(constructor, args);
    Py_XDECREF(args);
    Py_XDECREF(head);
    Py_DECREF(constructor);
    return effect;
}

/* ---- builders: values from left to right into a list ---- */

static DoeffStep collect(DoeffContext *cx, Combinator *self, PyObject *values, PyObject **out);

/* a: the combinator, b: list of the values so far. */
static DoeffStep
collect_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    if (PyList_Append(frame->b, value) < 0) {
        return DOEFF_RAISE;
    }
    return collect(cx, (Combinator *)frame->a, frame->b, out);
}

static PyObject *
describe_progress(const DoeffFrame *frame)
{
    Combinator *self = (Combinator *)frame->a;
    return PyUnicode_FromFormat("%s: %zd of %zd done", self->kind->name, PyList_GET_SIZE(frame->b),
                                PyTuple_GET_SIZE(self->items));
}

static const DoeffFrameKind collect_frame = {
    .name = "CollectFrame",
    .on_value = collect_value,
    .describe = describe_progress,
};

static const CombinatorKind traverse_kind;

static DoeffStep
collect(DoeffContext *cx, Combinator *self, PyObject *values /* borrowed */, PyObject **out)
{
    Py_ssize_t n = PyTuple_GET_SIZE(self->items);
    for (Py_ssize_t i = PyList_GET_SIZE(values); i < n; i++) {
        PyObject *item = Py_NewRef(PyTuple_GET_ITEM(self->items, i));
        if (self->kind == &traverse_kind) {
            Py_SETREF(item, call_binder(cx->st, self->f, item));
            if (item == NULL) {
                return DOEFF_RAISE;
            }
        }
        if (program_check(cx->st, item)) {
            if (context_push(cx, &collect_frame, Py_NewRef((PyObject *)self), Py_NewRef(values)) < 0) {
                Py_DECREF(item);
                return DOEFF_RAISE;
            }
            *out = item;
            return DOEFF_PROGRAM;
        }
        int failed = PyList_Append(values, item);
        Py_DECREF(item);
        if (failed < 0) {
            return DOEFF_RAISE;
        }
    }
    *out = self->kind->finish(self, values);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
collect_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    PyObject *values = PyList_New(0);
    if (values == NULL) {
        return DOEFF_RAISE;
    }
    DoeffStep step = collect(cx, self, values, out);
    Py_DECREF(values);
    return step;
}

static PyObject *
finish_list(Combinator *Py_UNUSED(self), PyObject *values)
{
    return Py_NewRef(values);
}

static PyObject *
finish_tuple(Combinator *Py_UNUSED(self), PyObject *values)
{
    return PyList_AsTuple(values);
}

static PyObject *
finish_set(Combinator *Py_UNUSED(self), PyObject *values)
{
    return PySet_New(values);
}

/* f: tuple of the keys. */
static PyObject *
finish_dict(Combinator *self, PyObject *values)
{
    PyObject *dict = PyDict_New();
    for (Py_ssize_t i = 0; dict != NULL && i < PyTuple_GET_SIZE(self->f); i++) {
        if (PyDict_SetItem(dict, PyTuple_GET_ITEM(self->f, i), PyList_GET_ITEM(values, i)) < 0) {
            Py_CLEAR(dict);
        }
    }
    return dict;
}

static const CombinatorKind sequence_kind = {.name = "sequence", .start = collect_start, .finish = finish_list};
static const CombinatorKind traverse_kind = {.name = "traverse", .start = collect_start, .finish = finish_list};
static const CombinatorKind list_kind = {.name = "list", .start = collect_start, .finish = finish_list};
static const CombinatorKind tuple_kind = {.name = "tuple", .start = collect_start, .finish = finish_tuple};
static const CombinatorKind set_kind = {.name = "set", .start = collect_start, .finish = finish_set};
static const CombinatorKind dict_kind = {.name = "dict", .start = collect_start, .finish = finish_dict};

static EngineState *
state_of_class(PyObject *cls)
{
    PyObject *module = PyType_GetModuleByDef((PyTypeObject *)cls, &doeff_engine_module);
    return module == NULL ? NULL : (EngineState *)PyModule_GetState(module);
}

static PyObject *
program_pure(PyObject *cls, PyObject *value)
{
    EngineState *st = state_of_class(cls);
    return st == NULL ? NULL : record_new1(st->rec.Pure, Py_NewRef(value));
}

static PyObject *
program_lift(PyObject *cls, PyObject *value)
{
    EngineState *st = state_of_class(cls);
    if (st == NULL) {
        return NULL;
    }
    return program_check(st, value) ? Py_NewRef(value) : record_new1(st->rec.Pure, Py_NewRef(value));
}

static int
check_all_programs(EngineState *st, PyObject *items, const char *what)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        if (!program_check(st, item)) {
            PyErr_Format(PyExc_TypeError, "%s[%zd] must be Program, got %s", what, i, Py_TYPE(item)->tp_name);
            return -1;
        }
    }
    return 0;
}

static PyObject *
program_sequence(PyObject *cls, PyObject *programs)
{
    EngineState *st = state_of_class(cls);
    PyObject *items = st == NULL ? NULL : PySequence_Tuple(programs);
    if (items == NULL) {
        return NULL;
    }
    PyObject *program = NULL;
    if (check_all_programs(st, items, "programs") == 0) {
        program = combinator_new(st, &sequence_kind, NULL, NULL, items);
    }
    Py_DECREF(items);
    return program;
}

static PyObject *
program_traverse(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"items", "f", NULL};
    PyObject *iterable, *f;
    EngineState *st = state_of_class(cls);
    if (st == NULL || !PyArg_ParseTupleAndKeywords(args, kwargs, "OO:traverse", keywords, &iterable, &f)) {
        return NULL;
    }
    if (!PyCallable_Check(f)) {
        PyErr_Format(PyExc_TypeError, "f must be callable, got %s", Py_TYPE(f)->tp_name);
        return NULL;
    }
    PyObject *items = PySequence_Tuple(iterable);
    PyObject *program = items == NULL ? NULL : combinator_new(st, &traverse_kind, NULL, f, items);
    Py_XDECREF(items);
    return program;
}

static PyObject *
build(PyObject *cls, const CombinatorKind *kind, PyObject *values)
{
    EngineState *st = state_of_class(cls);
    return st == NULL ? NULL : combinator_new(st, kind, NULL, NULL, values);
}

static PyObject *
program_list(PyObject *cls, PyObject *values)
{
    return build(cls, &list_kind, values);
}

static PyObject *
program_tuple(PyObject *cls, PyObject *values)
{
    return build(cls, &tuple_kind, values);
}

static PyObject *
program_set(PyObject *cls, PyObject *values)
{
    return build(cls, &set_kind, values);
}

static PyObject *
program_dict(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    EngineState *st = state_of_class(cls);
    PyObject *dict = st == NULL ? NULL : PyObject_Call((PyObject *)&PyDict_Type, args, kwargs);
    if (dict == NULL) {
        return NULL;
    }
    PyObject *program = NULL;
    PyObject *keys = PySequence_Tuple(dict);
    PyObject *list = keys == NULL ? NULL : PyDict_Values(dict);
    PyObject *values = list == NULL ? NULL : PyList_AsTuple(list);
    if (values != NULL) {
        program = combinator_new(st, &dict_kind, NULL, keys, values);
    }
    Py_XDECREF(values);
    Py_XDECREF(list);
    Py_XDECREF(keys);
    Py_DECREF(dict);
    return program;
}

/* ---- first_some, first_success: candidates until one will do ---- */

static const DoeffFrameKind first_some_frame;
static const DoeffFrameKind first_success_frame;

/* Starts the next candidate under a frame with the iterator and b: 1, 0 if there is none, -1. */
static int
next_candidate(DoeffContext *cx, const DoeffFrameKind *kind, PyObject *candidates, PyObject *b, PyObject **out)
{
    PyObject *program = PyIter_Next(candidates);
    if (program == NULL) {
        return PyErr_Occurred() ? -1 : 0;
    }
    if (context_push(cx, kind, Py_NewRef(candidates), Py_XNewRef(b)) < 0) {
        Py_DECREF(program);
        return -1;
    }
    *out = program;
    return 1;
}

/* a: iterator over the candidates that are left. */
static DoeffStep
first_some_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    EngineState *st = cx->st;
    if (RECORD_IS(value, st->rec.Some)) {
        *out = Py_NewRef(value);
        return DOEFF_VALUE;
    }
    if (value != Py_None && value != st->nothing) {
        *out = record_new1(st->rec.Some, Py_NewRef(value));
        return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
    }
    int next = next_candidate(cx, &first_some_frame, frame->a, NULL, out);
    if (next == 0) {
        *out = Py_NewRef(st->nothing);
        return DOEFF_VALUE;
    }
    return next < 0 ? DOEFF_RAISE : DOEFF_PROGRAM;
}

static const DoeffFrameKind first_some_frame = {
    .name = "FirstSomeFrame",
    .on_value = first_some_value,
};

/* a: iterator over the candidates that are left, b: list of the errors so far. */
static DoeffStep
first_success_error(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out)
{
    if (!PyErr_GivenExceptionMatches(error, PyExc_Exception)) {
        return DOEFF_PASS;
    }
    int next = next_candidate(cx, &first_success_frame, frame->a, frame->b, out);
    if (next > 0) {
        if (PyList_Append(frame->b, error) < 0) {
            Py_CLEAR(*out);
            return DOEFF_RAISE;
        }
        return DOEFF_PROGRAM;
    }
    if (next < 0) {
        return DOEFF_RAISE;
    }
    PyObject *done = import_call("doeff._repr", "note_failures", "(OO)", error, frame->b);
    if (done == NULL) {
        return DOEFF_RAISE;
    }
    Py_DECREF(done);
    return DOEFF_PASS; /* the last error goes on, with its own trace */
}

static const DoeffFrameKind first_success_frame = {
    .name = "FirstSuccessFrame",
    .on_error = first_success_error,
};

static DoeffStep
first_start(DoeffContext *cx, Combinator *self, const DoeffFrameKind *kind, PyObject *b, PyObject **out)
{
    PyObject *candidates = PyObject_GetIter(self->items);
    if (candidates == NULL) {
        return DOEFF_RAISE;
    }
    int next = next_candidate(cx, kind, candidates, b, out);
    Py_DECREF(candidates);
    return next < 0 ? DOEFF_RAISE : DOEFF_PROGRAM; /* never empty: the constructor looked */
}

static DoeffStep
first_some_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    return first_start(cx, self, &first_some_frame, NULL, out);
}

static DoeffStep
first_success_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    PyObject *errors = PyList_New(0);
    if (errors == NULL) {
        return DOEFF_RAISE;
    }
    DoeffStep step = first_start(cx, self, &first_success_frame, errors, out);
    Py_DECREF(errors);
    return step;
}

static const CombinatorKind first_some_kind = {.name = "first_some", .start = first_some_start};
static const CombinatorKind first_success_kind = {.name = "first_success", .start = first_success_start};

static PyObject *
first(PyObject *cls, const CombinatorKind *kind, PyObject *candidates)
{
    EngineState *st = state_of_class(cls);
    if (st == NULL) {
        return NULL;
    }
    if (PyTuple_GET_SIZE(candidates) == 0) {
        PyErr_Format(PyExc_ValueError, "Program.%s() needs at least one program", kind->name);
        return NULL;
    }
    if (check_all_programs(st, candidates, "programs") < 0) {
        return NULL;
    }
    return combinator_new(st, kind, NULL, NULL, candidates);
}

static PyObject *
program_first_some(PyObject *cls, PyObject *candidates)
{
    return first(cls, &first_some_kind, candidates);
}

static PyObject *
program_first_success(PyObject *cls, PyObject *candidates)
{
    return first(cls, &first_success_kind, candidates);
}

/* ---- projections ---- */

/* Words an AttributeError as the contract does, if it is the plain one of object. */
static void
restate_missing_attribute(PyObject *value, PyObject *name)
{
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return;
    }
    PyObject *error = PyErr_GetRaisedException();
    const char *type = Py_TYPE(value)->tp_name;
    PyObject *plain = PyUnicode_FromFormat("'%.100s' object has no attribute '%U'", type, name);
    PyObject *text = plain == NULL ? NULL : PyObject_Str(error);
    if (text != NULL && PyUnicode_Compare(text, plain) == 0) {
        PyErr_Format(PyExc_AttributeError, "%.100s object has no attribute '%U'", type, name);
        Py_DECREF(error);
    }
    else {
        PyErr_Clear();
        PyErr_SetRaisedException(error);
    }
    Py_XDECREF(text);
    Py_XDECREF(plain);
}

/* a: the name. */
static DoeffStep
attribute_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    (void)cx;
    *out = PyObject_GetAttr(value, frame->a);
    if (*out == NULL) {
        restate_missing_attribute(value, frame->a);
        program_wrap_stop_iteration();
        return DOEFF_RAISE;
    }
    return DOEFF_VALUE;
}

static PyObject *
describe_attribute(const DoeffFrame *frame)
{
    return Py_NewRef(frame->a);
}

static const DoeffFrameKind attribute_frame = {
    .name = "AttributeFrame",
    .on_value = attribute_value,
    .describe = describe_attribute,
};

/* a: the key. */
static DoeffStep
item_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    (void)cx;
    *out = PyObject_GetItem(value, frame->a);
    if (*out == NULL) {
        program_wrap_stop_iteration();
        return DOEFF_RAISE;
    }
    return DOEFF_VALUE;
}

static const DoeffFrameKind item_frame = {
    .name = "ItemFrame",
    .on_value = item_value,
};

static DoeffStep
attribute_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    return start_source(cx, &attribute_frame, self, out);
}

static DoeffStep
item_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    return start_source(cx, &item_frame, self, out);
}

/* A projected call: the callee is evaluated, then its arguments, then it is called. */
static DoeffStep evaluate_call(DoeffContext *cx, Combinator *self, PyObject *values, PyObject **out);

/* a: the combinator, b: list of the callee and the arguments so far. */
static DoeffStep
call_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out)
{
    if (PyList_GET_SIZE(frame->b) == 0 && !PyCallable_Check(value)) {
        PyErr_Format(PyExc_TypeError, "Program result %s is not callable", Py_TYPE(value)->tp_name);
        return DOEFF_RAISE;
    }
    if (PyList_Append(frame->b, value) < 0) {
        return DOEFF_RAISE;
    }
    return evaluate_call(cx, (Combinator *)frame->a, frame->b, out);
}

static const DoeffFrameKind call_frame = {
    .name = "ProjectedCallFrame",
    .on_value = call_value,
};

static DoeffStep
evaluate_call(DoeffContext *cx, Combinator *self, PyObject *values /* borrowed */, PyObject **out)
{
    Py_ssize_t n = PyTuple_GET_SIZE(self->items);
    for (Py_ssize_t i = PyList_GET_SIZE(values) - 1; i < n; i++) {
        PyObject *item = i < 0 ? self->source : PyTuple_GET_ITEM(self->items, i);
        if (program_check(cx->st, item)) {
            if (context_push(cx, &call_frame, Py_NewRef((PyObject *)self), Py_NewRef(values)) < 0) {
                return DOEFF_RAISE;
            }
            *out = Py_NewRef(item);
            return DOEFF_PROGRAM;
        }
        if (PyList_Append(values, item) < 0) {
            return DOEFF_RAISE;
        }
    }
    PyObject *all = PyList_AsTuple(values); /* what is called may run anything: not from the list */
    if (all == NULL) {
        return DOEFF_RAISE;
    }
    size_t positionals = (size_t)(n - (self->f == NULL ? 0 : PyTuple_GET_SIZE(self->f)));
    *out = PyObject_Vectorcall(PyTuple_GET_ITEM(all, 0), &PyTuple_GET_ITEM(all, 0) + 1, positionals, self->f);
    Py_DECREF(all);
    if (*out == NULL) {
        program_wrap_stop_iteration();
        return DOEFF_RAISE;
    }
    return program_check(cx->st, *out) ? DOEFF_PROGRAM : DOEFF_VALUE;
}

static DoeffStep
call_start(DoeffContext *cx, Combinator *self, PyObject **out)
{
    PyObject *values = PyList_New(0);
    if (values == NULL) {
        return DOEFF_RAISE;
    }
    DoeffStep step = evaluate_call(cx, self, values, out);
    Py_DECREF(values);
    return step;
}

static const CombinatorKind attribute_kind = {.name = "attribute", .start = attribute_start};
static const CombinatorKind item_kind = {.name = "item", .start = item_start};
static const CombinatorKind call_kind = {.name = "call", .start = call_start};

PyObject *
program_project_attr(EngineState *st, PyObject *program, PyObject *name)
{
    return combinator_new(st, &attribute_kind, program, name, NULL);
}

PyObject *
program_project_item(PyObject *program, PyObject *key)
{
    EngineState *st = engine_state_by_def(program);
    return st == NULL ? NULL : combinator_new(st, &item_kind, program, key, NULL);
}

PyObject *
program_project_call(PyObject *program, PyObject *args, PyObject *kwargs)
{
    EngineState *st = engine_state_by_def(program);
    if (st == NULL) {
        return NULL;
    }
    PyObject *names = NULL;
    PyObject *items = Py_NewRef(args);
    if (kwargs != NULL && PyDict_GET_SIZE(kwargs) > 0) {
        PyObject *list = PyDict_Values(kwargs);
        PyObject *values = list == NULL ? NULL : PyList_AsTuple(list);
        Py_XDECREF(list);
        names = values == NULL ? NULL : PySequence_Tuple(kwargs);
        Py_SETREF(items, names == NULL ? NULL : PySequence_Concat(args, values));
        Py_XDECREF(values);
    }
    PyObject *made = items == NULL ? NULL : combinator_new(st, &call_kind, program, names, items);
    Py_XDECREF(items);
    Py_XDECREF(names);
    return made;
}

/* ---- the type ---- */

static int
combinator_traverse(PyObject *op, visitproc visit, void *arg)
{
    Combinator *self = (Combinator *)op;
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->source);
    Py_VISIT(self->f);
    Py_VISIT(self->items);
    return 0;
}

static int
combinator_clear(PyObject *op)
{
    Combinator *self = (Combinator *)op;
    Py_CLEAR(self->source);
    Py_CLEAR(self->f);
    Py_CLEAR(self->items);
    return 0;
}

static int
combinator_release(PyObject *op)
{
    (void)combinator_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
combinator_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, combinator_dealloc, combinator_release);
}

/* module.function(kind, source, f, items), absent parts as None. */
static PyObject *
with_parts(PyObject *op, const char *module_name, const char *function)
{
    Combinator *self = (Combinator *)op;
    return import_call(module_name, function, "(sOOO)", self->kind->name, self->source == NULL ? Py_None : self->source,
                       self->f == NULL ? Py_None : self->f, self->items == NULL ? Py_None : self->items);
}

static PyObject *
combinator_repr(PyObject *op)
{
    return with_parts(op, "doeff._repr", "combinator");
}

static PyObject *
combinator_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return with_parts(op, "doeff._kleisli", "reduce_combinator");
}

static PyMethodDef combinator_methods[] = {
    {"__reduce__", combinator_reduce, METH_NOARGS, NULL},
    {NULL},
};

/* What a call that has been mapped or bound still shows of itself. NULL with AttributeError, of
 * which ProgramBase makes a projection, if there is no call at the root. */
static PyObject *
attribute_of_call(PyObject *op, void *name)
{
    EngineState *st = engine_state_of(Py_TYPE(op));
    PyObject *root = op;
    while (Py_IS_TYPE(root, st->Combinator_Type) && ((Combinator *)root)->kind->of_call) {
        root = ((Combinator *)root)->source;
        if (root == NULL) { /* the collector has been here */
            break;
        }
    }
    if (root == NULL || !Py_IS_TYPE(root, st->KleisliCall_Type)) {
        PyErr_SetString(PyExc_AttributeError, name);
        return NULL;
    }
    return PyObject_GetAttrString(root, name);
}

static PyObject *
combinator_created_at(PyObject *op, void *name)
{
    PyObject *origin = attribute_of_call(op, name);
    if (origin == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return origin;
}

static PyGetSetDef combinator_getset[] = {
    {"function_name", attribute_of_call, NULL, NULL, "function_name"},
    {"args", attribute_of_call, NULL, NULL, "args"},
    {"kwargs", attribute_of_call, NULL, NULL, "kwargs"},
    {"kleisli_source", attribute_of_call, NULL, NULL, "kleisli_source"},
    {"created_at", combinator_created_at, NULL, NULL, "created_at"},
    {NULL},
};

static PyType_Slot combinator_slots[] = {
    {Py_tp_dealloc, combinator_dealloc},
    {Py_tp_traverse, combinator_traverse},
    {Py_tp_clear, combinator_clear},
    {Py_tp_repr, combinator_repr},
    {Py_tp_methods, combinator_methods},
    {Py_tp_getset, combinator_getset},
    {Py_tp_doc, (void *)PyDoc_STR("A program made of programs: map, flat_map, the builders, projections.")},
    {0, NULL},
};

static PyType_Spec combinator_spec = {
    .name = "doeff.program.CombinedProgram",
    .basicsize = sizeof(Combinator),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE
             | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = combinator_slots,
};

#define KEYWORDS(function) ((PyCFunction)(void (*)(void))(function))

PyMethodDef program_methods[] = {
    {"map", program_map, METH_O,
     PyDoc_STR("map(f)\n--\n\nA program whose value is f(value). A program that f returns is not run.")},
    {"flat_map", program_flat_map, METH_O,
     PyDoc_STR("flat_map(f)\n--\n\nRuns this program, then the program f(value), as a tail call.")},
    {"and_then_k", program_flat_map, METH_O, PyDoc_STR("and_then_k(f)\n--\n\nThe same as flat_map.")},
    {"then", program_then, METH_O,
     PyDoc_STR("then(next)\n--\n\nRuns this program, then the program next, whose value it gives.")},
    {"intercept", program_intercept, METH_VARARGS,
     PyDoc_STR("intercept(*transforms)\n--\n\nThe same as Intercept(self, *transforms).")},
    {"pure", program_pure, METH_O | METH_CLASS, PyDoc_STR("pure(value)\n--\n\nA program that gives value.")},
    {"of", program_pure, METH_O | METH_CLASS, PyDoc_STR("of(value)\n--\n\nThe same as pure.")},
    {"lift", program_lift, METH_O | METH_CLASS,
     PyDoc_STR("lift(value)\n--\n\nvalue itself if it is a program, else pure(value).")},
    {"sequence", program_sequence, METH_O | METH_CLASS,
     PyDoc_STR("sequence(programs)\n--\n\nRuns the programs from left to right and gives the list of their values.")},
    {"traverse", KEYWORDS(program_traverse), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("traverse(items, f)\n--\n\nRuns the program f(item) for each item in turn and gives the list of values.")},
    {"list", program_list, METH_VARARGS | METH_CLASS,
     PyDoc_STR("list(*values)\n--\n\nThe list of the values; those that are programs are run.")},
    {"tuple", program_tuple, METH_VARARGS | METH_CLASS,
     PyDoc_STR("tuple(*values)\n--\n\nThe tuple of the values; those that are programs are run.")},
    {"set", program_set, METH_VARARGS | METH_CLASS,
     PyDoc_STR("set(*values)\n--\n\nThe set of the values; those that are programs are run.")},
    {"dict", KEYWORDS(program_dict), METH_VARARGS | METH_KEYWORDS | METH_CLASS,
     PyDoc_STR("dict(mapping_or_pairs=(), /, **values)\n--\n\nA dict of the values; those that are programs are run.")},
    {"first_some", program_first_some, METH_VARARGS | METH_CLASS,
     PyDoc_STR("first_some(*programs)\n--\n\nThe first value that is a Some or neither None nor Nothing, as a Some;\n"
               "NOTHING if there is none. Programs behind it are not run.")},
    {"first_success", program_first_success, METH_VARARGS | METH_CLASS,
     PyDoc_STR("first_success(*programs)\n--\n\nThe value of the first program that raises no Exception; if all do,\n"
               "the last error, with a note for each of the others.")},
    {NULL},
};

int
combinators_room_init(PyObject *module, EngineState *st)
{
    st->Combinator_Type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &combinator_spec, (PyObject *)st->Program_Type);
    return st->Combinator_Type == NULL ? -1 : PyModule_AddType(module, st->Combinator_Type);
}
