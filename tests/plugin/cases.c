/*
 * Nodes for plugin_check. A case is one line:
 *   Operator[@version][*outputs] | input ; input ... | attribute=value ...
 * An input is a letter and a shape: f float32, p positive float32, d float64, n int32, b bool; the
 * capital letter makes it a constant. "i 1,2" is a constant int64 vector of these values, "0 3" a
 * constant int64 scalar, "-" an absent input. Attributes: 1.5 float, 2 int, 2, or 2,3 ints, else
 * text.
 */
#include <float.h>

#include "base/rng.h"
#include "plugin/check.h"

static const char *const cases[] = {
    "Relu | f 2,3,5",
    "Add | f 2,3,5 ; f 2,3,5",
    "Add | f 2,3,5 ; F 5",
    "Sub | f 2,1,5 ; f 4,1",
    "Mul | d 7 ; d 7",
    "Div | f 33 ; p 33",
    "Pow | p 3,4 ; F 1",
    "Sqrt | p 1000",
    "Exp | f 100",
    "Erf | f 100",
    "Sigmoid | f 100",
    "Tanh | f 1",
    "LeakyRelu | f 10 | alpha=0.25",
    "Clip | f 50 ; F ; -",
    "Where | b 4,1 ; f 1,5 ; f 4,5",
    "Cast | f 20 | to=7",
    "Less | f 3,4 ; f 4",
    "Conv | f 1,3,8,8 ; F 4,3,3,3 ; F 4 | pads=1,1,1,1",
    "Conv | f 2,4,9,7 ; F 6,2,3,3 | group=2 strides=2,2 dilations=1,2",
    "Conv | f 1,8,5,5 ; F 8,1,3,3 ; F 8 | group=8 auto_pad=SAME_UPPER",
    "Conv | f 1,3,20 ; F 2,3,5",
    "Conv | f 1,2,4,5,6 ; F 3,2,2,2,2",
    "ConvTranspose | f 1,3,5,5 ; F 3,2,3,3 | strides=2,2 pads=1,1,1,1 output_padding=1,1",
    "MaxPool | f 1,3,8,8 | kernel_shape=3,3 strides=2,2 pads=1,1,1,1",
    "MaxPool | f 1,2,7,7 | kernel_shape=2,2 strides=2,2 ceil_mode=1",
    "AveragePool | f 1,3,8,8 | kernel_shape=2,2 strides=2,2",
    "AveragePool | f 1,3,6,6 | kernel_shape=3,3 pads=1,1,1,1 count_include_pad=1",
    "GlobalAveragePool | f 2,3,5,6",
    "GlobalMaxPool | f 2,3,5,6",
    "MatMul | f 5,7 ; F 7,9",
    "MatMul | f 2,3,4,5 ; f 3,5,6",
    "MatMul | f 7 ; f 7,3",
    "Gemm | f 4,6 ; F 5,6 ; F 5 | transB=1",
    "Gemm | f 6,4 ; f 6,5 ; f 4,1 | transA=1 alpha=0.5 beta=2.0",
    "Softmax | f 2,3,10 | axis=-1",
    "Softmax | f 2,5,3 | axis=1",
    "LogSoftmax | f 4,50 | axis=1",
    "ReduceSum | f 2,3,4,5 ; i 1,3 | keepdims=0",
    "ReduceMean | f 2,3,4,5 | axes=2,3 keepdims=1",
    "ReduceMax | f 3,40 | axes=1,",
    "ReduceProd | f 3,4",
    "ArgMax | f 3,40 | axis=1 keepdims=0",
    "LayerNormalization | f 3,4,16 ; F 16 ; F 16 | axis=-1",
    "InstanceNormalization | f 2,3,5,5 ; F 3 ; F 3",
    "BatchNormalization | f 2,3,4,4 ; F 3 ; F 3 ; F 3 ; P 3",
    "Transpose | f 2,3,4,5 | perm=0,2,3,1",
    "Transpose | n 3,4",
    "Reshape | f 2,3,4 ; i 4,-1",
    "Flatten | f 2,3,4 | axis=2",
    "Unsqueeze | f 3,4 ; i 0,2",
    "Squeeze | f 1,3,1,4 ; i 0,2",
    "Concat | f 2,3 ; f 2,5 ; f 2,1 | axis=1",
    "Split*2 | f 6,4 ; i 2,4 | axis=0",
    "Slice | f 5,6,7 ; i 1,0 ; i 4,100 ; i 0,2 ; i 1,2",
    "Slice | f 9 ; i -1 ; i -100 ; i 0 ; i -2",
    "Gather | f 5,6 ; i 4,0,2 | axis=0",
    "Gather | f 5,6 ; 0 3 | axis=1",
    "Expand | f 3,1 ; i 2,3,4",
    "Tile | f 2,3 ; i 2,2",
    "Pad | f 2,3 ; i 0,1,2,0",
    "Pad | f 4,5 ; i 1,1,1,1 | mode=reflect",
    "Resize | f 1,2,4,4 ; - ; - ; i 1,2,8,8 | mode=nearest",
    "Resize | f 1,2,4,4 ; - ; - ; i 1,2,7,9 | mode=linear",
    "DepthToSpace | f 1,8,2,3 | blocksize=2",
    "CumSum | f 3,5 ; 0 1",
    "TopK*2 | f 4,20 ; i 5 | axis=1",
    "LSTM | f 4,2,3 ; F 1,20,3 ; F 1,20,5 ; F 1,40 | hidden_size=5",
    "GRU | f 4,2,3 ; F 1,15,3 ; F 1,15,5 | hidden_size=5",
    "Relu | f 0,3",
    "Add | f 2,0 ; f 1",
    "MatMul | f 3,0 ; f 0,4",
};

