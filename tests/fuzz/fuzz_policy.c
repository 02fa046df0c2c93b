/* Fuzz target: any bytes as a trained policy. What is accepted decides, and is saved as the same
 * bytes. The checksum is made right first, as no fuzzer guesses it. */
#include <stdlib.h>
#include <string.h>

#include "schedule/sac.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { OBS = 4, CHECKED = 16 };

static void repair(unsigned char *file, size_t size)
{
    uint32_t h = 0x811c9dc5u;
    for (size_t i = CHECKED; i < size; i++) h = (h ^ file[i]) * 0x01000193u;
    if (size >= CHECKED) memcpy(file + 12, &h, 4);
}

static void try_file(sp_sac *sac, unsigned char *file, size_t size)
{
    sparoa_error err;
    if (sp_sac_load(sac, 7, file, size, &err)) {
        if (!memchr(err.message, 0, sizeof err.message)) __builtin_trap();
        return;
    }
    const float obs[OBS] = {1, -1, 0, 3};
    unsigned char *again = malloc(size);
    if (!again || size != sp_sac_file_bytes(sac) || sp_sac_choice(sac, obs) >= 2) __builtin_trap();
    sp_sac_save(sac, 7, again);
    if (memcmp(file, again, size)) __builtin_trap();
    free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    const sp_sac_options o = {
        .obs = OBS, .actions = 2, .discrete = true, .hidden = 4, .batch = 4, .replay = 4};
    sp_sac *sac;
    if (size > 65536 || sp_sac_create(&alloc, sp_cpu_kernels(NULL), &o, &sac, NULL)) return 0;
    unsigned char *file = malloc(size + 1);
    if (!file) __builtin_trap();
    memcpy(file, data, size);
    try_file(sac, file, size);
    repair(file, size);
    try_file(sac, file, size);
    free(file);
    sp_sac_destroy(sac);
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
