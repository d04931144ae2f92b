#include "result.h"

#include "../support/imports.h"

/* ---- which of the two ---- */

typedef enum { SIDE_WRONG = -1, SIDE_BAD = 0, SIDE_GOOD = 1 } Side;

/* A class that mixes Result into something else inherits the methods but has no such fields. */
static Side
wrong_side(PyObject *self, const char *base)
{
    PyErr_Format(PyExc_TypeError, "%s is not a %s of doeff", Py_TYPE(self)->tp_name, base);
    return SIDE_WRONG;
}

static inline Side
result_side(PyObject *self, EngineState **st)
{
    *st = engine_state_by_def(self);
    if (*st == NULL) {
        return SIDE_WRONG;
    }
    return result_is_ok(*st, self) ? SIDE_GOOD : result_is_err(*st, self) ? SIDE_BAD : wrong_side(self, "Result");
}

static inline Side
maybe_side(PyObject *self, EngineState **st)
{
    *st = engine_state_by_def(self);
    if (*st == NULL) {
        return SIDE_WRONG;
    }
    return maybe_is_some(*st, self) ? SIDE_GOOD : self == (*st)->nothing ? SIDE_BAD : wrong_side(self, "Maybe");
}

static int
is_result(EngineState *st, PyObject *op)
{
    return result_is_ok(st, op) || result_is_err(st, op);
}

static int
is_maybe(EngineState *st, PyObject *op)
{
    return maybe_is_some(st, op) || op == st->nothing;
}

static PyObject *
field(PyObject *self)
{
    return Py_NewRef(RECORD_FIELD(self, 0));
}

/* Calls f with the first field, which stays alive although f may drop self. */
static PyObject *
call_with_field(PyObject *f, PyObject *self)
{
    PyObject *arg = field(self);
    PyObject *answer = PyObject_CallOneArg(f, arg);
    Py_DECREF(arg);
    return answer;
}

static PyObject *
wrap(RecordInfo *info, PyObject *value /* stolen or NULL */)
{
    return value == NULL ? NULL : record_new1(info, value);
}

static PyObject *
make_err(EngineState *st, PyObject *error /* stolen */, PyObject *captured_traceback /* borrowed */)
{
    return record_new2(st->rec.Err, error, Py_NewRef(captured_traceback));
}

/* Passes op (stolen or NULL) on if ok, else raises a TypeError that names its type. */
static PyObject *
insist(int ok, PyObject *op, const char *who, const char *kind)
{
    if (op != NULL && !ok) {
        PyErr_Format(PyExc_TypeError, "%s must give %s, got %s", who, kind, Py_TYPE(op)->tp_name);
        Py_CLEAR(op);
    }
    return op;
}

static PyObject *
raise_error(PyObject *error)
{
    if (PyExceptionInstance_Check(error)) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
    }
    else {
        PyErr_Format(PyExc_TypeError, "Err holds no exception but %s", Py_TYPE(error)->tp_name);
    }
    return NULL;
}

/* ---- Result ---- */

static PyObject *
result_is_ok_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : PyBool_FromLong(side);
}

static PyObject *
result_is_err_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : PyBool_FromLong(!side);
}

static PyObject *
result_ok(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : Py_NewRef(Py_None);
}

static PyObject *
result_err(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : side ? Py_NewRef(Py_None) : field(self);
}

static PyObject *
result_unwrap(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : raise_error(RECORD_FIELD(self, ERR_ERROR));
}

static PyObject *
result_unwrap_err(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = result_side(self, &st);
    if (side == SIDE_GOOD) {
        PyErr_SetString(PyExc_RuntimeError, "unwrap_err() on an Ok: there is no error");
    }
    return side == SIDE_BAD ? field(self) : NULL;
}

static PyObject *
result_expect(PyObject *self, PyObject *message)
{
    EngineState *st;
    Side side = result_side(self, &st);
    if (side != SIDE_BAD) {
        return side < 0 ? NULL : field(self);
    }
    PyObject *error = RECORD_FIELD(self, ERR_ERROR);
    int empty = PyObject_Not(message);
    if (empty != 0) {
        return empty < 0 ? NULL : raise_error(error);
    }
    PyObject *text = PyUnicode_FromFormat("%S: %S", message, error);
    PyObject *wrapped = text == NULL ? NULL : PyObject_CallOneArg(PyExc_RuntimeError, text);
    Py_XDECREF(text);
    if (wrapped == NULL) {
        return NULL;
    }
    if (PyExceptionInstance_Check(error)) {
        PyException_SetCause(wrapped, Py_NewRef(error));
    }
    PyErr_SetObject(PyExc_RuntimeError, wrapped);
    Py_DECREF(wrapped);
    return NULL;
}

