/* Element-wise operators: one, two and three operands with broadcasting, casts, and the epilogue of
 * products. All are bound by memory, so what to compute is a switch that every thread of a launch
 * takes the same way. */
#include "kernels/cuda/eltwise.cuh"
#include "kernels/cuda/vec.cuh"

template <typename T>
static __global__ void unary_kernel(int op, float a, float b, const T *x, T *y, int64_t n)
{
    SP_CU_FOR(i, n) y[i] = (T)unary(op, a, b, (float)x[i]);
}

template <typename T>
static __global__ void unary4_kernel(int op, float a, float b, const T *x, T *y, int64_t n)
{
    SP_CU_FOR(i, n)
    {
        float v[4];
        sp_cu_get4(x + i * 4, v);
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] = unary(op, a, b, v[k]);
        sp_cu_put4(y + i * 4, v);
    }
}

static bool quads(int64_t n, const void *a, const void *b, const void *c)
{
    return n % 4 == 0 && ((uintptr_t)a | (uintptr_t)b | (uintptr_t)c) % 16 == 0;
}

template <typename T>
static void run_unary(int op, float a, float b, const void *x, void *y, int64_t n,
                      cudaStream_t stream)
{
    if (quads(n, x, y, NULL))
        unary4_kernel<T><<<sp_cu_blocks(n / 4, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
            op, a, b, (const T *)x, (T *)y, n / 4);
    else
        unary_kernel<T><<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
            op, a, b, (const T *)x, (T *)y, n);
}

void sp_cu_unary(sp_cu_unary_op op, int half, float a, float b, const void *x, void *y, int64_t n,
                 cudaStream_t stream)
{
    if (n <= 0) return;
    if (half)
        run_unary<__half>(op, a, b, x, y, n, stream);
    else
        run_unary<float>(op, a, b, x, y, n, stream);
}

template <typename T>
static __global__ void negate_kernel(int absolute, const T *x, T *y, int64_t n)
{
    SP_CU_FOR(i, n) y[i] = !absolute || x[i] < 0 ? (T)-x[i] : x[i];
}

void sp_cu_negate(sp_cu_type type, int absolute, const void *x, void *y, int64_t n,
                  cudaStream_t stream)
{
    if (n <= 0) return;
    unsigned blocks = sp_cu_blocks(n, SP_CU_THREADS);
    if (type == SP_CU_I32)
        negate_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(absolute, (const int32_t *)x,
                                                            (int32_t *)y, n);
    else
        negate_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(absolute, (const int64_t *)x,
                                                            (int64_t *)y, n);
}

static __global__ void test_kernel(int test, int signs, const void *x, uint8_t *y, int64_t n)
{
    SP_CU_FOR(i, n)
    {
        if (test == 0) {
            y[i] = ((const uint8_t *)x)[i] == 0;
            continue;
        }
        float v = ((const float *)x)[i];
        if (test == 1)
            y[i] = v != v;
        else
            y[i] = (v == CUDART_INF_F && (signs & 1)) || (v == -CUDART_INF_F && (signs & 2));
    }
}

void sp_cu_test(int test, int signs, const void *x, uint8_t *y, int64_t n, cudaStream_t stream)
{
    if (n <= 0) return;
    test_kernel<<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(test, signs, x, y, n);
}

/* ---- two operands ---- */

/* Offsets of element i in each operand. I: the integer that indices fit in. */
template <typename I, int N> static __device__ void offsets(const sp_cu_space &s, I i, I *at)
{
    for (int k = 0; k < N; k++) at[k] = 0;
    for (int d = s.rank - 1; d > 0; d--) {
        I q = i / (I)s.dims[d], c = i - q * (I)s.dims[d];
        for (int k = 0; k < N; k++) at[k] += c * (I)s.strides[k][d];
        i = q;
    }
    for (int k = 0; k < N; k++) at[k] += i * (I)s.strides[k][0];
}

/* S: as stored; T: as computed. */
template <typename S, typename T, typename R>
static __global__ void dense_kernel(int op, int step_a, int step_b, const S *a, const S *b, R *y,
                                    int64_t n)
{
    SP_CU_FOR(i, n) y[i] = binary<T, R>(op, (T)a[i * step_a], (T)b[i * step_b]);
}

