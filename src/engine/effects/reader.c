#include "family.h"

/* reader: Ask and Local on the environment.
 *
 * A binding that is a program is lazy: the first Ask runs it where it was asked, and
 * the run remembers (program, value) under the key. Whether a program is being run for
 * an Ask already is written in the continuation, as AskLazyFrames. The run
 * counts the evaluations of each (program, key) that have begun, so that only an Ask that meets
 * one of them searches: finding it in its own continuation is a circle, else another task is at
 * it, and the asker waits for the end of that. */

/* ---- Ask ---- */

static int
ask_init(DoeffRecordType *Py_UNUSED(type), PyObject **f)
{
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

static const DoeffFrameKind ask_lazy_frame;

/* The run's counts: (id of a program, key) to how often an Ask is running it. */
static PyObject *
evaluations(DoeffContext *cx)
{
    PyObject *key = PyLong_FromVoidPtr((void *)&ask_lazy_frame); /* no str: the result does not show it */
    PyObject *counts = key == NULL ? NULL : Doeff_RunDict(cx, key);
    Py_XDECREF(key);
    return counts;
}

/* What an evaluation is counted and awaited under; strong. */
static PyObject *
evaluation_of(PyObject *key, PyObject *program)
{
    PyObject *id = PyLong_FromVoidPtr(program);
    PyObject *pair = id == NULL ? NULL : PyTuple_Pack(2, id, key);
    Py_XDECREF(id);
    return pair;
}

/* Adds change to the number of evaluations of program for key that have begun. */
static int
count_evaluation(DoeffContext *cx, PyObject *key, PyObject *program, long change)
{
    PyObject *counts = evaluations(cx);
    PyObject *id = counts == NULL ? NULL : evaluation_of(key, program);
    PyObject *old = id == NULL ? NULL : PyDict_GetItemWithError(counts, id);
    int result = -1;
    if (id != NULL && (old != NULL || !PyErr_Occurred())) {
        long count = (old == NULL ? 0 : PyLong_AsLong(old)) + change;
        PyObject *new = count > 0 ? PyLong_FromLong(count) : NULL;
        if (count > 0) {
            result = new == NULL ? -1 : PyDict_SetItem(counts, id, new);
        }
        else {
            result = old == NULL ? 0 : PyDict_DelItem(counts, id);
        }
        Py_XDECREF(new);
    }
    if (result == 0 && change < 0) {
        result = Doeff_WakeEvent(cx, id);
    }
    Py_XDECREF(id);
    return result;
}

typedef struct Evaluation {
    PyObject *key, *program;
} Evaluation;

static int
is_this_evaluation(const DoeffFrame *frame, void *arg)
{
    Evaluation *wanted = arg;
    if (frame->b != wanted->program) {
        return 0;
    }
    PyObject *other = Py_NewRef(frame->a);
    int equal = PyObject_RichCompareBool(other, wanted->key, Py_EQ);
    Py_DECREF(other);
    return equal;
}

/* 1 if the asker itself evaluates program for key, 2 if another task does. */
static int
is_evaluating(DoeffContext *cx, PyObject *key, PyObject *program)
{
    PyObject *counts = evaluations(cx);
    if (counts == NULL || PyDict_GET_SIZE(counts) == 0) {
        return counts == NULL ? -1 : 0;
    }
    PyObject *id = evaluation_of(key, program);
    int begun = id == NULL ? -1 : PyDict_Contains(counts, id);
    Py_XDECREF(id);
    if (begun <= 0) {
        return begun;
    }
    int own = Doeff_FindFrame(cx, &ask_lazy_frame, is_this_evaluation, &(Evaluation){key, program});
    return own == 0 ? 2 : own;
}

static const DoeffFrameKind ask_again_frame;

static DoeffStep evaluate(DoeffContext *cx, PyObject *key, PyObject *program, PyObject **out);

/* Another task evaluates program (borrowed) for key: the Ask is taken up again after that. */
static DoeffStep
wait_for_evaluation(DoeffContext *cx, PyObject *key, PyObject *program, PyObject **out)
{
    PyObject *id = evaluation_of(key, program);
    if (id == NULL || Doeff_Push(cx, &ask_again_frame, Py_NewRef(key), Py_NewRef(program)) < 0) {
        Py_XDECREF(id);
        return DOEFF_RAISE;
    }
    DoeffStep step = Doeff_WaitForEvent(cx, id, out);
    Py_DECREF(id);
    if (step == DOEFF_PASS) { /* no other task lives: that evaluation was dropped */
        return evaluate(cx, key, Py_NewRef(program), out);
    }
    return step;
}

/* The value remembered for this very program (strong): 1, 0 if there is none, or -1. */
static int
remembered(DoeffContext *cx, PyObject *key, PyObject *program, PyObject **value)
{
    PyObject *memory = Doeff_RunDict(cx, Doeff_Known(cx->st, DOEFF_STR_LAZY_CACHE));
    PyObject *entry;
    int found = memory == NULL ? -1 : Doeff_DictGet(memory, key, &entry);
    if (found <= 0) {
        return found;
    }
    found = PyTuple_GET_ITEM(entry, 0) == program;
    if (found) {
        *value = Py_NewRef(PyTuple_GET_ITEM(entry, 1));
    }
    Py_DECREF(entry);
    return found;
}

static DoeffStep
evaluate(DoeffContext *cx, PyObject *key, PyObject *program /* stolen */, PyObject **out)
{
    /* A count that a frame which could not be pushed leaves behind is like that of a dropped one. */
    if (count_evaluation(cx, key, program, 1) < 0
        || Doeff_Push(cx, &ask_lazy_frame, Py_NewRef(key), Py_NewRef(program)) < 0) {
        Py_DECREF(program);
        return DOEFF_RAISE;
    }
    *out = program;
    return DOEFF_PROGRAM;
}

/* Runs program (stolen), to which key is bound, unless its value is known. */
static DoeffStep
ask_lazily(DoeffContext *cx, PyObject *key, PyObject *program, PyObject **out)
{
    int found = remembered(cx, key, program, out);
    if (found != 0) {
        Py_DECREF(program);
        return found < 0 ? DOEFF_RAISE : DOEFF_VALUE;
    }
    found = Doeff_Begin(cx) < 0 ? -1 : is_evaluating(cx, key, program);
    if (found == 1) {
        (void)raise_with_key(Doeff_Known(cx->st, DOEFF_CIRCULAR_ASK_ERROR), key);
    }
    if (found == 0) {
        return evaluate(cx, key, program, out);
    }
    DoeffStep step = found == 2 ? wait_for_evaluation(cx, key, program, out) : DOEFF_RAISE;
    Py_DECREF(program);
    return step;
}

/* AskAgainFrame: another task's evaluation has ended, or there was none. a: key, b: program. */
static DoeffStep
ask_again(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(value), PyObject **out)
{
    return ask_lazily(cx, frame->a, Py_NewRef(frame->b), out);
}

static DoeffStep
ask_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    PyObject *value;
    int found = Doeff_DictGet(cx->env, key, &value);
    if (DOEFF_LIKELY(found > 0)) {
        if (DOEFF_UNLIKELY(Doeff_IsProgram(cx->st, value))) {
            return ask_lazily(cx, key, value, out);
        }
        *out = value;
        return DOEFF_VALUE;
    }
    return found < 0 ? DOEFF_RAISE : raise_with_key(Doeff_Known(cx->st, DOEFF_MISSING_ENV_KEY_ERROR), key);
}

