#include "scheduler.h"

void nursery_child_new(DoeffTask *t) { (void)t; }
void nursery_child_over(DoeffScheduler *s, DoeffTask *t) { (void)s; (void)t; }
void nursery_timer(DoeffScheduler *s, struct DoeffNursery *scope) { (void)s; (void)scope; }
void nursery_timer_moved(struct DoeffNursery *scope, Py_ssize_t at) { (void)scope; (void)at; }
int nursery_withdraw(DoeffScheduler *s, DoeffTask *t, PyObject *error) { (void)s; (void)t; (void)error; return 1; }
int structure_room_init(PyObject *module, EngineState *st, NativeHandler *handler) { (void)module; (void)st; (void)handler; return 0; }
