#include "family.h"

#include <math.h>
#include <time.h>

/* cache: CacheGet, CachePut, CacheExists and CacheDelete on the run's cache.
 *
 * The backing is a dict, handled here, or a storage object of the user's, handled by
 * doeff._cache_backing. Deadlines of a dict's entries are in a second dict, in epoch seconds. Keys
 * that cannot be hashed are represented by (marker, serialised bytes). */

/* ---- keys ---- */

/* Is it a scalar that pickles for sure? */
static int
is_scalar(PyObject *op)
{
    return op == Py_None || PyUnicode_CheckExact(op) || PyLong_CheckExact(op) || PyBool_Check(op)
           || PyFloat_CheckExact(op) || PyBytes_CheckExact(op) || PyComplex_CheckExact(op);
}

/* 1 for scalars, and for tuples and FrozenDicts of such down to a depth that keys have in practice. */
static int
plainly_serialisable(DoeffEngine *st, PyObject *op, int depth)
{
    if (is_scalar(op)) {
        return 1;
    }
    if (depth == 0) {
        return 0;
    }
    if (PyTuple_CheckExact(op)) {
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(op); i++) {
            if (!plainly_serialisable(st, PyTuple_GET_ITEM(op, i), depth - 1)) {
                return 0;
            }
        }
        return 1;
    }
    if (Doeff_IsFrozenDict(st, op)) {
        Py_ssize_t at = 0;
        PyObject *key, *value;
        while (PyDict_Next(op, &at, &key, &value)) {
            if (!is_scalar(key) || !plainly_serialisable(st, value, depth - 1)) {
                return 0;
            }
        }
        return 1;
    }
    return 0;
}

static PyObject *
python_call(const char *module_name, const char *function, PyObject *arg)
{
    PyObject *module = PyImport_ImportModule(module_name);
    PyObject *result = module == NULL ? NULL : PyObject_CallMethod(module, function, "(O)", arg);
    Py_XDECREF(module);
    return result;
}

/* key, or what stands for it in a dict (strong). */
static PyObject *
hashable_key(PyObject *key)
{
    if (PyObject_Hash(key) != -1) {
        return Py_NewRef(key);
    }
    if (!PyErr_ExceptionMatches(PyExc_TypeError)) {
        return NULL;
    }
    PyErr_Clear();
    return python_call("doeff._cache_backing", "dict_key", key);
}

/* ---- the clock ---- */

