/* record: immutable value types from a table, at the price of a tuple.
 *
 * A record is an object with a fixed row of fields: every built-in effect, Ok,
 * Err, ListenResult, the controls of a CESKState. One spec gives the type its
 * constructor, ==, hash, repr, pickling, __match_args__, and makes it behave
 * like a frozen dataclass (dataclasses.fields, replace, asdict). Fields are
 * never NULL once the object exists. Effects carry one hidden field more, behind
 * the visible ones: created_at, NULL when it was not recorded.
 *
 * Objects of the exact type come from a free list and are tracked by the
 * collector only if a field holds an object that the collector knows.
 */
#ifndef DOEFF_RECORD_H
#define DOEFF_RECORD_H

#include "freelist.h"

typedef DoeffRecordType RecordInfo;
typedef DoeffRecordSpec RecordSpec;

#define RECORD_MAX_FIELDS DOEFF_MAX_FIELDS
#define RECORD_FIELD(op, i) DOEFF_FIELD(op, i)

struct RecordInfo {
    PyObject_HEAD
    PyTypeObject *type;      /* strong */
    struct EngineState *st;
    PyObject *data;          /* the family's own; strong or NULL; up to here as in DoeffRecordHead */
    const RecordSpec *spec;
    int (*init)(RecordInfo *info, PyObject **f); /* the spec's */
    Py_ssize_t plain;        /* positional arguments of a call that needs no binding; -1: every call does */
    int nfields;             /* visible fields */
    int total;               /* with created_at */
    const char *constructor; /* name of the first constructor function; NULL: none */
    PyMethodDef plain_def;   /* of the constructor function that takes the fields as they are */
    PyObject *home;          /* name of the module that has the constructors; strong or NULL */
    DoeffFreeList free;
    PyObject *names[RECORD_MAX_FIELDS];    /* field names, interned, strong */
    PyObject *keywords[RECORD_MAX_FIELDS]; /* constructor keywords, interned, strong */
};

int record_room_init(PyObject *module, struct EngineState *st);

/* Makes the type, adds it to the module under its last name, and gives its info
 * (borrowed from the state; NULL with an error). */
RecordInfo *record_type_new(PyObject *module, struct EngineState *st, const RecordSpec *spec);
/* The same with a base of its own, in place of EffectBase for effects and object for the others. */
RecordInfo *record_type_new_under(PyObject *module, struct EngineState *st, const RecordSpec *spec,
                                  PyTypeObject *base /* borrowed or NULL */);

/* A constructor function `name` for the type (strong), added to the module. def
 * is static: its ml_meth is an own METH_FASTCALL|METH_KEYWORDS function whose self is the
 * RecordInfo, or NULL: record_construct, for one function of a type. */
int record_add_constructor(PyObject *module, RecordInfo *info, PyMethodDef *def);
PyObject *record_construct(PyObject *info, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames);

/* A new record; takes the references in f (stolen, also on failure). No check is run. */
PyObject *record_new(RecordInfo *info, PyObject **f);
/* The same with the fields for the caller to set at once, all of them, and record_track if one holds a container. */
PyObject *record_blank(RecordInfo *info);
/* The same for one and two fields. */
PyObject *record_new1(RecordInfo *info, PyObject *a /* stolen */);
PyObject *record_new2(RecordInfo *info, PyObject *a /* stolen */, PyObject *b /* stolen */);

/* With origins recorded: stamps created_at from the innermost Python frame. */
int record_stamp(RecordInfo *info, PyObject *effect);

/* Info of a type or of its nearest base that is a record (borrowed), else NULL, no error. */
RecordInfo *record_info_of(struct EngineState *st, PyTypeObject *type);

/* Shows a record to the collector, once. */
static inline void
record_track(PyObject *op)
{
    if (!((DoeffRecord *)op)->tracked) {
        ((DoeffRecord *)op)->tracked = 1;
        PyObject_GC_Track(op);
    }
}

#endif
