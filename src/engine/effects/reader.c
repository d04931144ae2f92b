#include "../values/frozendict.h"
#include "effects.h"
#include "rundata.h"

/* reader: Ask and Local on the environment.
 *
 * A binding that is a program is lazy: the first Ask runs it where it was asked, and
 * the run remembers (program, value) under the key. Whether a program is being run for
 * an Ask already is written in the continuation, as AskLazyFrames. machine->evaluating
 * counts the evaluations of each program that have begun, so that only an Ask that meets
 * one of them searches. A frame that is dropped unfinished leaves its count behind, which
 * costs such a search and changes nothing else. */

/* ---- Ask ---- */

static int
ask_init(EngineState *st, PyObject **f)
{
    (void)st;
    if (DOEFF_LIKELY(PyUnicode_CheckExact(f[0]))) {
        return 0;
    }
    return PyObject_Hash(f[0]) == -1 ? -1 : 0;
}

/* By an instance: a tuple or None as the key would be taken for arguments. */
static DoeffStep
raise_with_key(PyObject *error_class, PyObject *key)
{
    PyObject *error = PyObject_CallOneArg(error_class, key);
    if (error != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
    }
    return DOEFF_RAISE;
}

/* Adds change to the number of evaluations of program that have begun. */
static int
count_evaluation(DoeffMachine *m, PyObject *program, long change)
{
    if (m->evaluating == NULL && (m->evaluating = PyDict_New()) == NULL) {
        return -1;
    }
    PyObject *id = PyLong_FromVoidPtr(program);
    PyObject *old = id == NULL ? NULL : PyDict_GetItemWithError(m->evaluating, id);
    int result = -1;
    if (id != NULL && (old != NULL || !PyErr_Occurred())) {
        long count = (old == NULL ? 0 : PyLong_AsLong(old)) + change;
        PyObject *new = count > 0 ? PyLong_FromLong(count) : NULL;
        if (count > 0) {
            result = new == NULL ? -1 : PyDict_SetItem(m->evaluating, id, new);
        }
        else {
            result = old == NULL ? 0 : PyDict_DelItem(m->evaluating, id);
        }
        Py_XDECREF(new);
    }
    Py_XDECREF(id);
    return result;
}

static const DoeffFrameKind ask_lazy_frame;

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

/* 1 if one of the fiber's frames evaluates program for key. Puts what waits for them on the stack. */
static int
fiber_evaluates(DoeffFiber *fiber, PyObject *key, PyObject *program, FiberStack *todo)
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
        if (frame->kind == &ask_lazy_frame && frame->b == program) {
            PyObject *other = Py_NewRef(frame->a);
            int equal = PyObject_RichCompareBool(other, key, Py_EQ);
            Py_DECREF(other);
            if (equal != 0) {
                return equal;
            }
        }
    }
    return 0;
}

/* 1 if the asker itself evaluates program for key: in its continuation, in what a handler that is at
 * work for it has captured, or in a handler's body that waits for a forwarded effect. A chain that
 * a handler has put away for later does not count: it does not wait for us. */
static int
is_evaluating(DoeffMachine *m, PyObject *key, PyObject *program)
{
    FiberStack todo = {NULL, 0, 0};
    int found = push_fiber(&todo, m->fiber);
    while (found == 0 && todo.len > 0) {
        for (DoeffFiber *fiber = todo.items[--todo.len]; fiber != NULL && found == 0; fiber = fiber->parent) {
            found = fiber_evaluates(fiber, key, program, &todo);
        }
    }
    PyMem_Free(todo.items);
    return found;
}

/* The value remembered for this very program (strong): 1, 0 if there is none, or -1. */
static int
remembered(DoeffMachine *m, PyObject *key, PyObject *program, PyObject **value)
{
    PyObject *memory = m->run_data == NULL ? NULL : PyDict_GetItemWithError(m->run_data, m->cx.st->str_lazy_cache);
    PyObject *entry;
    int found = memory == NULL ? 0 : PyDict_GetItemRef(memory, key, &entry);
    if (found <= 0) {
        return PyErr_Occurred() ? -1 : 0;
    }
    found = PyTuple_GET_ITEM(entry, 0) == program;
    if (found) {
        *value = Py_NewRef(PyTuple_GET_ITEM(entry, 1));
    }
    Py_DECREF(entry);
    return found;
}

