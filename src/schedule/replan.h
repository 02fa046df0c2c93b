/*
 * replan.h - deciding again, while a model is in use, for the state that the machine is in now.
 *
 * A replanner belongs to one profile on one platform. It holds a policy trained over many states of
 * the machine (load by other work, clocks, queues), which places the nodes one by one on what it
 * sees. Asked for a state, it prices the graph for it, lets the policy place, re-runs greedy, dp
 * and heft, prices these and the plan in use, and hands out the best: never worse than any of them
 * under these prices, in well under a millisecond for 200 nodes and without allocating.
 */
#ifndef SP_SCHEDULE_REPLAN_H
#define SP_SCHEDULE_REPLAN_H

#include "platform/platform.h"
#include "profile/profile.h"
#include "schedule/policy.h"

typedef struct sp_replanner sp_replanner;

/* Copies the platform; the profile must outlive it. The plan in use is that of "portfolio" in the
 * nominal state until another is asked for. */
sparoa_status sp_replanner_create(const sparoa_allocator *alloc, const sp_profile *profile,
                                  const sp_platform *platform, sp_objective objective,
                                  sp_replanner **replanner, sparoa_error *err);
void sp_replanner_destroy(sp_replanner *replanner);

/* Where the machine stands: the platform's state, and by device the time until it is done with
 * what it was given before. */
typedef struct sp_live_state {
    sp_platform_state platform;
    double queue_ns[SP_PLATFORM_DEVICES];
} sp_live_state;

/* A state to train or test on: bursts of other work on host and accelerator, lowered clocks, a
 * queue; each absent half of the time. */
sp_live_state sp_live_random(const sp_platform *platform, uint64_t seed, double unit_ns);

/* Trains on random states: a teacher (the best of greedy, dp, heft, refined where the graph is
 * small) is imitated first, then Soft Actor-Critic goes on by itself; the policy is the one that
 * did best on held-out states. The same seed gives the same bits. updates 0: 4000. */
typedef struct sp_replan_training {
    uint64_t seed;
    uint32_t updates;
    double above_teacher; /* out: mean share by which the policy alone is slower, on states that
                             were neither trained on nor chose it */
    uint32_t states;      /* out: that were trained on */
} sp_replan_training;
sparoa_status sp_replanner_train(sp_replanner *replanner, sp_replan_training *training,
                                 sparoa_error *err);
bool sp_replanner_trained(const sp_replanner *replanner);

/* The policy as a file (sac_file.c). A policy fits any graph and platform of two devices or more:
 * it sees features, not names. Loading: MALFORMED, UNSUPPORTED_VERSION; the policy is as before. */
size_t sp_replanner_file_bytes(const sp_replanner *replanner);
void sp_replanner_save(const sp_replanner *replanner, unsigned char *file);
sparoa_status sp_replanner_load(sp_replanner *replanner, const unsigned char *file, size_t bytes,
                                sparoa_error *err);
/* Changes whenever what a policy sees does. */
uint32_t sp_replan_schema(void);

/* Which candidates are considered. */
enum {
    SP_REPLAN_POLICY = 1, /* the trained policy, if there is one */
    SP_REPLAN_GREEDY = 2,
    SP_REPLAN_DP = 4,
    SP_REPLAN_HEFT = 8,
    SP_REPLAN_KEEP = 16, /* the plan in use, and the nominal one */
    SP_REPLAN_ALL = 31
};

typedef struct sp_replan_result {
    sp_env_result price; /* of the new plan in the given state */
    uint32_t from;       /* SP_REPLAN_*: who proposed it */
    bool changed;        /* it differs from the plan in use before */
} sp_replan_result;

/* Fills device[node_count] and makes that the plan in use. Allocates nothing; one thread at a time.
 * `which` 0: SP_REPLAN_ALL. */
void sp_replan(sp_replanner *replanner, const sp_live_state *state, uint32_t which, uint8_t *device,
               sp_replan_result *result);

/* The environment, priced for the state asked for last. */
sp_env *sp_replanner_env(const sp_replanner *replanner);
sp_platform_state sp_replanner_nominal(const sp_replanner *replanner);
const sp_platform *sp_replanner_platform(const sp_replanner *replanner);

#endif
