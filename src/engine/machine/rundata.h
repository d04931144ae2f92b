/* rundata: what belongs to the run rather than to one of its tasks.
 *
 * One dict for each machine, made when first asked for. It holds, under their reserved
 * names, __cache_storage__ (a dict, or the caller's storage object), __cache_expiry__ and
 * __ask_lazy_cache__. It is no task's store: Get does not see it. When the run has ended,
 * its entries are laid over the main task's store, where raw_store shows them; those under
 * another key than a str are a family's own and are not.
 */
#ifndef DOEFF_RUNDATA_H
#define DOEFF_RUNDATA_H

#include "machine.h"

/* The dict (borrowed), or NULL with an error. */
PyObject *run_data(DoeffContext *cx);
/* The dict under key in it (borrowed), made empty if there is none. */
PyObject *run_data_dict(DoeffContext *cx, PyObject *key);
/* The same, but taken over from the store that the run began with: a dict is copied, so that the
 * caller's never changes; anything else is used in place. What is taken over is what the store of
 * the task that asks first holds. */
PyObject *run_data_adopt(DoeffContext *cx, PyObject *key);
/* The run has ended: lays the entries over the machine's store. -1 with an error. */
int run_data_publish(DoeffMachine *m);

#endif
