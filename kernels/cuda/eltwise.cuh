/* eltwise.cuh - functions of one and two elements by their number. What to compute is a switch that
 * every thread of a launch takes the same way. */
#ifndef SP_CUDA_ELTWISE_CUH
#define SP_CUDA_ELTWISE_CUH

#include "kernels/cuda/common.cuh"

static __device__ float unary(int op, float a, float b, float x)
{
    switch (op) {
    case SP_CU_Relu: return x < 0 ? 0.0f : x;
    case SP_CU_LeakyRelu: return x < 0 ? a * x : x;
    case SP_CU_Sigmoid: return 1 / (1 + expf(-x));
    case SP_CU_Tanh: return tanhf(x);
    case SP_CU_HardSigmoid: return sp_cu_act(6, a, b, x);
    case SP_CU_HardSwish: return sp_cu_act(7, a, b, x);
    case SP_CU_QuickGelu:
    case SP_CU_Swish: return x / (1 + expf(-a * x));
    case SP_CU_Gelu: return sp_cu_act(9, a, b, x);
    case SP_CU_GeluTanh: return sp_cu_act(10, a, b, x);
    case SP_CU_Erf: return erff(x);
    case SP_CU_Exp: return expf(x);
    case SP_CU_Log: return logf(x);
    case SP_CU_Sqrt: return sqrtf(x);
    case SP_CU_Reciprocal: return 1 / x;
    case SP_CU_Abs: return fabsf(x);
    case SP_CU_Neg: return -x;
    case SP_CU_Sign: return x != x ? x : (float)((x > 0) - (x < 0));
    case SP_CU_Floor: return floorf(x);
    case SP_CU_Ceil: return ceilf(x);
    case SP_CU_Round: return rintf(x);
    case SP_CU_Sin: return sinf(x);
    case SP_CU_Cos: return cosf(x);
    case SP_CU_Tan: return tanf(x);
    case SP_CU_Asin: return asinf(x);
    case SP_CU_Acos: return acosf(x);
    case SP_CU_Atan: return atanf(x);
    case SP_CU_Sinh: return sinhf(x);
    case SP_CU_Cosh: return coshf(x);
    case SP_CU_Asinh: return asinhf(x);
    case SP_CU_Acosh: return acoshf(x);
    case SP_CU_Atanh: return atanhf(x);
    case SP_CU_Softplus: return (x > 0 ? x : 0.0f) + log1pf(expf(-fabsf(x)));
    case SP_CU_Softsign: return x / (1 + fabsf(x));
    case SP_CU_Elu: return x < 0 ? a * expm1f(x) : x;
    case SP_CU_Selu: return x <= 0 ? b * a * expm1f(x) : b * x;
    case SP_CU_Celu:
        return (x > 0 ? x : 0.0f) + (x < 0 ? a * expm1f(x / a) : 0.0f) + (x != x ? x : 0.0f);
    case SP_CU_ThresholdedRelu: return x > a ? x : 0.0f;
    case SP_CU_Mish: return x * tanhf((x > 0 ? x : 0.0f) + log1pf(expf(-fabsf(x))));
    default: return x;
    }
}

static __device__ float special(int op, float a, float b)
{
    switch (op) {
    case SP_CU_BIN_Pow: return powf(a, b);
    case SP_CU_BIN_PRelu: return a < 0 ? a * b : a;
    case SP_CU_BIN_BiasGelu: return sp_cu_act(9, 0, 0, a + b);
    case SP_CU_BIN_Min: return sp_cu_min(a, b);
    case SP_CU_BIN_Max: return sp_cu_max(a, b);
    default: return a / b;
    }
}

template <typename T> static __device__ T special(int op, T a, T b)
{
    switch (op) {
    case SP_CU_BIN_Min: return a < b ? a : b;
    case SP_CU_BIN_Max: return a > b ? a : b;
    default: return b == 0 ? 0 : b == (T)-1 ? (T)(0 - a) : (T)(a / b);
    }
}

template <typename T, typename R> static __device__ R binary(int op, T a, T b)
{
    switch (op) {
    case SP_CU_BIN_Add: return (R)(a + b);
    case SP_CU_BIN_Sub: return (R)(a - b);
    case SP_CU_BIN_Mul: return (R)(a * b);
    case SP_CU_BIN_Equal: return (R)(a == b);
    case SP_CU_BIN_Greater: return (R)(a > b);
    case SP_CU_BIN_GreaterOrEqual: return (R)(a >= b);
    case SP_CU_BIN_Less: return (R)(a < b);
    case SP_CU_BIN_LessOrEqual: return (R)(a <= b);
    case SP_CU_BIN_And: return (R)(a != 0 && b != 0);
    case SP_CU_BIN_Or: return (R)(a != 0 || b != 0);
    case SP_CU_BIN_Xor: return (R)((a != 0) != (b != 0));
    default: return (R)special(op, a, b);
    }
}

#endif
