#include "freelist.h"

void
freelist_drain(DoeffFreeList *list)
{
    while (list->head != NULL) {
        PyObject *op = list->head;
        list->head = *(void **)(op + 1);
        PyTypeObject *tp = Py_TYPE(op);
        tp->tp_free(op);
        Py_DECREF(tp);
    }
    list->count = 0;
}

void
freelist_drain_raw(DoeffFreeList *list)
{
    while (list->head != NULL) {
        void *block = list->head;
        list->head = *(void **)block;
        PyMem_Free(block);
    }
    list->count = 0;
}
