/*
 * Gemm and MatMul on float32. Where B is one constant matrix it is packed once, and all leading
 * dimensions of A are rows of one product. Otherwise B is packed into the workspace, matrix by
 * matrix.
 */
#include "backends/cpu/spmm_run.h"
#include "ops/op.h"

#define MANY_ROWS 1024 /* where the number is not known: stands for any large one */

typedef struct matmul_state {
    sp_epilogue epilogue;
    bool gemm, trans_a, trans_b;
    float alpha, beta;
    int32_t bias_input;    /* -1: none */
    sp_cpu_packed *packed; /* NULL: B is packed by run, if it is not sparse */
    sp_cpu_packed *sparse; /* B for the sparse kernel; both: the number of rows decides */
    size_t n, k;           /* of packed */
} matmul_state;

/* Everything about one set of shapes. Strides are in elements, batch strides 0 where broadcast. */
typedef struct matmul_plan {
    size_t m, n, k, batch;
    int32_t batch_rank;
    int64_t batch_dims[SPAROA_MAX_RANK], a_batch[SPAROA_MAX_RANK], b_batch[SPAROA_MAX_RANK];
    size_t packed_floats, a_floats; /* of one matrix; a_floats 0: A is used where it is */
    int32_t slots;                  /* threads that work on matrices of their own; 1: together */
} matmul_plan;

static void read_attributes(const sparoa_node *node, matmul_state *s)
{
    *s = (matmul_state){.epilogue = sp_epilogue_of(node), .alpha = 1, .beta = 1};
    s->gemm = strcmp(node->op, "Gemm") == 0;
    s->bias_input = s->epilogue.bias_input;
    if (!s->gemm) return;
    s->trans_a = sparoa_attr_int(node, "transA", 0) != 0;
    s->trans_b = sparoa_attr_int(node, "transB", 0) != 0;
    s->alpha = sparoa_attr_float(node, "alpha", 1);
    s->beta = sparoa_attr_float(node, "beta", 1);
    s->bias_input = sparoa_in(node, 2) && s->epilogue.residual_input != 2 ? 2 : -1;
}

/* B is one matrix of known size whose data never changes. */
static bool packs_once(const sparoa_node *node, const matmul_state *s)
{
    const sparoa_tensor *b = node->in[1];
    if (!sp_cpu_is_constant(node, 1) || b->rank < 1) return false;
    for (int32_t i = 0; i + 2 < b->rank; i++)
        if (b->dims[i] != 1) return false;
    /* Leading ones of B may add dimensions to the output, which changes nothing in memory. */
    return s->bias_input < 0 || sp_cpu_is_constant(node, s->bias_input);
}

/* A bias that is the same for every row: [N] or [1,N]. One element is fine where N is 1. */
static bool bias_fits(const sparoa_node *node, const matmul_state *s)
{
    if (s->bias_input < 0) return true;
    const sparoa_tensor *c = node->in[s->bias_input], *b = node->in[1];
    if (c->rank < 1 || c->rank > 2 || b->rank < 1) return false;
    int64_t n = b->rank == 1 ? 1 : b->dims[s->trans_b ? b->rank - 2 : b->rank - 1];
    return (c->rank == 1 || c->dims[0] == 1) && n >= 0 && c->dims[c->rank - 1] == n;
}

static sp_gemm_f32_source source_of(const sparoa_node *node, const matmul_state *s)
{
    const sparoa_tensor *b = node->in[1];
    size_t rows = (size_t)b->dims[b->rank < 2 ? 0 : b->rank - 2];
    size_t columns = b->rank < 2 ? 1 : (size_t)b->dims[b->rank - 1];
    sp_gemm_f32_source source = {.n = columns,
                                 .k = rows,
                                 .taps = 1,
                                 .b = b->data,
                                 .k_stride = columns,
                                 .n_stride = 1,
                                 .scale = s->alpha};
    if (s->trans_b) {
        source.n = rows, source.k = columns;
        source.k_stride = 1, source.n_stride = columns;
    }
    if (s->bias_input >= 0) source.bias = node->in[s->bias_input]->data;
    return source;
}

