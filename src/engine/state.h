/* state: what one import of the engine owns.
 *
 * There is no file-level mutable data anywhere: everything lives here, reached
 * through the machine (cx->st), a record's info, or PyType_GetModuleState. The
 * list below is expanded three times (fields, traverse, clear), so the three
 * cannot drift. Nothing in it changes after the module's exec but the free
 * lists, what waits to be freed, the cached handler chain and the recording switch.
 */
#ifndef DOEFF_STATE_H
#define DOEFF_STATE_H

#include "capi/builtin.h"
#include "support/compat.h"
#include "support/freelist.h"
#include "support/nesting.h"
#include "support/record.h"

#define ENGINE_STATE_REFS(X)                                         \
    /* DoeffKnown of doeff.h, in its order; capi.c holds the two together */ \
    X(PyTypeObject, Program_Type)                                    \
    X(PyTypeObject, Effect_Type)                                     \
    X(PyTypeObject, FrozenDict_Type)                                 \
    X(PyObject, MissingEnvKeyError)                                  \
    X(PyObject, CircularAskError)                                    \
    X(PyObject, InterpreterInvariantError)                           \
    X(PyObject, str_log)                                             \
    X(PyObject, str_graph)                                           \
    X(PyObject, str_cache_storage)                                   \
    X(PyObject, str_cache_expiry)                                    \
    X(PyObject, str_lazy_cache)                                      \
    X(PyObject, str_current_time)                                    \
    X(PyObject, str_value)                                           \
    X(PyObject, str_meta)                                            \
    X(PyObject, str_keys)                                            \
    /* support, values */                                            \
    X(PyTypeObject, RecordInfo_Type)                                 \
    X(PyTypeObject, RecordFields_Type) /* lazy __dataclass_fields__ */ \
    X(PyObject, empty_env)                                           \
    X(PyTypeObject, Result_Type)                                     \
    X(PyTypeObject, Maybe_Type)                                      \
    X(PyTypeObject, Nothing_Type)                                    \
    X(PyObject, nothing) /* the only Nothing() */                    \
    X(PyTypeObject, BoundedLog_Type)                                 \
    /* program */                                                    \
    X(PyTypeObject, GeneratorProgram_Type)                           \
    X(PyTypeObject, Combinator_Type)                                 \
    X(PyTypeObject, Kleisli_Type)                                    \
    X(PyTypeObject, KleisliBound_Type)                               \
    X(PyTypeObject, KleisliCall_Type)                                \
    X(PyTypeObject, KleisliPartial_Type)                             \
    X(PyTypeObject, KleisliComposed_Type)                            \
    X(PyTypeObject, Awaiting_Type)                                   \
    X(PyTypeObject, Delegate_Type)                                   \
    X(PyTypeObject, Resumption_Type)                                 \
    /* machine */                                                    \
    X(PyTypeObject, Machine_Type)                                    \
    X(PyTypeObject, HandlerNode_Type)                                \
    X(PyTypeObject, NativeHandler_Type)                              \
    X(PyTypeObject, HandlerContext_Type)                             \
    X(PyTypeObject, Kontinuation_Type)                               \
    X(PyTypeObject, FrameView_Type)                                  \
    X(PyTypeObject, Trace_Type)                                      \
    X(PyTypeObject, CapturedTraceback_Type)                          \
    X(PyTypeObject, RuntimeResult_Type)                              \
    /* scheduler */                                                  \
    X(PyTypeObject, Task_Type)                                       \
    X(PyTypeObject, Handle_Type)                                     \
    X(PyTypeObject, Future_Type)                                     \
    X(PyTypeObject, Promise_Type)                                    \
    X(PyTypeObject, ExternalPromise_Type)                            \
    X(PyTypeObject, Queue_Type)                                      \
    X(PyTypeObject, Semaphore_Type)                                  \
    X(PyObject, normal_priority) /* PRIORITY_NORMAL */               \
    X(PyTypeObject, Nursery_Type)                                    \
    X(PyTypeObject, Schedule_Type)                                   \
    X(PyObject, scheduler_trace) /* the sink of set_scheduler_trace, or NULL */ \
    /* aio */                                                        \
    X(PyTypeObject, AsyncRun_Type)                                   \
    X(PyTypeObject, Bridge_Type)                                     \
    X(PyTypeObject, Parking_Type)                                    \
    X(PyObject, aio_running_loop) /* asyncio.get_running_loop; these three once asked for */ \
    X(PyObject, aio_Task)                                            \
    X(PyObject, aio_task_names)                                      \
    X(PyObject, aio_context_names) /* ("context",) */                \
    /* v1 */                                                         \
    X(PyTypeObject, FrameResult_Type)                                \
    X(PyTypeObject, Request_Type)                                    \
    X(PyTypeObject, Driven_Type)                                     \
    X(PyTypeObject, TaskState_Type)                                  \
    X(PyTypeObject, DefaultEntry_Type)                               \
    X(PyObject, root_node) /* the end of every chain */              \
    X(PyObject, cached_chain) /* HandlerNode of the last list of handlers */ \
    X(PyObject, sync_preset)                                         \
    X(PyObject, async_preset)                                        \
    /* errors */                                                     \
    X(PyObject, UnhandledEffectError)                                \
    X(PyObject, TaskCancelledError)                                  \
    X(PyObject, SchedulerDeadlockError)                              \
    /* interned strings */                                           \
    X(PyObject, str_throw)                                           \
    X(PyObject, str_close)                                           \
    X(PyObject, str_to_generator)                                    \
    X(PyObject, str_created_at)                                      \
    X(PyObject, str_name)                                            \
    X(PyObject, str_qualname)                                        \
    X(PyObject, str_annotations)                                     \
    X(PyObject, str_on_value)                                        \
    X(PyObject, str_on_error)                                        \
    X(PyObject, str_origin)                                          \
    X(PyObject, str_trace)                                           \
    X(PyObject, str_handle)                                          \
    X(PyObject, str_time)                                            \
    X(PyObject, str_create_task)                                     \
    X(PyObject, str_cancel)                                          \
    X(PyObject, str_log_destroy_pending)                             \
    X(PyObject, str_call_soon)                                       \
    X(PyObject, str_call_soon_threadsafe)                            \
    X(PyObject, str_cr_suspended)                                    \
    X(PyObject, str_generator)

