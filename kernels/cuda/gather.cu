/* Operators that read or write where indices say. Indices come from the data: each is checked, a
 * bad one gives zero and is noted in *fault, which the queue reports when it is waited for. */
#include "kernels/cuda/common.cuh"

static __device__ int64_t index_at(int wide, const void *index, int64_t i, int64_t extent)
{
    int64_t v = wide ? ((const int64_t *)index)[i] : ((const int32_t *)index)[i];
    if (v < 0) v += extent;
    return v >= 0 && v < extent ? v : -1;
}

template <typename T>
static __global__ void gather_kernel(int wide, const T *x, const void *index, T *y, int64_t count,
                                     int64_t extent, int64_t n_index, int64_t inner, int *fault)
{
    SP_CU_FOR(i, count)
    {
        int64_t row = i / inner, o = row / n_index;
        int64_t k = index_at(wide, index, row - o * n_index, extent);
        if (k < 0) *fault = 1;
        y[i] = k < 0 ? (T)0 : x[(o * extent + k) * inner + i - row * inner];
    }
}

#define FOR_SIZES(size)                                                                            \
    switch (size) {                                                                                \
    case 1: CASE(uint8_t); break;                                                                  \
    case 2: CASE(uint16_t); break;                                                                 \
    case 4: CASE(uint32_t); break;                                                                 \
    default: CASE(uint64_t);                                                                       \
    }

void sp_cu_gather(int size, int wide, const void *x, const void *index, void *y, int64_t outer,
                  int64_t extent, int64_t n_index, int64_t inner, int *fault, cudaStream_t stream)
{
    int64_t count = outer * n_index * inner;
    if (count <= 0) return;
    unsigned blocks = sp_cu_blocks(count, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    gather_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(wide, (const T *)x, index, (T *)y, count,  \
                                                        extent, n_index, inner, fault)
    FOR_SIZES(size)
#undef CASE
}

template <typename T>
static __global__ void elements_kernel(sp_cu_gather_elements g, const T *x, const void *index, T *y,
                                       int *fault)
{
    SP_CU_FOR(i, g.count)
    {
        int64_t rest = i, at = 0, k = index_at(g.wide, index, i, g.extent);
        for (int d = g.rank - 1; d >= 0; d--) {
            int64_t q = rest / g.dims[d], c = rest - q * g.dims[d];
            at += (d == g.axis ? k : c) * g.strides[d];
            rest = q;
        }
        if (k < 0) *fault = 1;
        y[i] = k < 0 ? (T)0 : x[at];
    }
}

void sp_cu_gather_elements_run(const sp_cu_gather_elements *g, const void *x, const void *index,
                               void *y, int *fault, cudaStream_t stream)
{
    if (g->count <= 0) return;
    unsigned blocks = sp_cu_blocks(g->count, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    elements_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(*g, (const T *)x, index, (T *)y, fault)
    FOR_SIZES(g->size)
#undef CASE
}

/* Offset in x of tuple t; -1: an index is out of range. */
static __device__ int64_t tuple_offset(const sp_cu_gather_nd &g, const int64_t *index, int64_t t)
{
    int64_t at = t / g.batch_tuples * g.batch_stride;
    for (int d = 0; d < g.depth; d++) {
        int64_t k = index_at(1, index, t * g.depth + d, g.dims[d]);
        if (k < 0) return -1;
        at += k * g.strides[d];
    }
    return at;
}

template <typename T, bool SCATTER>
static __global__ void nd_kernel(sp_cu_gather_nd g, const T *x, const int64_t *index, T *y,
                                 int *fault)
{
    SP_CU_FOR(i, g.tuples * g.inner)
    {
        int64_t t = i / g.inner, j = i - t * g.inner, at = tuple_offset(g, index, t);
        if (at < 0) *fault = 1;
        if (SCATTER) {
            if (at >= 0) y[at + j] = x[i];
        } else
            y[i] = at < 0 ? (T)0 : x[at + j];
    }
}

void sp_cu_gather_nd_run(const sp_cu_gather_nd *g, const void *x, const int64_t *index, void *y,
                         int *fault, cudaStream_t stream)
{
    if (g->tuples * g->inner <= 0) return;
    unsigned blocks = sp_cu_blocks(g->tuples * g->inner, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    nd_kernel<T, false>                                                                            \
        <<<blocks, SP_CU_THREADS, 0, stream>>>(*g, (const T *)x, index, (T *)y, fault)
    FOR_SIZES(g->size)
#undef CASE
}

void sp_cu_scatter_nd_run(const sp_cu_gather_nd *g, const void *updates, const int64_t *index,
                          void *y, int *fault, cudaStream_t stream)
{
    if (g->tuples * g->inner <= 0) return;
    unsigned blocks = sp_cu_blocks(g->tuples * g->inner, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    nd_kernel<T, true>                                                                             \
        <<<blocks, SP_CU_THREADS, 0, stream>>>(*g, (const T *)updates, index, (T *)y, fault)
    FOR_SIZES(g->size)
#undef CASE
}