/* A dimension that is not known yet may be one or many. */
static sp_spmm_choice choose_sparse(const sp_cpu_host *host, const sparoa_node *node,
                                    const matmul_state *s, sp_spmm_f32_size *size)
{
    const sparoa_tensor *a = node->in[0];
    const int32_t depth = s->trans_a ? a->rank - 2 : a->rank - 1;
    size_t least = 1, many = a->rank < 0 ? MANY_ROWS : 1;
    if (!packs_once(node, s) || s->trans_a) return SP_SPMM_NO;
    for (int32_t i = 0; i < a->rank; i++)
        if (i != depth && a->dims[i] > 0)
            least *= (size_t)a->dims[i];
        else if (i != depth)
            many = MANY_ROWS;
    sp_gemm_f32_source source = source_of(node, s);
    return sp_spmm_choose(host, &source, least, least * many, size);
}

static const char *matmul_supports(const sp_cpu_host *host, const sparoa_node *node)
{
    matmul_state s;
    if (node->n_in < 2 || !node->in[0] || !node->in[1] || !sp_cpu_all_float32(node)) return NULL;
    read_attributes(node, &s);
    if (!bias_fits(node, &s)) return NULL;
    if (s.beta != 1 && s.bias_input >= 0) return NULL;
    if (s.gemm && (node->in[0]->rank != 2 || node->in[1]->rank != 2)) return NULL;
    sp_spmm_f32_size size;
    return choose_sparse(host, node, &s, &size) ? host->kernels->spmm_name
                                                : host->kernels->gemm_name;
}

static void matmul_destroy(void *state, const sp_cpu_host *host)
{
    matmul_state *s = state;
    if (!s) return;
    sp_cpu_pack_release(s->packed);
    sp_cpu_pack_release(s->sparse);
    sp_cpu_free(host, s, sizeof *s);
}

static sparoa_status matmul_create(const sparoa_node *node, const sp_cpu_host *host, void **state,
                                   sparoa_error *err)
{
    matmul_state *s = sp_cpu_alloc(host, sizeof *s);
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the kernel");
    read_attributes(node, s);
    if (packs_once(node, s)) {
        sp_gemm_f32_source source = source_of(node, s);
        s->n = source.n, s->k = source.k;
        sp_spmm_f32_size size;
        sp_spmm_choice choice = choose_sparse(host, node, s, &size);
        if (choice != SP_SPMM_NO) s->sparse = sp_spmm_pack_shared(host, &source, &size);
        if (choice != SP_SPMM_YES)
            s->packed = sp_gemm_pack_shared(host, &source, 1, source.n * source.k);
        if ((choice != SP_SPMM_NO && !s->sparse) || (choice != SP_SPMM_YES && !s->packed)) {
            matmul_destroy(s, host);
            return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node,
                               "no memory to pack %zu x %zu weights", source.k, source.n);
        }
    }
    *state = s;
    return SPAROA_OK;
}

static size_t matmul_bytes(const void *state)
{
    const matmul_state *s = state;
    return (s->packed ? s->packed->bytes : 0) + (s->sparse ? s->sparse->bytes : 0);
}

static bool matmul_keeps_input(const void *state, int32_t input)
{
    const matmul_state *s = state;
    return (!s->packed && !s->sparse) || (input != 1 && input != s->bias_input);
}

