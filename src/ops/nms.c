/* NonMaxSuppression: for each image and class the best boxes that do not overlap a better one too
 * much. */
#include "ops/check.h"

enum { IN_BOXES, IN_SCORES, IN_MAX, IN_IOU, IN_SCORE };

typedef struct candidate {
    float score;
    int32_t index;
} candidate;

typedef struct nms {
    int64_t batch, classes, boxes; /* -1: not known yet */
    int64_t limit;                 /* boxes kept for one class at most */
    bool centre, has_threshold;
    float iou, threshold;
    const float *box, *score;
    int64_t slots;
    candidate *heaps; /* [slots][boxes] */
    int32_t *kept;    /* [batch * classes][limit] */
    int64_t *counts;  /* [batch * classes] */
} nms;

static sparoa_status parse(const sparoa_node *node, nms *n, sparoa_error *err)
{
    *n = (nms){.centre = sparoa_attr_int(node, "center_point_box", 0) != 0};
    for (int32_t i = 0; i < 2; i++) {
        SP_TRY(sp_check_type(node, i, 1u << SPAROA_FLOAT32, err));
        SP_TRY(sp_check_rank(node, i, 3, 3, err));
    }
    for (int32_t i = IN_IOU; i <= IN_SCORE; i++)
        if (sparoa_in(node, i)) SP_TRY(sp_check_type(node, i, 1u << SPAROA_FLOAT32, err));
    const sparoa_tensor *boxes = node->in[IN_BOXES], *scores = node->in[IN_SCORES];
    n->batch = sp_dim(boxes, 0);
    n->boxes = sp_dim(boxes, 1);
    n->classes = sp_dim(scores, 1);
    SP_TRY(sp_unify(node, &n->batch, sp_dim(scores, 0), "number of images", err));
    SP_TRY(sp_unify(node, &n->boxes, sp_dim(scores, 2), "number of boxes", err));
    SP_TRY(sp_check_dims(node, IN_BOXES, 3, (int64_t[]){-1, -1, 4}, err));
    if (n->boxes > INT32_MAX)
        return sparoa_fail(err, SPAROA_TOO_LARGE, node, "%lld boxes are too many",
                           (long long)n->boxes);
    bool known = true;
    int64_t limit = 0;
    if (sparoa_in(node, IN_MAX)) SP_TRY(sp_read_scalar(node, IN_MAX, &known, &limit, err));
    if (limit < 0) limit = 0;
    n->limit = !known ? n->boxes : n->boxes >= 0 && limit > n->boxes ? n->boxes : limit;
    return SPAROA_OK;
}

/* Upper bound of rows; -1: not known yet; fails where it is beyond reason. */
static sparoa_status row_bound(const sparoa_node *node, const nms *n, int64_t *rows,
                               sparoa_error *err)
{
    *rows = -1;
    if (n->batch < 0 || n->classes < 0 || n->limit < 0) return SPAROA_OK;
    if (__builtin_mul_overflow(n->batch, n->classes, rows) ||
        __builtin_mul_overflow(*rows, n->limit, rows) || *rows > INT64_MAX / 64)
        return sparoa_fail(err, SPAROA_TOO_LARGE, node,
                           "%lld images, %lld classes and %lld boxes are too many",
                           (long long)n->batch, (long long)n->classes, (long long)n->limit);
    return SPAROA_OK;
}

static sparoa_status infer(const sparoa_node *node, sparoa_error *err)
{
    nms n;
    int64_t rows;
    SP_TRY(sp_check_present(node, 2, 1, err));
    SP_TRY(parse(node, &n, err));
    SP_TRY(row_bound(node, &n, &rows, err));
    sp_set_shape(node->out[0], SPAROA_INT64, 2, (int64_t[]){rows, 3});
    return SPAROA_OK;
}

static void cost_of(const sparoa_node *node, sparoa_cost *cost)
{
    nms n;
    if (parse(node, &n, NULL) != SPAROA_OK) return;
    double boxes = (double)n.boxes, kept = (double)(n.limit < 64 ? n.limit : 64);
    cost->flops =
        (double)n.batch * (double)n.classes * boxes * (2.0 * log2(boxes + 1.0) + 16.0 * kept);
}

static size_t round_up(size_t n)
{
    return (n + 63) / 64 * 64;
}

static size_t workspace(const sparoa_node *node, int32_t threads)
{
    nms n;
    int64_t rows;
    if (parse(node, &n, NULL) != SPAROA_OK || row_bound(node, &n, &rows, NULL) != SPAROA_OK ||
        rows < 0)
        return 0;
    if (n.boxes == 0 || n.limit == 0) return 0;
    return round_up((size_t)threads * (size_t)n.boxes * sizeof(candidate)) +
           round_up((size_t)(n.batch * n.classes) * sizeof(int64_t)) +
           (size_t)rows * sizeof(int32_t);
}

static bool better(candidate a, candidate b)
{
    return a.score > b.score || (a.score == b.score && a.index < b.index);
}

