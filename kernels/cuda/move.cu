/* Strided copies, transposes and padding: elements are moved without looking at them. */
#include "kernels/cuda/common.cuh"

typedef struct __align__(16) block16
{
    uint64_t lo, hi;
}
block16;

/* ---- merging ---- */

/* Drops dimensions of size 1 and joins those that are one run in both tensors. */
static sp_cu_move merged(const sp_cu_move *in)
{
    sp_cu_move m = {in->size, 0, {0}, {0}, {0}};
    for (int i = 0; i < in->rank; i++) {
        int last = m.rank - 1;
        if (in->dims[i] == 1) continue;
        if (last >= 0 && m.src[last] == in->dims[i] * in->src[i] &&
            m.dst[last] == in->dims[i] * in->dst[i]) {
            m.dims[last] *= in->dims[i];
            m.src[last] = in->src[i];
            m.dst[last] = in->dst[i];
            continue;
        }
        m.dims[m.rank] = in->dims[i];
        m.src[m.rank] = in->src[i];
        m.dst[m.rank++] = in->dst[i];
    }
    return m;
}

/* Widens the element where the last dimension is contiguous on both sides and all else is aligned.
 */
static void widen(sp_cu_move *m, const void *src, const void *dst)
{
    int last = m->rank - 1;
    if (m->rank == 0 || m->src[last] != 1 || m->dst[last] != 1) return;
    for (int wide = 16; wide > m->size; wide /= 2) {
        int by = wide / m->size;
        bool fits = wide % m->size == 0 && m->dims[last] % by == 0 &&
                    ((uintptr_t)src | (uintptr_t)dst) % wide == 0;
        for (int i = 0; i < last; i++) fits = fits && m->src[i] % by == 0 && m->dst[i] % by == 0;
        if (!fits) continue;
        m->size = wide;
        m->dims[last] /= by;
        for (int i = 0; i < last; i++) {
            m->src[i] /= by;
            m->dst[i] /= by;
        }
        return;
    }
}

/* ---- any strides ---- */

template <typename T, typename I>
static __global__ void move_kernel(sp_cu_move m, int64_t count, const T *src, T *dst)
{
    SP_CU_FOR(i, count)
    {
        I rest = (I)i;
        int64_t from = 0, to = 0;
        for (int d = m.rank - 1; d > 0; d--) {
            I q = rest / (I)m.dims[d], c = rest - q * (I)m.dims[d];
            from += (int64_t)c * m.src[d];
            to += (int64_t)c * m.dst[d];
            rest = q;
        }
        if (m.rank > 0) {
            from += (int64_t)rest * m.src[0];
            to += (int64_t)rest * m.dst[0];
        }
        dst[to] = src[from];
    }
}

template <typename T>
static void run_any(const sp_cu_move *m, int64_t count, const void *src, void *dst,
                    cudaStream_t stream)
{
    unsigned blocks = sp_cu_blocks(count, SP_CU_THREADS);
    if (count < INT32_MAX)
        move_kernel<T, uint32_t>
            <<<blocks, SP_CU_THREADS, 0, stream>>>(*m, count, (const T *)src, (T *)dst);
    else
        move_kernel<T, int64_t>
            <<<blocks, SP_CU_THREADS, 0, stream>>>(*m, count, (const T *)src, (T *)dst);
}

/* ---- transposes: the last dimension of the one tensor is the last but one of the other ---- */

#define TILE 32

/* Tiles of batch images of rows x cols (as the destination sees them). */
template <typename T>
static __global__ void transpose_kernel(const T *src, T *dst, int64_t rows, int64_t cols,
                                        int64_t src_row, int64_t src_col, int64_t dst_row,
                                        int64_t src_batch, int64_t dst_batch)
{
    __shared__ T tile[TILE][TILE + 1];
    const T *x = src + blockIdx.z * src_batch;
    T *y = dst + blockIdx.z * dst_batch;
    (void)src_row; /* is 1 */
    int64_t c0 = (int64_t)blockIdx.x * TILE, r0 = (int64_t)blockIdx.y * TILE;
    for (int i = threadIdx.y; i < TILE; i += blockDim.y)
        if (c0 + i < cols && r0 + threadIdx.x < rows)
            tile[i][threadIdx.x] = x[(c0 + i) * src_col + r0 + threadIdx.x];
    __syncthreads();
    for (int i = threadIdx.y; i < TILE; i += blockDim.y)
        if (r0 + i < rows && c0 + threadIdx.x < cols)
            y[(r0 + i) * dst_row + c0 + threadIdx.x] = tile[threadIdx.x][i];
}