/* Epoch seconds: __current_time__ of the store if that is a datetime, else the wall clock. */
static int
cache_now(DoeffContext *cx, double *now)
{
    PyObject *set;
    int found = Doeff_DictGet(cx->store, Doeff_Known(cx->st, DOEFF_STR_CURRENT_TIME), &set);
    if (found < 0) {
        return -1;
    }
    if (found && set != Py_None) {
        PyObject *seconds = python_call("doeff._cache_backing", "seconds", set);
        Py_DECREF(set);
        if (seconds == NULL) {
            return -1;
        }
        int usable = seconds != Py_None;
        if (usable) {
            *now = PyFloat_AsDouble(seconds);
        }
        Py_DECREF(seconds);
        if (usable) {
            return *now == -1.0 && PyErr_Occurred() ? -1 : 0;
        }
    }
    else if (found) {
        Py_DECREF(set);
    }
    struct timespec ts;
    (void)timespec_get(&ts, TIME_UTC);
    *now = (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
    return 0;
}

/* ---- the backing ---- */

typedef struct Backing {
    PyObject *storage; /* strong; the dict, or the storage object */
    PyObject *expiry;  /* strong; only with a dict */
} Backing;

static void
backing_drop(Backing *b)
{
    Py_CLEAR(b->storage);
    Py_CLEAR(b->expiry);
}

static int
backing_open(DoeffContext *cx, Backing *b)
{
    b->expiry = NULL;
    b->storage = Py_XNewRef(Doeff_AdoptRunData(cx, Doeff_Known(cx->st, DOEFF_STR_CACHE_STORAGE)));
    if (b->storage == NULL || !PyDict_CheckExact(b->storage)) {
        return b->storage == NULL ? -1 : 0;
    }
    b->expiry = Py_XNewRef(Doeff_AdoptRunData(cx, Doeff_Known(cx->st, DOEFF_STR_CACHE_EXPIRY)));
    if (b->expiry == NULL || !PyDict_CheckExact(b->expiry)) {
        if (b->expiry != NULL) {
            PyErr_Format(PyExc_TypeError, "__cache_expiry__ in the store must be a dict, got %s",
                         Py_TYPE(b->expiry)->tp_name);
        }
        backing_drop(b);
        return -1;
    }
    return 0;
}

/* Removes a key that may be absent: 1 if it was there, 0 if not, -1 with an error. */
static int
dict_discard(PyObject *dict, PyObject *key)
{
    if (PyDict_DelItem(dict, key) == 0) {
        return 1;
    }
    if (!PyErr_ExceptionMatches(PyExc_KeyError)) {
        return -1;
    }
    int there = PyDict_Contains(dict, key); /* a KeyError of its own, or of a key's __eq__? */
    return there == 0 ? (PyErr_Clear(), 0) : -1;
}

/* An entry of the dict after those past their deadline count as absent: 1 and a strong
 * reference, 0, or -1 with an error. */
static int
dict_entry(DoeffContext *cx, Backing *b, PyObject *key, PyObject **value)
{
    if (PyDict_GET_SIZE(b->expiry) > 0) {
        PyObject *deadline;
        int limited = Doeff_DictGet(b->expiry, key, &deadline);
        if (limited < 0) {
            return -1;
        }
        if (limited) {
            double until = PyFloat_AsDouble(deadline), now;
            Py_DECREF(deadline);
            if ((until == -1.0 && PyErr_Occurred()) || cache_now(cx, &now) < 0) {
                return -1;
            }
            if (now >= until) {
                *value = NULL;
                return dict_discard(b->expiry, key) < 0 || dict_discard(b->storage, key) < 0 ? -1 : 0;
            }
        }
    }
    return Doeff_DictGet(b->storage, key, value);
}

/* What doeff._cache_backing.<function>(storage, key, now, ...) says of a storage object. */
static PyObject *
storage_call(DoeffContext *cx, Backing *b, const char *function, PyObject *key, PyObject *value, PyObject *deadline)
{
    double now;
    if (cache_now(cx, &now) < 0) {
        return NULL;
    }
    PyObject *module = PyImport_ImportModule("doeff._cache_backing");
    PyObject *result = NULL;
    if (module != NULL && value == NULL) {
        result = PyObject_CallMethod(module, function, "OOd", b->storage, key, now);
    }
    else if (module != NULL) {
        result = PyObject_CallMethod(module, function, "OOdOO", b->storage, key, now, value, deadline);
    }
    Py_XDECREF(module);
    return result;
}

/* ---- the effects ---- */

static void
no_such_key(PyObject *key)
{
    PyObject *text = PyUnicode_FromFormat("Cache key not found: %R", key);
    if (text != NULL) {
        PyErr_SetObject(PyExc_KeyError, text);
        Py_DECREF(text);
    }
}

static DoeffStep
get_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    PyObject *value = NULL;
    int found = -1;
    Backing b;
    if (backing_open(cx, &b) < 0) {
        return DOEFF_RAISE;
    }
    if (b.expiry != NULL) {
        PyObject *own = hashable_key(key);
        if (own != NULL) {
            found = dict_entry(cx, &b, own, &value);
            Py_DECREF(own);
        }
    }
    else { /* a tuple around the value, or None */
        PyObject *answer = storage_call(cx, &b, "get", key, NULL, NULL);
        if (answer != NULL && PyTuple_Check(answer)) {
            value = Py_NewRef(PyTuple_GET_ITEM(answer, 0));
        }
        found = answer == NULL ? -1 : value != NULL;
        Py_XDECREF(answer);
    }
    backing_drop(&b);
    if (found > 0) {
        *out = value;
        return DOEFF_VALUE;
    }
    if (found == 0) {
        no_such_key(key);
    }
    return DOEFF_RAISE;
}

static DoeffStep
exists_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    Backing b;
    if (backing_open(cx, &b) < 0) {
        return DOEFF_RAISE;
    }
    *out = NULL;
    if (b.expiry != NULL) {
        PyObject *own = hashable_key(key), *value = NULL;
        int found = own == NULL ? -1 : dict_entry(cx, &b, own, &value);
        Py_XDECREF(value);
        Py_XDECREF(own);
        *out = found < 0 ? NULL : PyBool_FromLong(found);
    }
    else {
        *out = storage_call(cx, &b, "exists", key, NULL, NULL);
    }
    backing_drop(&b);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