static PyObject *
result_unwrap_or(PyObject *self, PyObject *fallback)
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : Py_NewRef(fallback);
}

static PyObject *
result_unwrap_or_else(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : call_with_field(f, self);
}

static PyObject *
result_map(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = result_side(self, &st);
    return side < 0 ? NULL : side ? wrap(st->rec.Ok, call_with_field(f, self)) : Py_NewRef(self);
}

static PyObject *
result_map_err(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = result_side(self, &st);
    if (side != SIDE_BAD) {
        return side < 0 ? NULL : Py_NewRef(self);
    }
    PyObject *error = call_with_field(f, self);
    error = insist(error != NULL && PyExceptionInstance_Check(error), error, "map_err()'s function", "an exception");
    /* Where it failed is still where it failed. */
    return error == NULL ? NULL : make_err(st, error, RECORD_FIELD(self, ERR_CAPTURED_TRACEBACK));
}

static PyObject *
result_and_then(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = result_side(self, &st);
    if (side != SIDE_GOOD) {
        return side < 0 ? NULL : Py_NewRef(self);
    }
    PyObject *next = call_with_field(f, self);
    return insist(next != NULL && is_result(st, next), next, "and_then()'s function", "Result");
}

static PyObject *
result_recover(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = result_side(self, &st);
    if (side != SIDE_BAD) {
        return side < 0 ? NULL : Py_NewRef(self);
    }
    PyObject *answer = call_with_field(f, self);
    return answer != NULL && is_result(st, answer) ? answer : wrap(st->rec.Ok, answer);
}

/* The methods that give programs are @do functions in Python. */
static PyObject *
program_method(PyObject *self, const char *name, PyObject *arg)
{
    return import_call("doeff._result_programs", name, "(OO)", self, arg);
}

static PyObject *
result_and_then_k(PyObject *self, PyObject *kleisli)
{
    return program_method(self, "and_then_k", kleisli);
}

static PyObject *
result_recover_k(PyObject *self, PyObject *kleisli)
{
    return program_method(self, "recover_k", kleisli);
}

static PyObject *
result_or_program(PyObject *self, PyObject *program)
{
    return program_method(self, "or_program", program);
}

static int
result_bool(PyObject *self)
{
    EngineState *st;
    return result_side(self, &st);
}