template <typename T>
static void run_transpose(const sp_cu_move *m, const void *src, void *dst, cudaStream_t stream)
{
    int k = m->rank - 2;
    int64_t rows = m->dims[k], cols = m->dims[k + 1];
    dim3 grid((unsigned)((cols + TILE - 1) / TILE), (unsigned)((rows + TILE - 1) / TILE),
              (unsigned)(k ? m->dims[0] : 1));
    transpose_kernel<<<grid, dim3(TILE, 8), 0, stream>>>((const T *)src, (T *)dst, rows, cols,
                                                         m->src[k], m->src[k + 1], m->dst[k],
                                                         k ? m->src[0] : 0, k ? m->dst[0] : 0);
}

/* Planes of C channels become pixels of them, 16 bytes of each plane a thread: for an image's few
 * channels. Steps count in 16 bytes. */
template <typename T, int C>
static __global__ void interleave_kernel(const uint4 *src, uint4 *dst, uint32_t count,
                                         uint32_t vectors, int64_t plane, int64_t src_batch,
                                         int64_t dst_batch)
{
    enum { N = 16 / (int)sizeof(T) };
    uint32_t i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    uint32_t n = i / vectors, at = i - n * vectors;
    __align__(16) T v[C][N], out[N * C];
#pragma unroll
    for (int c = 0; c < C; c++) *(uint4 *)v[c] = src[n * src_batch + c * plane + at];
#pragma unroll
    for (int k = 0; k < N * C; k++) out[k] = v[k % C][k / C];
#pragma unroll
    for (int c = 0; c < C; c++) dst[n * dst_batch + (int64_t)at * C + c] = ((const uint4 *)out)[c];
}

/* false: it is not that case. */
template <typename T>
static bool run_interleave(const sp_cu_move *m, const void *src, void *dst, cudaStream_t stream)
{
    const int64_t by = 16 / (int64_t)sizeof(T);
    int k = m->rank - 2;
    if (m->rank < 2 || m->rank > 3 || m->dst[k + 1] != 1 || m->src[k] != 1) return false;
    int64_t rows = m->dims[k], channels = m->dims[k + 1], images = k ? m->dims[0] : 1;
    int64_t batch[2] = {k ? m->src[0] : 0, k ? m->dst[0] : 0}, plane = m->src[k + 1];
    bool whole = rows % by == 0 && plane % by == 0 && batch[0] % by == 0 && batch[1] % by == 0 &&
                 m->dst[k] == channels && images * (rows / by) < INT32_MAX &&
                 ((uintptr_t)src | (uintptr_t)dst) % 16 == 0;
    if (!whole || channels < 2 || channels > 4) return false;
    auto kernel = channels == 2   ? interleave_kernel<T, 2>
                  : channels == 3 ? interleave_kernel<T, 3>
                                  : interleave_kernel<T, 4>;
    int64_t count = images * (rows / by);
    kernel<<<sp_cu_blocks(count, 128), 128, 0, stream>>>((const uint4 *)src, (uint4 *)dst,
                                                         (uint32_t)count, (uint32_t)(rows / by),
                                                         plane / by, batch[0] / by, batch[1] / by);
    return true;
}

static bool is_transpose(const sp_cu_move *m)
{
    int k = m->rank - 2;
    if (m->rank < 2 || m->rank > 3 || m->dst[k + 1] != 1 || m->src[k] != 1) return false;
    return m->dims[k] >= 4 && m->dims[k + 1] >= 4 && (m->dims[k] + TILE - 1) / TILE < 65536 &&
           (k == 0 || m->dims[0] < 65536);
}

