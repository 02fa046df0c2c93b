/*
 * op.h - helpers that operator files share. An operator is one const struct sparoa_op
 * (sparoa_backend.h), defined with SP_OP(Name) in src/ops/<name>.c; the table of all rows is
 * generated from those files by CMake (cmake/op_table.cmake greps for SP_OP lines), so adding an
 * operator touches its own file only.
 */
#ifndef SP_OPS_OP_H
#define SP_OPS_OP_H

#include <math.h>
#include <stdlib.h>

#include "sparoa_backend.h"

/* Starts the definition of a row: SP_OP(Relu) = { SP_OP_HEAD("Relu", 6, 0), ... }; one per line, at
 * column 0. Rows that differ by opset or domain get another symbol: SP_OP(Softmax_12). */
#define SP_OP(symbol) const sparoa_op sp_op_##symbol
#define SP_OP_HEAD(op, since_, until_)                                                             \
    .struct_size = sizeof(sparoa_op), .name = (op), .domain = "", .since = (since_),               \
    .until = (until_)

#define SP_TRY(expr)                                                                               \
    do {                                                                                           \
        sparoa_status sp_try_ = (expr);                                                            \
        if (sp_try_ != SPAROA_OK) return sp_try_;                                                  \
    } while (0)

/* All rows of the library, sorted by name; ends with NULL. Generated. */
extern const sparoa_op *const sp_op_table[];

/* The row for an operator of a domain ("" or "ai.onnx") at an opset version, or NULL. extra: the
 * application's rows, searched first. */
const sparoa_op *sp_op_find(const char *domain, const char *name, int32_t version,
                            const sparoa_op *const *extra, size_t extra_count);

/* Bytes of run's workspace, widening of float16/bfloat16 included; and run itself with that
 * widening. These are what everybody calls instead of op->workspace and op->run. */
size_t sp_op_workspace(const sparoa_op *op, const sparoa_node *node, int32_t threads);
sparoa_status sp_op_run(const sparoa_op *op, const sparoa_node *node, const sparoa_exec *exec);
/* op->cost or the default. */
void sp_op_cost(const sparoa_op *op, const sparoa_node *node, sparoa_cost *cost);

/* "conv": what files and reports call a class. Never NULL. */
const char *sp_class_name(sparoa_op_class op_class);

/* ---- types ---- */
bool sp_is_float(sparoa_dtype t);  /* float16, bfloat16, float32, float64 */
bool sp_is_half(sparoa_dtype t);   /* float16, bfloat16 */
bool sp_is_int(sparoa_dtype t);    /* integers, signed or not; not bool */
bool sp_is_signed(sparoa_dtype t); /* signed integers and floats */
float sp_half_to_float(uint16_t h);
uint16_t sp_float_to_half(float f); /* round to nearest even */
float sp_bfloat_to_float(uint16_t h);
uint16_t sp_float_to_bfloat(float f); /* round to nearest even */
/* Element i as double or int64, whatever the type. */
double sp_get_f64(const sparoa_tensor *t, int64_t i);
int64_t sp_get_i64(const sparoa_tensor *t, int64_t i);
void sp_set_f64(sparoa_tensor *t, int64_t i, double v); /* integers: truncated and saturated */
void sp_set_i64(sparoa_tensor *t, int64_t i, int64_t v);

/* X(ctype, DTYPE) for groups of types, to make one switch over instances of a template macro. */
#define SP_FOR_INTS(X)                                                                             \
    X(int8_t, SPAROA_INT8)                                                                         \
    X(int16_t, SPAROA_INT16)                                                                       \
    X(int32_t, SPAROA_INT32)                                                                       \
    X(int64_t, SPAROA_INT64)                                                                       \
    X(uint8_t, SPAROA_UINT8)                                                                       \
    X(uint16_t, SPAROA_UINT16)                                                                     \
    X(uint32_t, SPAROA_UINT32)                                                                     \
    X(uint64_t, SPAROA_UINT64)
#define SP_FOR_FLOATS(X)                                                                           \
    X(float, SPAROA_FLOAT32)                                                                       \
    X(double, SPAROA_FLOAT64)
#define SP_FOR_NUMBERS(X)                                                                          \
    SP_FOR_FLOATS(X)                                                                               \
    SP_FOR_INTS(X)
/* One unsigned type per element size, for operators that move elements without looking at them. */
#define SP_FOR_SIZES(X)                                                                            \
    X(uint8_t, 1)                                                                                  \
    X(uint16_t, 2)                                                                                 \
    X(uint32_t, 4)                                                                                 \
    X(uint64_t, 8)

/* ---- shapes ---- */
static inline int64_t sp_count(const sparoa_tensor *t)
{
    return sparoa_tensor_count(t);
}
/* Product of dims[from..to-1]. */
int64_t sp_dims_product(const sparoa_tensor *t, int32_t from, int32_t to);
bool sp_known(const sparoa_tensor *t); /* rank and all dimensions known */
bool sp_same_shape(const sparoa_tensor *a, const sparoa_tensor *b);
void sp_set_shape(sparoa_tensor *t, sparoa_dtype dtype, int32_t rank,
                  const int64_t *dims);                          /* dims NULL: all -1 */
