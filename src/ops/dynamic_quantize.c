#include "ops/eltwise.h"
#include "ops/quant.h"

#define LANES 16

/* The range of the values, widened to hold 0. */
static void range_of(const float *x, int64_t n, float *least, float *most)
{
    float lo[LANES] = {0}, hi[LANES] = {0};
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (int j = 0; j < LANES; j++) {
            lo[j] = x[i + j] < lo[j] ? x[i + j] : lo[j];
            hi[j] = x[i + j] > hi[j] ? x[i + j] : hi[j];
        }
    for (; i < n; i++) {
        lo[0] = x[i] < lo[0] ? x[i] : lo[0];
        hi[0] = x[i] > hi[0] ? x[i] : hi[0];
    }
    for (int j = 1; j < LANES; j++) {
        lo[0] = lo[j] < lo[0] ? lo[j] : lo[0];
        hi[0] = hi[j] > hi[0] ? hi[j] : hi[0];
    }
    *least = lo[0];
    *most = hi[0];
}

typedef struct quantize_arg {
    float scale;
    int32_t zero;
} quantize_arg;

SP_UNARY_LOOP(quantize, float, uint8_t,
              sp_quantize(x / ((const quantize_arg *)arg)->scale, ((const quantize_arg *)arg)->zero,
                          0, 255))

static sparoa_status dynamic_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, 0, 1u << SPAROA_FLOAT32, err));
    sparoa_tensor *outs[3] = {sparoa_out(node, 0), sparoa_out(node, 1), sparoa_out(node, 2)};
    if (outs[0]) {
        sp_copy_fact(outs[0], node->in[0]);
        outs[0]->dtype = SPAROA_UINT8;
    }
    if (outs[1]) sp_set_shape(outs[1], SPAROA_FLOAT32, 0, NULL);
    if (outs[2]) sp_set_shape(outs[2], SPAROA_UINT8, 0, NULL);
    return SPAROA_OK;
}

static sparoa_status dynamic_run(const sparoa_node *node, const sparoa_exec *exec)
{
    const sparoa_tensor *x = node->in[0];
    float least, most;
    range_of(x->data, sp_count(x), &least, &most);
    quantize_arg arg = {(most - least) / 255, 0};
    if (!(arg.scale > 0)) arg.scale = 1; /* all zeros: any scale does */
    arg.zero = sp_quantize(-least / arg.scale, 0, 0, 255);
    if (sparoa_out(node, 1)) sp_set_f64(node->out[1], 0, arg.scale);
    if (sparoa_out(node, 2)) sp_set_i64(node->out[2], 0, arg.zero);
    return sparoa_out(node, 0) ? sp_run_unary(node, exec, quantize, &arg, SP_GRAIN) : SPAROA_OK;
}

static void dynamic_cost(const sparoa_node *node, sparoa_cost *cost)
{
    (void)node;
    cost->flops *= 6; /* two comparisons, one division */
}

/* ONNX DynamicQuantizeLinear, version 11. */
SP_OP(DynamicQuantizeLinear) = {
    SP_OP_HEAD("DynamicQuantizeLinear", 11, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 3,
    .op_class = SPAROA_CLASS_REDUCE,
    .tolerance = SPAROA_TOL_ROUNDING,
    .infer = dynamic_infer,
    .cost = dynamic_cost,
    .run = dynamic_run,
};