/* ---- numbers ---- */

static void fill(sparoa_tensor *t, bool positive, uint64_t key)
{
    int64_t count = sp_count(t);
    for (int64_t i = 0; i < count; i++) {
        double v = sp_rng_uniform(key, (uint64_t)i) * 4 - 2;
        if (t->dtype == SPAROA_BOOL) v = v > 0;
        sp_set_f64(t, i, positive ? fabs(v) + 0.125 : v);
    }
}

void case_refill(case_node *n, uint64_t seed)
{
    for (int32_t i = 0; i < n->node.n_in; i++)
        if (n->in_list[i] && !n->constant[i]) {
            sparoa_tensor t = n->in[i];
            t.data = n->values[i];
            fill(&t, n->positive[i], sp_rng_stream(seed, (uint64_t)i));
        }
}

static bool add_input(case_node *n, sparoa_dtype dtype, int rank, const int64_t *dims)
{
    int32_t i = n->node.n_in++;
    n->in[i] = sparoa_tensor_view(dtype, NULL, rank, dims);
    n->in_list[i] = &n->in[i];
    n->values[i] = calloc(1, sparoa_tensor_bytes(&n->in[i]) + 64);
    return n->values[i] != NULL;
}

/* ---- reading a line ---- */

static int read_ints(const char *text, int64_t *values, int max)
{
    int count = 0;
    for (char *end; *text && count < max; text = end + (*end == ',')) {
        values[count] = strtoll(text, &end, 10);
        if (end == text) return -1;
        count++;
    }
    return count;
}

static bool read_input(case_node *n, char *text)
{
    static const struct {
        char letter;
        sparoa_dtype dtype;
    } types[] = {{'f', SPAROA_FLOAT32},
                 {'p', SPAROA_FLOAT32},
                 {'d', SPAROA_FLOAT64},
                 {'n', SPAROA_INT32},
                 {'b', SPAROA_BOOL}};
    int64_t v[SPAROA_MAX_RANK];
    int32_t i = n->node.n_in;
    if (i == CASE_PORTS) return false;
    int count = read_ints(text[1] ? text + 2 : text + 1, v, SPAROA_MAX_RANK);
    if (count < 0) return false;
    if (text[0] == '-') {
        n->in_list[n->node.n_in++] = NULL;
        return true;
    }
    if (text[0] == 'i' || text[0] == '0') {
        int64_t dims = count;
        n->constant[i] = true;
        if (!add_input(n, SPAROA_INT64, text[0] == 'i' ? 1 : 0, &dims)) return false;
        memcpy(n->values[i], v, (size_t)count * sizeof *v);
        return true;
    }
    for (size_t k = 0; k < sizeof types / sizeof *types; k++) {
        if ((text[0] | 32) != types[k].letter) continue;
        if (!add_input(n, types[k].dtype, count, v)) return false;
        n->constant[i] = text[0] < 'a';
        n->positive[i] = types[k].letter == 'p';
        sparoa_tensor t = n->in[i];
        t.data = n->values[i];
        fill(&t, n->positive[i], sp_rng_stream(7, (uint64_t)i));
        return true;
    }
    return false;
}

