/* Chains of element-wise functions: a small program that every thread runs on its elements. */
#include "kernels/cuda/eltwise.cuh"

typedef struct operands {
    const void *p[SP_CU_CHAIN_OPERANDS];
} operands;

static __device__ __forceinline__ float step(const sp_cu_chain &c, int k, float v, float other)
{
    if (c.operand[k] < 0) {
        if (c.op[k] == SP_CU_UNARY_COUNT) {
            v = v < c.a[k] ? c.a[k] : v;
            return v > c.b[k] ? c.b[k] : v;
        }
        return unary(c.op[k], c.a[k], c.b[k], v);
    }
    return c.left[k] ? binary<float, float>(c.op[k], other, v)
                     : binary<float, float>(c.op[k], v, other);
}

/* I: the integer that indices fit in. */
template <typename T, typename I>
static __global__ void chain_kernel(sp_cu_chain c, operands in, T *y)
{
    SP_CU_FOR(i, c.count)
    {
        I at[SP_CU_CHAIN_OPERANDS] = {}, rest = (I)i;
        for (int d = c.rank - 1; d >= 0; d--) {
            I q = rest / (I)c.dims[d], k = rest - q * (I)c.dims[d];
            for (int o = 0; o < c.operands; o++) at[o] += k * (I)c.strides[o][d];
            rest = q;
        }
        float v = (float)((const T *)in.p[0])[at[0]];
        for (int k = 0; k < c.steps; k++) {
            int o = c.operand[k];
            v = step(c, k, v, o < 0 ? 0.0f : (float)((const T *)in.p[o])[at[o]]);
        }
        y[i] = (T)v;
    }
}

/* Operands of the result's shape, or of one element: four elements a thread. */
template <typename T> static __global__ void chain4_kernel(sp_cu_chain c, operands in, T *y)
{
    SP_CU_FOR(i, c.count / 4)
    {
        float v[4], w[4] = {0, 0, 0, 0};
        for (int k = -1; k < c.steps; k++) {
            const int o = k < 0 ? 0 : c.operand[k];
            float(&to)[4] = k < 0 ? v : w;
            if (o >= 0 && c.strides[o][0])
                sp_cu_get4((const T *)in.p[o] + i * 4, to);
            else if (o >= 0)
                to[0] = to[1] = to[2] = to[3] = (float)*(const T *)in.p[o];
            if (k < 0) continue;
#pragma unroll
            for (int j = 0; j < 4; j++) v[j] = step(c, k, v[j], w[j]);
        }
        sp_cu_put4(y + i * 4, v);
    }
}

template <typename T>
static void run(const sp_cu_chain &c, const operands &in, void *y, cudaStream_t stream)
{
    bool quads = c.rank == 1 && c.count % 4 == 0 && (uintptr_t)y % 16 == 0;
    for (int o = 0; o < c.operands && quads; o++)
        quads = c.strides[o][0] == 0 || (uintptr_t)in.p[o] % 16 == 0;
    unsigned blocks = sp_cu_blocks(quads ? c.count / 4 : c.count, SP_CU_THREADS);
    if (quads)
        chain4_kernel<T><<<blocks, SP_CU_THREADS, 0, stream>>>(c, in, (T *)y);
    else if (c.count < INT32_MAX)
        chain_kernel<T, uint32_t><<<blocks, SP_CU_THREADS, 0, stream>>>(c, in, (T *)y);
    else
        chain_kernel<T, int64_t><<<blocks, SP_CU_THREADS, 0, stream>>>(c, in, (T *)y);
}

void sp_cu_chain_run(const sp_cu_chain *c, int half, const void *const in[], void *y,
                     cudaStream_t stream)
{
    operands list = {};
    if (c->count <= 0) return;
    for (int o = 0; o < c->operands; o++) list.p[o] = in[o];
    if (half)
        run<__half>(*c, list, y, stream);
    else
        run<float>(*c, list, y, stream);
}
