/* doeff.h: effect classes, native handlers, frames and values, for C extensions.
 *
 * doeff's own families of effects are written against this header and nothing more. An
 * extension is a module like any other that calls doeff_import() when it is executed:
 *
 *     #include <doeff.h>
 *
 *     static int
 *     kv_exec(PyObject *module)
 *     {
 *         if (doeff_import(module) < 0) {
 *             return -1;
 *         }
 *         DoeffEngine *engine = Doeff_Engine();
 *         PyObject *handler = engine == NULL ? NULL : Doeff_NewHandler(engine, "kv_handler", module, NULL);
 *         ...
 *
 * The machine calls an effect function when an effect of its class is performed and no
 * handler further in has taken it. The function answers in place, raises, hands a program
 * to the machine, keeps the continuation, or lets the effect pass outward. A program runs
 * at the origin of the effect, with every handler in force there; the function says what
 * is to happen when it is done by pushing frames first.
 *
 * Ownership: arguments are borrowed and results strong, but where a comment says otherwise.
 * An effect function leaves a strong reference in *out with DOEFF_VALUE, DOEFF_PROGRAM and
 * DOEFF_OUTSIDE and does not touch it otherwise. DOEFF_RAISE goes with an exception that is
 * set, every other step with none. NULL and -1 mean that an exception is set.
 *
 * Threads: a context belongs to the thread that runs the machine; everything here is called
 * with that thread's state attached.
 *
 * An extension of several files defines DOEFF_API_SYMBOL, the name of a pointer that they
 * share, in each before including this, and DOEFF_API_EXTERN in all but the one that calls
 * doeff_import().
 */
#ifndef DOEFF_H
#define DOEFF_H

#ifndef PY_SSIZE_T_CLEAN
#define PY_SSIZE_T_CLEAN
#endif
#include <Python.h>

/* Two halves fit if their ABI numbers are equal and the engine's table is not the shorter one. The
 * number changes when anything here changes its meaning or its place; functions are added at the
 * end of the table, and fields at the end of DoeffContext, without changing it. */
#ifndef DOEFF_ABI
#define DOEFF_ABI 1
#endif

#if defined(__GNUC__) || defined(__clang__)
#define DOEFF_LIKELY(x) __builtin_expect(!!(x), 1)
#define DOEFF_UNLIKELY(x) __builtin_expect(!!(x), 0)
#else
#define DOEFF_LIKELY(x) (x)
#define DOEFF_UNLIKELY(x) (x)
#endif

typedef struct EngineState DoeffEngine;     /* one import of the engine; lives as long as the interpreter needs it */
typedef struct DoeffContext DoeffContext;   /* the running task, as handlers see it */
typedef struct DoeffFrame DoeffFrame;
typedef struct RecordInfo DoeffRecordType;  /* a record class; an object; borrowed from the engine wherever it is given */

/* ---- what a function tells the machine ---- */

typedef enum {
    DOEFF_RAISE = -1, /* an exception is set: raised at the yield */
    DOEFF_VALUE = 0,  /* *out is the answer */
    DOEFF_PROGRAM,    /* *out is to be run; what it gives goes to the frame on top */
    DOEFF_PASS,       /* effect: not mine, the next handler outward; frame: as if I were not there */
    DOEFF_OUTSIDE,    /* effects only: *out (effect or program) is performed in its place, outside this handler */
    DOEFF_BLOCK,      /* the scheduler's own (others: Doeff_WaitFor): the task waits for what it has been hung on */
    DOEFF_ESCAPE,     /* *out is an action for who drives the run, which gives the answer */
} DoeffStep;

typedef DoeffStep (*DoeffEffectFn)(DoeffContext *cx, PyObject *effect, PyObject **out);

/* ---- frames ---- */

/* A frame: what to do with a value and what to do with an error, and two objects to do
 * it with. It is popped before either function runs; its references are released after. */