/* Leading dimensions, and how each operand walks along them. */
static void plan_batch(const sparoa_node *node, matmul_plan *p)
{
    const sparoa_tensor *a = node->in[0], *b = node->in[1];
    int32_t ra = a->rank > 2 ? a->rank - 2 : 0, rb = b->rank > 2 ? b->rank - 2 : 0;
    int64_t sa = (int64_t)(p->m * p->k), sb = (int64_t)(p->n * p->k);
    p->batch_rank = ra > rb ? ra : rb;
    p->batch = 1;
    for (int32_t i = p->batch_rank - 1; i >= 0; i--) {
        int32_t ia = i - (p->batch_rank - ra), ib = i - (p->batch_rank - rb);
        int64_t da = ia < 0 ? 1 : a->dims[ia], db = ib < 0 ? 1 : b->dims[ib];
        p->batch_dims[i] = da == 1 ? db : da;
        p->a_batch[i] = da == 1 ? 0 : sa;
        p->b_batch[i] = db == 1 ? 0 : sb;
        sa *= da;
        sb *= db;
        p->batch *= (size_t)p->batch_dims[i];
    }
}

static matmul_plan plan_of(const matmul_state *s, const sp_cpu_host *host, const sparoa_node *node)
{
    const sparoa_tensor *a = node->in[0];
    sp_gemm_f32_source source = source_of(node, s);
    matmul_plan p = {.n = source.n, .k = source.k, .batch = 1, .slots = 1};
    p.m = a->rank < 2 ? 1 : (size_t)a->dims[s->trans_a ? a->rank - 1 : a->rank - 2];
    bool one_b = true;
    for (int32_t i = 0; i + 2 < node->in[1]->rank; i++) one_b &= node->in[1]->dims[i] == 1;
    if (one_b)
        for (int32_t i = 0; i + 2 < a->rank; i++) p.m *= (size_t)a->dims[i];
    else
        plan_batch(node, &p);
    if (s->trans_a) p.a_floats = p.m * p.k;
    if (!s->packed && !s->sparse) {
        size_t floats = host->kernels->gemm_f32_packed_floats(p.n, p.k);
        p.packed_floats = (floats + 15) / 16 * 16;
        if (p.batch >= (size_t)host->threads) p.slots = host->threads;
    }
    return p;
}

static bool runs_sparse(const matmul_state *s, const sp_cpu_host *host, size_t m)
{
    return s->sparse && (!s->packed || sp_spmm_pays(host, sp_spmm_size_of(s->sparse), m));
}

static sparoa_status matmul_prepare(void *state, const sp_cpu_host *host, const sparoa_node *node,
                                    void **prepared, size_t *workspace, sparoa_error *err)
{
    const matmul_state *s = state;
    matmul_plan p = plan_of(s, host, node);
    size_t floats;
    if (runs_sparse(s, host, p.m)) {
        const sp_spmm_f32_size *size = sp_spmm_size_of(s->sparse);
        sp_gemm_split split = sp_spmm_split(host->kernels, size, p.m, host->threads);
        *workspace = sp_spmm_piece_bytes(host->kernels, size) * (size_t)sp_gemm_split_count(&split);
        return SPAROA_OK;
    }
    if (__builtin_mul_overflow(p.packed_floats, (size_t)p.slots, &floats) ||
        __builtin_add_overflow(floats, p.a_floats, &floats) || floats > SIZE_MAX / 8)
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "the workspace would be too large");
    *workspace = floats * sizeof(float);
    return SPAROA_OK;
}

typedef struct matmul_task {
    const matmul_plan *plan;
    const sp_kernels *kernels;
    sp_gemm_f32_source source;
    sp_gemm_f32 g;
    float *workspace;
} matmul_task;

/* One matrix of the batch; exec NULL: in this thread. */
static void run_one(const matmul_task *t, size_t index, float *packed, const sparoa_exec *exec)
{
    const matmul_plan *p = t->plan;
    int64_t a = 0, b = 0;
    size_t rest = index;
    for (int32_t i = p->batch_rank - 1; i >= 0; i--) {
        int64_t at = (int64_t)(rest % (size_t)p->batch_dims[i]);
        rest /= (size_t)p->batch_dims[i];
        a += at * p->a_batch[i];
        b += at * p->b_batch[i];
    }
    sp_gemm_f32_source source = t->source;
    sp_gemm_f32 g = t->g;
    source.b += b;
    g.a += a;
    g.c += index * p->m * p->n;
    if (g.residual) g.residual += index * p->m * p->n;
    g.b = packed;
    if (exec) {
        sp_gemm_pack_parallel(t->kernels, &source, packed, exec);
        sp_gemm_parallel(t->kernels, &g, exec);
    } else {
        size_t panels = t->kernels->gemm_f32_panels(p->n);
        t->kernels->gemm_f32_pack(&source, 0, panels, packed);
        t->kernels->gemm_f32(&g, 0, p->m, 0, panels);
    }
}

