/* schedule_objects.h - the objects behind sparoa_schedule.h. */
#ifndef SP_API_SCHEDULE_OBJECTS_H
#define SP_API_SCHEDULE_OBJECTS_H

#include "api/objects.h"
#include "ops/op.h"
#include "predict/predictor.h"
#include "schedule/env_sim.h"
#include "schedule/plan.h"
#include "schedule/replan.h"
#include "sparoa_schedule.h"

struct sparoa_platform {
    sparoa_runtime *runtime;
    sp_platform p;
};

struct sparoa_profile {
    sparoa_runtime *runtime;
    sp_profile *p;
};

struct sparoa_plan {
    sparoa_runtime *runtime;
    sp_plan *p;
    double plan_ns;
};

struct sparoa_replanner {
    sparoa_runtime *runtime;
    const sparoa_profile *profile;
    sp_replanner *r;
    char platform[64];
    sp_objective objective;
    uint8_t *device; /* the plan in use */
};

/* A placement of the replanner's nodes as a plan, at the prices of the state asked for last. */
sparoa_status sp_replanner_plan_of(const sparoa_replanner *replanner, const uint8_t *device,
                                   sparoa_plan **plan, sparoa_error *err);

/* Takes over a plan. */
sparoa_status sp_schedule_wrap_plan(sparoa_runtime *rt, sp_plan *inner, double plan_ns,
                                    sparoa_plan **plan, sparoa_error *err);

struct sparoa_predictor {
    sparoa_runtime *runtime;
    sp_predictor *p;
};

/* The state of a platform in a mode (or NULL) under constant load by device. */
sparoa_status sp_schedule_state(const sp_platform *p, const char *mode, const double *load,
                                sp_platform_state *state, sparoa_error *err);

/* The clocks that a plan is for, where those asked for (0: none) name no other; a mode's are not
 * passed. */
void sp_schedule_keep_clocks(const sp_plan *plan, const sp_platform *p, const double *asked,
                             sp_platform_state *state);

#endif
