#include "program.h"

#include "../support/imports.h"
#include "../v1/v1.h"
#include "kleisli.h"

/* ---- how each kind starts ---- */

static DoeffStep
pure_start(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    (void)cx;
    *out = Py_NewRef(RECORD_FIELD(effect, 0));
    return DOEFF_VALUE;
}

static DoeffStep
with_handler_start(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (context_install(cx, RECORD_FIELD(effect, 0)) < 0) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(RECORD_FIELD(effect, 1));
    return DOEFF_PROGRAM;
}

static DoeffStep
escape_start(DoeffContext *Py_UNUSED(cx), PyObject *effect, PyObject **out)
{
    *out = Py_NewRef(RECORD_FIELD(effect, 0));
    return DOEFF_ESCAPE;
}

static DoeffStep
object_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    PyObject *method;
    if (PyObject_GetOptionalAttr(program, cx->st->str_to_generator, &method) < 0) {
        return DOEFF_RAISE;
    }
    if (method == NULL) {
        PyErr_Format(PyExc_TypeError,
                     "%s is a subclass of Program without a to_generator() method: define one that "
                     "returns a fresh generator",
                     Py_TYPE(program)->tp_name);
        return DOEFF_RAISE;
    }
    PyObject *generator = PyObject_CallNoArgs(method);
    Py_DECREF(method);
    if (generator == NULL) {
        return DOEFF_RAISE;
    }
    if (!PyIter_Check(generator) && !PyCoro_CheckExact(generator)) {
        PyErr_Format(PyExc_TypeError, "%s.to_generator() must return a generator, got %s",
                     Py_TYPE(program)->tp_name, Py_TYPE(generator)->tp_name);
        Py_DECREF(generator);
        return DOEFF_RAISE;
    }
    return program_drive(cx, generator, NULL, out);
}

typedef struct GeneratorProgram {
    PyObject_HEAD
    PyObject *factory; /* strong */
} GeneratorProgram;

static DoeffStep
generator_program_start(DoeffContext *cx, PyObject *program, PyObject **out)
{
    PyObject *result = PyObject_CallNoArgs(((GeneratorProgram *)program)->factory);
    return result == NULL ? DOEFF_RAISE : program_outcome(cx, result, NULL, out);
}

DoeffEffectFn
machine_program_fn(EngineState *st, PyTypeObject *type)
{
    if (type == st->rec.Pure->type) {
        return pure_start;
    }
    if (type == st->rec.WithHandler->type) {
        return with_handler_start;
    }
    if (type == st->rec.Escape->type) {
        return escape_start;
    }
    if (type == st->GeneratorProgram_Type) {
        return generator_program_start;
    }
    if (type == st->Combinator_Type) {
        return combinator_start;
    }
    if (type == st->Delegate_Type) {
        return delegate_start;
    }
    if (type == st->Resumption_Type) {
        return resumption_start;
    }
    if (type == st->Driven_Type) {
        return driven_start;
    }
    if (PyType_IsSubtype(type, st->Effect_Type)) {
        return NULL;
    }
    return PyType_IsSubtype(type, st->Program_Type) ? object_start : NULL;
}

void
program_wrap_stop_iteration(void)
{
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return;
    }
    PyObject *stop = PyErr_GetRaisedException();
    PyErr_SetString(PyExc_RuntimeError, "generator raised StopIteration");
    PyObject *error = PyErr_GetRaisedException();
    PyException_SetCause(error, Py_NewRef(stop));
    PyException_SetContext(error, stop);
    PyErr_SetRaisedException(error);
}

PyObject *
program_describe_resume(PyObject *generator, PyObject *kleisli)
{
    PyObject *name = NULL;
    if (kleisli != NULL) {
        name = PyObject_GetAttrString(kleisli, "__name__");
    }
    else {
        name = PyObject_GetAttrString(generator, "__name__");
    }
    if (name == NULL) {
        PyErr_Clear();
        return PyUnicode_FromString("resume");
    }
    Py_SETREF(name, PyUnicode_FromFormat("resume %S", name));
    return name;
}

