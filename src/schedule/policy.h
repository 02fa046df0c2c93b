/*
 * policy.h - deciding where nodes run: every policy is a row of one table, over one environment.
 *
 * A policy sees prices, never names of operators, and gives one device per node. Adding one takes a
 * file policy_<name>.c and a row in policy.c.
 */
#ifndef SP_SCHEDULE_POLICY_H
#define SP_SCHEDULE_POLICY_H

#include "schedule/env.h"

typedef struct sp_policy_options {
    sp_objective objective;
    uint32_t labels;  /* of "optimal" and "portfolio": partial plans kept side by side; 0: 512 */
    uint32_t updates; /* of "sac": gradient steps; 0: 60 for each node, 2000 to 8000 */
    uint64_t seed;    /* of "sac" */
    bool alone;       /* "sac" learns without what greedy, dp and heft would do */
    bool split;       /* nodes may be divided between devices; else only "coexec" does */
    /* Not 0: plans slower than this many times the fastest known plan are not taken, whatever they
     * score. At least 1. sp_policy_run turns it into limit_ns, which is what policies look at. */
    double latency_limit, limit_ns;
    const uint8_t *start; /* a plan to better, or NULL */
    /* Called by "sac" whenever it has met a better plan, and at its end; NULL: not. */
    void (*progress)(void *user, uint32_t updates, double score);
    void *progress_user;
} sp_policy_options;

/* The score of a priced plan, less is better; INFINITY above limit_ns. */
double sp_policy_score(const sp_policy_options *options, const sp_env_result *result);

typedef struct sp_policy_result {
    sp_env_result price;
    bool optimal; /* proved: no assignment of this environment scores better */
} sp_policy_result;

typedef struct sp_policy {
    const char *name, *what;
    /* Fills device[]; may set *optimal. Every node must get a device that it may run on. */
    sparoa_status (*run)(const sp_env *env, const sp_policy_options *options, uint8_t *device,
                         bool *optimal, sparoa_error *err);
    bool thresholds; /* looks at the nodes' thresholds: they should be predicted before it runs */
} sp_policy;

extern const sp_policy sp_policy_table[]; /* ended by a row whose name is NULL */
const sp_policy *sp_policy_find(const char *name);

/* Runs a policy, moves weights that do not fit into a device's memory back to the host, and prices
 * the outcome. options NULL: latency. */
sparoa_status sp_policy_run(const sp_policy *policy, const sp_env *env,
                            const sp_policy_options *options, uint8_t *device,
                            sp_policy_result *result, sparoa_error *err);

/* Moves nodes to the host, those first that lose least, until every device's memory limit holds.
 * Fails with MEMORY_LIMIT where that is not possible. */
sparoa_status sp_policy_legalise(const sp_env *env, uint8_t *device, sparoa_error *err);

/* Whether some assignment passes a memory limit: then nothing is proved optimal. */
bool sp_policy_memory_binds(const sp_env *env);

/* Moves single nodes and runs of nodes to other devices as long as that scores better, at most
 * `rounds` times over all nodes. */
sparoa_status sp_policy_refine(const sp_env *env, const sp_policy_options *options, int rounds,
                               uint8_t *device, sparoa_error *err);

/* Divides nodes between devices as long as that scores better. */
sparoa_status sp_policy_divide(const sp_env *env, const sp_policy_options *options, uint8_t *device,
                               sparoa_error *err);

/* The rows. */
#define SP_POLICY_RUN(name)                                                                        \
    sparoa_status sp_policy_##name(const sp_env *env, const sp_policy_options *options,            \
                                   uint8_t *device, bool *optimal, sparoa_error *err)
SP_POLICY_RUN(cpu);
SP_POLICY_RUN(gpu);
SP_POLICY_RUN(fixed);
SP_POLICY_RUN(threshold);
SP_POLICY_RUN(greedy);
SP_POLICY_RUN(dp);
SP_POLICY_RUN(heft);
SP_POLICY_RUN(optimal);
SP_POLICY_RUN(portfolio);
SP_POLICY_RUN(sac);
SP_POLICY_RUN(coexec);

#endif
