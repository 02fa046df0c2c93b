/* gelu.h - the Gaussian error linear unit of one element, shared by Gelu and its fused relatives.
 */
#ifndef SP_OPS_GELU_H
#define SP_OPS_GELU_H

#include <math.h>

static inline float sp_gelu_f(float x)
{
    return 0.5f * x * (1 + erff(x * 0.70710678f));
}

static inline double sp_gelu_d(double x)
{
    return 0.5 * x * (1 + erf(x * 0.70710678118654752440));
}

/* The approximation by tanh; the factor is sqrt(2 / pi). */
static inline float sp_gelu_tanh_f(float x)
{
    return 0.5f * x * (1 + tanhf(0.79788456f * (x + 0.044715f * x * x * x)));
}

static inline double sp_gelu_tanh_d(double x)
{
    return 0.5 * x * (1 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

#endif