/* Runs program (stolen), to which key is bound, unless its value is known. */
static DoeffStep
ask_lazily(DoeffContext *cx, PyObject *key, PyObject *program, PyObject **out)
{
    DoeffMachine *m = MACHINE_OF(cx);
    int found = remembered(m, key, program, out);
    if (found != 0) {
        Py_DECREF(program);
        return found < 0 ? DOEFF_RAISE : DOEFF_VALUE;
    }
    if (context_begin(cx) < 0) {
        goto error;
    }
    if (m->evaluating != NULL && PyDict_GET_SIZE(m->evaluating) > 0) {
        PyObject *id = PyLong_FromVoidPtr(program);
        found = id == NULL ? -1 : PyDict_Contains(m->evaluating, id);
        Py_XDECREF(id);
        if (found > 0) {
            found = is_evaluating(m, key, program);
        }
        if (found > 0) {
            (void)raise_with_key(cx->st->CircularAskError, key);
        }
        if (found != 0) {
            goto error;
        }
    }
    if (count_evaluation(m, program, 1) < 0) {
        goto error;
    }
    if (context_push(cx, &ask_lazy_frame, Py_NewRef(key), Py_NewRef(program)) < 0) {
        PyObject *error = PyErr_GetRaisedException();
        (void)count_evaluation(m, program, -1);
        PyErr_SetRaisedException(error);
        goto error;
    }
    *out = program;
    return DOEFF_PROGRAM;
error:
    Py_DECREF(program);
    return DOEFF_RAISE;
}

static DoeffStep
ask_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = RECORD_FIELD(effect, 0);
    PyObject *value;
    int found = PyDict_GetItemRef(cx->env, key, &value);
    if (DOEFF_LIKELY(found > 0)) {
        if (DOEFF_UNLIKELY(program_check(cx->st, value))) {
            return ask_lazily(cx, key, value, out);
        }
        *out = value;
        return DOEFF_VALUE;
    }
    return found < 0 ? DOEFF_RAISE : raise_with_key(cx->st->MissingEnvKeyError, key);
}

/* AskLazyFrame: the evaluation of a lazy binding. a: key, b: program. */