static bool read_attr(case_node *n, char *text)
{
    char *value = strchr(text, '=');
    if (!value || n->node.n_attrs == CASE_ATTRS) return false;
    *value++ = '\0';
    sparoa_attr *a = &n->attrs[n->node.n_attrs];
    int64_t *ints = n->ints[n->node.n_attrs++];
    a->name = text;
    a->count = 1;
    if (strspn(value, "-.0123456789,") < strlen(value)) {
        a->type = SPAROA_ATTR_STRING;
        a->v.s = value;
        a->count = strlen(value);
    } else if (strchr(value, ',')) {
        int count = read_ints(value, ints, 16);
        if (count < 0) return false;
        a->type = SPAROA_ATTR_INTS;
        a->v.ints = ints;
        a->count = (size_t)count;
    } else if (strchr(value, '.')) {
        a->type = SPAROA_ATTR_FLOAT;
        a->v.f = strtof(value, NULL);
    } else {
        a->type = SPAROA_ATTR_INT;
        a->v.i = strtoll(value, NULL, 10);
    }
    return true;
}

static char *trim(char *text)
{
    while (*text == ' ') text++;
    for (size_t k = strlen(text); k && text[k - 1] == ' ';) text[--k] = '\0';
    return text;
}

/* Cuts the next part off *text. */
static char *part(char **text, const char *separators)
{
    char *p = *text;
    if (!p) return NULL;
    size_t k = strcspn(p, separators);
    *text = p[k] ? p + k + 1 : NULL;
    p[k] = '\0';
    return trim(p);
}

static void start(case_node *n, const char *op, const char *domain, int32_t version, int32_t n_out)
{
    n->node = (sparoa_node){.name = "case",
                            .op = op,
                            .domain = domain,
                            .version = version,
                            .n_out = n_out,
                            .in = n->in_list,
                            .out = n->out_list,
                            .attrs = n->attrs,
                            .constant = n->constant};
    n->op = sp_op_find(domain, op, version, NULL, 0);
    for (int32_t i = 0; i < n_out; i++) n->out_list[i] = &n->out[i];
}

static bool read_case(case_node *n)
{
    char *rest = n->storage, *head = part(&rest, "|"), *inputs = part(&rest, "|"), *text;
    char *outputs = strchr(head, '*'), *version = strchr(head, '@');
    if (outputs) *outputs++ = '\0';
    if (version) *version++ = '\0';
    start(n, head, "", version ? atoi(version) : 17, outputs ? atoi(outputs) : 1);
    if (!n->op || n->node.n_out > CASE_PORTS) return false;
    while ((text = part(&inputs, ";")))
        if (!read_input(n, text)) return false;
    if (rest) rest = trim(rest);
    while ((text = part(&rest, " ")))
        if (!read_attr(n, text)) return false;
    return true;
}

bool case_listed(check *c, size_t index, case_node *n)
{
    if (index >= sizeof cases / sizeof *cases) return false;
    memset(n, 0, sizeof *n);
    snprintf(n->text, sizeof n->text, "%s", cases[index]);
    snprintf(n->storage, sizeof n->storage, "%s", cases[index]);
    check_that(c, read_case(n), "the case '%s' cannot be read", n->text);
    return true;
}

bool case_of_row(const sparoa_op *op, uint64_t seed, case_node *n)
{
    static const sparoa_dtype types[] = {SPAROA_FLOAT32, SPAROA_FLOAT32, SPAROA_INT32,
                                         SPAROA_BOOL,    SPAROA_INT64,   SPAROA_FLOAT64,
                                         SPAROA_UINT8,   SPAROA_FLOAT16};
    uint64_t key = sp_rng_stream(sp_rng_text(op->name), seed);
    int rank = (int)(sp_rng_bits(key, 0) % 4) + 1;
    int64_t dims[4];
    bool unlucky = op->op_class == SPAROA_CLASS_CONTROL || op->min_in > CASE_PORTS;
    memset(n, 0, sizeof *n);
    int32_t n_in = op->min_in ? op->min_in : 1, n_out = op->min_out ? op->min_out : 1;
    if (unlucky || op->flags & (SPAROA_OP_TRIMS | SPAROA_OP_RANDOM) || n_out > CASE_PORTS)
        return false;
    start(n, op->name, op->domain, op->until ? op->until : (op->since > 22 ? op->since : 22),
          n_out);
    if (n->op != op) return false;
    for (int k = 0; k < rank; k++) dims[k] = 1 + (int64_t)(sp_rng_bits(key, 1 + (uint64_t)k) % 6);
    for (int32_t i = 0; i < n_in; i++)
        if (!add_input(n, types[seed % (sizeof types / sizeof *types)], rank, dims)) return false;
    int at = snprintf(n->text, sizeof n->text, "%s@%d | %d inputs of %s", op->name, n->node.version,
                      n_in, sparoa_dtype_name(n->in[0].dtype));
    for (int k = 0; k < rank && at < CASE_TEXT; k++)
        at += snprintf(n->text + at, sizeof n->text - (size_t)at, " %d", (int)dims[k]);
    case_refill(n, key);
    return true;
}

