/* backend.h - the CPU as a device: the same table as everyone's. */
#ifndef SP_BACKENDS_CPU_BACKEND_H
#define SP_BACKENDS_CPU_BACKEND_H

#include "sparoa_backend.h"

/* Options of device_open: "reference" (plain implementations only), "isa=avx2" (instruction set to
 * use), "sparse=never" or "sparse=always" (SPAROA_SPARSE in docs/knobs.md), "join=never" or
 * "join=always" (SPAROA_JOIN). */
const sparoa_backend *sp_cpu_backend(void);

#endif