typedef struct DoeffFrameKind {
    const char *name; /* as stack traces show it */
    DoeffStep (*on_value)(DoeffContext *cx, DoeffFrame *frame, PyObject *value, PyObject **out); /* NULL: pass */
    DoeffStep (*on_error)(DoeffContext *cx, DoeffFrame *frame, PyObject *error, PyObject **out); /* NULL: pass */
    PyObject *(*describe)(const DoeffFrame *frame); /* str for stack traces; NULL: the empty one */
    int records; /* b is an open scope (Doeff_OpenScope) */
    void (*on_drop)(DoeffContext *cx, DoeffFrame *frame); /* its task is discarded: no effects, no errors; or NULL */
} DoeffFrameKind;

struct DoeffFrame {
    const DoeffFrameKind *kind;
    PyObject *a; /* strong or NULL */
    PyObject *b; /* strong or NULL */
};

/* ---- the context ---- */

struct DoeffContext {
    PyObject *env;      /* FrozenDict in force: read with PyDict_*, change with Doeff_SetEnv */
    PyObject *store;    /* dict of the task: read with PyDict_*, write to what Doeff_Store gives */
    DoeffEngine *st;    /* the engine */
    PyObject *data;     /* of the handler whose effect function is at work, borrowed or NULL; not for frames */
    /* The rest is for the functions below. */
    struct DoeffHandlerContext *forwarder; /* a handler's body yielded the effect that it was given; borrowed */
    PyObject *scopes;   /* the innermost open scope, or NULL; strong */
    int attention;      /* something waits to be looked at between two effects */
    int store_shared;   /* the dict is also somebody's snapshot: copy before writing */
};

/* ---- records: effect classes and other plain values ---- */

/* A record is an immutable object with a fixed row of fields, which are never NULL. */
typedef struct DoeffRecord {
    PyObject_HEAD
    DoeffRecordType *info; /* borrowed; outlives every object whose type has a module */
    size_t tracked;        /* the collector knows it; asking the collector costs a call */
    PyObject *f[];
} DoeffRecord;

#define DOEFF_FIELD(op, i) (((DoeffRecord *)(op))->f[i]) /* borrowed */

#define DOEFF_MAX_FIELDS 8

/* One spec gives a class its constructor, ==, hash, repr, pickling and __match_args__, and makes it behave like a
 * frozen dataclass. Specs and what they point to are static: the engine keeps the pointer. The class belongs to
 * the engine's module, so its methods find their own module by Doeff_DataOf, not by PyType_GetModule. */
typedef struct DoeffRecordSpec {
    const char *name;        /* "package.module.Class", as pickle will look for it */
    const char *doc;
    const char *fields[DOEFF_MAX_FIELDS + 1];   /* NULL ends the row */
    const char *keywords[DOEFF_MAX_FIELDS + 1]; /* names that the constructor function takes, where they
                                                   differ from the fields; an empty row: the same */
    int required;            /* leading fields without a default; the others default to None */
    int compared;            /* leading fields that ==, hash and repr look at; 0: all of them */
    int keyword_only;        /* fields from this index on are keyword-only; 0: none are, -1: all are */
    int effect;              /* a subclass of EffectBase, with created_at */
    int subclassable;
    /* Checks and normalises the strong references in f; -1 with an error set. */
    int (*init)(DoeffRecordType *type, PyObject **f);
    PyType_Slot *slots;      /* further slots (methods, getset, richcompare...), or NULL */
} DoeffRecordSpec;

/* How a DoeffRecordType begins. */
typedef struct DoeffRecordHead {
    PyObject_HEAD
    PyTypeObject *type; /* strong */
    DoeffEngine *st;
    PyObject *data;     /* the family's own, strong or NULL */
} DoeffRecordHead;

/* The Python class (borrowed). */
static inline PyTypeObject *
Doeff_ClassOf(DoeffRecordType *type)
{
    return ((DoeffRecordHead *)type)->type;
}

static inline DoeffEngine *
Doeff_EngineOf(DoeffRecordType *type)
{
    return ((DoeffRecordHead *)type)->st;
}

