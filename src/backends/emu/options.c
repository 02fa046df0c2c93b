/* The text of device_open's options. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>

#include "emu.h"

static const char *const class_names[SPAROA_CLASS_COUNT] = {
    [SPAROA_CLASS_ELTWISE] = "eltwise",     [SPAROA_CLASS_REDUCE] = "reduce",
    [SPAROA_CLASS_GEMM] = "gemm",           [SPAROA_CLASS_CONV] = "conv",
    [SPAROA_CLASS_POOL] = "pool",           [SPAROA_CLASS_NORM] = "norm",
    [SPAROA_CLASS_ATTENTION] = "attention", [SPAROA_CLASS_RNN] = "rnn",
    [SPAROA_CLASS_MOVE] = "move",           [SPAROA_CLASS_SHAPE] = "shape",
    [SPAROA_CLASS_OTHER] = "other",
};

static bool same(const char *text, size_t n, const char *word)
{
    return strlen(word) == n && memcmp(text, word, n) == 0;
}

static bool read_support(emu_options *o, const char *text, size_t n)
{
    o->classes = ~(uint64_t)0;
    o->every_other = same(text, n, "every_other");
    if (o->every_other || same(text, n, "all")) return true;
    o->classes = 0;
    for (const char *end = text + n; text < end;) {
        size_t k = strcspn(text, "+,");
        bool known = false;
        for (int c = 0; c < SPAROA_CLASS_COUNT; c++) {
            if (!class_names[c] || !same(text, k, class_names[c])) continue;
            o->classes |= (uint64_t)1 << c;
            known = true;
        }
        if (!known) return false;
        text += k + 1;
    }
    return o->classes != 0;
}

static bool read_value(emu_options *o, const char *key, size_t key_size, const char *text, size_t n)
{
    const struct {
        const char *name;
        uint64_t *whole;
        double *real;
    } keys[] = {
        {"memory", &o->memory, NULL},       {"streams", &o->streams, NULL},
        {"delay_us", &o->delay_us, NULL},   {"copy_delay_us", &o->copy_delay_us, NULL},
        {"seed", &o->seed, NULL},           {"fail_alloc", &o->fail_alloc, NULL},
        {"fail_copy", &o->fail_copy, NULL}, {"fail_kernel", &o->fail_kernel, NULL},
        {"lose_at", &o->lose_at, NULL},     {"hang_at", &o->hang_at, NULL},
        {"hang_ms", &o->hang_ms, NULL},     {"load", NULL, &o->load},
        {"clock", NULL, &o->clock_mhz},     {"temperature", NULL, &o->temperature_c},
        {"power", NULL, &o->power_w},       {"unified", &o->unified, NULL},
    };
    char *end;
    if (same(key, key_size, "support")) return read_support(o, text, n);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (!same(key, key_size, keys[i].name)) continue;
        errno = 0;
        if (keys[i].real)
            *keys[i].real = strtod(text, &end);
        else if (*text < '0' || *text > '9')
            return false;
        else
            *keys[i].whole = strtoull(text, &end, 10);
        return n > 0 && end == text + n && errno == 0 && (!keys[i].real || isfinite(*keys[i].real));
    }
    return false;
}

sparoa_status emu_options_read(const char *text, emu_options *options, sparoa_error *err)
{
    emu_options o = {.memory = (uint64_t)2 << 30,
                     .streams = 4,
                     .seed = 1,
                     .classes = ~(uint64_t)0,
                     .load = 0.25,
                     .clock_mhz = 1000,
                     .temperature_c = 50,
                     .power_w = 10};
    while (text && *text) {
        size_t n = strcspn(text, ","), key = strcspn(text, "=,");
        if (n && (text[key] != '=' || !read_value(&o, text, key, text + key + 1, n - key - 1)))
            return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                               "emu: option '%.*s' is not known, or its value is not one",
                               n > 100 ? 100 : (int)n, text);
        text += n;
        text += *text == ',';
    }
    if (o.streams < 1 || o.memory < 4096 || o.memory > (uint64_t)1 << 40)
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, NULL,
                           "emu: streams=%llu, memory=%llu; expected 1 or more, and 4 KiB to 1 TiB",
                           (unsigned long long)o.streams, (unsigned long long)o.memory);
    *options = o;
    return SPAROA_OK;
}