void sp_copy_fact(sparoa_tensor *dst, const sparoa_tensor *src); /* dtype, rank, dims; not data */
/* axis + rank if negative. Fails unless 0 <= axis < rank (or <= rank if `inclusive`). */
sparoa_status sp_axis(const sparoa_node *node, int64_t axis, int32_t rank, bool inclusive,
                      int32_t *out, sparoa_error *err);
/* Multidirectional broadcast of two facts into `out` (rank and dims). Unknown dims stay -1 where
 * they decide. Source: ONNX Broadcasting. */
sparoa_status sp_broadcast(const sparoa_node *node, const sparoa_tensor *a, const sparoa_tensor *b,
                           sparoa_tensor *out, sparoa_error *err);
/* Element strides of `t` seen as a tensor of out's rank and shape: 0 along broadcast dimensions. */
void sp_broadcast_strides(const sparoa_tensor *t, const sparoa_tensor *out,
                          int64_t strides[SPAROA_MAX_RANK]);
void sp_strides(const sparoa_tensor *t,
                int64_t strides[SPAROA_MAX_RANK]); /* row-major element strides */
/* Reads a known 1-D integer input (int32 or int64; scalar allowed) into `values`; *count = -1 where
 * its data is not known, 0 where the input is absent. Fails beyond `max` values or for another
 * type. */
sparoa_status sp_read_ints(const sparoa_node *node, int32_t input, int64_t *values, int32_t max,
                           int32_t *count, sparoa_error *err);
/* Axes as attribute "axes" or input `input` (-1: attribute only), made non-negative for `rank`.
 * *count = -1: given but not known yet; 0: absent or empty (*given says which). */
sparoa_status sp_read_axes(const sparoa_node *node, int32_t input, int32_t rank,
                           int32_t axes[SPAROA_MAX_RANK], int32_t *count, bool *given,
                           sparoa_error *err);

/* Fails where the known dimensions of `t` are more than memory can ever hold: their product times 8
 * must stay below 2^62, zeros counted as ones, so that sizes and strides of it never overflow; or
 * below -1. */
sparoa_status sp_check_shape(const sparoa_node *node, const sparoa_tensor *t, sparoa_error *err);

/* ---- checks ---- */
/* Inputs 0..n_in-1 and outputs 0..n_out-1 must be there. */
sparoa_status sp_check_present(const sparoa_node *node, int32_t n_in, int32_t n_out,
                               sparoa_error *err);
#define SP_TYPES_FLOAT                                                                             \
    (1u << SPAROA_FLOAT32 | 1u << SPAROA_FLOAT64 | 1u << SPAROA_FLOAT16 | 1u << SPAROA_BFLOAT16)
#define SP_TYPES_INT                                                                               \
    (1u << SPAROA_INT8 | 1u << SPAROA_INT16 | 1u << SPAROA_INT32 | 1u << SPAROA_INT64 |            \
     1u << SPAROA_UINT8 | 1u << SPAROA_UINT16 | 1u << SPAROA_UINT32 | 1u << SPAROA_UINT64)
#define SP_TYPES_NUMBER (SP_TYPES_FLOAT | SP_TYPES_INT)
#define SP_TYPES_ALL (SP_TYPES_NUMBER | 1u << SPAROA_BOOL)
/* Input i must be there and of one of `types`; UNSUPPORTED_TYPE names it otherwise. */
sparoa_status sp_check_type(const sparoa_node *node, int32_t i, uint32_t types, sparoa_error *err);
/* Inputs a and b (both present) must have one element type. */
sparoa_status sp_check_same_type(const sparoa_node *node, int32_t a, int32_t b, sparoa_error *err);

/* ---- running ---- */
/* Common infer functions. */
sparoa_status sp_infer_same(const sparoa_node *node, sparoa_error *err); /* out 0 = fact of in 0 */
sparoa_status sp_infer_broadcast(const sparoa_node *node,
                                 sparoa_error *err); /* out 0 = broadcast of all inputs,
                                                       type of in 0 */
/* Splits 0..total-1 into at most exec->threads even pieces of at least `grain` and runs body(arg,
 * begin, end) on each; in the calling thread alone where it is not worth more. Pieces depend on
 * total, grain and threads only. */
void sp_parallel_for(const sparoa_exec *exec, int64_t total, int64_t grain,
                     void (*body)(void *arg, int64_t begin, int64_t end), void *arg);
/* Copies all bytes of in to out (same size); nothing where they are the same memory. */
void sp_copy_data(sparoa_tensor *out, const sparoa_tensor *in);
/* Share of elements that are exactly zero, 0..1; -1 for an empty tensor, or one of bools or half
 * floats. */
double sp_zero_share(const sparoa_tensor *t);

#endif