template <typename S, typename T, typename R, typename I>
static __global__ void binary_kernel(int op, sp_cu_space s, const S *a, const S *b, R *y)
{
    SP_CU_FOR(i, s.count)
    {
        I at[2];
        offsets<I, 2>(s, (I)i, at);
        y[i] = binary<T, R>(op, (T)a[at[0]], (T)b[at[1]]);
    }
}

template <typename S> static __device__ __forceinline__ void get_vector(const S *p, float (&v)[4])
{
    sp_cu_get4(p, v);
}

static __device__ __forceinline__ void get_vector(const __half *p, float (&v)[8])
{
    sp_cu_unpack(*(const uint4 *)p, v);
}

template <typename S> static __device__ __forceinline__ void put_vector(S *p, const float (&v)[4])
{
    sp_cu_put4(p, v);
}

static __device__ __forceinline__ void put_vector(__half *p, const float (&v)[8])
{
    *(uint4 *)p = sp_cu_pack(v);
}

/* A vector of an operand that runs along them or repeats one element. */
template <typename S, int N>
static __device__ __forceinline__ void get_operand(const S *p, int runs, float (&v)[N])
{
    if (runs) {
        get_vector(p, v);
        return;
    }
    float one = (float)*p;
#pragma unroll
    for (int k = 0; k < N; k++) v[k] = one;
}

/* Floats whose last dimension comes in vectors of N, each operand running along it or repeated. The
 * last dimension of s counts vectors; its strides stay those of single elements. */
template <typename S, int N>
static __global__ void vector_kernel(int op, sp_cu_space s, int run_a, int run_b, const S *a,
                                     const S *b, S *y)
{
    SP_CU_FOR(i, s.count)
    {
        uint32_t at[2] = {(uint32_t)i, (uint32_t)i};
        float p[N], q[N];
        offsets<uint32_t, 2>(s, (uint32_t)i, at);
        get_operand(a + at[0], run_a, p);
        get_operand(b + at[1], run_b, q);
#pragma unroll
        for (int k = 0; k < N; k++) p[k] = binary<float, float>(op, p[k], q[k]);
        put_vector(y + i * N, p);
    }
}

/* false: not in vectors of N. */
template <typename S, int N>
static bool run_vectors(int op, const sp_cu_space *given, const void *a, const void *b, void *y,
                        cudaStream_t stream)
{
    sp_cu_space s = *given;
    int last = s.rank - 1;
    if (s.rank < 1 || s.count >= INT32_MAX || s.dims[last] % N || !quads(s.dims[last], a, b, y))
        return false;
    int run[2];
    for (int k = 0; k < 2; k++) {
        run[k] = s.strides[k][last] == 1;
        if (!run[k] && s.strides[k][last] != 0) return false;
        for (int d = 0; d < last; d++)
            if (run[k] && s.strides[k][d] % N != 0) return false;
        s.strides[k][last] *= N;
    }
    s.dims[last] /= N;
    s.count /= N;
    vector_kernel<S, N><<<sp_cu_blocks(s.count, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
        op, s, run[0], run[1], (const S *)a, (const S *)b, (S *)y);
    return true;
}

template <typename S, typename T, typename R>
static void run_binary(int op, const sp_cu_space *s, const void *a, const void *b, void *y,
                       cudaStream_t stream)
{
    int64_t n = s->count;
    unsigned blocks = sp_cu_blocks(n, SP_CU_THREADS);
    if (s->rank <= 1)
        dense_kernel<S, T, R><<<blocks, SP_CU_THREADS, 0, stream>>>(
            op, s->rank ? (int)s->strides[0][0] : 0, s->rank ? (int)s->strides[1][0] : 0,
            (const S *)a, (const S *)b, (R *)y, n);
    else if (n < INT32_MAX)
        binary_kernel<S, T, R, uint32_t>
            <<<blocks, SP_CU_THREADS, 0, stream>>>(op, *s, (const S *)a, (const S *)b, (R *)y);
    else
        binary_kernel<S, T, R, int64_t>
            <<<blocks, SP_CU_THREADS, 0, stream>>>(op, *s, (const S *)a, (const S *)b, (R *)y);
}