/* What the family keeps with the class (borrowed or NULL): its module, say. */
static inline PyObject *
Doeff_DataOf(DoeffRecordType *type)
{
    return ((DoeffRecordHead *)type)->data;
}

static inline void
Doeff_SetDataOf(DoeffRecordType *type, PyObject *data /* stolen */)
{
    Py_XSETREF(((DoeffRecordHead *)type)->data, data);
}

/* The record class that a record is an instance of, or of a subclass. */
static inline DoeffRecordType *
Doeff_RecordTypeOf(PyObject *record)
{
    return ((DoeffRecord *)record)->info;
}

/* An effect class, its constructor function and what answers it, in one go. */
typedef struct DoeffEffectDef {
    const DoeffRecordSpec *spec;
    PyMethodDef *constructor; /* static; NULL: none. Its self is the DoeffRecordType */
    DoeffEffectFn fn;         /* NULL: served elsewhere */
} DoeffEffectDef;

/* ml_meth and ml_flags of a constructor that takes the fields as they are. */
#define DOEFF_CONSTRUCTOR NULL
#define DOEFF_CONSTRUCTOR_FLAGS (METH_FASTCALL | METH_KEYWORDS)

/* Named parameters of a METH_FASTCALL | METH_KEYWORDS function. */
typedef struct DoeffParameters {
    const char *function;     /* as error messages call it */
    const char *const *names; /* NULL ends the row */
    int positional;           /* how many may be given by position */
    int required;             /* how many have no default */
} DoeffParameters;

/* ---- well-known objects ---- */

typedef enum {
    DOEFF_PROGRAM_CLASS,
    DOEFF_EFFECT_CLASS,
    DOEFF_FROZENDICT_CLASS,
    DOEFF_MISSING_ENV_KEY_ERROR,
    DOEFF_CIRCULAR_ASK_ERROR,
    DOEFF_INVARIANT_ERROR,   /* InterpreterInvariantError */
    DOEFF_STR_LOG,           /* "__log__" and so on: reserved keys of the store, interned */
    DOEFF_STR_GRAPH,
    DOEFF_STR_CACHE_STORAGE,
    DOEFF_STR_CACHE_EXPIRY,
    DOEFF_STR_LAZY_CACHE,
    DOEFF_STR_CURRENT_TIME,
    DOEFF_STR_VALUE,         /* "value", "meta", "keys" */
    DOEFF_STR_META,
    DOEFF_STR_KEYS,
    DOEFF_KNOWN_OBJECTS
} DoeffKnown;

/* Borrowed. */
static inline PyObject *
Doeff_Known(DoeffEngine *engine, DoeffKnown which)
{
    return ((PyObject **)(void *)engine)[which];
}

/* ---- functions ---- */

