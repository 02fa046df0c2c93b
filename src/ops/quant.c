#include "ops/quant.h"

void sp_q_range(sparoa_dtype t, int32_t *lo, int32_t *hi)
{
    switch (t) {
    case SPAROA_INT8: *lo = INT8_MIN, *hi = INT8_MAX; break;
    case SPAROA_INT16: *lo = INT16_MIN, *hi = INT16_MAX; break;
    case SPAROA_UINT16: *lo = 0, *hi = UINT16_MAX; break;
    default: *lo = 0, *hi = UINT8_MAX; break;
    }
}

static sparoa_status check_count(const sparoa_node *node, int32_t i, int64_t n, sparoa_error *err)
{
    const sparoa_tensor *t = node->in[i];
    if (!sp_known(t)) return SPAROA_OK;
    int64_t count = sp_count(t);
    if (count == 1 || (n >= 0 && count == n)) return SPAROA_OK;
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input %d has %lld values, expected 1%s",
                       i, (long long)count, n >= 0 ? " or one per channel" : "");
}

sparoa_status sp_q_check_scale(const sparoa_node *node, int32_t i, int64_t n, sparoa_error *err)
{
    SP_TRY(sp_check_type(node, i, SP_TYPES_FLOAT & ~(1u << SPAROA_FLOAT64), err));
    return check_count(node, i, n, err);
}

sparoa_status sp_q_check_zero(const sparoa_node *node, int32_t i, uint32_t types, int64_t n,
                              sparoa_error *err)
{
    if (!sparoa_in(node, i)) return SPAROA_OK;
    SP_TRY(sp_check_type(node, i, types, err));
    return check_count(node, i, n, err);
}

int32_t sp_q_zero(const sparoa_node *node, int32_t i, int64_t at)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    return t ? (int32_t)sp_get_i64(t, sp_count(t) == 1 ? 0 : at) : 0;
}

float sp_q_scale(const sparoa_node *node, int32_t i, int64_t at)
{
    const sparoa_tensor *t = node->in[i];
    return (float)sp_get_f64(t, sp_count(t) == 1 ? 0 : at);
}