/* ---- ProgramBase ---- */

static PyObject *
program_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *module = PyType_GetModuleByDef(type, &doeff_engine_module);
    if (module == NULL) {
        return NULL;
    }
    EngineState *st = PyModule_GetState(module);
    if (type != st->Program_Type && type != st->GeneratorProgram_Type) {
        return type->tp_alloc(type, 0); /* a user's class: its own __init__ looks at the arguments */
    }
    static char *keywords[] = {"factory", NULL};
    PyObject *factory = NULL;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|O:Program", keywords, &factory)) {
        return NULL;
    }
    if (factory == NULL) {
        PyErr_SetString(PyExc_TypeError,
                        "Program() needs a zero-argument generator function; programs are usually made "
                        "by calling a @do function, or with Program.pure(value)");
        return NULL;
    }
    if (!PyCallable_Check(factory)) {
        PyErr_Format(PyExc_TypeError, "factory must be a zero-argument generator function, got %s",
                     Py_TYPE(factory)->tp_name);
        return NULL;
    }
    GeneratorProgram *program = PyObject_GC_New(GeneratorProgram, st->GeneratorProgram_Type);
    if (program != NULL) {
        program->factory = Py_NewRef(factory);
        PyObject_GC_Track(program);
    }
    return (PyObject *)program;
}

static PyObject *
program_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value != NULL || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return value;
    }
    if (!PyUnicode_Check(name) || PyUnicode_GET_LENGTH(name) == 0 || PyUnicode_READ_CHAR(name, 0) == '_') {
        return NULL;
    }
    /* Part of the protocol of our own classes, and missing for good reason. */
    if (PyUnicode_CompareWithASCIIString(name, "to_generator") == 0) {
        return NULL;
    }
    PyErr_Clear();
    EngineState *st = engine_state_by_def(self);
    return st == NULL ? NULL : program_project_attr(st, self, name);
}

static int
program_bool(PyObject *self)
{
    PyErr_Format(PyExc_TypeError,
                 "a program has no truth value: yield it to get its result (value = yield %s(...)), or "
                 "compare it with None",
                 Py_TYPE(self)->tp_name);
    return -1;
}

static PyObject *
program_iter(PyObject *self)
{
    PyErr_Format(PyExc_TypeError, "%s is a program and cannot be iterated: yield it and iterate over its value",
                 Py_TYPE(self)->tp_name);
    return NULL;
}

static int
program_contains(PyObject *self, PyObject *Py_UNUSED(item))
{
    PyErr_Format(PyExc_TypeError, "%s is a program: yield it and look for the item in its value",
                 Py_TYPE(self)->tp_name);
    return -1;
}

static PyObject *
class_getitem(PyObject *cls, PyObject *item)
{
    return Py_GenericAlias(cls, item);
}

static PyType_Slot program_slots[] = {
    {Py_tp_new, program_new},
    {Py_tp_getattro, program_getattro},
    {Py_nb_bool, program_bool},
    {Py_tp_iter, program_iter},
    {Py_sq_contains, program_contains},
    {Py_mp_subscript, program_project_item},
    {Py_tp_call, program_project_call},
    {Py_am_await, program_await},
    {Py_tp_methods, program_methods},
    {Py_tp_doc, (void *)PyDoc_STR("Base class of every program: effects, calls of @do functions, combinators.")},
    {0, NULL},
};

static PyType_Spec program_spec = {
    .name = "doeff.program.ProgramBase",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = program_slots,
};

/* ---- EffectBase ---- */

