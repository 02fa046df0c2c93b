/* stop.h - ending a run before its last node: asked for between nodes and between iterations. */
#ifndef SP_ENGINE_STOP_H
#define SP_ENGINE_STOP_H

#include <stdint.h>

#include "sparoa.h"

typedef struct sp_stop {
    const int32_t *cancel; /* not 0: stop with CANCELLED; read atomically; or NULL */
    int64_t deadline_ns;   /* sp_now_ns from which on the run stops with DEADLINE; 0: none */
    /* Asked too, or NULL: not OK stops the run with that status. It may do other work meanwhile,
     * runs of other programs among it. */
    sparoa_status (*check)(void *user);
    void *user;
} sp_stop;

/* OK: go on. stop may be NULL. */
sparoa_status sp_stop_check(const sp_stop *stop, sparoa_error *err);

#endif