static DoeffStep
ask_lazy_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **Py_UNUSED(out))
{
    if (count_evaluation(MACHINE_OF(cx), frame->b, -1) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *memory = run_data_dict(cx, cx->st->str_lazy_cache);
    PyObject *entry = memory == NULL ? NULL : PyTuple_Pack(2, frame->b, value);
    if (entry == NULL) {
        return DOEFF_RAISE;
    }
    int failed = PyDict_SetItem(memory, frame->a, entry) < 0;
    Py_DECREF(entry);
    return failed ? DOEFF_RAISE : DOEFF_PASS;
}

static DoeffStep
ask_lazy_error(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(error), PyObject **Py_UNUSED(out))
{
    return count_evaluation(MACHINE_OF(cx), frame->b, -1) < 0 ? DOEFF_RAISE : DOEFF_PASS;
}

static PyObject *
ask_lazy_describe(const DoeffFrame *frame)
{
    return PyObject_Repr(frame->a);
}

static const DoeffFrameKind ask_lazy_frame = {
    .name = "AskLazyFrame",
    .on_value = ask_lazy_value,
    .on_error = ask_lazy_error,
    .describe = ask_lazy_describe,
};

static const RecordSpec ask_spec = {
    .name = "doeff.effects.reader.AskEffect",
    .doc = "AskEffect(key)\n--\n\nRead a key of the environment.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = ask_init,
};

static PyMethodDef ask_def = {
    "Ask", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("Ask(key)\n--\n\nRead a key of the environment.\n\nkey: any hashable object; TypeError if it is not. Gives "
              "what is bound to it. A binding that is a program\nis run by the first Ask, where that stands, and its "
              "value is remembered for the rest of the run.\nRaises MissingEnvKeyError if nothing is bound, "
              "CircularAskError if the key's program asks for it.\n\n>>> url = yield Ask(\"url\")\n\n"
              "Contract: effects, part 3.1.")};

/* ---- Local ---- */

/* 1 for a mapping, in the sense of collections.abc. */
static int
is_mapping(PyObject *value)
{
    if (PyDict_Check(value)) {
        return 1;
    }
    if (PyUnicode_Check(value) || PyList_Check(value) || PyTuple_Check(value)) {
        return 0;
    }
    PyObject *module = PyImport_ImportModule("collections.abc");
    PyObject *mapping = module == NULL ? NULL : PyObject_GetAttrString(module, "Mapping");
    int is = mapping == NULL ? -1 : PyObject_IsInstance(value, mapping);
    Py_XDECREF(module);
    Py_XDECREF(mapping);
    return is;
}

/* The keys of a mapping of the user's may be anything: each must have a hash. */
static int
check_keys(PyObject *mapping)
{
    PyObject *keys = PyObject_GetIter(mapping);
    if (keys == NULL) {
        return -1;
    }
    PyObject *key;
    while ((key = PyIter_Next(keys)) != NULL) {
        Py_hash_t hash = PyObject_Hash(key);
        Py_DECREF(key);
        if (hash == -1) {
            break;
        }
    }
    Py_DECREF(keys);
    return PyErr_Occurred() ? -1 : 0;
}

static int
local_init(EngineState *st, PyObject **f)
{
    int is = is_mapping(f[0]);
    if (is < 0) {
        return -1;
    }
    if (!is) {
        PyErr_Format(PyExc_TypeError, "env_update must be Mapping, got %s", type_name(f[0]));
        return -1;
    }
    if (!PyDict_Check(f[0]) && check_keys(f[0]) < 0) {
        return -1;
    }
    return check_program(st, f[1], "sub_program");
}

/* LocalFrame puts the environment back. a: the one before, b: what was laid over it. */

static DoeffStep
local_end(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(outcome), PyObject **Py_UNUSED(out))
{
    context_set_env(cx, Py_NewRef(frame->a));
    return DOEFF_PASS;
}

static PyObject *
local_describe(const DoeffFrame *frame)
{
    PyObject *keys = PySequence_List(frame->b);
    if (keys == NULL) {
        return NULL;
    }
    if (PyList_Sort(keys) < 0) { /* keys that cannot be compared stay in their order */
        PyErr_Clear();
    }
    PyObject *text = NULL;
    PyObject *comma = PyUnicode_FromString(", ");
    for (Py_ssize_t i = 0; comma != NULL && i < PyList_GET_SIZE(keys); i++) {
        PyObject *shown = PyObject_Repr(PyList_GET_ITEM(keys, i));
        if (shown == NULL || PyList_SetItem(keys, i, shown) < 0) {
            goto done;
        }
    }
    PyObject *inner = comma == NULL ? NULL : PyUnicode_Join(comma, keys);
    if (inner != NULL) {
        text = PyUnicode_FromFormat("env={%U}", inner);
        Py_DECREF(inner);
    }
done:
    Py_XDECREF(comma);
    Py_DECREF(keys);
    return text;
}

static const DoeffFrameKind local_frame = {
    .name = "LocalFrame",
    .on_value = local_end,
    .on_error = local_end,
    .describe = local_describe,
};

static DoeffStep
local_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (context_begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *update = RECORD_FIELD(effect, 0);
    PyObject *env = frozendict_merge(cx->st, cx->env, update);
    if (env == NULL || context_push(cx, &local_frame, Py_NewRef(cx->env), Py_NewRef(update)) < 0) {
        Py_XDECREF(env);
        return DOEFF_RAISE;
    }
    context_set_env(cx, env);
    *out = Py_NewRef(RECORD_FIELD(effect, 1));
    return DOEFF_PROGRAM;
}

static const RecordSpec local_spec = {
    .name = "doeff.effects.reader.LocalEffect",
    .doc = "LocalEffect(env_update, sub_program)\n--\n\nRun a program in a changed environment.",
    .fields = {"env_update", "sub_program"}, .required = 2, .effect = 1, .subclassable = 1, .init = local_init,
};

static PyMethodDef local_def = {
    "Local", EFFECT_CONSTRUCTOR, EFFECT_FLAGS,
    PyDoc_STR("Local(env_update, sub_program)\n--\n\nRun sub_program with env_update laid over the environment.\n\n"
              "env_update: a mapping with hashable keys, read when the effect is performed. sub_program: a program.\n"
              "TypeError for anything else. Gives the value of sub_program; its errors pass. The environment is\n"
              "put back on every way out; store and log are not scoped.\n\n"
              ">>> rows = yield Local({\"limit\": 10}, fetch())\n\nContract: effects, part 3.1.")};

int
effects_reader_init(PyObject *module, EngineState *st, NativeHandler *core)
{
    st->rec.Ask = effect_define(module, st, core, &(EffectDef){&ask_spec, &ask_def, ask_perform});
    st->rec.Local = effect_define(module, st, core, &(EffectDef){&local_spec, &local_def, local_perform});
    return st->rec.Ask == NULL || st->rec.Local == NULL ? -1 : 0;
}
