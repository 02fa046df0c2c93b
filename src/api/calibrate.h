/* calibrate.h - parts of sparoa_calibrate that others use. */
#ifndef SP_API_CALIBRATE_H
#define SP_API_CALIBRATE_H

#include "api/schedule_objects.h"

/* What a plan for measured nodes needs besides their times, in a fraction of a second: copies
 * between the devices, dispatch and entry costs. Efficiency of operators is not measured: prices of
 * nodes without a measured time mean nothing. */
sparoa_status sp_calibrate_links(sparoa_runtime *runtime, sp_platform *platform, sparoa_error *err);

#endif