/* AskLazyFrame: the evaluation of a lazy binding. a: key, b: program. */

static DoeffStep
ask_lazy_value(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **Py_UNUSED(out))
{
    if (count_evaluation(cx, frame->a, frame->b, -1) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *memory = Doeff_RunDict(cx, Doeff_Known(cx->st, DOEFF_STR_LAZY_CACHE));
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
    return count_evaluation(cx, frame->a, frame->b, -1) < 0 ? DOEFF_RAISE : DOEFF_PASS;
}

static PyObject *
ask_lazy_describe(const DoeffFrame *frame)
{
    return PyObject_Repr(frame->a);
}

static void
ask_lazy_drop(DoeffContext *cx, DoeffFrame *frame)
{
    if (count_evaluation(cx, frame->a, frame->b, -1) < 0) {
        PyErr_WriteUnraisable(frame->a);
    }
}

static const DoeffFrameKind ask_lazy_frame = {
    .name = "AskLazyFrame",
    .on_value = ask_lazy_value,
    .on_error = ask_lazy_error,
    .describe = ask_lazy_describe,
    .on_drop = ask_lazy_drop,
};

static const DoeffFrameKind ask_again_frame = {
    .name = "AskAgainFrame",
    .on_value = ask_again,
    .describe = ask_lazy_describe,
};

static const DoeffRecordSpec ask_spec = {
    .name = "doeff.effects.reader.AskEffect",
    .doc = "AskEffect(key)\n--\n\nRead a key of the environment.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1, .init = ask_init,
};

static PyMethodDef ask_def = {
    "Ask", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
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
local_init(DoeffRecordType *type, PyObject **f)
{
    int is = is_mapping(f[0]);
    if (is < 0) {
        return -1;
    }
    if (!is) {
        PyErr_Format(PyExc_TypeError, "env_update must be Mapping, got %s", Doeff_TypeName(f[0]));
        return -1;
    }
    if (!PyDict_Check(f[0]) && check_keys(f[0]) < 0) {
        return -1;
    }
    return Doeff_CheckProgram(Doeff_EngineOf(type), f[1], "sub_program");
}

/* LocalFrame puts the environment back. a: the one before, b: what was laid over it. */

static DoeffStep
local_end(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(outcome), PyObject **Py_UNUSED(out))
{
    Doeff_SetEnv(cx, Py_NewRef(frame->a));
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
    if (Doeff_Begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *update = DOEFF_FIELD(effect, 0);
    PyObject *env = Doeff_MergeFrozenDict(cx->st, cx->env, update);
    if (env == NULL || Doeff_Push(cx, &local_frame, Py_NewRef(cx->env), Py_NewRef(update)) < 0) {
        Py_XDECREF(env);
        return DOEFF_RAISE;
    }
    Doeff_SetEnv(cx, env);
    *out = Py_NewRef(DOEFF_FIELD(effect, 1));
    return DOEFF_PROGRAM;
}

static const DoeffRecordSpec local_spec = {
    .name = "doeff.effects.reader.LocalEffect",
    .doc = "LocalEffect(env_update, sub_program)\n--\n\nRun a program in a changed environment.",
    .fields = {"env_update", "sub_program"}, .required = 2, .effect = 1, .subclassable = 1, .init = local_init,
};

static PyMethodDef local_def = {
    "Local", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("Local(env_update, sub_program)\n--\n\nRun sub_program with env_update laid over the environment.\n\n"
              "env_update: a mapping with hashable keys, read when the effect is performed. sub_program: a program.\n"
              "TypeError for anything else. Gives the value of sub_program; its errors pass. The environment is\n"
              "put back on every way out; store and log are not scoped.\n\n"
              ">>> rows = yield Local({\"limit\": 10}, fetch())\n\nContract: effects, part 3.1.")};

int
effects_reader_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_Define(module, st, core, &(DoeffEffectDef){&ask_spec, &ask_def, ask_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&local_spec, &local_def, local_perform}) == NULL
               ? -1
               : 0;
}
