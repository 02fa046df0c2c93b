/* env_build.h - an environment from a profile and a platform. */
#ifndef SP_SCHEDULE_ENV_BUILD_H
#define SP_SCHEDULE_ENV_BUILD_H

#include "platform/platform.h"
#include "profile/profile.h"
#include "schedule/env.h"

/* state NULL: nominal. Where the profile holds measured times of a device of the same name, these
 * are the prices of the nominal state. */
sparoa_status sp_env_build(const sparoa_allocator *alloc, const sp_profile *profile,
                           const sp_platform *platform, sp_regime regime,
                           const sp_platform_state *state, sp_env **env, sparoa_error *err);

/* Along what a node may be divided. */
sp_split_axis sp_env_split_axis(const sp_profile_node *node);
/* The work of a share (0..1) of a node: what is divided along its axis, and what every part reads.
 */
sp_work sp_env_part_work(const sp_profile_node *node, double share);

/* Other prices for the same graph: another state of the platform. Allocates nothing. */
void sp_env_reprice(sp_env *env, const sp_profile *profile, const sp_platform *platform,
                    sp_regime regime, const sp_platform_state *state);

/* Pins a node to a device, or forbids one. Fails with NOT_FOUND (no such node or device) and
 * INVALID_PLAN (nothing would be left). The caller refreshes. */
sparoa_status sp_env_pin(sp_env *env, const char *node, const char *device, sparoa_error *err);
sparoa_status sp_env_forbid(sp_env *env, const char *node, const char *device, sparoa_error *err);

#endif
