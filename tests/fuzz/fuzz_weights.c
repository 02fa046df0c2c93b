/* Fuzz target: any bytes as a predictor's weights; the checksum is set right so that damage gets
 * past it. What is accepted must run and write back to the same bytes. */
#include <string.h>

#include "predict/features.h"
#include "predict/predictor.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(sp_predictor *p, const uint8_t *data, size_t size, const sparoa_allocator *alloc)
{
    static float features[3 * SP_PREDICT_MAX_FEATURES];
    float out[6];
    size_t bytes = sp_predictor_file_bytes(p);
    if (bytes != size) __builtin_trap();
    if (sp_predictor_run(p, 3, features, out, NULL, NULL) == SPAROA_OK)
        for (int i = 0; i < 6; i++)
            if (!(out[i] >= 0 && out[i] <= 1)) __builtin_trap();
    uint8_t *again = sp_alloc(alloc, bytes);
    if (!again) return;
    sp_predictor_save(p, again);
    if (memcmp(again, data, bytes) != 0) __builtin_trap();
    sp_free(alloc, again, bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    sparoa_error err;
    sp_predictor *p;
    uint64_t schema = 0;
    uint8_t *file = sp_alloc(&alloc, size);
    if (!file) return 0;
    if (size) memcpy(file, data, size);
    if (size >= 32) {
        uint32_t h = 0x811c9dc5u;
        for (size_t i = 16; i < size; i++) h = (h ^ file[i]) * 0x01000193u;
        memcpy(file + 12, &h, sizeof h);
        memcpy(&schema, file + 16, sizeof schema);
    }
    if (sp_predictor_load(&alloc, sp_cpu_kernels(NULL), file, size, schema, &p, &err) ==
        SPAROA_OK) {
        run(p, file, size, &alloc);
        sp_predictor_destroy(p);
    } else if (!memchr(err.message, 0, sizeof err.message)) {
        __builtin_trap();
    }
    sp_free(&alloc, file, size);
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