void sp_cu_move_run(const sp_cu_move *move, const void *src, void *dst, cudaStream_t stream)
{
    int64_t count = 1;
    sp_cu_move m = merged(move);
    for (int i = 0; i < move->rank; i++) count *= move->dims[i];
    if (count <= 0) return;
    if (m.rank == 0 || (m.rank == 1 && m.src[0] == 1 && m.dst[0] == 1)) {
        if (src != dst)
            cudaMemcpyAsync(dst, src, (size_t)(count * m.size), cudaMemcpyDeviceToDevice, stream);
        return;
    }
    if (m.size == 2 && run_interleave<uint16_t>(&m, src, dst, stream)) return;
    if (m.size == 4 && run_interleave<uint32_t>(&m, src, dst, stream)) return;
    bool transposed = is_transpose(&m);
    if (!transposed) widen(&m, src, dst);
    for (int i = 0; i < m.rank; i++) count = i ? count * m.dims[i] : m.dims[i];
#define CASE(T)                                                                                    \
    if (transposed)                                                                                \
        run_transpose<T>(&m, src, dst, stream);                                                    \
    else                                                                                           \
        run_any<T>(&m, count, src, dst, stream)
    switch (m.size) {
    case 1: CASE(uint8_t); break;
    case 2: CASE(uint16_t); break;
    case 4: CASE(uint32_t); break;
    case 8: CASE(uint64_t); break;
    default: run_any<block16>(&m, count, src, dst, stream);
    }
#undef CASE
}

/* ---- padding ---- */

/* Input coordinate, the cut-off part not counted, for output coordinate o; -1: outside. */
static __device__ int64_t coordinate(int mode, int64_t o, int64_t n, int64_t before)
{
    int64_t i = o - before;
    if (i >= 0 && i < n) return i;
    if (mode == 0 || n <= 0) return -1;
    if (mode == 1) return i < 0 ? 0 : n - 1;
    if (mode == 2 && n == 1) return 0;
    int64_t period = mode == 3 ? n : 2 * (n - 1);
    i %= period;
    if (i < 0) i += period;
    return i < n ? i : period - i;
}

template <typename T>
static __global__ void pad_kernel(sp_cu_pad p, const T *x, const T *value, T *y)
{
    SP_CU_FOR(i, p.count)
    {
        int64_t rest = i, at = 0;
        bool outside = false;
        for (int d = p.rank - 1; d >= 0; d--) {
            int64_t q = rest / p.out[d];
            int64_t c = coordinate(p.mode, rest - q * p.out[d], p.n[d], p.before[d]);
            outside = outside || c < 0;
            at += (c + p.low[d]) * p.strides[d];
            rest = q;
        }
        y[i] = !outside ? x[at] : value ? *value : (T)0;
    }
}

void sp_cu_pad_run(const sp_cu_pad *p, const void *x, const void *value, void *y,
                   cudaStream_t stream)
{
    if (p->count <= 0) return;
    unsigned blocks = sp_cu_blocks(p->count, SP_CU_THREADS);
#define CASE(T)                                                                                    \
    pad_kernel<<<blocks, SP_CU_THREADS, 0, stream>>>(*p, (const T *)x, (const T *)value, (T *)y)
    switch (p->size) {
    case 1: CASE(uint8_t); break;
    case 2: CASE(uint16_t); break;
    case 4: CASE(uint32_t); break;
    default: CASE(uint64_t);
    }
#undef CASE
}

/* ---- whole blocks of bytes ---- */

static __device__ bool aligned16(const void *p)
{
    return (uintptr_t)p % 16 == 0;
}

static __global__ void bulk_kernel(sp_cu_bulk b)
{
    bool wide = aligned16(b.to) && (!b.from || aligned16(b.from));
    int64_t quads = wide ? (int64_t)(b.bytes / 16) : 0;
    unsigned v = b.size == 1   ? (b.value & 0xff) * 0x01010101u
                 : b.size == 2 ? (b.value & 0xffff) * 0x00010001u
                               : b.value;
    SP_CU_FOR(i, quads)
    ((uint4 *)b.to)[i] = b.from ? ((const uint4 *)b.from)[i] : make_uint4(v, v, v, v);
    SP_CU_FOR(i, (int64_t)b.bytes - quads * 16)
    {
        int64_t at = quads * 16 + i;
        ((uint8_t *)b.to)[at] =
            b.from ? ((const uint8_t *)b.from)[at] : (uint8_t)(v >> (at % 4 * 8));
    }
}

void *sp_cu_bulk_kernel(const sp_cu_bulk *bulk, dim3 *grid, dim3 *block)
{
    *grid = dim3(sp_cu_blocks((int64_t)bulk->bytes / 16 + 1, SP_CU_THREADS));
    *block = dim3(SP_CU_THREADS);
    return (void *)bulk_kernel;
}
