/* program: the base of everything that can be yielded, and how each kind starts.
 *
 * A program is an inert value. ProgramBase is the base class, EffectBase its subclass
 * for effects; neither has C fields, so that a user's dataclass costs what a dataclass
 * costs. Every kind of program has a start function of an effect function's shape:
 * given the program, it pushes what it needs and gives a first value (None starts a
 * fresh generator on top), an error, or another program to run in its place.
 */
#ifndef DOEFF_PROGRAM_H
#define DOEFF_PROGRAM_H

#include "../machine/machine.h"

static inline int
program_check(EngineState *st, PyObject *op)
{
    /* Static types are never ours: most arguments are told apart by one flag. */
    PyTypeObject *type = Py_TYPE(op);
    return PyType_HasFeature(type, Py_TPFLAGS_HEAPTYPE) && PyType_IsSubtype(type, st->Program_Type);
}

/* Drives a generator or coroutine (stolen) from its start as the program that is running now. */
static inline DoeffStep
program_drive(DoeffContext *cx, PyObject *generator /* stolen */, PyObject *kleisli /* borrowed or NULL */,
              PyObject **out)
{
    if (DOEFF_UNLIKELY(context_push(cx, &return_frame, generator, Py_XNewRef(kleisli)) < 0)) {
        return DOEFF_RAISE;
    }
    *out = Py_NewRef(Py_None);
    return DOEFF_VALUE;
}

/* What a called function gave: a generator is driven, anything else (stolen) is the value. */
static inline DoeffStep
program_outcome(DoeffContext *cx, PyObject *result /* stolen */, PyObject *kleisli, PyObject **out)
{
    if (DOEFF_LIKELY(PyGen_CheckExact(result) || PyCoro_CheckExact(result))) {
        return program_drive(cx, result, kleisli, out);
    }
    *out = result;
    return DOEFF_VALUE;
}

/* StopIteration out of a function that the machine called must not look like the end of a
 * generator: if that is what is set, RuntimeError with it as its cause is set in its place. */
void program_wrap_stop_iteration(void);
PyObject *program_describe_resume(PyObject *generator, PyObject *kleisli);
int program_room_init(PyObject *module, EngineState *st);

/* combinators.c: map, flat_map, sequence, projections... */
DoeffStep combinator_start(DoeffContext *cx, PyObject *program, PyObject **out);
extern PyMethodDef program_methods[];
PyObject *program_project_attr(EngineState *st, PyObject *program, PyObject *name);
PyObject *program_project_item(PyObject *program, PyObject *key);
PyObject *program_project_call(PyObject *program, PyObject *args, PyObject *kwargs);
int combinators_room_init(PyObject *module, EngineState *st);

/* await.c: am_await of every program. */
PyObject *program_await(PyObject *program);
int await_room_init(PyObject *module, EngineState *st);

#endif
