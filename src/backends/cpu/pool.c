/* MaxPool, AveragePool and their global forms on float32 images with the channel last, 1-D to 3-D;
 * MaxPool on 8-bit ones too, up to 2-D. */
#include "backends/cpu/gemm_run.h"
#include "ops/conv_shape.h"
#include "ops/move.h"
#include "ops/op.h"

#define MAX_KERNEL 32
#define MAX_TAPS (MAX_KERNEL * MAX_KERNEL) /* and lines of a 3-D window */

static bool is_max(const sparoa_node *node)
{
    return strstr(node->op, "MaxPool") != NULL;
}

static bool is_global(const sparoa_node *node)
{
    return strncmp(node->op, "Global", 6) == 0;
}

static bool is_8_bit_max(const sparoa_node *node)
{
    const sparoa_dtype type = node->in[0]->dtype;
    return strcmp(node->op, "MaxPool") == 0 && (type == SPAROA_UINT8 || type == SPAROA_INT8);
}

static const char *pool_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    if (!sp_is_nhwc(node) || node->n_in != 1 || !node->in[0]) return NULL;
    if (!sp_cpu_all_float32(node) && !is_8_bit_max(node)) return NULL;
    if (node->n_out > 1 && node->out[1]) return NULL;
    int32_t rank = node->in[0]->rank;
    if (is_global(node)) return rank >= 3 ? host->kernels->name : NULL;
    if (rank < 3 || rank > (is_8_bit_max(node) ? 4 : 5)) return NULL;
    size_t n;
    const int64_t *kernel = sparoa_attr_ints(node, "kernel_shape", &n);
    if (!kernel || n != (size_t)rank - 2) return NULL;
    for (size_t i = 0; i < n; i++)
        if (kernel[i] < 1 || kernel[i] > MAX_KERNEL) return NULL;
    return host->kernels->name;
}

enum { D, H, W, DIMS }; /* 2-D images have a depth of 1, 1-D ones a height of 1 too */

typedef struct pool_task {
    const sp_kernels *kernels;
    const void *x;
    void *y;
    size_t d, h, w, c, od, oh, ow;
    ptrdiff_t kernel[DIMS], stride[DIMS], dilation[DIMS], pad_begin[DIMS], pad_end[DIMS];
    bool max, count_pads;
    char *workspace;
    size_t slot_bytes;
    uint8_t flip; /* signed 8-bit values are compared as unsigned after this exclusive or */
} pool_task;

/* Taps k of 0..kernel-1 with 0 <= first + k * dilation < size. */
static size_t taps_inside(ptrdiff_t first, ptrdiff_t kernel, ptrdiff_t dilation, ptrdiff_t size)
{
    size_t count = 0;
    for (ptrdiff_t k = 0; k < kernel; k++)
        count += first + k * dilation >= 0 && first + k * dilation < size;
    return count;
}

static void max_rows_q8(void *arg, int64_t begin, int64_t end)
{
    const pool_task *t = arg;
    const uint8_t *in[MAX_TAPS];
    for (size_t row = (size_t)begin; row < (size_t)end; row++)
        for (size_t x = 0; x < t->ow; x++) {
            ptrdiff_t y0 = (ptrdiff_t)(row % t->oh) * t->stride[H] - t->pad_begin[H];
            ptrdiff_t x0 = (ptrdiff_t)x * t->stride[W] - t->pad_begin[W];
            const uint8_t *image = (const uint8_t *)t->x + row / t->oh * t->h * t->w * t->c;
            size_t count = 0;
            for (ptrdiff_t ky = 0; ky < t->kernel[H]; ky++)
                for (ptrdiff_t kx = 0; kx < t->kernel[W]; kx++) {
                    size_t iy = (size_t)(y0 + ky * t->dilation[H]),
                           ix = (size_t)(x0 + kx * t->dilation[W]);
                    if (iy < t->h && ix < t->w) in[count++] = image + (iy * t->w + ix) * t->c;
                }
            t->kernels->max_q8(t->c, count, in, t->flip,
                               (uint8_t *)t->y + (row * t->ow + x) * t->c);
        }
}

