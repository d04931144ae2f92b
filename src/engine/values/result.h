/* result: Ok and Err, Some and Nothing, ListenResult.
 *
 * Ok, Err, Some and ListenResult are records (st->rec); Result and Maybe are their
 * bases, which carry the methods and have no instances of their own. There is one
 * Nothing() per import, st->nothing.
 */
#ifndef DOEFF_VALUES_RESULT_H
#define DOEFF_VALUES_RESULT_H

#include "../state.h"

enum { OK_VALUE = 0 };
enum { ERR_ERROR = 0, ERR_CAPTURED_TRACEBACK = 1 };
enum { SOME_VALUE = 0 };
enum { LISTEN_VALUE = 0, LISTEN_LOG = 1 };

static inline int
result_is_ok(EngineState *st, PyObject *op)
{
    return Py_IS_TYPE(op, st->rec.Ok->type);
}

static inline int
result_is_err(EngineState *st, PyObject *op)
{
    return Py_IS_TYPE(op, st->rec.Err->type);
}

static inline int
maybe_is_some(EngineState *st, PyObject *op)
{
    return Py_IS_TYPE(op, st->rec.Some->type);
}

int values_room_init(PyObject *module, EngineState *st);

#endif
