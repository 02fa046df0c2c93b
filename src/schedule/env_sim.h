/* env_sim.h - simulating an assignment of a profile. */
#ifndef SP_SCHEDULE_ENV_SIM_H
#define SP_SCHEDULE_ENV_SIM_H

#include "platform/sim.h"
#include "schedule/env_build.h"

/* device: one per node of the profile. */
sparoa_status sp_env_simulate(const sparoa_allocator *alloc, const sp_profile *profile,
                              const sp_platform *platform, const uint8_t *device,
                              const sp_sim_options *options, sp_sim_result *result,
                              sparoa_error *err);

#endif