static PyObject *
result_or(PyObject *a, PyObject *b)
{
    EngineState *st = engine_state_by_def(a);
    if (st == NULL) { /* a is the foreign operand */
        PyErr_Clear();
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (!is_result(st, a) || !is_result(st, b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return Py_NewRef(result_is_ok(st, a) ? a : b);
}

static PyMethodDef result_methods[] = {
    {"is_ok", result_is_ok_method, METH_NOARGS, PyDoc_STR("is_ok($self, /)\n--\n\nWhether this is an Ok.")},
    {"is_err", result_is_err_method, METH_NOARGS, PyDoc_STR("is_err($self, /)\n--\n\nWhether this is an Err.")},
    {"ok", result_ok, METH_NOARGS, PyDoc_STR("ok($self, /)\n--\n\nThe value of an Ok, None for an Err.")},
    {"err", result_err, METH_NOARGS, PyDoc_STR("err($self, /)\n--\n\nThe error of an Err, None for an Ok.")},
    {"unwrap", result_unwrap, METH_NOARGS, PyDoc_STR("unwrap($self, /)\n--\n\nThe value; an Err raises its error.")},
    {"unwrap_err", result_unwrap_err, METH_NOARGS,
     PyDoc_STR("unwrap_err($self, /)\n--\n\nThe error; RuntimeError on an Ok.")},
    {"expect", result_expect, METH_O,
     PyDoc_STR("expect($self, message, /)\n--\n\nThe value; an Err raises RuntimeError(\"<message>: <error>\") from its error.")},
    {"unwrap_or", result_unwrap_or, METH_O, PyDoc_STR("unwrap_or($self, fallback, /)\n--\n\nThe value, or fallback for an Err.")},
    {"value_or", result_unwrap_or, METH_O, PyDoc_STR("value_or($self, fallback, /)\n--\n\nThe same as unwrap_or.")},
    {"unwrap_or_else", result_unwrap_or_else, METH_O,
     PyDoc_STR("unwrap_or_else($self, f, /)\n--\n\nThe value, or f(error) for an Err.")},
    {"map", result_map, METH_O, PyDoc_STR("map($self, f, /)\n--\n\nOk(f(value)); an Err stays as it is.")},
    {"map_err", result_map_err, METH_O,
     PyDoc_STR("map_err($self, f, /)\n--\n\nErr(f(error)); an Ok stays as it is. f must give an exception.")},
    {"and_then", result_and_then, METH_O,
     PyDoc_STR("and_then($self, f, /)\n--\n\nf(value), which must be a Result; an Err stays as it is.")},
    {"recover", result_recover, METH_O,
     PyDoc_STR("recover($self, f, /)\n--\n\nf(error) for an Err, wrapped in Ok unless it is a Result; an Ok stays as it is.")},
    {"and_then_k", result_and_then_k, METH_O,
     PyDoc_STR("and_then_k($self, kleisli, /)\n--\n\nA program: kleisli(value), wrapped in Ok unless it gives a Result; an Err "
               "stays as it is.")},
    {"recover_k", result_recover_k, METH_O,
     PyDoc_STR("recover_k($self, kleisli, /)\n--\n\nA program: kleisli(error) for an Err, wrapped in Ok unless it gives a "
               "Result; an Ok stays as it is.")},
    {"or_program", result_or_program, METH_O,
     PyDoc_STR("or_program($self, program, /)\n--\n\nA program: this Ok, or what program gives, wrapped in Ok unless it is a "
               "Result.")},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot result_slots[] = {
    {Py_tp_methods, result_methods},
    {Py_nb_bool, result_bool},
    {Py_nb_or, result_or},
    {Py_tp_doc, (void *)"Ok(value) or Err(error). Contract: programs, part 6.6."},
    {0, NULL},
};

#define BASE_FLAGS (Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION)

static PyType_Spec result_spec = {
    .name = "doeff._vendor.Result", .flags = BASE_FLAGS, .slots = result_slots,
};

static int
err_init(RecordInfo *info, PyObject **f)
{
    if (f[ERR_CAPTURED_TRACEBACK] == Py_None) {
        Py_SETREF(f[ERR_CAPTURED_TRACEBACK], Py_NewRef(info->st->nothing));
    }
    return 0;
}

static const RecordSpec ok_spec = {
    .name = "doeff._vendor.Ok",
    .doc = "Ok(value)\n--\n\nA Result that has a value.\n\n>>> Ok(2).map(str).unwrap()\n'2'",
    .fields = {"value"}, .required = 1,
};
static const RecordSpec err_spec = {
    .name = "doeff._vendor.Err",
    .doc = "Err(error, captured_traceback=NOTHING)\n--\n\nA Result that failed. captured_traceback is "
           "Some(CapturedTraceback) where one was recorded; ==, hash and repr look at error alone.\n\n"
           ">>> Err(ValueError('no')).unwrap_or(0)\n0",
    .fields = {"error", "captured_traceback"}, .required = 1, .compared = 1, .init = err_init,
};

/* ---- Maybe ---- */

static PyObject *
maybe_is_some_method(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    return side < 0 ? NULL : PyBool_FromLong(side);
}

static PyObject *
maybe_is_none(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    return side < 0 ? NULL : PyBool_FromLong(!side);
}

static PyObject *
maybe_unwrap(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    if (side == SIDE_BAD) {
        PyErr_SetString(PyExc_RuntimeError, "unwrap() on Nothing: there is no value");
    }
    return side == SIDE_GOOD ? field(self) : NULL;
}

static PyObject *
maybe_expect(PyObject *self, PyObject *message)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    if (side == SIDE_BAD) {
        PyErr_SetObject(PyExc_RuntimeError, message);
    }
    return side == SIDE_GOOD ? field(self) : NULL;
}

static PyObject *
maybe_unwrap_or(PyObject *self, PyObject *fallback)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : Py_NewRef(fallback);
}

static PyObject *
maybe_unwrap_or_else(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : PyObject_CallNoArgs(f);
}

static PyObject *
maybe_map(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    return side < 0 ? NULL : side ? wrap(st->rec.Some, call_with_field(f, self)) : Py_NewRef(self);
}

static PyObject *
maybe_flat_map(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    if (side != SIDE_GOOD) {
        return side < 0 ? NULL : Py_NewRef(self);
    }
    PyObject *next = call_with_field(f, self);
    return insist(next != NULL && is_maybe(st, next), next, "flat_map()'s function", "Maybe");
}

static PyObject *
maybe_filter(PyObject *self, PyObject *predicate)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    if (side != SIDE_GOOD) {
        return side < 0 ? NULL : Py_NewRef(self);
    }
    PyObject *verdict = call_with_field(predicate, self);
    int keep = verdict == NULL ? -1 : PyObject_IsTrue(verdict);
    Py_XDECREF(verdict);
    return keep < 0 ? NULL : Py_NewRef(keep ? self : st->nothing);
}

static PyObject *
maybe_ok_or(PyObject *self, PyObject *error)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    if (side < 0) {
        return NULL;
    }
    if (!PyExceptionInstance_Check(error)) {
        PyErr_Format(PyExc_TypeError, "error must be an exception, got %s", Py_TYPE(error)->tp_name);
        return NULL;
    }
    return side ? wrap(st->rec.Ok, field(self)) : make_err(st, Py_NewRef(error), st->nothing);
}