static PyObject *
with_created_at(PyObject *self, PyObject *origin)
{
    EngineState *st = engine_state_by_def(self);
    if (st == NULL) {
        return NULL;
    }
    PyObject *twin = import_call("copy", "copy", "(O)", self);
    if (twin == NULL) {
        return NULL;
    }
    RecordInfo *info = record_info_of(st, Py_TYPE(twin));
    if (info != NULL) {
        Py_XSETREF(RECORD_FIELD(twin, info->nfields), origin == Py_None ? NULL : Py_NewRef(origin));
        record_track(twin);
    }
    else if (PyObject_GenericSetAttr(twin, st->str_created_at, origin) < 0) { /* past a frozen dataclass */
        Py_CLEAR(twin);
    }
    return twin;
}

static PyMethodDef effect_methods[] = {
    {"with_created_at", with_created_at, METH_O,
     PyDoc_STR("with_created_at(origin)\n--\n\nA copy of the effect with created_at set to origin.")},
    {NULL},
};

/* Nothing but memory: a user's effect class costs what its own __init__ costs. */
static PyObject *
effect_new(PyTypeObject *type, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kwargs))
{
    return type->tp_alloc(type, 0);
}

static PyType_Slot effect_slots[] = {
    {Py_tp_new, effect_new},
    {Py_tp_methods, effect_methods},
    {Py_tp_doc, (void *)PyDoc_STR("Base class of every effect. Subclass it, usually with @dataclass(frozen=True).")},
    {0, NULL},
};

static PyType_Spec effect_spec = {
    .name = "doeff.types.EffectBase",
    .basicsize = sizeof(PyObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = effect_slots,
};

/* ---- GeneratorProgram ---- */

static int
generator_program_traverse(PyObject *op, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(op));
    Py_VISIT(((GeneratorProgram *)op)->factory);
    return 0;
}

static int
generator_program_clear(PyObject *op)
{
    Py_CLEAR(((GeneratorProgram *)op)->factory);
    return 0;
}

static int
generator_program_release(PyObject *op)
{
    (void)generator_program_clear(op);
    Py_TYPE(op)->tp_free(op);
    return 0;
}

static void
generator_program_dealloc(PyObject *op)
{
    PyObject_GC_UnTrack(op);
    nesting_dealloc(engine_nesting_of(Py_TYPE(op)), op, generator_program_dealloc, generator_program_release);
}

static PyMemberDef generator_program_members[] = {
    {"factory", T_OBJECT_EX, offsetof(GeneratorProgram, factory), READONLY, NULL},
    {NULL},
};

static PyType_Slot generator_program_slots[] = {
    {Py_tp_new, program_new},
    {Py_tp_dealloc, generator_program_dealloc},
    {Py_tp_traverse, generator_program_traverse},
    {Py_tp_clear, generator_program_clear},
    {Py_tp_members, generator_program_members},
    {Py_tp_doc, (void *)PyDoc_STR("GeneratorProgram(factory)\n--\n\nA program from a zero-argument generator function.")},
    {0, NULL},
};

static PyType_Spec generator_program_spec = {
    .name = "doeff.program.GeneratorProgram",
    .basicsize = sizeof(GeneratorProgram),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE,
    .slots = generator_program_slots,
};

/* ---- the two effects that belong to the machine ---- */

static int
with_handler_init(RecordInfo *info, PyObject **f)
{
    if (program_check(info->st, f[0]) && PyCallable_Check(f[1]) && !program_check(info->st, f[1])) {
        PyErr_Format(PyExc_TypeError,
                     "handler and program are swapped: write WithHandler(handler, program), got a program (%s) where "
                     "the handler goes",
                     Py_TYPE(f[0])->tp_name);
        return -1;
    }
    if (!PyCallable_Check(f[0])) {
        PyErr_Format(PyExc_TypeError, "handler must be callable as handler(effect, ctx), got %s",
                     Py_TYPE(f[0])->tp_name);
        return -1;
    }
    if (!program_check(info->st, f[1])) {
        PyErr_Format(PyExc_TypeError, "program must be Program, got %s%s", Py_TYPE(f[1])->tp_name,
                     PyCallable_Check(f[1]) ? ": call it" : "");
        return -1;
    }
    return 0;
}

