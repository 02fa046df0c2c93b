#include "ops/move.h"

/* Unique looks at `n` items: elements, or slices along an axis. */
typedef struct items {
    const sparoa_tensor *in;
    int64_t n, outer, inner; /* a slice is `outer` runs of `inner` elements, n * inner apart */
} items;

static int compare_runs(const sparoa_tensor *in, int64_t a, int64_t b, int64_t count)
{
    switch (in->dtype) {
#define X(ctype, dt)                                                                               \
    case dt: {                                                                                     \
        const ctype *x = (const ctype *)in->data + a, *y = (const ctype *)in->data + b;            \
        for (int64_t i = 0; i < count; i++) {                                                      \
            if (x[i] == y[i]) continue;                                                            \
            bool x_nan = x[i] != x[i], y_nan = y[i] != y[i]; /* equal, and after all numbers */    \
            if (x_nan && y_nan) continue;                                                          \
            return x_nan || x[i] > y[i] ? 1 : -1;                                                  \
        }                                                                                          \
        return 0;                                                                                  \
    }
        SP_FOR_NUMBERS(X)
        X(uint8_t, SPAROA_BOOL)
#undef X
    default: return 0;
    }
}

static int compare_items(const items *it, int64_t a, int64_t b)
{
    for (int64_t o = 0; o < it->outer; o++) {
        int64_t base = o * it->n * it->inner;
        int c = compare_runs(it->in, base + a * it->inner, base + b * it->inner, it->inner);
        if (c) return c;
    }
    return 0;
}

/* Stable merge sort of item numbers, bottom up; returns whichever buffer holds the result. */
static int64_t *sort_items(const items *it, int64_t *from, int64_t *to)
{
    for (int64_t i = 0; i < it->n; i++) from[i] = i;
    for (int64_t width = 1; width < it->n; width *= 2) {
        for (int64_t low = 0; low < it->n; low += 2 * width) {
            int64_t mid = low + width < it->n ? low + width : it->n, a = low, b = mid;
            int64_t high = low + 2 * width < it->n ? low + 2 * width : it->n;
            for (int64_t at = low; at < high; at++) {
                bool left = a < mid && (b >= high || compare_items(it, from[a], from[b]) <= 0);
                to[at] = left ? from[a++] : from[b++];
            }
        }
        int64_t *swap = from;
        from = to;
        to = swap;
    }
    return from;
}

static sparoa_status unique_items(const sparoa_node *node, items *it, int32_t *axis,
                                  sparoa_error *err)
{
    const sparoa_tensor *in = node->in[0];
    *axis = -1;
    *it = (items){in, sp_count(in), 1, 1};
    if (!sparoa_attr_find(node, "axis")) return SPAROA_OK;
    SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, axis, err));
    *it = (items){in, in->dims[*axis], sp_outer(in, *axis), sp_inner(in, *axis)};
    return SPAROA_OK;
}

static sparoa_status unique_infer(const sparoa_node *node, sparoa_error *err)
{
    SP_TRY(sp_check_present(node, 1, 0, err));
    SP_TRY(sp_check_type(node, 0, SP_TYPES_ALL, err));
    const sparoa_tensor *in = node->in[0];
    bool flat = !sparoa_attr_find(node, "axis");
    int64_t n = sp_known(in) ? sp_count(in) : -1;
    int32_t axis = 0;
    if (!flat && in->rank >= 0) {
        SP_TRY(sp_axis(node, sparoa_attr_int(node, "axis", 0), in->rank, false, &axis, err));
        n = in->dims[axis];
    }
    if (sparoa_out(node, 0)) {
        if (flat)
            sp_set_shape(node->out[0], in->dtype, 1, &n);
        else
            sp_copy_fact(node->out[0], in);
    }
    for (int32_t i = 1; i < node->n_out; i++)
        if (node->out[i]) sp_set_shape(node->out[i], SPAROA_INT64, 1, &n);
    return SPAROA_OK;
}

static size_t unique_workspace(const sparoa_node *node, int32_t threads)
{
    (void)threads;
    items it;
    int32_t axis;
    if (unique_items(node, &it, &axis, NULL) != SPAROA_OK || it.n < 0) return 0;
    return (size_t)it.n * 4 * sizeof(int64_t);
}

/* Numbers the groups of equal items: number[i] for item i, first[g] and count[g] for group g.
 * Returns how many. */
static int64_t number_items(const items *it, bool sorted, int64_t *work, int64_t *number,
                            int64_t *first)
{
    int64_t *order = sort_items(it, work, first), groups = 0,
            *leader = order == work ? first : work;
    for (int64_t i = 0; i < it->n; i++) { /* leader: first item of each item's group */
        bool same = i > 0 && compare_items(it, order[i - 1], order[i]) == 0;
        leader[order[i]] = same ? leader[order[i - 1]] : order[i];
    }
    if (sorted) {
        for (int64_t i = 0; i < it->n; i++) {
            if (leader[order[i]] == order[i])
                number[order[i]] = groups++;
            else
                number[order[i]] = number[leader[order[i]]];
        }
    } else {
        for (int64_t i = 0; i < it->n; i++)
            number[i] = leader[i] == i ? groups++ : number[leader[i]];
    }
    for (int64_t i = it->n - 1; i >= 0; i--) first[number[i]] = i;
    return groups;
}

static sparoa_status unique_run(const sparoa_node *node, const sparoa_exec *exec)
{
    items it;
    int32_t axis;
    SP_TRY(unique_items(node, &it, &axis, exec->err));
    int64_t *work = exec->workspace, *number = work + it.n, *first = number + it.n,
            *count = first + it.n;
    int64_t groups =
        number_items(&it, sparoa_attr_int(node, "sorted", 1) != 0, work, number, first);
    for (int64_t g = 0; g < groups; g++) count[g] = 0;
    for (int64_t i = 0; i < it.n; i++) count[number[i]]++;
    sparoa_tensor *y = sparoa_out(node, 0);
    if (y) {
        int64_t block = it.inner * (int64_t)sparoa_dtype_size(it.in->dtype);
        y->dims[axis < 0 ? 0 : axis] = groups;
        for (int64_t o = 0; o < it.outer; o++)
            for (int64_t g = 0; g < groups; g++)
                sp_copy_block((char *)y->data + (o * groups + g) * block,
                              (const char *)it.in->data + (o * it.n + first[g]) * block,
                              (size_t)block);
    }
    const int64_t *const lists[] = {first, number, count};
    for (int32_t i = 1; i < 4; i++) {
        sparoa_tensor *out = sparoa_out(node, i);
        if (!out) continue;
        out->dims[0] = i == 2 ? it.n : groups;
        if (out->dims[0]) memcpy(out->data, lists[i - 1], (size_t)out->dims[0] * sizeof(int64_t));
    }
    return SPAROA_OK;
}

/* ONNX Unique, versions 11 and 28. All NaN are one value, the largest. */
SP_OP(Unique) = {
    SP_OP_HEAD("Unique", 11, 0),
    .min_in = 1,
    .max_in = 1,
    .min_out = 1,
    .max_out = 4,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_TRIMS,
    .infer = unique_infer,
    .workspace = unique_workspace,
    .run = unique_run,
};
