#include "gpu_node.h"

uint32_t gpu_random(gpu_node *g)
{
    g->seed = g->seed * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(g->seed >> 33);
}

int64_t gpu_range(gpu_node *g, int64_t lo, int64_t hi)
{
    return lo + (int64_t)(gpu_random(g) % (uint32_t)(hi - lo + 1));
}

double gpu_uniform(gpu_node *g, double lo, double hi)
{
    return lo + (hi - lo) * gpu_random(g) / 2147483648.0;
}

void gpu_start(gpu_node *g, const char *op, int32_t version, int32_t outputs)
{
    uint64_t seed = g->seed;
    memset(g, 0, sizeof *g);
    g->seed = seed;
    g->lo = -2;
    g->hi = 2;
    g->node = (sparoa_node){.name = "n",
                            .op = op,
                            .domain = "",
                            .version = version,
                            .n_out = outputs,
                            .in = g->in_list,
                            .out = g->out_list,
                            .attrs = g->attrs,
                            .constant = g->constant};
    for (int32_t i = 0; i < outputs; i++) {
        g->out[i].rank = -1;
        g->out_list[i] = &g->out[i];
    }
}

sparoa_tensor *gpu_input(gpu_node *g, sparoa_dtype dtype, int rank, const int64_t *dims)
{
    sparoa_tensor *t = &g->in[g->node.n_in];
    *t = sparoa_tensor_view(dtype, NULL, rank, dims);
    t->data = calloc(1, sparoa_tensor_bytes(t) + 64);
    for (int64_t i = 0; i < sp_count(t); i++) {
        double v = gpu_uniform(g, g->lo, g->hi);
        if (dtype == SPAROA_BOOL)
            ((uint8_t *)t->data)[i] = gpu_random(g) & 1;
        else
            sp_set_f64(t, i, sp_is_float(dtype) ? v : floor(v));
    }
    g->in_list[g->node.n_in++] = t;
    return t;
}

sparoa_tensor *gpu_constant(gpu_node *g, sparoa_dtype dtype, int rank, const int64_t *dims)
{
    g->constant[g->node.n_in] = true;
    return gpu_input(g, dtype, rank, dims);
}

sparoa_tensor *gpu_weight(gpu_node *g, int rank, const int64_t *dims)
{
    return gpu_constant(g, SPAROA_FLOAT32, rank, dims);
}

void gpu_const_ints(gpu_node *g, int n, const int64_t *values)
{
    g->constant[g->node.n_in] = true;
    sparoa_tensor *t = gpu_input(g, SPAROA_INT64, 1, (const int64_t[]){n});
    memcpy(t->data, values, (size_t)n * sizeof *values);
}

void gpu_skip_input(gpu_node *g)
{
    g->in_list[g->node.n_in++] = NULL;
}

static sparoa_attr *attr(gpu_node *g, const char *name, sparoa_attr_type type, size_t count)
{
    sparoa_attr *a = &g->attrs[g->node.n_attrs++];
    *a = (sparoa_attr){.name = name, .type = type, .count = count};
    return a;
}

void gpu_int(gpu_node *g, const char *name, int64_t v)
{
    attr(g, name, SPAROA_ATTR_INT, 1)->v.i = v;
}

void gpu_float(gpu_node *g, const char *name, float v)
{
    attr(g, name, SPAROA_ATTR_FLOAT, 1)->v.f = v;
}

void gpu_string(gpu_node *g, const char *name, const char *v)
{
    attr(g, name, SPAROA_ATTR_STRING, strlen(v))->v.s = v;
}

void gpu_ints(gpu_node *g, const char *name, int n, const int64_t *v)
{
    int64_t *own = g->ints[g->node.n_attrs];
    memcpy(own, v, (size_t)n * sizeof *v);
    attr(g, name, SPAROA_ATTR_INTS, (size_t)n)->v.ints = own;
}

void gpu_dims(gpu_node *g, int rank, int64_t most, int64_t *dims)
{
    static const int64_t primes[] = {2, 3, 5, 7, 11, 13, 17, 31, 61, 127, 251};
    for (int i = 0; i < rank; i++) {
        int64_t d = gpu_range(g, 0, 2) ? gpu_range(g, 1, most) : primes[gpu_random(g) % 11];
        dims[i] = d > most ? most : d;
    }
}

void gpu_free(gpu_node *g)
{
    for (int i = 0; i < GPU_PORTS; i++) {
        free(g->in[i].data);
        free(g->out[i].data);
        g->in[i].data = g->out[i].data = NULL;
    }
}