/* ---- the plain implementation ---- */

static void serial(const sparoa_exec *exec, int32_t count, void (*task)(void *arg, int32_t i),
                   void *arg)
{
    (void)exec;
    for (int32_t i = 0; i < count; i++) task(arg, i);
}

static void *take(void *user, size_t size, size_t align)
{
    (void)user;
    return aligned_alloc(align, (size + align - 1) / align * align);
}

static void give(void *user, void *ptr, size_t size)
{
    (void)user;
    (void)size;
    free(ptr);
}

sparoa_status case_run(case_node *n)
{
    sparoa_error err;
    for (int32_t i = 0; i < n->node.n_in; i++) n->in[i].data = n->constant[i] ? n->values[i] : NULL;
    for (int32_t i = 0; i < n->node.n_out; i++) n->out[i] = (sparoa_tensor){.rank = -1};
    SP_TRY(n->op->infer(&n->node, &err));
    for (int32_t i = 0; i < n->node.n_out; i++) {
        if (!sp_known(&n->out[i]) || !sparoa_dtype_size(n->out[i].dtype))
            return SPAROA_SHAPE_MISMATCH;
        free(n->results[i]);
        n->results[i] = calloc(1, sparoa_tensor_bytes(&n->out[i]) + 64);
        n->out[i].data = n->results[i];
    }
    for (int32_t i = 0; i < n->node.n_in; i++) n->in[i].data = n->values[i];
    const sparoa_allocator alloc = {NULL, take, give};
    sparoa_exec exec = {.threads = 1, .parallel = serial, .err = &err};
    if (n->op->create) SP_TRY(n->op->create(&n->node, &alloc, &exec.state, &err));
    exec.workspace = take(NULL, sp_op_workspace(n->op, &n->node, 1) + 1, 64);
    sparoa_status status =
        exec.workspace ? sp_op_run(n->op, &n->node, &exec) : SPAROA_OUT_OF_MEMORY;
    free(exec.workspace);
    if (n->op->destroy && exec.state) n->op->destroy(exec.state, &alloc);
    return status;
}

double case_departure(const case_node *n, int32_t i, const void *got)
{
    sparoa_tensor want = n->out[i], have = n->out[i];
    double largest = 0, worst = 0;
    int64_t count = sp_count(&want);
    want.data = n->results[i];
    have.data = (void *)(uintptr_t)got;
    bool whole = !sp_is_float(want.dtype) || n->op->tolerance == SPAROA_TOL_EXACT;
    for (int64_t k = 0; k < count && !whole; k++) {
        double v = fabs(sp_get_f64(&want, k));
        if (v > largest && v <= DBL_MAX) largest = v;
    }
    double unit = sp_is_half(want.dtype) ? 1e-2 : 1e-5;
    for (int64_t k = 0; k < count; k++) {
        double a = sp_get_f64(&want, k), b = sp_get_f64(&have, k);
        if (a == b || (isnan(a) && isnan(b))) continue;
        if (whole || isnan(a) || isnan(b)) return INFINITY;
        double scale = n->op->tolerance == SPAROA_TOL_SUM ? 3 * largest : 0.5 * fabs(a);
        double share = fabs(a - b) / (unit * scale + 1e-7);
        if (!(share <= worst)) worst = share;
    }
    return worst;
}

void case_free(case_node *n)
{
    for (int32_t i = 0; i < CASE_PORTS; i++) {
        free(n->values[i]);
        free(n->results[i]);
    }
}
