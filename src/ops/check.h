/*
 * check.h - more checks that operator files share: ranks and dimensions that may be unknown while
 * shapes are inferred.
 */
#ifndef SP_OPS_CHECK_H
#define SP_OPS_CHECK_H

#include "ops/op.h"

/* Dimension i, or -1 where the tensor is missing or its rank or dimension is unknown. */
static inline int64_t sp_dim(const sparoa_tensor *t, int32_t i)
{
    return t && i < t->rank ? t->dims[i] : -1;
}

/* Input i must be there; its rank, where known, must lie in lo..hi. */
static inline sparoa_status sp_check_rank(const sparoa_node *node, int32_t i, int32_t lo,
                                          int32_t hi, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    if (!t) return sparoa_fail(err, SPAROA_INVALID_GRAPH, node, "input %d is missing", i);
    if (t->rank < 0 || (t->rank >= lo && t->rank <= hi)) return SPAROA_OK;
    if (lo == hi)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input %d has rank %d, expected %d", i,
                           t->rank, lo);
    return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node, "input %d has rank %d, expected %d to %d",
                       i, t->rank, lo, hi);
}

/* Two views of one dimension, either of which may be unknown (negative): *dim takes what is known,
 * and a contradiction fails. `what` names the dimension. */
static inline sparoa_status sp_unify(const sparoa_node *node, int64_t *dim, int64_t value,
                                     const char *what, sparoa_error *err)
{
    if (value < 0 || *dim == value) return SPAROA_OK;
    if (*dim >= 0)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "%s is %lld in one place and %lld in another", what, (long long)*dim,
                           (long long)value);
    *dim = value;
    return SPAROA_OK;
}

/* Input i, where present, must have rank n and the dimensions expected[], of which negative ones
 * are free. */
static inline sparoa_status sp_check_dims(const sparoa_node *node, int32_t i, int32_t n,
                                          const int64_t *expected, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    if (!t) return SPAROA_OK;
    SP_TRY(sp_check_rank(node, i, n, n, err));
    for (int32_t d = 0; d < n; d++) {
        int64_t have = sp_dim(t, d);
        if (have >= 0 && expected[d] >= 0 && have != expected[d])
            return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                               "dimension %d of input %d is %lld, expected %lld", d, i,
                               (long long)have, (long long)expected[d]);
    }
    return SPAROA_OK;
}

/* The value of a one-element input, whatever its rank: *known tells whether it is there and known
 * by now. */
static inline sparoa_status sp_read_scalar(const sparoa_node *node, int32_t i, bool *known,
                                           int64_t *value, sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, i);
    *known = false;
    if (!t) return SPAROA_OK;
    if (t->dtype != SPAROA_INT64 && t->dtype != SPAROA_INT32)
        return sparoa_fail(err, SPAROA_UNSUPPORTED_TYPE, node,
                           "input %d is %s, expected int64 or int32", i,
                           sparoa_dtype_name(t->dtype));
    if (!sp_known(t)) return SPAROA_OK;
    if (sp_count(t) != 1)
        return sparoa_fail(err, SPAROA_SHAPE_MISMATCH, node,
                           "input %d has %lld elements, expected one", i, (long long)sp_count(t));
    if (!t->data) return SPAROA_OK;
    *value = sp_get_i64(t, 0);
    *known = true;
    return SPAROA_OK;
}

/* Part `slot` of 0..count-1 divided evenly among `slots`: for work that needs a buffer for each
 * thread. */
static inline int64_t sp_slot_first(int64_t count, int64_t slots, int64_t slot)
{
    return count / slots * slot + count % slots * slot / slots;
}

static inline int64_t sp_slots(const sparoa_exec *exec, int64_t count)
{
    int64_t slots = exec->threads < count ? exec->threads : count;
    return slots < 1 ? 1 : slots;
}

static inline bool sp_attr_is(const sparoa_node *node, const char *name, const char *fallback,
                              const char *value)
{
    return strcmp(sparoa_attr_string(node, name, fallback), value) == 0;
}

#endif
