/*
 * plan.h - a decision as a file: where every node runs, what that is predicted to cost, and why.
 *
 * A plan is made once and not changed. The same environment, policy and seed give the same bytes.
 * On another machine or state a plan is re-costed: its devices are kept, its times are not.
 */
#ifndef SP_SCHEDULE_PLAN_H
#define SP_SCHEDULE_PLAN_H

#include "base/yaml.h"
#include "schedule/policy.h"

typedef struct sp_plan_node {
    const char *name, *op;
    uint8_t device, reason;         /* sp_reason */
    uint8_t second, axis;           /* of a split node: the other device, sp_split_axis */
    double share;                   /* of the work on `second`, 0..1; 0: not split */
    const char *where;              /* "gpu", or of a split node "gpu + 0.25 cpu" */
    double time_ns[SP_ENV_DEVICES]; /* predicted on each device; negative: may not run there */
    double start_ns, finish_ns;     /* predicted in this plan */
    double transfer_ns;             /* of copies made for this node */
} sp_plan_node;

typedef struct sp_plan {
    sparoa_allocator alloc;
    sp_arena arena;
    const char *model, *platform, *regime, *policy, *objective;
    uint64_t seed;
    bool optimal;
    double lower_bound_ns;
    sp_env_result price;
    uint32_t device_count, node_count;
    char devices[SP_ENV_DEVICES][32];
    double clock[SP_ENV_DEVICES]; /* of the highest, that the plan is priced for */
    sp_plan_node *nodes;          /* in dispatch order */
} sp_plan;

/* What a plan says of itself besides the environment. */
typedef struct sp_plan_origin {
    const char *model, *platform, *regime, *policy;
    sp_objective objective;
    uint64_t seed;
    bool optimal;
} sp_plan_origin;

/* Sets node->where; false: no memory. */
bool sp_plan_label(sp_plan *plan, sp_plan_node *node);

const char *sp_objective_name(sp_objective objective); /* "latency" */

sparoa_status sp_plan_create(const sp_env *env, const uint8_t *device, const sp_plan_origin *origin,
                             sp_plan **plan, sparoa_error *err);
void sp_plan_destroy(sp_plan *plan);

/* The assignment that a plan means for an environment: nodes are found by name and operator.
 * Fails with INVALID_PLAN naming what does not fit. */
sparoa_status sp_plan_assignment(const sp_plan *plan, const sp_env *env, uint8_t *device,
                                 sparoa_error *err);

void sp_plan_write(const sp_plan *plan, sp_text *text);
sparoa_status sp_plan_parse(const sparoa_allocator *alloc, const char *what, const void *data,
                            size_t size, sp_plan **plan, sparoa_error *err);
sparoa_status sp_plan_load(const sparoa_allocator *alloc, const char *path, sp_plan **plan,
                           sparoa_error *err);

/* Calls `report` for every node that one of the plans lacks or that runs elsewhere; returns how
 * many. a or b is NULL where it is lacking. */
size_t sp_plan_diff(const sp_plan *a, const sp_plan *b,
                    void (*report)(void *user, const sp_plan_node *a, const sp_plan_node *b),
                    void *user);

#endif