static DoeffStep
delete_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0);
    Backing b;
    if (backing_open(cx, &b) < 0) {
        return DOEFF_RAISE;
    }
    *out = NULL;
    if (b.expiry != NULL) {
        PyObject *own = hashable_key(key), *value = NULL;
        int found = own == NULL ? -1 : dict_entry(cx, &b, own, &value);
        Py_XDECREF(value);
        if (found > 0 && (dict_discard(b.expiry, own) < 0 || dict_discard(b.storage, own) < 0)) {
            found = -1;
        }
        Py_XDECREF(own);
        *out = found < 0 ? NULL : PyBool_FromLong(found);
    }
    else {
        *out = storage_call(cx, &b, "delete", key, NULL, NULL);
    }
    backing_drop(&b);
    return *out == NULL ? DOEFF_RAISE : DOEFF_VALUE;
}

/* When an entry put by this effect now expires (a strong float), or None: never. */
static PyObject *
deadline_of(DoeffContext *cx, PyObject *effect)
{
    PyObject *policy = DOEFF_FIELD(effect, 2);
    if (policy == Doeff_DataOf(Doeff_RecordTypeOf(effect))) {
        return Py_NewRef(Py_None);
    }
    PyObject *ttl = PyObject_GetAttrString(policy, "ttl");
    if (ttl == NULL || ttl == Py_None) {
        return ttl;
    }
    double seconds = PyFloat_AsDouble(ttl), now;
    Py_DECREF(ttl);
    if (seconds == -1.0 && PyErr_Occurred()) {
        return NULL;
    }
    if (!(seconds > 0.0) || isinf(seconds)) {
        return Py_NewRef(Py_None);
    }
    return cache_now(cx, &now) < 0 ? NULL : PyFloat_FromDouble(now + seconds);
}

static int
dict_put(Backing *b, PyObject *key, PyObject *value, PyObject *deadline)
{
    PyObject *own = hashable_key(key);
    if (own == NULL) {
        return -1;
    }
    int failed;
    if (deadline == Py_None) {
        failed = PyDict_GET_SIZE(b->expiry) > 0 && dict_discard(b->expiry, own) < 0;
    }
    else {
        failed = PyDict_SetItem(b->expiry, own, deadline) < 0;
    }
    failed = failed || PyDict_SetItem(b->storage, own, value) < 0;
    Py_DECREF(own);
    return failed ? -1 : 0;
}

static DoeffStep
put_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    PyObject *key = DOEFF_FIELD(effect, 0), *value = DOEFF_FIELD(effect, 1);
    PyObject *deadline = deadline_of(cx, effect);
    Backing b;
    if (deadline == NULL || backing_open(cx, &b) < 0) {
        Py_XDECREF(deadline);
        return DOEFF_RAISE;
    }
    int failed;
    if (b.expiry != NULL) {
        failed = dict_put(&b, key, value, deadline) < 0;
    }
    else {
        PyObject *answer = storage_call(cx, &b, "put", key, value, deadline);
        failed = answer == NULL;
        Py_XDECREF(answer);
    }
    backing_drop(&b);
    Py_DECREF(deadline);
    if (failed) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

/* ---- construction ---- */

/* CachePolicy() (borrowed): made when first needed, so that imports stay cheap; kept with the class. */
static PyObject *
default_policy(DoeffRecordType *type)
{
    if (Doeff_DataOf(type) == NULL) {
        Doeff_SetDataOf(type, python_call("doeff._cache_policy", "policy_from", Py_None));
    }
    return Doeff_DataOf(type);
}

static int
put_init(DoeffRecordType *type, PyObject **f)
{
    if (!plainly_serialisable(Doeff_EngineOf(type), f[0], 8)) {
        PyObject *checked = python_call("doeff._cache_backing", "check_serialisable", f[0]);
        if (checked == NULL) {
            return -1;
        }
        Py_DECREF(checked);
    }
    if (f[2] == Py_None) {
        PyObject *policy = default_policy(type);
        if (policy == NULL) {
            return -1;
        }
        Py_SETREF(f[2], Py_NewRef(policy));
    }
    else if (f[2] != Doeff_DataOf(type)) {
        PyObject *policy = python_call("doeff._cache_policy", "policy_from", f[2]);
        if (policy == NULL) {
            return -1;
        }
        Py_SETREF(f[2], policy);
    }
    return 0;
}

