#include "stacks.h"

int
stacks_room_init(PyObject *module, EngineState *st)
{
    (void)module, (void)st;
    return 0;
}
