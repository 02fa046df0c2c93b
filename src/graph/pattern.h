/*
 * pattern.h - finding what exporters spell out in several nodes. A pattern is a function that looks
 * at one node as the last of its kind and, where everything in front of it fits, lets one new node
 * write its output. What stood in front stays for whoever else uses it; nobody does, where the
 * pattern is worth it, and dead code elimination takes it.
 */
#ifndef SP_GRAPH_PATTERN_H
#define SP_GRAPH_PATTERN_H

#include "graph/rewrite.h"

typedef struct sp_pattern {
    sp_graph *g;
    sp_uses uses; /* as of the start of the round: later values count as used often */
    bool no_memory;
} sp_pattern;

/* True if the pattern was found and replaced. */
typedef bool (*sp_pattern_fn)(sp_pattern *p, sp_id node);

/* Repeats rounds over all nodes, last first, until none of the patterns (a list that ends with
 * NULL) applies; drops dead code in between. */
sparoa_status sp_patterns_run(sp_graph *g, const sp_pattern_fn *patterns, sparoa_error *err);

/* ---- looking ---- */
uint32_t sp_pattern_uses(const sp_pattern *p, sp_id value);
/* The living node of ai.onnx that writes the value: of type `op` (NULL: of any), or NULL. */
const sp_gnode *sp_pattern_from(const sp_pattern *p, sp_id value, const char *op);
/* The same, of a value that nobody else uses. */
const sp_gnode *sp_pattern_only(const sp_pattern *p, sp_id value, const char *op);
/* The node that is the only user of the value, or SP_NO_ID. */
sp_id sp_pattern_user(const sp_pattern *p, sp_id value);
/* A floating-point constant of one element. */
bool sp_pattern_scalar(const sp_pattern *p, sp_id value, double *c);
/* One input of a two-input node is a scalar constant that leaves the shape of the other as it is.
 */
bool sp_pattern_with_scalar(const sp_pattern *p, const sp_gnode *n, sp_id *other, double *c);
/* Whether c is what `want` becomes when written with the precision of the value's type. */
bool sp_pattern_near(const sp_pattern *p, sp_id value, double c, double want);
bool sp_pattern_is_float(const sp_pattern *p, sp_id value);
/* Axes of a reduction as a bit mask; false where they or the rank are not known. */
bool sp_pattern_axes(const sp_pattern *p, const sp_gnode *n, uint32_t *axes);

/* c times the factors: what Mul and Div by constants and Mul of values build, whatever the order.
 */
#define SP_MAX_FACTORS 4
typedef struct sp_product {
    double c;
    sp_id factor[SP_MAX_FACTORS];
    int32_t count;
} sp_product;
bool sp_pattern_product(const sp_pattern *p, sp_id value, sp_product *out);
/* The product is c x; x is SP_NO_ID: whatever x. */
bool sp_pattern_scaled(const sp_pattern *p, sp_id value, sp_id x, double *c);

/* ---- replacing ---- */
/* A new node writes output 0 of node `last` in its place. Returns it; SP_NO_ID: no memory. */
sp_id sp_pattern_replace(sp_pattern *p, sp_id last, const char *op, int32_t version,
                         const sp_id *in, int32_t n_in);
/* A node in front of others; the value it writes, of this shape (dims NULL: not known yet). */
sp_id sp_pattern_insert(sp_pattern *p, const char *op, int32_t version, const char *base,
                        const sp_id *in, int32_t n_in);
/* Says what is known of a value that an insertion gave (SP_NO_ID stays that): returns it. */
sp_id sp_pattern_shaped(sp_pattern *p, sp_id value, sparoa_dtype dtype, int32_t rank,
                        const int64_t *dims);
/* Insertions whose results have their type and shape: x of known rank transposed, and reshaped to
 * known dimensions. SP_NO_ID: no memory. */
sp_id sp_pattern_transpose(sp_pattern *p, sp_id x, int32_t rank, const int64_t *perm);
sp_id sp_pattern_reshape(sp_pattern *p, sp_id x, int32_t rank, const int64_t *dims);
/* Notes that memory has run out unless ok. */
bool sp_pattern_done(sp_pattern *p, bool ok);

/* ---- the families ---- */
bool sp_pattern_activation(sp_pattern *p, sp_id node);
bool sp_pattern_norm(sp_pattern *p, sp_id node);
bool sp_pattern_pool(sp_pattern *p, sp_id node);
bool sp_pattern_einsum(sp_pattern *p, sp_id node);
bool sp_pattern_arithmetic(sp_pattern *p, sp_id node);
bool sp_pattern_broadcast(sp_pattern *p, sp_id node);
bool sp_pattern_move(sp_pattern *p, sp_id node);
bool sp_pattern_attention(sp_pattern *p, sp_id node);
bool sp_pattern_qkv(sp_pattern *p, sp_id node);
bool sp_pattern_rows(sp_pattern *p, sp_id node);
bool sp_pattern_window(sp_pattern *p, sp_id node);

#endif