/* CachePut(key, value, ttl=None, *, lifecycle=None, storage=None, metadata=None, policy=None) */
static PyObject *
put_construct(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    if (DOEFF_LIKELY(nargs == 2 && kwnames == NULL)) {
        PyObject *policy = default_policy((DoeffRecordType *)self);
        PyObject *all[3] = {args[0], args[1], policy};
        return policy == NULL ? NULL : Doeff_Construct(self, all, 3, NULL);
    }
    static const char *const names[] = {"key", "value", "ttl", "lifecycle", "storage", "metadata", "policy", NULL};
    static const DoeffParameters parameters = {"CachePut", names, 3, 2};
    PyObject *bound[7];
    if (Doeff_BindArguments(&parameters, args, nargs, kwnames, bound) < 0) {
        return NULL;
    }
    for (int i = 2; i < 7; i++) {
        bound[i] = bound[i] == NULL ? Py_None : bound[i];
    }
    PyObject *module = PyImport_ImportModule("doeff._cache_policy");
    PyObject *policy = module == NULL ? NULL
                                      : PyObject_CallMethod(module, "policy_of", "OOOOO", bound[2], bound[3],
                                                            bound[4], bound[5], bound[6]);
    Py_XDECREF(module);
    if (policy == NULL) {
        return NULL;
    }
    PyObject *all[3] = {bound[0], bound[1], policy};
    PyObject *effect = Doeff_Construct(self, all, 3, NULL);
    Py_DECREF(policy);
    return effect;
}

static const DoeffRecordSpec get_spec = {
    .name = "doeff.effects.cache.CacheGetEffect",
    .doc = "CacheGetEffect(key)\n--\n\nRead an entry of the run's cache.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1,
};
static const DoeffRecordSpec put_spec = {
    .name = "doeff.effects.cache.CachePutEffect",
    .doc = "CachePutEffect(key, value, policy=None)\n--\n\nWrite an entry of the run's cache.",
    .fields = {"key", "value", "policy"}, .required = 2, .effect = 1, .subclassable = 1, .init = put_init,
};
static const DoeffRecordSpec exists_spec = {
    .name = "doeff.effects.cache.CacheExistsEffect",
    .doc = "CacheExistsEffect(key)\n--\n\nAsk whether the run's cache has an entry.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1,
};
static const DoeffRecordSpec delete_spec = {
    .name = "doeff.effects.cache.CacheDeleteEffect",
    .doc = "CacheDeleteEffect(key)\n--\n\nRemove an entry of the run's cache.",
    .fields = {"key"}, .required = 1, .effect = 1, .subclassable = 1,
};

static PyMethodDef get_def = {
    "CacheGet", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CacheGet(key)\n--\n\nThe value stored under key in the run's cache; KeyError is raised at the yield if there is "
              "none or\nits time is over.\n\n>>> page = yield CacheGet((\"page\", 7))\n\nContract: effects, part 3.8.")};
static PyMethodDef put_def = {
    "CachePut", (PyCFunction)(void (*)(void))put_construct, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CachePut(key, value, ttl=None, *, lifecycle=None, storage=None, metadata=None, policy=None)\n--\n\n"
              "Store value under key in the run's cache. Gives None.\n\nkey: anything that serialises; the pickler's error is "
              "raised at once if it does not.\nttl: seconds after which the entry counts as absent; None, zero and less: never.\n"
              "lifecycle, storage, metadata: hints for custom handlers.\npolicy: a CachePolicy or a mapping of its fields, in "
              "place of the others (ValueError with both).\n\n>>> yield CachePut(\"token\", token, ttl=60)\n\n"
              "Contract: effects, part 3.8.")};
static PyMethodDef exists_def = {
    "CacheExists", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CacheExists(key)\n--\n\nWhether the run's cache has an entry under key.\n\n"
              ">>> known = yield CacheExists(\"token\")\n\nContract: effects, part 3.8.")};
