/* Operators that draw random numbers. A node's stream comes from its attribute seed, or else from
 * its name: a new session repeats the numbers of the one before, and each run of a session
 * continues with new ones. */
#include "base/rng.h"
#include "ops/op.h"

typedef struct random_state {
    uint64_t runs;
} random_state;

static sparoa_status random_create(const sparoa_node *node, const sparoa_allocator *alloc,
                                   void **state, sparoa_error *err)
{
    random_state *s = alloc->alloc(alloc->user, sizeof *s, _Alignof(random_state));
    if (!s) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for its state");
    s->runs = 0;
    *state = s;
    return SPAROA_OK;
}

static void random_destroy(void *state, const sparoa_allocator *alloc)
{
    if (state) alloc->free(alloc->user, state, sizeof(random_state));
}

/* The stream of this run. Without a state it is that of the first run. */
static uint64_t random_stream(const sparoa_node *node, const sparoa_exec *exec)
{
    random_state *s = exec->state;
    uint64_t run = s ? __atomic_fetch_add(&s->runs, 1, __ATOMIC_RELAXED) : 0, key;
    if (sparoa_attr_find(node, "seed")) {
        float seed = sparoa_attr_float(node, "seed", 0);
        uint32_t bits;
        memcpy(&bits, &seed, sizeof bits);
        key = sp_rng_stream(0, bits);
    } else {
        key = sp_rng_text(node->name);
    }
    return sp_rng_stream(key, run);
}

/* Attribute dtype, which must be one of `types`. */
static sparoa_status random_type(const sparoa_node *node, sparoa_dtype fallback, uint32_t types,
                                 sparoa_dtype *dtype, sparoa_error *err)
{
    int64_t t = sparoa_attr_int(node, "dtype", fallback);
    if (t < 0 || t > SPAROA_BFLOAT16 || !(types >> t & 1u))
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node, "dtype=%lld is not supported",
                           (long long)t);
    *dtype = (sparoa_dtype)t;
    return SPAROA_OK;
}

/* ---- RandomNormal, RandomUniform ---- */

static sparoa_status random_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 0, 1, err));
    sparoa_dtype dtype = SPAROA_UNDEFINED;
    SP_TRY(random_type(node, SPAROA_FLOAT32, SP_TYPES_FLOAT, &dtype, err));
    size_t n;
    const int64_t *shape = sparoa_attr_ints(node, "shape", &n);
    if (n > SPAROA_MAX_RANK)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "shape has %zu dimensions, at most %d are possible", n, SPAROA_MAX_RANK);
    for (size_t i = 0; i < n; i++)
        if (shape[i] < 0)
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "shape[%zu]=%lld is negative", i,
                               (long long)shape[i]);
    sp_set_shape(node->out[0], dtype, (int32_t)n, shape);
    return sp_check_shape(node, node->out[0], err);
}

static sparoa_status random_like_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    sparoa_dtype dtype = SPAROA_UNDEFINED;
    SP_TRY(random_type(node, node->in[0]->dtype, SP_TYPES_FLOAT, &dtype, err));
    sp_copy_fact(node->out[0], node->in[0]);
    node->out[0]->dtype = dtype;
    return SPAROA_OK;
}

typedef struct random_args {
    sparoa_tensor *out;
    const sparoa_tensor *p; /* Bernoulli's probabilities */
    uint64_t key;
    double shift, scale;
} random_args;

static void normal_piece(void *arg, int64_t begin, int64_t end)
{
    const random_args *a = arg;
    for (int64_t i = begin; i < end; i++)
        sp_set_f64(a->out, i, a->shift + a->scale * sp_rng_normal(a->key, (uint64_t)i));
}

static void uniform_piece(void *arg, int64_t begin, int64_t end)
{
    const random_args *a = arg;
    for (int64_t i = begin; i < end; i++)
        sp_set_f64(a->out, i, a->shift + a->scale * sp_rng_uniform(a->key, (uint64_t)i));
}

static sparoa_status normal_run(const sparoa_node *node, const sparoa_exec *exec)
{
    random_args a = {node->out[0], NULL, random_stream(node, exec),
                     sparoa_attr_float(node, "mean", 0), sparoa_attr_float(node, "scale", 1)};
    sp_parallel_for(exec, sp_count(a.out), 4096, normal_piece, &a);
    return SPAROA_OK;
}

static sparoa_status uniform_run(const sparoa_node *node, const sparoa_exec *exec)
{
    double low = sparoa_attr_float(node, "low", 0), high = sparoa_attr_float(node, "high", 1);
    random_args a = {node->out[0], NULL, random_stream(node, exec), low, high - low};
    sp_parallel_for(exec, sp_count(a.out), 4096, uniform_piece, &a);
    return SPAROA_OK;
}

#define RANDOM_ROW                                                                                 \
    .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_OTHER, .tolerance = SPAROA_TOL_ROUNDING,  \
    .create = random_create, .destroy = random_destroy

/* ONNX RandomNormal, versions 1 and 22. */
SP_OP(RandomNormal) = {
    SP_OP_HEAD("RandomNormal", 1, 0),
    RANDOM_ROW,
    .min_in = 0,
    .max_in = 0,
    .flags = SPAROA_OP_RANDOM | SPAROA_OP_HALF,
    .infer = random_infer,
    .run = normal_run,
};

