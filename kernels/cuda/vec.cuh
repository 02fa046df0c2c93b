/* vec.cuh - vectors of 16 bytes of float32 or float16, and the activations that are cheap enough to
 * be part of kernels that are bound by memory. */
#ifndef SP_CUDA_VEC_CUH
#define SP_CUDA_VEC_CUH

#include "kernels/cuda/common.cuh"

/* Elements of a vector. */
template <typename T> struct sp_cu_vec {
    enum { N = 16 / (int)sizeof(T) };
};

static __device__ __forceinline__ void sp_cu_unpack(uint4 q, float (&v)[4])
{
    v[0] = __uint_as_float(q.x), v[1] = __uint_as_float(q.y);
    v[2] = __uint_as_float(q.z), v[3] = __uint_as_float(q.w);
}

static __device__ __forceinline__ void sp_cu_unpack(uint4 q, float (&v)[8])
{
    const unsigned r[4] = {q.x, q.y, q.z, q.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float2 f = __half22float2(*(const __half2 *)&r[i]);
        v[2 * i] = f.x, v[2 * i + 1] = f.y;
    }
}

static __device__ __forceinline__ uint4 sp_cu_pack(const float (&v)[4])
{
    return make_uint4(__float_as_uint(v[0]), __float_as_uint(v[1]), __float_as_uint(v[2]),
                      __float_as_uint(v[3]));
}

static __device__ __forceinline__ uint4 sp_cu_pack(const float (&v)[8])
{
    unsigned r[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        __half2 h = __floats2half2_rn(v[2 * i], v[2 * i + 1]);
        r[i] = *(const unsigned *)&h;
    }
    return make_uint4(r[0], r[1], r[2], r[3]);
}

/* x kept within bounds; NaN stays. */
static __device__ __forceinline__ float sp_cu_bound(float x, float low, float high)
{
#if __CUDA_ARCH__ >= 800
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(high));
    return x;
#else
    x = x < low ? low : x;
    return x > high ? high : x;
#endif
}

/* Activations that are bounds (none, ReLU, Clip), or short. */
typedef struct sp_cu_light {
    int kind;        /* 0 bounds, 1 HardSwish, 2 HardSigmoid, 3 Sigmoid, 4 SiLU */
    float low, high; /* HardSigmoid: its factor and its summand */
} sp_cu_light;

/* false: it is another one. */
static inline bool sp_cu_light_of(const sp_cu_epilogue *e, sp_cu_light *l)
{
    *l = (sp_cu_light){0, -INFINITY, INFINITY};
    switch (e->act) {
    case 0: return true;
    case 1: l->low = 0; return true;
    case 2: l->low = e->a, l->high = e->b; return e->a <= e->b;
    case 4: l->kind = 3; return true;
    case 6:
        l->kind = 2;
        l->low = e->a, l->high = e->b;
        return true;
    case 7: l->kind = 1; return true;
    case 8: l->kind = 4; return true;
    default: return false;
    }
}

template <int N>
static __device__ __forceinline__ void sp_cu_light_run(const sp_cu_light &l, float (&v)[N])
{
    if (l.kind == 0) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = sp_cu_bound(v[k], l.low, l.high);
    } else if (l.kind == 1) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] *= sp_cu_bound(v[k] * (1.0f / 6) + 0.5f, 0, 1);
    } else if (l.kind == 2) {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = sp_cu_bound(v[k] * l.low + l.high, 0, 1);
    } else {
#pragma unroll
        for (int k = 0; k < N; k++) v[k] = (l.kind == 3 ? 1.0f : v[k]) / (1 + expf(-v[k]));
    }
}

#endif
