/* Mod: remainder with the sign of the divisor (fmod=0, as in Python) or of the dividend (fmod=1, as
 * in C). */
#include "ops/eltwise.h"

static inline float floor_mod_f(float a, float b)
{
    float r = fmodf(a, b);
    if (r == 0) return copysignf(0, b);
    return (r < 0) != (b < 0) ? r + b : r; /* NaN: r + b or r, both NaN */
}

static inline double floor_mod_d(double a, double b)
{
    double r = fmod(a, b);
    if (r == 0) return copysign(0, b);
    return (r < 0) != (b < 0) ? r + b : r;
}

SP_BINARY_LOOP(mod_float, float, float, floor_mod_f(a, b))
SP_BINARY_LOOP(mod_double, double, double, floor_mod_d(a, b))
SP_BINARY_LOOP(fmod_float, float, float, fmodf(a, b))
SP_BINARY_LOOP(fmod_double, double, double, fmod(a, b))
/* Integers: zero divisors give 0; -1 is special because MIN % -1 overflows. */
#define X(T, dt)                                                                                   \
    static inline T floor_mod_##T(T a, T b)                                                        \
    {                                                                                              \
        if (b == 0 || b == (T)-1) return 0;                                                        \
        T r = (T)(a % b);                                                                          \
        return r != 0 && (r < 0) != (b < 0) ? (T)(r + b) : r;                                      \
    }                                                                                              \
    SP_BINARY_LOOP(mod_##T, T, T, floor_mod_##T(a, b))                                             \
    SP_BINARY_LOOP(fmod_##T, T, T, b == 0 || b == (T)-1 ? 0 : a % b)
X(int8_t, 0)
X(int16_t, 0)
X(int32_t, 0)
X(int64_t, 0)
#undef X
#define X(T, dt)                                                                                   \
    SP_BINARY_LOOP(mod_##T, T, T, b == 0 ? 0 : a % b)                                              \
    SP_BINARY_LOOP(fmod_##T, T, T, b == 0 ? 0 : a % b)
X(uint8_t, 0)
X(uint16_t, 0)
X(uint32_t, 0)
X(uint64_t, 0)
#undef X

static sparoa_status mod_infer(const sparoa_node *node, sparoa_error *err)
{
    int64_t mode = sparoa_attr_int(node, "fmod", 0);
    if (mode != 0 && mode != 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "fmod=%lld, expected 0 or 1",
                           (long long)mode);
    return sp_infer_binary(node, SP_TYPES_NUMBER, SPAROA_UNDEFINED, err);
}

static sparoa_status mod_run(const sparoa_node *node, const sparoa_exec *exec)
{
    bool c_style = sparoa_attr_int(node, "fmod", 0) != 0;
    sp_run_fn fn = NULL;
    switch (node->in[0]->dtype) {
#define X(T, dt)                                                                                   \
    case dt: fn = c_style ? fmod_##T : mod_##T; break;
        SP_FOR_NUMBERS(X)
#undef X
    default: break;
    }
    return sp_run_binary(node, exec, fn, NULL, SP_GRAIN_EXP);
}

/* ONNX Mod, versions 10, 13 and 28 (which takes floats with fmod=0, too). */
SP_OP(Mod) = {SP_BINARY_HEAD("Mod", 10, SPAROA_TOL_ROUNDING, SPAROA_OP_INPLACE), .infer = mod_infer,
              .cost = sp_cost_exp, .run = mod_run};
