/* Attention row by row: scores of one query against all keys, softmax, weighted sum of the values.
 */
#include "ops/attention.h"

typedef struct attn_job {
    const sp_attn *a;
    void *buffers; /* for each slot: scores and bias, `total` elements each */
    int64_t rows, slots;
} attn_job;

#define REAL float
#define ATTN(name) name##_f32
#define REAL_MATH(name) name##f
#include "ops/attention_template.h"
#undef REAL
#undef ATTN
#undef REAL_MATH

#define REAL double
#define ATTN(name) name##_f64
#define REAL_MATH(name) name
#include "ops/attention_template.h"
#undef REAL
#undef ATTN
#undef REAL_MATH

void sp_attn_run(const sp_attn *a, sparoa_dtype type, const sparoa_exec *exec)
{
    attn_job job = {.a = a, .buffers = exec->workspace, .rows = a->batch * a->q_heads * a->q_len};
    if (job.rows == 0) return;
    job.slots = sp_slots(exec, job.rows);
    sp_parallel_for(exec, job.slots, 1, type == SPAROA_FLOAT64 ? slot_piece_f64 : slot_piece_f32,
                    &job);
}

size_t sp_attn_bytes(const sp_attn *a, sparoa_dtype type, int32_t threads)
{
    size_t bytes;
    if (a->total < 0 ||
        __builtin_mul_overflow((size_t)a->total, 2 * (size_t)threads * sparoa_dtype_size(type),
                               &bytes))
        return SIZE_MAX / 2;
    return bytes;
}

double sp_attn_flops(const sp_attn *a)
{
    double pairs = (double)a->batch * (double)a->q_heads * (double)a->q_len * (double)a->total;
    double each = a->probs || a->scores_only ? 0 : 5; /* softmax */
    if (!a->probs) each += 2.0 * (double)a->head;
    if (!a->scores_only) each += 2.0 * (double)a->v_head;
    return pairs * each;
}
