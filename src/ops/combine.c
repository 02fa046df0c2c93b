#include "ops/combine.h"

sparoa_status sp_combine_mode_of(const sparoa_node *node, sp_combine_mode *mode, sparoa_error *err)
{
    static const char *const names[] = {"none", "add", "mul", "max", "min"};
    const char *name = sparoa_attr_string(node, "reduction", "none");
    for (int i = 0; i < 5; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *mode = (sp_combine_mode)i;
        return SPAROA_OK;
    }
    return sparoa_fail(err, SPAROA_INVALID_GRAPH, node,
                       "reduction='%.40s', expected none, add, mul, max or min", name);
}

/* A function for one type and one operation; d and s are the two values. */
#define COMBINE(name, ctype, expr)                                                                 \
    static void name(void *dst, const void *src, int64_t n)                                        \
    {                                                                                              \
        ctype *y = dst;                                                                            \
        const ctype *x = src;                                                                      \
        for (int64_t i = 0; i < n; i++) {                                                          \
            ctype d = y[i], s = x[i];                                                              \
            y[i] = (ctype)(expr);                                                                  \
        }                                                                                          \
    }

#define X(ctype, dt)                                                                               \
    COMBINE(add_##ctype, ctype, (uint64_t)d + (uint64_t)s)                                         \
    COMBINE(mul_##ctype, ctype, (uint64_t)d *(uint64_t)s)                                          \
    COMBINE(max_##ctype, ctype, s > d ? s : d)                                                     \
    COMBINE(min_##ctype, ctype, s < d ? s : d)
SP_FOR_INTS(X)
#undef X

#define X(ctype, dt)                                                                               \
    COMBINE(add_##ctype, ctype, d + s)                                                             \
    COMBINE(mul_##ctype, ctype, d *s)                                                              \
    COMBINE(max_##ctype, ctype, s > d || s != s ? s : d)                                           \
    COMBINE(min_##ctype, ctype, s < d || s != s ? s : d)
SP_FOR_FLOATS(X)
#undef X

COMBINE(bool_or, uint8_t, (d | s) != 0)
COMBINE(bool_and, uint8_t, d &&s)

/* Half types: in float32, rounded after each step. */
#define HALF(kind)                                                                                 \
    static float float_of_##kind(uint16_t h)                                                       \
    {                                                                                              \
        return sp_##kind##_to_float(h);                                                            \
    }                                                                                              \
    COMBINE(add_##kind, uint16_t, sp_float_to_##kind(float_of_##kind(d) + float_of_##kind(s)))     \
    COMBINE(mul_##kind, uint16_t, sp_float_to_##kind(float_of_##kind(d) * float_of_##kind(s)))     \
    COMBINE(max_##kind, uint16_t,                                                                  \
            float_of_##kind(d) >= float_of_##kind(s) || float_of_##kind(d) != float_of_##kind(d)   \
                ? d                                                                                \
                : s)                                                                               \
    COMBINE(min_##kind, uint16_t,                                                                  \
            float_of_##kind(d) <= float_of_##kind(s) || float_of_##kind(d) != float_of_##kind(d)   \
                ? d                                                                                \
                : s)
HALF(half)
HALF(bfloat)

sp_combine_fn sp_combine_for(sparoa_dtype dtype, sp_combine_mode mode)
{
    if (mode == SP_COMBINE_NONE) return NULL;
#define ROW(kind)                                                                                  \
    {                                                                                              \
        static const sp_combine_fn row[] = {add_##kind, mul_##kind, max_##kind, min_##kind};       \
        return row[mode - SP_COMBINE_ADD];                                                         \
    }
    switch (dtype) {
#define X(ctype, dt)                                                                               \
    case dt: ROW(ctype)
        SP_FOR_NUMBERS(X)
#undef X
    case SPAROA_FLOAT16: ROW(half)
    case SPAROA_BFLOAT16: ROW(bfloat)
    case SPAROA_BOOL: return mode == SP_COMBINE_ADD || mode == SP_COMBINE_MAX ? bool_or : bool_and;
    default: return NULL;
    }
#undef ROW
}
