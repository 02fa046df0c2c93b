/* Fuzz target: any bytes as a predictor's corpus; what is accepted must give finite features. */
#include <math.h>
#include <string.h>

#include "predict/corpus.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A machine of two devices with nothing in it but speed. */
static const sp_predict_rates *machine(void)
{
    static sp_platform platform;
    static sp_platform_state state;
    static sp_predict_rates rates;
    platform.device_count = 2;
    for (int d = 0; d < 2; d++) {
        platform.devices[d].peak_flops = d ? 1e12 : 1e10;
        platform.devices[d].bandwidth = 1e10;
        for (int k = 0; k < SP_KIND_COUNT; k++) {
            platform.devices[d].kinds[k].efficiency = (sp_curve){.count = 1, .x = {1}, .y = {1}};
            platform.devices[d].kinds[k].bandwidth = 1;
            platform.devices[d].kinds[k].overhead_ns[0] = d ? 1e5 : 1e4;
        }
    }
    state = sp_platform_nominal(&platform);
    sp_predict_machine m = {&platform, &state, SP_REGIME_EAGER};
    sp_predict_rates_make(&m, &rates);
    return &rates;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const sp_predict_rates *rates;
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    sparoa_error err;
    sp_predict_corpus c;
    float f[SP_PREDICT_FEATURES];
    if (!rates) rates = machine();
    if (sp_predict_corpus_parse(&alloc, "fuzz", (const char *)data, size, &c, &err) == SPAROA_OK) {
        for (size_t i = 0; i < c.op_count; i++) {
            sp_predict_features(rates, &c.ops[i], f);
            for (int k = 0; k < SP_PREDICT_FEATURES; k++)
                if (!isfinite(f[k])) __builtin_trap();
        }
        sp_predict_corpus_free(&c);
    } else if (!memchr(err.message, 0, sizeof err.message)) {
        __builtin_trap();
    }
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