/* ONNX RandomUniform, versions 1 and 22. */
SP_OP(RandomUniform) = {
    SP_OP_HEAD("RandomUniform", 1, 0),
    RANDOM_ROW,
    .min_in = 0,
    .max_in = 0,
    .flags = SPAROA_OP_RANDOM | SPAROA_OP_HALF,
    .infer = random_infer,
    .run = uniform_run,
};

/* ONNX RandomNormalLike, versions 1 and 22. */
SP_OP(RandomNormalLike) = {
    SP_OP_HEAD("RandomNormalLike", 1, 0),
    RANDOM_ROW,
    .min_in = 1,
    .max_in = 1,
    .flags = SPAROA_OP_RANDOM | SPAROA_OP_HALF | SPAROA_OP_SHAPE_ONLY,
    .infer = random_like_infer,
    .run = normal_run,
};

/* ONNX RandomUniformLike, versions 1 and 22. */
SP_OP(RandomUniformLike) = {
    SP_OP_HEAD("RandomUniformLike", 1, 0),
    RANDOM_ROW,
    .min_in = 1,
    .max_in = 1,
    .flags = SPAROA_OP_RANDOM | SPAROA_OP_HALF | SPAROA_OP_SHAPE_ONLY,
    .infer = random_like_infer,
    .run = uniform_run,
};

/* ---- Bernoulli ---- */

static sparoa_status bernoulli_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    sparoa_dtype dtype = SPAROA_UNDEFINED;
    SP_TRY(random_type(node, node->in[0]->dtype, SP_TYPES_ALL, &dtype, err));
    sp_copy_fact(node->out[0], node->in[0]);
    node->out[0]->dtype = dtype;
    return SPAROA_OK;
}

static void bernoulli_piece(void *arg, int64_t begin, int64_t end)
{
    const random_args *a = arg;
    for (int64_t i = begin; i < end; i++)
        sp_set_i64(a->out, i, sp_rng_uniform(a->key, (uint64_t)i) < sp_get_f64(a->p, i));
}

static sparoa_status bernoulli_run(const sparoa_node *node, const sparoa_exec *exec)
{
    random_args a = {.out = node->out[0], .p = node->in[0], .key = random_stream(node, exec)};
    sp_parallel_for(exec, sp_count(a.out), 4096, bernoulli_piece, &a);
    return SPAROA_OK;
}

/* ONNX Bernoulli, versions 15 and 22. */
SP_OP(Bernoulli) = {
    SP_OP_HEAD("Bernoulli", 15, 0),
    RANDOM_ROW,
    .min_in = 1,
    .max_in = 1,
    .flags = SPAROA_OP_RANDOM | SPAROA_OP_HALF,
    .infer = bernoulli_infer,
    .run = bernoulli_run,
};

/* ---- Multinomial ---- */

static sparoa_status multinomial_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 1, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_FLOAT, err));
    const sparoa_tensor *in = node->in[0];
    sparoa_dtype dtype = SPAROA_UNDEFINED;
    SP_TRY(random_type(node, SPAROA_INT32, 1u << SPAROA_INT32 | 1u << SPAROA_INT64, &dtype, err));
    int64_t dims[2] = {in->rank == 2 ? in->dims[0] : -1, sparoa_attr_int(node, "sample_size", 1)};
    if (in->rank >= 0 && in->rank != 2)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input 0 has rank %d, expected 2",
                           in->rank);
    if (dims[1] < 1)
        return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "sample_size=%lld, expected 1 or more",
                           (long long)dims[1]);
    sp_set_shape(node->out[0], dtype, 2, dims);
    return sp_check_shape(node, node->out[0], err);
}

static sparoa_status multinomial_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *in = node->in[0];
    sparoa_tensor *out = node->out[0];
    uint64_t key = random_stream(node, exec);
    int64_t classes = in->dims[1], samples = out->dims[1];
    for (int64_t b = 0; b < in->dims[0]; b++) {
        double top = -INFINITY, sum = 0;
        for (int64_t c = 0; c < classes; c++) {
            double v = sp_get_f64(in, b * classes + c);
            if (!(v <= top)) top = v;
        }
        for (int64_t c = 0; c < classes; c++) sum += exp(sp_get_f64(in, b * classes + c) - top);
        if (!isfinite(sum) || !(sum > 0))
            return sparoa_fail(exec->err, SPAROA_INVALID_ARGUMENT, node,
                               "row %lld of input 0 holds no usable log-probabilities",
                               (long long)b);
        for (int64_t s = 0; s < samples; s++) {
            double left = sp_rng_uniform(key, (uint64_t)(b * samples + s)) * sum;
            int64_t pick = 0;
            for (int64_t c = 0; c < classes; c++) {
                double p = exp(sp_get_f64(in, b * classes + c) - top);
                if (p > 0)
                    pick = c; /* rounding may leave a rest: the last possible class takes it */
                if (p > 0 && (left -= p) < 0) break;
            }
            sp_set_i64(out, b * samples + s, pick);
        }
    }
    return SPAROA_OK;
}

/* ONNX Multinomial, versions 7 and 22. */
SP_OP(Multinomial) = {
    SP_OP_HEAD("Multinomial", 7, 0),
    RANDOM_ROW,
    .min_in = 1,
    .max_in = 1,
    .flags = SPAROA_OP_RANDOM | SPAROA_OP_HALF,
    .infer = multinomial_infer,
    .run = multinomial_run,
};
