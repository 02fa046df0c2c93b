/* Fuzz target: any bytes as a platform file; what is accepted must price work and write back. */
#include <math.h>
#include <string.h>

#include "platform/platform.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static sp_platform platform;
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    sparoa_error err;
    if (size > 65536) return 0;
    if (sp_platform_parse(&alloc, "fuzz", data, size, &platform, &err) == SPAROA_OK) {
        sp_work work = {.cost = {1e7, 1e5, 1e5, 1e5}, .weight_zeros = 0.9, .input_zeros = 0.5};
        for (uint32_t d = 0; d < platform.device_count; d++)
            for (work.kind = 0; work.kind < SP_KIND_COUNT; work.kind++) {
                sp_price p = sp_platform_cost(&platform, d, SP_REGIME_GRAPH, &work, NULL);
                if (!isfinite(p.ns) || !isfinite(p.joules) || p.ns < 0) __builtin_trap();
            }
        sp_text text;
        sp_text_init(&text, &alloc);
        sp_platform_write(&platform, &text);
        if (sp_platform_parse(&alloc, "again", text.data, text.size, &platform, &err))
            __builtin_trap();
        sp_text_free(&text);
    } else if (!memchr(err.message, 0, sizeof err.message)) {
        __builtin_trap();
    }
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