/* The factor of each output pixel of an average whose window has `rows` rows that count. */
static void scales(const pool_task *t, size_t rows, float *scale)
{
    for (size_t x = 0; x < t->ow; x++) {
        ptrdiff_t first = (ptrdiff_t)x * t->stride[W] - t->pad_begin[W];
        size_t columns = t->count_pads
                             ? taps_inside(first + t->pad_begin[W], t->kernel[W], t->dilation[W],
                                           (ptrdiff_t)t->w + t->pad_begin[W] + t->pad_end[W])
                             : taps_inside(first, t->kernel[W], t->dilation[W], (ptrdiff_t)t->w);
        scale[x] = rows * columns > 0 ? 1 / (float)(rows * columns) : 0;
    }
}

#define DIRECT 9 /* pixels of a window that is not taken in two steps */

/* The lines under output row `row` of the batch that exist. rows: how many an average counts. */
static size_t find_lines(const pool_task *t, size_t row, const float **in, size_t *rows)
{
    const ptrdiff_t y0 = (ptrdiff_t)(row % t->oh) * t->stride[H] - t->pad_begin[H];
    const ptrdiff_t z0 = (ptrdiff_t)(row / t->oh % t->od) * t->stride[D] - t->pad_begin[D];
    const float *image = (const float *)t->x + row / t->oh / t->od * t->d * t->h * t->w * t->c;
    size_t count = 0;
    for (ptrdiff_t kz = 0; kz < t->kernel[D]; kz++)
        for (ptrdiff_t ky = 0; ky < t->kernel[H]; ky++) {
            size_t z = (size_t)(z0 + kz * t->dilation[D]), y = (size_t)(y0 + ky * t->dilation[H]);
            if (z < t->d && y < t->h) in[count++] = image + (z * t->h + y) * t->w * t->c;
        }
    *rows = count;
    if (t->count_pads) /* explicit padding counts, what rounding up adds does not */
        *rows = taps_inside(y0 + t->pad_begin[H], t->kernel[H], t->dilation[H],
                            (ptrdiff_t)t->h + t->pad_begin[H] + t->pad_end[H]) *
                taps_inside(z0 + t->pad_begin[D], t->kernel[D], t->dilation[D],
                            (ptrdiff_t)t->d + t->pad_begin[D] + t->pad_end[D]);
    return count;
}

/* First down, then across: kh + kw steps instead of kh * kw, the first over a whole line. */
static void pool_rows(void *arg, int32_t slot, int64_t begin, int64_t end)
{
    const pool_task *t = arg;
    const float *in[MAX_TAPS];
    float *line = (float *)(t->workspace + t->slot_bytes * (size_t)slot);
    float *scale = line + t->w * t->c;
    size_t counted = 0; /* rows that scale was made for */
    for (size_t row = (size_t)begin; row < (size_t)end; row++) {
        size_t rows;
        sp_pool_f32 down = {.channels = t->w * t->c,
                            .count = find_lines(t, row, in, &rows),
                            .in = in,
                            .max = t->max,
                            .scale = 1,
                            .out = line};
        if (!t->max && (rows != counted || row == (size_t)begin)) scales(t, rows, scale);
        counted = rows;
        /* a window of few pixels is read where it is */
        const bool direct = down.count > 0 && (ptrdiff_t)down.count * t->kernel[W] <= DIRECT;
        const float *one = down.count == 1 ? in[0] : line;
        if (!direct && down.count != 1) t->kernels->pool_f32(&down);
        t->kernels->pool_line_f32(&(sp_pool_line_f32){.channels = t->c,
                                                      .in_width = t->w,
                                                      .out_width = t->ow,
                                                      .rows = direct ? down.count : 1,
                                                      .taps = t->kernel[W],
                                                      .stride = t->stride[W],
                                                      .dilation = t->dilation[W],
                                                      .pad = t->pad_begin[W],
                                                      .max = t->max,
                                                      .in = direct ? in : &one,
                                                      .scale = scale,
                                                      .out = (float *)t->y + row * t->ow * t->c});
    }
}

#define CHANNELS 64 /* of a global pool's task */

static void global_pieces(void *arg, int64_t begin, int64_t end)
{
    const pool_task *t = arg;
    size_t blocks = (t->c + CHANNELS - 1) / CHANNELS;
    for (size_t i = (size_t)begin; i < (size_t)end; i++) {
        size_t c = i % blocks * CHANNELS, n = i / blocks;
        sp_pool_f32 p = {.channels = t->c - c < CHANNELS ? t->c - c : CHANNELS,
                         .count = t->h,
                         .base = (const float *)t->x + n * t->h * t->c + c,
                         .stride = t->c,
                         .max = t->max,
                         .scale = 1 / (float)t->h,
                         .out = (float *)t->y + n * t->c + c};
        t->kernels->pool_f32(&p);
    }
}

