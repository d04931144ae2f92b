#include "scheduler.h"

DoeffTask *
schedule_choose(DoeffScheduler *s, ReadyLevel *level)
{
    (void)s;
    return level->first;
}