static void sift_down(candidate *heap, int64_t count, int64_t at)
{
    candidate moved = heap[at];
    for (;;) {
        int64_t child = 2 * at + 1;
        if (child >= count) break;
        if (child + 1 < count && better(heap[child + 1], heap[child])) child++;
        if (!better(heap[child], moved)) break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* Corners as y1, x1, y2, x2 in rising order. */
static void corners(const nms *n, const float *box, float c[4])
{
    if (n->centre) {
        float half_w = box[2] / 2, half_h = box[3] / 2;
        c[0] = box[1] - half_h;
        c[1] = box[0] - half_w;
        c[2] = box[1] + half_h;
        c[3] = box[0] + half_w;
        return;
    }
    for (int32_t i = 0; i < 2; i++) {
        c[i] = box[i] < box[i + 2] ? box[i] : box[i + 2];
        c[i + 2] = box[i] < box[i + 2] ? box[i + 2] : box[i];
    }
}

static bool overlaps(const nms *n, const float *a, const float *b)
{
    float p[4], q[4];
    corners(n, a, p);
    corners(n, b, q);
    float h = fminf(p[2], q[2]) - fmaxf(p[0], q[0]), w = fminf(p[3], q[3]) - fmaxf(p[1], q[1]);
    if (!(h > 0) || !(w > 0)) return false;
    float area_a = (p[2] - p[0]) * (p[3] - p[1]), area_b = (q[2] - q[0]) * (q[3] - q[1]);
    float common = h * w, all = area_a + area_b - common;
    return area_a > 0 && area_b > 0 && all > 0 && common / all > n->iou;
}

static void select_class(const nms *n, int64_t unit, candidate *heap)
{
    const float *score = n->score + unit * n->boxes,
                *box = n->box + unit / n->classes * n->boxes * 4;
    int32_t *kept = n->kept + unit * n->limit;
    int64_t count = 0, found = 0;
    for (int64_t i = 0; i < n->boxes; i++)
        if (n->has_threshold ? score[i] > n->threshold : score[i] == score[i])
            heap[count++] = (candidate){score[i], (int32_t)i};
    for (int64_t i = count / 2 - 1; i >= 0; i--) sift_down(heap, count, i);
    while (count > 0 && found < n->limit) {
        int32_t best = heap[0].index;
        heap[0] = heap[--count];
        if (count > 0) sift_down(heap, count, 0);
        bool keep = true;
        for (int64_t k = 0; keep && k < found; k++)
            keep = !overlaps(n, box + (int64_t)best * 4, box + (int64_t)kept[k] * 4);
        if (keep) kept[found++] = best;
    }
    n->counts[unit] = found;
}

static void slot_piece(void *arg, int64_t begin, int64_t end)
{
    const nms *n = arg;
    int64_t units = n->batch * n->classes;
    for (int64_t slot = begin; slot < end; slot++) {
        int64_t last = sp_slot_first(units, n->slots, slot + 1);
        for (int64_t u = sp_slot_first(units, n->slots, slot); u < last; u++)
            select_class(n, u, n->heaps + slot * n->boxes);
    }
}

static sparoa_status read_threshold(const sparoa_node *node, int32_t input, float *value,
                                    sparoa_error *err)
{
    const sparoa_tensor *t = sparoa_in(node, input);
    *value = 0;
    if (!t) return SPAROA_OK;
    if (sp_count(t) != 1 || isnan(((const float *)t->data)[0]))
        return sparoa_fail(err, SPAROA_INVALID_ARGUMENT, node, "input %d must be one number",
                           input);
    *value = ((const float *)t->data)[0];
    return SPAROA_OK;
}

static sparoa_status run(const sparoa_node *node, const sparoa_exec *exec)
{
    nms n;
    int64_t bound, rows = 0;
    SP_TRY(parse(node, &n, exec->err));
    SP_TRY(row_bound(node, &n, &bound, exec->err));
    SP_TRY(read_threshold(node, IN_IOU, &n.iou, exec->err));
    SP_TRY(read_threshold(node, IN_SCORE, &n.threshold, exec->err));
    sparoa_tensor *out = node->out[0];
    if (bound > out->dims[0])
        return sparoa_fail(exec->err, SPAROA_SHAPE_MISMATCH, node,
                           "the output has room for %lld rows of %lld", (long long)out->dims[0],
                           (long long)bound);
    out->dims[0] = 0;
    if (bound == 0) return SPAROA_OK;
    int64_t units = n.batch * n.classes;
    n.has_threshold = sparoa_in(node, IN_SCORE) != NULL;
    n.box = node->in[IN_BOXES]->data;
    n.score = node->in[IN_SCORES]->data;
    n.slots = sp_slots(exec, units);
    n.heaps = exec->workspace;
    char *at = exec->workspace;
    at += round_up((size_t)exec->threads * (size_t)n.boxes * sizeof(candidate));
    n.counts = (int64_t *)at;
    n.kept = (int32_t *)(at + round_up((size_t)units * sizeof(int64_t)));
    sp_parallel_for(exec, n.slots, 1, slot_piece, &n);
    int64_t *y = out->data;
    for (int64_t u = 0; u < units; u++)
        for (int64_t k = 0; k < n.counts[u]; k++, rows++) {
            y[3 * rows] = u / n.classes;
            y[3 * rows + 1] = u % n.classes;
            y[3 * rows + 2] = n.kept[u * n.limit + k];
        }
    out->dims[0] = rows;
    return SPAROA_OK;
}

/* ONNX NonMaxSuppression, versions 10 and 11. */
SP_OP(NonMaxSuppression) = {
    SP_OP_HEAD("NonMaxSuppression", 10, 0),
    .min_in = 2,
    .max_in = 5,
    .min_out = 1,
    .max_out = 1,
    .op_class = SPAROA_CLASS_OTHER,
    .tolerance = SPAROA_TOL_EXACT,
    .flags = SPAROA_OP_TRIMS,
    .infer = infer,
    .cost = cost_of,
    .workspace = workspace,
    .run = run,
};
