/* replan_parts.h - the inside of a replanner, for replan*.c. */
#ifndef SP_SCHEDULE_REPLAN_PARTS_H
#define SP_SCHEDULE_REPLAN_PARTS_H

#include "schedule/replan.h"
#include "schedule/sac.h"

typedef struct sp_scratch {
    unsigned char *block;
    size_t size, used;
} sp_scratch;

struct sp_replanner {
    sparoa_allocator alloc;
    sp_arena arena;
    const sp_profile *profile;
    sp_platform *platform;
    sp_objective objective;
    sp_env *env;
    sp_env_state state;
    sp_sac *sac;
    sp_scratch scratch;
    uint8_t *nominal, *current, *trial, *best; /* plans, by node */
    bool trained;
};

/* Prices the graph for a state. */
void sp_replan_price(sp_replanner *r, const sp_live_state *state);
/* The trained policy's plan at these prices. */
void sp_replan_follow_policy(sp_replanner *r, uint8_t *device);
/* Prices a plan; r->state holds its run. */
double sp_replan_score(sp_replanner *r, const uint8_t *device);
/* Fills r->trial by greedy, dp or heft. */
bool sp_replan_run(sp_replanner *r, uint32_t which);

#endif