/* F(result, name, parameters, arguments): Doeff_name. Only ever added to, at the end. */
#define DOEFF_FUNCTIONS(F)                                                                                            \
    /* The engine of this interpreter. */                                                                             \
    F(DoeffEngine *, Engine, (void), ())                                                                              \
                                                                                                                      \
    /* -- classes: when a module is executed -- */                                                                    \
    /* Makes a record class and adds it to the module under its last name. */                                         \
    F(DoeffRecordType *, NewRecordType, (PyObject *module, DoeffEngine *engine, const DoeffRecordSpec *spec),         \
      (module, engine, spec))                                                                                         \
    /* Adds a constructor function for the class to the module. def is static; its self is the DoeffRecordType. */    \
    F(int, AddConstructor, (PyObject *module, DoeffRecordType *type, PyMethodDef *def), (module, type, def))          \
    /* NewRecordType, AddConstructor and Serve. handler is used only where the def has a function. */                 \
    F(DoeffRecordType *, Define,                                                                                      \
      (PyObject *module, DoeffEngine *engine, PyObject *handler, const DoeffEffectDef *def),                          \
      (module, engine, handler, def))                                                                                 \
    /* The module's object `name` under a second name. */                                                             \
    F(int, Alias, (PyObject *module, const char *name, const char *alias), (module, name, alias))                     \
    /* A record from the call of a constructor function, checked by the spec's init. */                               \
    F(PyObject *, Construct, (PyObject *type, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames),            \
      (type, args, nargs, kwnames))                                                                                   \
    /* A record of these fields (stolen, also on failure; an effect has one more, NULL). No check is run. */          \
    F(PyObject *, NewRecord, (DoeffRecordType *type, PyObject **fields), (type, fields))                              \
                                                                                                                      \
    /* -- handlers -- */                                                                                              \
    /* A handler, to be installed like any other. data: its own, or NULL. any: for every effect that nothing          \
     * else serves, or NULL. */                                                                                       \
    F(PyObject *, NewHandler, (DoeffEngine *engine, const char *name, PyObject *data, DoeffEffectFn any),             \
      (engine, name, data, any))                                                                                      \
    /* fn answers effects of this class and its subclasses. Only before the handler is first used. */                 \
    F(int, Serve, (PyObject *handler, PyTypeObject *type, DoeffEffectFn fn), (handler, type, fn))                     \
    /* How the handler's scope shows in stack traces: as a frame of this kind, a: handler, b: its data. */            \
    F(int, ShowAs, (PyObject *handler, const DoeffFrameKind *kind), (handler, kind))                                  \
                                                                                                                      \
    /* -- what effect functions and frames do -- */                                                                   \
    /* Slow path of Doeff_Begin. */                                                                                   \
    F(int, EnterOrigin, (DoeffContext *cx), (cx))                                                                     \
    /* Slow path of Doeff_Store. */                                                                                   \
    F(int, UnshareStore, (DoeffContext *cx), (cx))                                                                    \
    /* Pushes a frame; takes a and b (stolen, also on failure). */                                                    \
    F(int, Push, (DoeffContext *cx, const DoeffFrameKind *kind, PyObject *a, PyObject *b), (cx, kind, a, b))          \
    /* The program that is given next runs with this handler in force, until it ends. */                              \
    F(int, Install, (DoeffContext *cx, PyObject *handler), (cx, handler))                                             \
    /* program (stolen) is run in place of effect, outside this handler, as a handler's body: yielding the effect     \
     * again forwards it, its origin unchanged. Return what this returns. */                                          \
    F(DoeffStep, Replace, (DoeffContext *cx, PyObject *effect, PyObject *program, PyObject **out),                    \
      (cx, effect, program, out))                                                                                     \
    /* Takes the continuation of effect, up to this handler, off and gives it as an object. From here on the function \
     * stands outside its handler's scope: a value or program that it answers with is the scope's. At most once.      \
     * A continuation that is dropped is unwound before the next effect: its finally blocks run. */                   \
    F(PyObject *, Keep, (DoeffContext *cx, PyObject *effect), (cx, effect))                                           \
    /* Goes on with a continuation that was kept, in this run or frame or effect function: its effect gives value, or \
     * raises the exception that is set if that is NULL. Return what this returns. What the continuation ends with    \
     * goes to the frame on top, or is the answer. RuntimeError the second time. */                                   \
    F(DoeffStep, Resume, (DoeffContext *cx, PyObject *k, PyObject *value, PyObject **out), (cx, k, value, out))       \
                                                                                                                      \
    /* -- what belongs to the run -- */                                                                               \
    /* The dict under key, shared by all tasks of the run (borrowed), made when first asked for. Under a str it shows \
     * in the store that the run ends with, unless it is empty. */                                                    \
    F(PyObject *, RunDict, (DoeffContext *cx, PyObject *key), (cx, key))                                              \
    /* The same, but begun with what the task's store has under key: a dict is copied, anything else used in place. */ \
    F(PyObject *, AdoptRunData, (DoeffContext *cx, PyObject *key), (cx, key))                                         \
                                                                                                                      \
    /* -- scopes: what is recorded while a program runs, whatever becomes of its continuation -- */                   \
    /* Opens a scope that is closed by a frame of this kind (records set), pushed here with entries (a list; stolen)  \
     * in a. topic: what it records, compared by identity and held by the engine's state. */                          \
    F(int, OpenScope, (DoeffContext *cx, PyObject *topic, const DoeffFrameKind *kind, PyObject *entries),             \
      (cx, topic, kind, entries))                                                                                     \
    /* Closes the scope of a popped frame, unless a jump has left it behind already. */                               \
    F(int, CloseScope, (DoeffContext *cx, DoeffFrame *frame), (cx, frame))                                            \
    /* The entries (borrowed) of the innermost open scope of this topic, from *scope outward; moves *scope on. NULL:  \
     * no more, no error. Begin with *scope = cx->scopes. */                                                          \
    F(PyObject *, NextScope, (PyObject **scope, PyObject *topic), (scope, topic))                                     \
                                                                                                                      \
    /* -- looking at the continuation -- */                                                                           \
    /* 1 if match gives 1 for a frame of this kind on which the performer's own progress depends: in its              \
     * continuation, in what handlers at work for it have captured, in bodies that wait for a forwarded effect; 0 if  \
     * there is none. match may run Python code. */                                                                   \
    F(int, FindFrame,                                                                                                 \
      (DoeffContext *cx, const DoeffFrameKind *kind, int (*match)(const DoeffFrame *frame, void *arg), void *arg),    \
      (cx, kind, match, arg))                                                                                         \
    /* The pending frames of the task, innermost first, as tuples (kind, description, generator or None,              \
     * KleisliProgram or None); only those of generators unless all are wanted. */                                    \
    F(PyObject *, Pending, (DoeffContext *cx, int all), (cx, all))                                                    \
    /* The CapturedTraceback of an error that a frame catches for good; from its on_error. Cheap. */                  \
    F(PyObject *, CaptureTraceback, (DoeffContext *cx, PyObject *error), (cx, error))                                 \
                                                                                                                      \
    /* -- values; the arguments of constructors are stolen, also on failure -- */                                     \
    F(PyObject *, NewOk, (DoeffEngine *engine, PyObject *value), (engine, value))                                     \
    F(PyObject *, NewErr, (DoeffEngine *engine, PyObject *error, PyObject *captured), (engine, error, captured))      \
    F(PyObject *, NewSome, (DoeffEngine *engine, PyObject *value), (engine, value))                                   \
    F(PyObject *, NewListenResult, (DoeffEngine *engine, PyObject *value, PyObject *log), (engine, value, log))       \
    /* An empty BoundedLog without a bound: a list. */                                                                \
    F(PyObject *, NewBoundedLog, (DoeffEngine *engine), (engine))                                                     \
    /* A FrozenDict with the items of a mapping (borrowed); NULL: the empty one. */                                   \
    F(PyObject *, FrozenDict, (DoeffEngine *engine, PyObject *mapping), (engine, mapping))                            \
    /* base | update, both borrowed: a new FrozenDict, update wins. */                                                \
    F(PyObject *, MergeFrozenDict, (DoeffEngine *engine, PyObject *base, PyObject *update), (engine, base, update))   \
                                                                                                                      \
    /* -- checks of arguments: -1 with the TypeError that doeff's own constructors raise -- */                        \
    F(int, CheckStr, (PyObject *value, const char *field), (value, field))                                            \
    F(int, CheckCallable, (PyObject *value, const char *field), (value, field))                                       \
    F(int, CheckProgram, (DoeffEngine *engine, PyObject *value, const char *field), (engine, value, field))           \
    /* What may be meant by an object that is no program, for the end of an error message; or "". */                  \
    F(const char *, Hint, (DoeffEngine *engine, PyObject *op), (engine, op))                                          \
    /* The name of an object's class without its module. Lives as long as the class. */                               \
    F(const char *, TypeName, (PyObject *op), (op))                                                                   \
    /* Fills bound (one entry a name) with borrowed references, NULL where nothing was given. -1 with the TypeError   \
     * that Python's own functions raise. */                                                                          \
    F(int, BindArguments,                                                                                             \
      (const DoeffParameters *p, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames, PyObject **bound),       \
      (p, args, nargs, kwnames, bound))                                                                               \
    /* 1 if the reference in the caller's own container is the only one there is; 0 if it may not be. */              \
    F(int, IsUnique, (PyObject *op), (op))                                                                            \
                                                                                                                      \
    /* -- answers that come from outside, from any thread -- */                                                       \
    /* An open completion of this run: an ExternalPromise, which Python code may have as well. */                     \
    F(PyObject *, NewCompletion, (DoeffContext *cx), (cx))                                                            \
    /* The effect's task waits until somebody completes it; other tasks run meanwhile. Return what this returns. A    \
     * frame pushed before gets the outcome, else it is the effect's answer. Needs the scheduler's handler outside. */ \
    F(DoeffStep, WaitFor, (DoeffContext *cx, PyObject *completion, PyObject **out), (cx, completion, out))            \
    /* Gives value, or raises error if that is not NULL, where the completion is waited for. From any thread that     \
     * has a thread state of the interpreter attached (PyGILState_Ensure); wakes the run and does not wait for it.    \
     * 1 if this decided it; 0 if it was decided already, or the run is over. */                                      \
    F(int, Complete, (PyObject *completion, PyObject *value, PyObject *error), (completion, value, error))            \
                                                                                                                      \
    /* -- tasks -- */                                                                                                 \
    /* 1 if error is the cancellation of the running task, or what ends a Timeout's or Scope's program around this    \
     * place: a frame that turns errors into values lets it pass. */                                                  \
    F(int, OwnCancel, (DoeffContext *cx, PyObject *error), (cx, error))                                               \
    /* The task waits until Doeff_WakeEvent is called with an equal event (any hashable object); then None goes to the \
     * frame on top, or is the answer. Return what this returns, but for DOEFF_PASS: there is no other task that      \
     * could wake it. */                                                                                              \
    F(DoeffStep, WaitForEvent, (DoeffContext *cx, PyObject *event, PyObject **out), (cx, event, out))                 \
    F(int, WakeEvent, (DoeffContext *cx, PyObject *event), (cx, event))                                               \
    /* To be called when __current_time__ has been written to the store: it is the clock of the run from now on. */   \
    F(int, ClockWasSet, (DoeffContext *cx), (cx))

