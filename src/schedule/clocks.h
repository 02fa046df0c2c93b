/*
 * clocks.h - the clocks of host and first accelerator as part of the decision: which of those that
 * the platform can set make the plan's score least, within a limit on its latency.
 */
#ifndef SP_SCHEDULE_CLOCKS_H
#define SP_SCHEDULE_CLOCKS_H

#include "platform/platform.h"
#include "profile/profile.h"
#include "schedule/policy.h"

typedef struct sp_clock_choice {
    sp_platform_state state; /* with the clocks chosen; the environment is priced for it */
    double bound;            /* no clocks and no plan within the limit score less */
    uint32_t tried;          /* settings that were planned for; bounds excluded the others */
} sp_clock_choice;

/* Plans by `policy` for settings of clocks, those of least bound first, until no bound is below the
 * best score or a fixed number was tried. `base` holds the highest clocks allowed. options->start,
 * if given, must be a plan for `base`; options->limit_ns bounds the latency at any setting. */
sparoa_status sp_clocks_choose(sp_env *env, const sp_profile *profile, const sp_platform *platform,
                               const sp_platform_state *base, const sp_policy *policy,
                               const sp_policy_options *options, uint8_t *device,
                               sp_policy_result *result, sp_clock_choice *choice,
                               sparoa_error *err);

/* No plan that divides no node and keeps within limit_ns (0: any) takes less energy at the
 * environment's prices. INFINITY: no plan is that fast. */
double sp_env_energy_bound(const sp_env *env, double limit_ns);

#endif