static void run_slot(void *arg, int32_t i)
{
    const matmul_task *t = arg;
    size_t slots = (size_t)t->plan->slots, slot = (size_t)i;
    float *packed = t->workspace + slot * t->plan->packed_floats;
    for (size_t b = t->plan->batch * slot / slots; b < t->plan->batch * (slot + 1) / slots; b++)
        run_one(t, b, packed, NULL);
}

static void run_sparse(const matmul_state *s, const sp_cpu_host *host, const sp_gemm_f32 *g,
                       const sparoa_exec *exec)
{
    const sp_spmm_f32 product = {.b = s->sparse->data,
                                 .a = g->a,
                                 .lda = g->lda,
                                 .c = g->c,
                                 .ldc = g->ldc,
                                 .residual = g->residual,
                                 .ldr = g->ldr,
                                 .epilogue = g->epilogue};
    sp_gemm_split split =
        sp_spmm_split(host->kernels, sp_spmm_size_of(s->sparse), g->m, host->threads);
    sp_spmm_parallel(host->kernels, &product, &split, exec);
}

static sparoa_status matmul_run(void *state, void *prepared, const sp_cpu_host *host,
                                const sparoa_node *node, const sparoa_exec *exec)
{
    const matmul_state *s = state;
    matmul_plan p = plan_of(s, host, node);
    if (sp_count(node->out[0]) == 0) return SPAROA_OK;
    sp_gemm_f32 g = {.m = p.m,
                     .n = p.n,
                     .k = p.k,
                     .taps = 1,
                     .a = node->in[0]->data,
                     .lda = p.k,
                     .c = node->out[0]->data,
                     .ldc = p.n,
                     .ldr = p.n};
    g.epilogue = sp_gemm_epilogue_of(&s->epilogue);
    if (s->epilogue.residual) g.residual = node->in[s->epilogue.residual_input]->data;
    if (runs_sparse(s, host, p.m)) {
        run_sparse(s, host, &g, exec);
        return SPAROA_OK;
    }
    float *workspace = exec->workspace;
    if (p.a_floats) {
        float *a = workspace + p.packed_floats * (size_t)p.slots;
        for (size_t k = 0; k < p.k; k++)
            for (size_t m = 0; m < p.m; m++) a[m * p.k + k] = g.a[k * p.m + m];
        g.a = a;
    }
    if (s->packed) {
        g.b = s->packed->data;
        sp_gemm_parallel(host->kernels, &g, exec);
        return SPAROA_OK;
    }
    matmul_task t = {&p, host->kernels, source_of(node, s), g, workspace};
    if (p.slots > 1)
        exec->parallel(exec, p.slots, run_slot, &t);
    else
        for (size_t b = 0; b < p.batch; b++) run_one(&t, b, workspace, exec);
    return SPAROA_OK;
}

#define MATMUL_ROW(name)                                                                           \
    {                                                                                              \
        .op = name, .domain = "", .supports = matmul_supports, .create = matmul_create,            \
        .bytes = matmul_bytes, .keeps_input = matmul_keeps_input, .prepare = matmul_prepare,       \
        .run = matmul_run, .destroy = matmul_destroy                                               \
    }

/* ONNX Gemm, version 7 and newer: C must be a row. */
SP_CPU_KERNEL(Gemm) = MATMUL_ROW("Gemm");
/* ONNX MatMul, all versions, with bias and residual of epilogue.h. */
SP_CPU_KERNEL(MatMul) = MATMUL_ROW("MatMul");
