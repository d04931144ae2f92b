/* effects: one family, one file. Each file defines its effect types, what answers them and the
 * frames they need, and has one entry point that makes the types and adds its cases to the
 * handler that serves the family. A new family is one file, one line in ENGINE_FAMILIES, its
 * record names in state.h, a stub, a page and a test.
 */
#ifndef DOEFF_EFFECTS_H
#define DOEFF_EFFECTS_H

#include "../machine/machine.h"
#include "../program/program.h"

#define ENGINE_FAMILIES(X) \
    X(atomic)              \
    X(cache)               \
    X(callstack)           \
    X(control)             \
    X(graph)               \
    X(io)                  \
    X(reader)              \
    X(state)               \
    X(time)                \
    X(writer)

#define EFFECT_FAMILY_DECLARE(name) int effects_##name##_init(PyObject *module, EngineState *st, NativeHandler *core);
ENGINE_FAMILIES(EFFECT_FAMILY_DECLARE)

/* A record type for an effect, its constructor function and its case in the handler, in one go. */
typedef struct EffectDef {
    const RecordSpec *spec;
    PyMethodDef *constructor; /* static; NULL: none */
    DoeffEffectFn fn;         /* NULL: served elsewhere */
} EffectDef;

RecordInfo *effect_define(PyObject *module, EngineState *st, NativeHandler *handler, const EffectDef *def);

/* The module's object `name` under a second name. */
int effect_alias(PyObject *module, const char *name, const char *alias);

/* ml_meth of a constructor that takes the fields as they are. */
#define EFFECT_CONSTRUCTOR ((PyCFunction)(void (*)(void))record_construct)
#define EFFECT_FLAGS (METH_FASTCALL | METH_KEYWORDS)

/* The name of an object's class without its module. Lives as long as the class. */
const char *type_name(PyObject *op);

/* Checks that constructors share; -1 with the TypeError that the contract words. */
int check_str(PyObject *value, const char *field);
int check_callable(PyObject *value, const char *field);
int check_program(EngineState *st, PyObject *value, const char *field);

#endif
