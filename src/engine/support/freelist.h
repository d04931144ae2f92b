/* freelist: a capped stack of dead objects of one size, kept for the next one.
 *
 * Objects on the list have a count of 0, are untracked and own nothing but the
 * reference to their type, which stays taken. freelist_pop revives one with a
 * count of 1; every field is for the caller to set before anything can fail.
 * The link lives in the first word behind the object header. Plain structs use
 * the same list with freelist_pop_raw / freelist_push_raw (link in the first word).
 * In free-threaded builds the lists stay empty.
 */
#ifndef DOEFF_FREELIST_H
#define DOEFF_FREELIST_H

#include "compat.h"

typedef struct DoeffFreeList {
    void *head;
    int count;
} DoeffFreeList;

#define FREELIST_CAP 64 /* deep recursion of effects is rare; 64 keeps a run's set warm */

static inline PyObject *
freelist_pop(DoeffFreeList *list)
{
    PyObject *op = list->head;
    if (DOEFF_LIKELY(op != NULL)) {
        list->head = *(void **)(op + 1);
        list->count--;
#ifdef Py_REF_DEBUG
        _Py_NewReference(op);
#else
        op->ob_refcnt = 1; /* it is 0: no need to ask whether it is immortal */
#endif
    }
    return op;
}

/* 1 if the list, with a cap of its own, took the dead object; its type reference goes along. */
static inline int
freelist_push_capped(DoeffFreeList *list, PyObject *op, int cap)
{
    if (!DOEFF_FREE_LISTS || list->count >= cap) {
        return 0;
    }
    *(void **)(op + 1) = list->head;
    list->head = op;
    list->count++;
    return 1;
}

static inline int
freelist_push(DoeffFreeList *list, PyObject *op)
{
    return freelist_push_capped(list, op, FREELIST_CAP);
}

static inline void *
freelist_pop_raw(DoeffFreeList *list)
{
    void *block = list->head;
    if (DOEFF_LIKELY(block != NULL)) {
        list->head = *(void **)block;
        list->count--;
    }
    return block;
}

static inline int
freelist_push_raw(DoeffFreeList *list, void *block)
{
    if (!DOEFF_FREE_LISTS || list->count >= FREELIST_CAP) {
        return 0;
    }
    *(void **)block = list->head;
    list->head = block;
    list->count++;
    return 1;
}

/* Frees every object of the list and gives its type reference back. */
void freelist_drain(DoeffFreeList *list);
void freelist_drain_raw(DoeffFreeList *list);

#endif