static const RecordSpec pure_spec = {
    .name = "doeff.effects.pure.PureEffect",
    .doc = "PureEffect(value)\n--\n\nGives its value without asking any handler.",
    .fields = {"value"},
    .required = 1,
    .effect = 1,
    .subclassable = 0,
};

static int
escape_init(RecordInfo *Py_UNUSED(info), PyObject **f)
{
    if (!PyCallable_Check(f[0])) {
        PyErr_Format(PyExc_TypeError, "action must be callable, got %s", Py_TYPE(f[0])->tp_name);
        return -1;
    }
    return 0;
}

static const RecordSpec escape_spec = {
    .name = "doeff.cesk.result.PythonAsyncSyntaxEscape",
    .doc = "PythonAsyncSyntaxEscape(action)\n--\n\nHave action() called, and awaited if it gives a coroutine, by who drives the "
           "run in an event loop; what that\ngives is the answer.\n\naction: a callable without arguments; TypeError for anything "
           "else. Contract: concurrency, AR-2 and AR-11 to AR-13.",
    .fields = {"action"}, .required = 1, .effect = 1, .init = escape_init,
};

static const RecordSpec with_handler_spec = {
    .name = "doeff.cesk.handler_frame.WithHandler",
    .doc = "WithHandler(handler, program)\n--\n\nRuns program with handler in force around it and gives its value.",
    .fields = {"handler", "program"},
    .required = 2,
    .effect = 1,
    .init = with_handler_init,
};

static PyMethodDef pure_def = {
    "Pure", (PyCFunction)(void (*)(void))record_construct, METH_FASTCALL | METH_KEYWORDS,
    PyDoc_STR("Pure(value)\n--\n\nA program that gives value, resolved by the machine without a handler.")};

static int
add_class_getitem(PyTypeObject *type)
{
    static PyMethodDef def = {"__class_getitem__", class_getitem, METH_O | METH_CLASS,
                              PyDoc_STR("Program[T], for annotations.")};
    PyObject *descr = PyDescr_NewClassMethod(type, &def);
    int failed = descr == NULL || PyDict_SetItemString(type->tp_dict, "__class_getitem__", descr) < 0;
    Py_XDECREF(descr);
    PyType_Modified(type);
    return failed ? -1 : 0;
}

int
program_room_init(PyObject *module, EngineState *st)
{
    st->Program_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &program_spec, NULL);
    if (st->Program_Type == NULL) {
        return -1;
    }
    PyObject *base = (PyObject *)st->Program_Type;
    st->Effect_Type = (PyTypeObject *)PyType_FromModuleAndSpec(module, &effect_spec, base);
    st->GeneratorProgram_Type =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &generator_program_spec, base);
    if (st->Effect_Type == NULL || st->GeneratorProgram_Type == NULL
        || add_class_getitem(st->Program_Type) < 0
        || PyDict_SetItem(st->Effect_Type->tp_dict, st->str_created_at, Py_None) < 0) {
        return -1;
    }
    PyType_Modified(st->Effect_Type);
    if (PyModule_AddType(module, st->Program_Type) < 0 || PyModule_AddType(module, st->Effect_Type) < 0
        || PyModule_AddType(module, st->GeneratorProgram_Type) < 0) {
        return -1;
    }
    st->rec.Pure = record_type_new(module, st, &pure_spec);
    st->rec.WithHandler = record_type_new(module, st, &with_handler_spec);
    st->rec.Escape = record_type_new(module, st, &escape_spec);
    if (st->rec.Escape == NULL || st->rec.Pure == NULL || st->rec.WithHandler == NULL) {
        return -1;
    }
    return record_add_constructor(module, st->rec.Pure, &pure_def);
}