typedef struct DoeffApi {
    unsigned abi;  /* DOEFF_ABI of the engine; these two never move */
    unsigned size; /* of the engine's table in bytes */
#define DOEFF_MEMBER(T, name, parameters, arguments) T(*name) parameters;
    DOEFF_FUNCTIONS(DOEFF_MEMBER)
#undef DOEFF_MEMBER
} DoeffApi;

#ifdef DOEFF_BUILTIN /* inside the engine: plain functions, which the linker inlines */

#define DOEFF_EXTERN(T, name, parameters, arguments) T Doeff_##name parameters;
DOEFF_FUNCTIONS(DOEFF_EXTERN)
#undef DOEFF_EXTERN

#else

#ifndef DOEFF_API_SYMBOL
static const DoeffApi *doeff_api; /* the engine's table, the same in every interpreter of the process */
#define DOEFF_API_SYMBOL doeff_api
#elif defined(DOEFF_API_EXTERN)
extern const DoeffApi *DOEFF_API_SYMBOL;
#else
const DoeffApi *DOEFF_API_SYMBOL;
#endif

#define DOEFF_INLINE_CALL(T, name, parameters, arguments)                                                             \
    static inline T Doeff_##name parameters                                                                           \
    {                                                                                                                 \
        return DOEFF_API_SYMBOL->name arguments;                                                                      \
    }