void sp_cu_binary(sp_cu_binary_op op, sp_cu_type type, const sp_cu_space *s, const void *a,
                  const void *b, void *y, cudaStream_t stream)
{
    if (s->count <= 0) return;
    bool truth = op >= SP_CU_BIN_Equal;
    if (type == SP_CU_F32 && !truth && run_vectors<float, 4>(op, s, a, b, y, stream)) return;
    if (type == SP_CU_F16 && !truth &&
        (run_vectors<__half, 8>(op, s, a, b, y, stream) ||
         run_vectors<__half, 4>(op, s, a, b, y, stream)))
        return;
#define CASE(S, T)                                                                                 \
    if (truth)                                                                                     \
        run_binary<S, T, uint8_t>(op, s, a, b, y, stream);                                         \
    else                                                                                           \
        run_binary<S, T, S>(op, s, a, b, y, stream)
    switch (type) {
    case SP_CU_F32: CASE(float, float); break;
    case SP_CU_F16: CASE(__half, float); break;
    case SP_CU_I32: CASE(int32_t, int32_t); break;
    case SP_CU_I64: CASE(int64_t, int64_t); break;
    default: run_binary<uint8_t, uint8_t, uint8_t>(op, s, a, b, y, stream);
    }
#undef CASE
}

template <typename T>
static __global__ void where_kernel(sp_cu_space s, const uint8_t *c, const T *a, const T *b, T *y)
{
    SP_CU_FOR(i, s.count)
    {
        int64_t at[3] = {0, 0, 0};
        if (s.rank > 0) offsets<int64_t, 3>(s, i, at);
        y[i] = c[at[0]] ? a[at[1]] : b[at[2]];
    }
}