static PyObject *
maybe_ok_or_else(PyObject *self, PyObject *f)
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    if (side != SIDE_BAD) {
        return side < 0 ? NULL : wrap(st->rec.Ok, field(self));
    }
    PyObject *error = PyObject_CallNoArgs(f);
    error = insist(error != NULL && PyExceptionInstance_Check(error), error, "ok_or_else()'s function", "an exception");
    return error == NULL ? NULL : make_err(st, error, st->nothing);
}

static PyObject *
maybe_to_optional(PyObject *self, PyObject *Py_UNUSED(ignored))
{
    EngineState *st;
    Side side = maybe_side(self, &st);
    return side < 0 ? NULL : side ? field(self) : Py_NewRef(Py_None);
}

static PyObject *
maybe_from_optional(PyObject *cls, PyObject *value)
{
    PyObject *module = PyType_GetModuleByDef((PyTypeObject *)cls, &doeff_engine_module);
    if (module == NULL) {
        return NULL;
    }
    EngineState *st = PyModule_GetState(module);
    return value == Py_None ? Py_NewRef(st->nothing) : record_new1(st->rec.Some, Py_NewRef(value));
}

static int
maybe_bool(PyObject *self)
{
    EngineState *st;
    return maybe_side(self, &st);
}

static PyObject *
maybe_or(PyObject *a, PyObject *b)
{
    EngineState *st = engine_state_by_def(a);
    if (st == NULL) { /* a is the foreign operand */
        PyErr_Clear();
        Py_RETURN_NOTIMPLEMENTED;
    }
    if (!is_maybe(st, a) || !is_maybe(st, b)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    return Py_NewRef(maybe_is_some(st, a) ? a : b);
}

static PyMethodDef maybe_methods[] = {
    {"is_some", maybe_is_some_method, METH_NOARGS, PyDoc_STR("is_some($self, /)\n--\n\nWhether there is a value.")},
    {"is_none", maybe_is_none, METH_NOARGS, PyDoc_STR("is_none($self, /)\n--\n\nWhether there is no value.")},
    {"unwrap", maybe_unwrap, METH_NOARGS, PyDoc_STR("unwrap($self, /)\n--\n\nThe value; RuntimeError if there is none.")},
    {"expect", maybe_expect, METH_O,
     PyDoc_STR("expect($self, message, /)\n--\n\nThe value; RuntimeError(message) if there is none.")},
    {"unwrap_or", maybe_unwrap_or, METH_O, PyDoc_STR("unwrap_or($self, fallback, /)\n--\n\nThe value, or fallback.")},
    {"value_or", maybe_unwrap_or, METH_O, PyDoc_STR("value_or($self, fallback, /)\n--\n\nThe same as unwrap_or.")},
    {"unwrap_or_else", maybe_unwrap_or_else, METH_O, PyDoc_STR("unwrap_or_else($self, f, /)\n--\n\nThe value, or f().")},
    {"map", maybe_map, METH_O, PyDoc_STR("map($self, f, /)\n--\n\nSome(f(value)), or Nothing.")},
    {"flat_map", maybe_flat_map, METH_O, PyDoc_STR("flat_map($self, f, /)\n--\n\nf(value), which must be a Maybe, or Nothing.")},
    {"filter", maybe_filter, METH_O, PyDoc_STR("filter($self, predicate, /)\n--\n\nThis, if predicate(value); else Nothing.")},
    {"ok_or", maybe_ok_or, METH_O, PyDoc_STR("ok_or($self, error, /)\n--\n\nOk(value), or Err(error).")},
    {"ok_or_else", maybe_ok_or_else, METH_O, PyDoc_STR("ok_or_else($self, f, /)\n--\n\nOk(value), or Err(f()).")},
    {"to_optional", maybe_to_optional, METH_NOARGS, PyDoc_STR("to_optional($self, /)\n--\n\nThe value, or None.")},
    {"from_optional", maybe_from_optional, METH_O | METH_CLASS,
     PyDoc_STR("from_optional($type, value, /)\n--\n\nSome(value), or Nothing for None.")},
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot maybe_slots[] = {
    {Py_tp_methods, maybe_methods},
    {Py_nb_bool, maybe_bool},
    {Py_nb_or, maybe_or},
    {Py_tp_doc, (void *)"Some(value) or NOTHING. Contract: programs, part 6.6."},
    {0, NULL},
};

static PyType_Spec maybe_spec = {
    .name = "doeff._vendor.Maybe", .flags = BASE_FLAGS, .slots = maybe_slots,
};

static const RecordSpec some_spec = {
    .name = "doeff._vendor.Some",
    .doc = "Some(value)\n--\n\nA Maybe that has a value.\n\n>>> Some(2).filter(bool)\nSome(value=2)",
    .fields = {"value"}, .required = 1,
};

/* ---- Nothing ---- */

static PyObject *
nothing_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    if (PyTuple_GET_SIZE(args) != 0 || (kwargs != NULL && PyDict_GET_SIZE(kwargs) != 0)) {
        PyErr_SetString(PyExc_TypeError, "Nothing() takes no arguments");
        return NULL;
    }
    EngineState *st = engine_state_of(type);
    return st == NULL ? NULL : Py_NewRef(st->nothing);
}

static PyObject *
nothing_repr(PyObject *Py_UNUSED(self))
{
    return PyUnicode_FromString("Nothing()");
}

/* A name in its module: pickle and copy give back the one object. */
static PyObject *
nothing_reduce(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(ignored))
{
    return PyUnicode_FromString("NOTHING");
}

static int
nothing_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    return 0;
}

