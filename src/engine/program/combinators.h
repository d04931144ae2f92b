/* combinators: programs made of programs, without a generator.
 *
 * map, flat_map, then, the builders and the projections are one immutable type,
 * doeff.program.CombinedProgram. Starting one pushes a frame that says what is to be done
 * with the value of the program inside and runs that program in its place; a chain built
 * in a loop is walked by the machine, one frame for each link, never by C recursion. The
 * frames of flat_map and then are gone when what they were waiting for starts: a real tail
 * call. Chains are freed in a loop.
 */
#ifndef DOEFF_COMBINATORS_H
#define DOEFF_COMBINATORS_H

#include "program.h"

typedef enum { BIND_MAP, BIND_FLAT_MAP } BindKind;

/* source.map(f) or source.flat_map(f), with f checked by the caller (strong). */
PyObject *combinator_bind(EngineState *st, BindKind kind, PyObject *source /* borrowed */, PyObject *f /* borrowed */);
/* Pushes what such a program pushes, for a source that is about to run. */
int combinator_push(DoeffContext *cx, BindKind kind, PyObject *f /* borrowed */);

#endif