void sp_cu_where(int size, const sp_cu_space *s, const uint8_t *c, const void *a, const void *b,
                 void *y, cudaStream_t stream)
{
    if (s->count <= 0) return;
    unsigned n = sp_cu_blocks(s->count, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    where_kernel<<<n, SP_CU_THREADS, 0, stream>>>(*s, c, (const T *)a, (const T *)b, (T *)y)
    switch (size) {
    case 1: CASE(uint8_t); break;
    case 2: CASE(uint16_t); break;
    case 4: CASE(uint32_t); break;
    default: CASE(uint64_t);
    }
#undef CASE
}

/* ---- casts ---- */

static __device__ bool is_float(int t)
{
    return t == SP_CU_F32 || t == SP_CU_F64 || t == SP_CU_F16;
}

static __device__ double load_float(int t, const void *x, int64_t i)
{
    if (t == SP_CU_F32) return ((const float *)x)[i];
    if (t == SP_CU_F16) return (double)__half2float(((const __half *)x)[i]);
    return ((const double *)x)[i];
}

static __device__ int64_t load_int(int t, const void *x, int64_t i)
{
    switch (t) {
    case SP_CU_I32: return ((const int32_t *)x)[i];
    case SP_CU_I64: return ((const int64_t *)x)[i];
    case SP_CU_I8: return ((const int8_t *)x)[i];
    default: return ((const uint8_t *)x)[i];
    }
}

static __global__ void cast_kernel(int from, int to, const void *x, void *y, int64_t n)
{
    SP_CU_FOR(i, n)
    {
        double f = 0;
        int64_t v = 0;
        if (is_float(from)) {
            f = load_float(from, x, i);
            v = (int64_t)f;
        } else {
            v = load_int(from, x, i);
            f = (double)v;
        }
        switch (to) {
        case SP_CU_F32: ((float *)y)[i] = is_float(from) ? (float)f : (float)v; break;
        case SP_CU_F64: ((double *)y)[i] = f; break;
        case SP_CU_F16: ((__half *)y)[i] = __float2half_rn((float)f); break;
        case SP_CU_I32: ((int32_t *)y)[i] = (int32_t)v; break;
        case SP_CU_I64: ((int64_t *)y)[i] = v; break;
        case SP_CU_I8: ((int8_t *)y)[i] = (int8_t)v; break;
        case SP_CU_U8: ((uint8_t *)y)[i] = (uint8_t)v; break;
        default: ((uint8_t *)y)[i] = is_float(from) ? f != 0 : v != 0;
        }
    }
}

template <typename S, typename R>
static __global__ void convert4_kernel(const S *x, R *y, int64_t n)
{
    SP_CU_FOR(i, n)
    {
        float v[4];
        sp_cu_get4(x + i * 4, v);
        sp_cu_put4(y + i * 4, v);
    }
}

void sp_cu_cast(sp_cu_type from, sp_cu_type to, const void *x, void *y, int64_t n,
                cudaStream_t stream)
{
    if (n <= 0) return;
    unsigned fours = sp_cu_blocks(n / 4, SP_CU_THREADS);
    if (from == SP_CU_F32 && to == SP_CU_F16 && quads(n, x, y, NULL)) {
        convert4_kernel<<<fours, SP_CU_THREADS, 0, stream>>>((const float *)x, (__half *)y, n / 4);
        return;
    }
    if (from == SP_CU_F16 && to == SP_CU_F32 && quads(n, x, y, NULL)) {
        convert4_kernel<<<fours, SP_CU_THREADS, 0, stream>>>((const __half *)x, (float *)y, n / 4);
        return;
    }
    cast_kernel<<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(from, to, x, y, n);
}

template <typename T>
static __global__ void clip_kernel(const T *x, const T *low, const T *high, T *y, int64_t n)
{
    SP_CU_FOR(i, n)
    {
        T v = x[i];
        if (low && v < *low) v = *low;
        if (high && v > *high) v = *high;
        y[i] = v;
    }
}

void sp_cu_clip(sp_cu_type type, const void *x, const void *low, const void *high, void *y,
                int64_t n, cudaStream_t stream)
{
    if (n <= 0) return;
    unsigned blocks = sp_cu_blocks(n, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    clip_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>((const T *)x, (const T *)low,                \
                                                      (const T *)high, (T *)y, n)
    if (type == SP_CU_F32)
        CASE(float);
    else if (type == SP_CU_I32)
        CASE(int32_t);
    else
        CASE(int64_t);
#undef CASE
}

static __global__ void scale_kernel(float factor, float *y, int64_t n)
{
    SP_CU_FOR(i, n) y[i] *= factor;
}

void sp_cu_scale(float factor, float *y, int64_t n, cudaStream_t stream)
{
    if (n <= 0) return;
    scale_kernel<<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(factor, y, n);
}

/* ---- epilogue ---- */

template <typename T>
static __global__ void epilogue_kernel(sp_cu_epilogue e, T *y, const T *bias, const T *residual,
                                       int64_t n)
{
    SP_CU_FOR(i, n)
    {
        int64_t channel = e.inner == 1 ? i % e.channels : i / e.inner % e.channels;
        float c = bias ? (float)bias[channel] : 0.0f, r = e.residual ? (float)residual[i] : 0.0f;
        y[i] = (T)sp_cu_finish(e, (float)y[i], &c, 0, &r, 0);
    }
}

/* Channels vary fastest and come in fours. */
template <typename T>
static __global__ void epilogue4_kernel(sp_cu_epilogue e, T *y, const T *bias, const T *residual,
                                        uint32_t n)
{
    SP_CU_FOR(i, (int64_t)n)
    {
        float v[4], r[4] = {0, 0, 0, 0}, c[4] = {0, 0, 0, 0};
        sp_cu_get4(y + i * 4, v);
        if (bias) sp_cu_get4(bias + (uint32_t)i % (uint32_t)(e.channels / 4) * 4, c);
        if (e.residual) sp_cu_get4(residual + i * 4, r);
#pragma unroll
        for (int k = 0; k < 4; k++) v[k] = sp_cu_finish(e, v[k], c, k, r, k);
        sp_cu_put4(y + i * 4, v);
    }
}

template <typename T>
static void run_epilogue(const sp_cu_epilogue *e, void *y, const void *bias, const void *residual,
                         int64_t n, cudaStream_t stream)
{
    if (e->inner == 1 && e->channels % 4 == 0 && n < (int64_t)1 << 33 &&
        quads(n, y, bias, residual))
        epilogue4_kernel<T><<<sp_cu_blocks(n / 4, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
            *e, (T *)y, (const T *)bias, (const T *)residual, (uint32_t)(n / 4));
    else
        epilogue_kernel<T><<<sp_cu_blocks(n, SP_CU_THREADS), SP_CU_THREADS, 0, stream>>>(
            *e, (T *)y, (const T *)bias, (const T *)residual, n);
}

void sp_cu_epilogue_run(const sp_cu_epilogue *e, int half, void *y, const void *bias,
                        const void *residual, int64_t n, cudaStream_t stream)
{
    if (n <= 0 || (!bias && !e->act && !e->residual)) return;
    if (half)
        run_epilogue<__half>(e, y, bias, residual, n, stream);
    else
        run_epilogue<float>(e, y, bias, residual, n, stream);
}
