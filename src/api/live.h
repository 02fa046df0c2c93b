/* live.h - the object behind sparoa_live.h's sensors. */
#ifndef SP_API_LIVE_H
#define SP_API_LIVE_H

#include "api/objects.h"
#include "platform/live.h"

struct sparoa_live {
    sparoa_runtime *runtime;
    sp_live *live;
};

#endif
