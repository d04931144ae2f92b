/* family: what a family of effects includes, and all that it includes: the public interface and the
 * list of the families. A family is one file: its effect classes, what answers them, the frames they
 * need, and one entry point that makes the classes and adds its cases to the handler that serves it. A
 * new one is that file, a line in the list, a line in meson.build, a stub, a page and a test.
 */
#ifndef DOEFF_FAMILY_H
#define DOEFF_FAMILY_H

#include "../capi/builtin.h"

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

#define EFFECT_FAMILY_DECLARE(name) int effects_##name##_init(PyObject *module, DoeffEngine *st, PyObject *core);
ENGINE_FAMILIES(EFFECT_FAMILY_DECLARE)
#undef EFFECT_FAMILY_DECLARE

#endif