DOEFF_FUNCTIONS(DOEFF_INLINE_CALL)
#undef DOEFF_INLINE_CALL

#ifndef DOEFF_API_EXTERN
/* Finds the engine's table. -1 with ImportError if doeff is not there or was built with another ABI than this
 * header's. module: the extension that is being executed, for the message. */
static inline int
doeff_import(PyObject *module)
{
    const DoeffApi *api = (const DoeffApi *)PyCapsule_Import("doeff._engine.C_API", 0);
    if (api == NULL) {
        return -1;
    }
    if (api->abi == DOEFF_ABI && api->size >= sizeof(DoeffApi)) {
        DOEFF_API_SYMBOL = api;
        return 0;
    }
    PyObject *name = PyModule_GetNameObject(module);
    if (name != NULL && api->abi != DOEFF_ABI) {
        PyErr_Format(PyExc_ImportError,
                     "%U was compiled for ABI %u of doeff, and the doeff that is installed has ABI %u: build %U again "
                     "with this doeff",
                     name, (unsigned)DOEFF_ABI, api->abi, name);
    }
    else if (name != NULL) {
        PyErr_Format(PyExc_ImportError,
                     "%U was compiled for a newer doeff, whose table has %u bytes; that of the doeff that is installed "
                     "has %u (ABI %u): install a newer doeff",
                     name, (unsigned)sizeof(DoeffApi), api->size, api->abi);
    }
    Py_XDECREF(name);
    return -1;
}
#endif