static sparoa_status run_global(pool_task *t, const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    t->c = (size_t)x->dims[x->rank - 1];
    t->h = (size_t)sp_dims_product(x, 1, x->rank - 1);
    int64_t blocks = (int64_t)((t->c + CHANNELS - 1) / CHANNELS) * x->dims[0];
    int64_t grain = t->h * CHANNELS < 16384 ? 16384 / ((int64_t)t->h * CHANNELS + 1) + 1 : 1;
    sp_parallel_for(exec, blocks, grain, global_pieces, t);
    return SPAROA_OK;
}

/* A line of sums or maxima, and a factor for each output pixel. */
static size_t slot_bytes(const sparoa_node *node)
{
    const sparoa_tensor *x = node->in[0], *y = node->out[0];
    if (is_global(node) || is_8_bit_max(node)) return 0;
    size_t line = (size_t)(x->dims[x->rank - 2] * x->dims[x->rank - 1]),
           out = (size_t)y->dims[y->rank - 2];
    return ((line + out) * sizeof(float) + 63) / 64 * 64;
}

static sparoa_status pool_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                  void **prepared, size_t *workspace, sparoa_error *err)
{
    *workspace = slot_bytes(node) * (size_t)host->threads;
    return SPAROA_OK;
}

static sparoa_status pool_run(void *state, void *prepared, const sp_cpu_host *host,
                              const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    pool_task t = {
        .kernels = host->kernels, .x = x->data, .y = node->out[0]->data, .max = is_max(node)};
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    if (x->dtype == SPAROA_INT8) t.flip = 0x80;
    if (is_global(node)) return run_global(&t, node, exec);
    sp_window w;
    SP_TRY(sp_window_shape(node, x->rank - 2, x->dims + 1, NULL,
                           sparoa_attr_int(node, "ceil_mode", 0) != 0, &w, exec->err));
    t.count_pads = sparoa_attr_int(node, "count_include_pad", 0) != 0;
    size_t in[DIMS] = {1, 1, 1}, out[DIMS] = {1, 1, 1};
    for (int32_t i = 0; i < DIMS; i++) t.kernel[i] = t.stride[i] = t.dilation[i] = 1;
    for (int32_t i = 0; i < w.spatial; i++) {
        int32_t d = i + DIMS - w.spatial;
        t.kernel[d] = (ptrdiff_t)w.kernel[i], t.stride[d] = (ptrdiff_t)w.stride[i];
        t.dilation[d] = (ptrdiff_t)w.dilation[i];
        t.pad_begin[d] = (ptrdiff_t)w.pad_begin[i], t.pad_end[d] = (ptrdiff_t)w.pad_end[i];
        in[d] = (size_t)w.in[i], out[d] = (size_t)w.out[i];
    }
    t.d = in[D], t.h = in[H], t.w = in[W];
    t.od = out[D], t.oh = out[H], t.ow = out[W];
    t.c = (size_t)x->dims[x->rank - 1];
    int64_t work = (int64_t)(t.ow * t.c) * t.kernel[D] * t.kernel[H] * t.kernel[W];
    int64_t rows = x->dims[0] * (int64_t)(t.od * t.oh),
            grain = work < 16384 ? 16384 / (work + 1) + 1 : 1;
    t.workspace = exec->workspace;
    t.slot_bytes = slot_bytes(node);
    if (is_8_bit_max(node))
        sp_parallel_for(exec, rows, grain, max_rows_q8, &t);
    else
        sp_parallel_slots(exec, rows, grain, pool_rows, &t);
    return SPAROA_OK;
}

#define POOL_ROW(name)                                                                             \
    {                                                                                              \
        .op = name, .domain = "", .supports = pool_supports, .prepare = pool_prepare,              \
        .run = pool_run                                                                            \
    }
/* The ONNX operators of these names, all versions, without indices. */
SP_CPU_KERNEL(MaxPool) = POOL_ROW("MaxPool");
SP_CPU_KERNEL(AveragePool) = POOL_ROW("AveragePool");
SP_CPU_KERNEL(GlobalAveragePool) = POOL_ROW("GlobalAveragePool");
SP_CPU_KERNEL(GlobalMaxPool) = POOL_ROW("GlobalMaxPool");
