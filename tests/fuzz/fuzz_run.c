/* Fuzz target: any bytes as a model, through the public interface: load, a session, two runs at two
 * shapes with random inputs, and all memory given back. Models that would merely take long are left
 * out: many operations, large inputs, loops without a small constant number of turns. */
#include <stdlib.h>
#include <string.h>

#include "api/objects.h"
#include "base/rng.h"
#include "ops/op.h"

#define MEMORY_LIMIT ((size_t)16 << 20)
#define MAX_FLOPS 2e7
#define MAX_ELEMENTS 4096
#define MAX_VALUES 16
#define MAX_TURNS 16

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool short_loops(const sp_graph *g, int depth)
{
    for (size_t i = 0; i < g->node_count; i++) {
        const sp_gnode *n = &g->nodes[i];
        if (n->n_subgraphs && depth > 1) return false;
        if (strcmp(n->op_type, "Loop") == 0) {
            const sp_value *trips = n->in[0] == SP_NO_ID ? NULL : &g->values[n->in[0]];
            if (!trips || trips->kind != SP_VALUE_CONST || trips->fact.dtype != SPAROA_INT64 ||
                sparoa_tensor_count(&trips->fact) != 1 ||
                *(const int64_t *)trips->fact.data > MAX_TURNS)
                return false;
        }
        for (int32_t k = 0; k < n->n_subgraphs; k++)
            if (!short_loops(n->subgraphs[k], depth + 1)) return false;
    }
    return true;
}

static void fill(sparoa_tensor *t, uint64_t key)
{
    int64_t count = sparoa_tensor_count(t);
    for (int64_t i = 0; i < count; i++) {
        double u = sp_rng_uniform(key, (uint64_t)i);
        if (sp_is_float(t->dtype))
            sp_set_f64(t, i, 4 * u - 2);
        else if (t->dtype == SPAROA_BOOL)
            ((uint8_t *)t->data)[i] = u < 0.5;
        else
            sp_set_i64(t, i, (int64_t)(u * 5) - (u > 0.9 ? 9 : 1));
    }
}

/* Inputs with every open dimension set to `open`; false: too large. */
static bool make_inputs(const sparoa_model *model, int64_t open, sparoa_tensor *in, size_t *count)
{
    *count = 0;
    for (size_t i = 0; i < sparoa_model_input_count(model); i++) {
        sparoa_value_info v;
        sparoa_model_input(model, i, &v);
        sparoa_tensor t = {.dtype = v.dtype, .rank = v.rank < 0 ? 2 : v.rank};
        for (int32_t d = 0; d < t.rank; d++)
            t.dims[d] = v.rank < 0 || v.dims[d] < 0 ? open : v.dims[d];
        int64_t elements = sparoa_tensor_count(&t);
        if (elements < 0 || elements > MAX_ELEMENTS || !sparoa_dtype_size(t.dtype)) return false;
        /* exactly as large as it says, so that reading past it is seen */
        t.data = malloc(sparoa_tensor_bytes(&t) ? sparoa_tensor_bytes(&t) : 1);
        if (!t.data) return false;
        in[(*count)++] = t;
        fill(&t, i + (uint64_t)open);
    }
    return true;
}

static void check(sparoa_status status, const sparoa_error *err)
{
    if (status == SPAROA_OK) return;
    if (err->status != status || status == SPAROA_INTERNAL || !err->message[0] ||
        !memchr(err->message, 0, sizeof err->message))
        __builtin_trap();
}

static void run(sparoa_session *s, const sparoa_model *model, int64_t open)
{
    sparoa_tensor in[MAX_VALUES], out[MAX_VALUES] = {{0}};
    sparoa_session_info info;
    sparoa_error err;
    size_t count;
    if (make_inputs(model, open, in, &count)) {
        sparoa_status status = sparoa_session_prepare(s, in, count, &err);
        check(status, &err);
        sparoa_session_get_info(s, &info);
        if (status == SPAROA_OK && info.flops <= MAX_FLOPS) {
            size_t outputs = sparoa_model_output_count(model);
            status = sparoa_session_run(s, in, count, out, outputs, &err);
            check(status, &err);
            volatile char sum = 0;
            for (size_t i = 0; status == SPAROA_OK && i < outputs; i++)
                for (size_t k = 0; k < sparoa_tensor_bytes(&out[i]); k++)
                    sum = (char)(sum + ((const char *)out[i].data)[k]);
        }
    }
    for (size_t i = 0; i < count; i++) free(in[i].data);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sparoa_runtime_options o = {
        .struct_size = sizeof o, .threads = 1, .memory_limit = MEMORY_LIMIT};
    sparoa_session_options so = {.struct_size = sizeof so, .max_shapes = 1};
    sparoa_runtime *rt = NULL;
    sparoa_model *model = NULL;
    sparoa_session *s = NULL;
    sparoa_error err;
    if (size == 0 || sparoa_runtime_create(&o, &rt, &err) != SPAROA_OK) return 0;
    if (size % 4 == 1) so.disable_passes = "all";
    if (size % 4 == 2) so.reference = 1;
    size_t before = sparoa_runtime_memory(rt);
    sparoa_status status = sparoa_model_load_memory(rt, data, size, NULL, &model, &err);
    check(status, &err);
    bool small = status == SPAROA_OK && sparoa_model_input_count(model) <= MAX_VALUES &&
                 sparoa_model_output_count(model) <= MAX_VALUES && short_loops(model->graph, 0);
    if (small) {
        status = sparoa_session_create(model, &so, &s, &err);
        check(status, &err);
        if (status == SPAROA_OK) {
            run(s, model, 2);
            run(s, model, 3);
        }
    }
    sparoa_session_destroy(s);
    sparoa_model_destroy(model);
    if (!so.reference && sparoa_runtime_memory(rt) != before) __builtin_trap(); /* a leak */
    sparoa_runtime_destroy(rt);
    return 0;
}