static PyMethodDef delete_def = {
    "CacheDelete", DOEFF_CONSTRUCTOR, DOEFF_CONSTRUCTOR_FLAGS,
    PyDoc_STR("CacheDelete(key)\n--\n\nRemove the entry under key; gives whether there was one.\n\n"
              ">>> yield CacheDelete(\"token\")\n\nContract: effects, part 3.8.")};

/* ---- a computation that tasks do not repeat: for the decorator ---- */

/* CacheOnceFrame: the computation of a key. a: what it is awaited under. */

static const DoeffFrameKind once_frame;

/* Who computes what in this run: a dict (borrowed). */
static PyObject *
computations(DoeffContext *cx)
{
    PyObject *key = PyLong_FromVoidPtr((void *)&once_frame); /* no str: the result does not show it */
    PyObject *dict = key == NULL ? NULL : Doeff_RunDict(cx, key);
    Py_XDECREF(key);
    return dict;
}

static int
computed(DoeffContext *cx, PyObject *event)
{
    PyObject *dict = computations(cx);
    int known = dict == NULL ? -1 : PyDict_Contains(dict, event);
    return known < 0 || (known && PyDict_DelItem(dict, event) < 0) ? -1 : Doeff_WakeEvent(cx, event);
}

static DoeffStep
once_end(DoeffContext *cx, DoeffFrame *frame, PyObject *Py_UNUSED(outcome), PyObject **Py_UNUSED(out))
{
    return computed(cx, frame->a) < 0 ? DOEFF_RAISE : DOEFF_PASS;
}

static void
once_drop(DoeffContext *cx, DoeffFrame *frame)
{
    if (computed(cx, frame->a) < 0) {
        PyErr_WriteUnraisable(frame->a);
    }
}

static const DoeffFrameKind once_frame = {
    .name = "CacheOnceFrame",
    .on_value = once_end,
    .on_error = once_end,
    .on_drop = once_drop,
};

static int
is_same_event(const DoeffFrame *frame, void *event)
{
    return PyObject_RichCompareBool(frame->a, event, Py_EQ);
}

static DoeffStep
once_perform(DoeffContext *cx, PyObject *effect, PyObject **out)
{
    if (Doeff_Begin(cx) < 0) {
        return DOEFF_RAISE;
    }
    PyObject *dict = computations(cx);
    PyObject *key = dict == NULL ? NULL : hashable_key(DOEFF_FIELD(effect, 0));
    PyObject *name = key == NULL ? NULL : PyLong_FromVoidPtr((void *)&once_frame);
    PyObject *event = name == NULL ? NULL : PyTuple_Pack(2, name, key);
    Py_XDECREF(key);
    Py_XDECREF(name);
    DoeffStep step = DOEFF_RAISE;
    int known = event == NULL ? -1 : PyDict_Contains(dict, event);
    int own = known <= 0 ? known : Doeff_FindFrame(cx, &once_frame, is_same_event, event);
    if (own < 0) {
        goto done;
    }
    if (known && !own) { /* another task is at it: whoever asks looks into the cache again after that */
        step = Doeff_WaitForEvent(cx, event, out);
        if (step != DOEFF_PASS) {
            goto done;
        }
    }
    step = DOEFF_RAISE;
    if (own || (PyDict_SetItem(dict, event, Py_True) == 0 && Doeff_Push(cx, &once_frame, Py_NewRef(event), NULL) == 0)) {
        *out = Py_NewRef(DOEFF_FIELD(effect, 1));
        step = DOEFF_PROGRAM;
    }
done:
    Py_XDECREF(event);
    return step;
}

static const DoeffRecordSpec once_spec = {
    .name = "doeff.effects.cache._CacheOnceEffect",
    .doc = "_CacheOnceEffect(key, program)\n--\n\nRun a program unless another task runs one for the same key; wait for that "
           "and give None then.",
    .fields = {"key", "program"}, .required = 2, .effect = 1,
};

int
effects_cache_init(PyObject *module, DoeffEngine *st, PyObject *core)
{
    return Doeff_Define(module, st, core, &(DoeffEffectDef){&get_spec, &get_def, get_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&put_spec, &put_def, put_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&exists_spec, &exists_def, exists_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&delete_spec, &delete_def, delete_perform}) == NULL
                   || Doeff_Define(module, st, core, &(DoeffEffectDef){&once_spec, NULL, once_perform}) == NULL
               ? -1
               : 0;
}
