/* describe.h - what the processor is and what it can do. */
#ifndef SP_BACKENDS_CPU_DESCRIBE_H
#define SP_BACKENDS_CPU_DESCRIBE_H

#include "backends/cpu/kernel.h"

void sp_cpu_describe(const sp_cpu_host *host, sparoa_device_desc *desc);
/* Peak arithmetic and bandwidth by micro-benchmarks on the engine's threads. */
sparoa_status sp_cpu_measure(const sp_cpu_host *host, const sparoa_host *engine,
                             int32_t milliseconds, sparoa_device_peak *peak, sparoa_error *err);

#endif