static void
nothing_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    PyObject_GC_UnTrack(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static PyMethodDef nothing_methods[] = {
    {"__reduce__", nothing_reduce, METH_NOARGS, NULL},
    {NULL},
};

static PyType_Slot nothing_slots[] = {
    {Py_tp_new, nothing_new},
    {Py_tp_repr, nothing_repr},
    {Py_tp_methods, nothing_methods},
    {Py_tp_traverse, nothing_traverse},
    {Py_tp_dealloc, nothing_dealloc},
    {Py_tp_doc, (void *)"Nothing()\n--\n\nThe Maybe without a value; there is one, NOTHING."},
    {0, NULL},
};

static PyType_Spec nothing_spec = {
    .name = "doeff._vendor.Nothing",
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = nothing_slots,
};

/* ---- ListenResult ---- */

static PyObject *
listen_result_iter(PyObject *self)
{
    PyObject *pair = PyTuple_Pack(2, RECORD_FIELD(self, LISTEN_VALUE), RECORD_FIELD(self, LISTEN_LOG));
    PyObject *iterator = pair == NULL ? NULL : PyObject_GetIter(pair);
    Py_XDECREF(pair);
    return iterator;
}

static PyMethodDef listen_result_methods[] = {
    {"__class_getitem__", Py_GenericAlias, METH_O | METH_CLASS, NULL},
    {NULL},
};

static PyType_Slot listen_result_slots[] = {
    {Py_tp_iter, listen_result_iter},
    {Py_tp_methods, listen_result_methods},
    {0, NULL},
};

static const RecordSpec listen_result_spec = {
    .name = "doeff._types_internal.ListenResult",
    .doc = "ListenResult(value, log)\n--\n\nWhat Listen gives; unpacks as value, log.",
    .fields = {"value", "log"}, .required = 2, .slots = listen_result_slots,
};

int
values_room_init(PyObject *module, EngineState *st)
{
    st->Result_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &result_spec, NULL);
    st->Maybe_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &maybe_spec, NULL);
    if (st->Result_Type == NULL || st->Maybe_Type == NULL || PyModule_AddType(module, st->Result_Type) < 0
        || PyModule_AddType(module, st->Maybe_Type) < 0) {
        return -1;
    }
    st->Nothing_Type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &nothing_spec, (PyObject *)st->Maybe_Type);
    if (st->Nothing_Type == NULL || PyModule_AddType(module, st->Nothing_Type) < 0) {
        return -1;
    }
    st->nothing = st->Nothing_Type->tp_alloc(st->Nothing_Type, 0);
    if (st->nothing == NULL || PyModule_AddObjectRef(module, "NOTHING", st->nothing) < 0) {
        return -1;
    }
    return (st->rec.Ok = record_type_new_under(module, st, &ok_spec, st->Result_Type)) == NULL
                   || (st->rec.Err = record_type_new_under(module, st, &err_spec, st->Result_Type)) == NULL
                   || (st->rec.Some = record_type_new_under(module, st, &some_spec, st->Maybe_Type)) == NULL
                   || (st->rec.ListenResult = record_type_new(module, st, &listen_result_spec)) == NULL
               ? -1
               : 0;
}
