/* effects: what the rooms of the engine share to make effect classes and their cases. The families
 * themselves use it through doeff.h (family.h).
 */
#ifndef DOEFF_EFFECTS_H
#define DOEFF_EFFECTS_H

#include "../machine/machine.h"
#include "../program/program.h"
#include "family.h"

/* An effect class, its constructor function and its case in the handler (NULL if the def has no
 * function), in one go. */
typedef DoeffEffectDef EffectDef;

RecordInfo *effect_define(PyObject *module, EngineState *st, NativeHandler *handler, const EffectDef *def);

/* The module's object `name` under a second name. */
int effect_alias(PyObject *module, const char *name, const char *alias);

/* The name of an object's class without its module. Lives as long as the class. */
const char *type_name(PyObject *op);

/* Checks that constructors share; -1 with the TypeError that the contract words. */
int check_str(PyObject *value, const char *field);
int check_callable(PyObject *value, const char *field);
int check_program(EngineState *st, PyObject *value, const char *field);
/* What may be meant by an object that is no program, for the end of an error message; or "". */
const char *program_hint(EngineState *st, PyObject *op);

#endif