#endif

/* ---- small things in place ---- */

/* To be called first by an effect function that pushes frames or runs a program: if a handler's body forwards the
 * effect, its origin comes back in force, so that frames land there and cx->env is the one there. */
static inline int
Doeff_Begin(DoeffContext *cx)
{
    return DOEFF_LIKELY(cx->forwarder == NULL) ? 0 : Doeff_EnterOrigin(cx);
}

static inline void
Doeff_SetEnv(DoeffContext *cx, PyObject *env /* a FrozenDict; stolen */)
{
    PyObject *old = cx->env;
    cx->env = env;
    Py_DECREF(old);
}

/* The task's dict, ready to be written to (borrowed); NULL with an error. */
static inline PyObject *
Doeff_Store(DoeffContext *cx)
{
    if (DOEFF_UNLIKELY(cx->store_shared) && Doeff_UnshareStore(cx) < 0) {
        return NULL;
    }
    return cx->store;
}

static inline int
Doeff_IsProgram(DoeffEngine *engine, PyObject *op)
{
    /* Static types are never ours: most objects are told apart by one flag. */
    PyTypeObject *type = Py_TYPE(op);
    return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE)
           && PyType_IsSubtype(type, (PyTypeObject *)Doeff_Known(engine, DOEFF_PROGRAM_CLASS));
}

static inline int
Doeff_IsEffect(DoeffEngine *engine, PyObject *op)
{
    return PyType_IsSubtype(Py_TYPE(op), (PyTypeObject *)Doeff_Known(engine, DOEFF_EFFECT_CLASS));
}

static inline int
Doeff_IsFrozenDict(DoeffEngine *engine, PyObject *op)
{
    return Py_IS_TYPE(op, (PyTypeObject *)Doeff_Known(engine, DOEFF_FROZENDICT_CLASS));
}

/* 1 and a strong reference, 0 and NULL, or -1 with an error set: PyDict_GetItemRef, which 3.11 and 3.12 lack. */
static inline int
Doeff_DictGet(PyObject *dict, PyObject *key, PyObject **value)
{
#ifdef Py_GIL_DISABLED
    return PyDict_GetItemRef(dict, key, value);
#else
    PyObject *found = PyDict_GetItemWithError(dict, key);
    if (DOEFF_LIKELY(found != NULL)) {
        *value = Py_NewRef(found);
        return 1;
    }
    *value = NULL;
    return PyErr_Occurred() ? -1 : 0;
#endif
}

#endif
