/*
 * fit.h - a device of a platform file from measured operators: rooflines with efficiency curves by
 * kind and size, and the samples that correct them.
 */
#ifndef SP_PROFILE_FIT_H
#define SP_PROFILE_FIT_H

#include "profile/profile.h"

typedef struct sp_fit_sample {
    char op[24];
    int kind;
    sparoa_cost cost;
    double ns; /* measured, overhead included */
} sp_fit_sample;

typedef struct sp_fit {
    sparoa_allocator alloc;
    sp_fit_sample *samples;
    size_t count, capacity;
} sp_fit;

/* Adds the measured nodes of a profile; views, shapes and nodes that did not run are left out.
 * False: no memory. */
bool sp_fit_add(sp_fit *fit, const sp_profile *profile, uint32_t device);
void sp_fit_free(sp_fit *fit);

/* Fills kinds and samples of a platform's device. Its peaks and bandwidth must be set (0: taken
 * from the best sample), and "default"'s overheads, in every kind. At most `room` samples are kept;
 * samples of the same work are merged first.
 * Devices must be filled in order. False: no memory; the platform is as it was. */
bool sp_fit_device(sp_fit *fit, sp_platform *platform, uint32_t device, uint32_t room);

#endif