#define ENGINE_RECORDS(X)                                            \
    X(Ok) X(Err) X(Some) X(ListenResult)                             \
    X(Pure) X(WithHandler) X(Escape)                                 \
    X(SourceLocation) X(CodeLocation) X(PythonFrame) X(PythonStackTrace) \
    X(KFrame) X(KStackTrace) X(EffectCallNode) X(EffectStackTrace) X(EffectFrame) \
    X(Value) X(Error) X(EffectControl) X(ProgramControl)             \
    X(CESKState) X(ResumeK) X(DirectState) X(Done) X(Failed)         \
    X(Spawn) X(TaskCancel) X(TaskIsDone) X(TaskDiscard)              \
    X(Wait) X(Gather) X(Race) X(RaceResult) X(SchedulerEvent)        \
    X(CreatePromise) X(CompletePromise) X(FailPromise)               \
    X(CreateExternalPromise) X(WaitForExternal) X(BlockForExternal)  \
    X(CreateSemaphore) X(AcquireSemaphore) X(ReleaseSemaphore)       \
    X(Delay) X(WaitUntil) X(Await)                                  \
    X(ContinueValue) X(ContinueProgram) X(ContinueError) X(ContinueGenerator) \
    X(PerformIO) X(AwaitExternal) X(CreateTask) X(CreateFuture)      \
    X(ResolveFuture) X(CreateSpawn) X(PerformEffect)

#define ENGINE_STATE_FIELD(T, name) T *name;
#define ENGINE_RECORD_FIELD(name) RecordInfo *name;

#define CALL_POOLS 6     /* calls of up to five arguments */
#define CALL_POOL_SIZE 6 /* `yield f(x)` keeps one or two alive; with this a pool is 64 bytes */

/* Calls of one size that the collector does not know: alive, or dead and ready to serve again. */
typedef struct CallPool {
    PyObject *free; /* the dead ones, linked as in a free list */
    PyObject *members[CALL_POOL_SIZE]; /* borrowed */
    Py_ssize_t count;
} CallPool;

typedef struct EngineState {
    ENGINE_STATE_REFS(ENGINE_STATE_FIELD)
    struct {
        ENGINE_RECORDS(ENGINE_RECORD_FIELD)
    } rec; /* borrowed from record_table */
    RecordInfo **record_table; /* strong; open addressing by type address; at most half full */
    size_t record_table_size;  /* a power of two */
    size_t record_count;
    DoeffFreeList free_fibers; /* plain structs */
    DoeffFreeList free_ctx;
    DoeffFreeList free_resumptions;
    PyObject *unseen_resumption; /* the last one, while it is alive and the collector does not know it; borrowed */
    CallPool calls[CALL_POOLS]; /* by number of arguments */
    int calls_left; /* to be made the short way, before those still alive are shown to the collector */
    DoeffFreeList free_machines;
    DoeffFreeList free_tasks;
    DoeffFreeList free_results;
    DoeffFreeList free_task_states;
    DoeffFreeList free_kontinuations;
    DoeffNesting nesting;
    getter generator_frame; /* gi_frame of generators, without the look-up of the name */
    unsigned runs_ever; /* runs that had tasks: their serial number */
    int record_origins; /* stamp created_at */
    long long stall_ns; /* what is awaited from outside for so long is logged; 0: nothing is */
    long long step_budget; /* turns that a run may take; 0: any number */
} EngineState;

extern PyModuleDef doeff_engine_module;

static inline EngineState *
engine_state_of(PyTypeObject *type /* defined by this module */)
{
    return (EngineState *)PyType_GetModuleState(type);
}

/* For deallocs: NULL when the collector has taken the module from the type. */
static inline DoeffNesting *
engine_nesting_of(PyTypeObject *type /* defined by this module, or a subclass written in Python */)
{
    while (DOEFF_UNLIKELY(!(type->tp_flags & Py_TPFLAGS_IMMUTABLETYPE))) {
        type = type->tp_base;
    }
    PyObject *module = ((PyHeapTypeObject *)type)->ht_module;
    return module == NULL ? NULL : &((EngineState *)PyModule_GetState(module))->nesting;
}

/* For methods that subclasses inherit: the state, found through the base that is ours. */
static inline EngineState *
engine_state_by_def(PyObject *self)
{
    PyObject *module = PyType_GetModuleByDef(Py_TYPE(self), &doeff_engine_module);
    return module == NULL ? NULL : (EngineState *)PyModule_GetState(module);
}

static inline RecordInfo **
record_slot(EngineState *st, PyTypeObject *type)
{
    size_t i = ((size_t)type >> 5) & (st->record_table_size - 1);
    while (st->record_table[i] != NULL && st->record_table[i]->type != type) {
        i = (i + 1) & (st->record_table_size - 1);
    }
    return &st->record_table[i];
}

/* The family's record if op is exactly one, or an instance of a subclass. */
#define RECORD_IS(op, info) (Py_IS_TYPE((op), (info)->type) || PyType_IsSubtype(Py_TYPE(op), (info)->type))

#endif
