/*
 * eltwise.h - what operators of one input have in common: the loop template, running it in
 * parallel, and the convention for counting their work.
 */
#ifndef SP_OPS_ELTWISE_H
#define SP_OPS_ELTWISE_H

#include "ops/broadcast.h"

#define SP_GRAIN 16384    /* elements that are worth a thread: cheap operations */
#define SP_GRAIN_EXP 2048 /* the same where each element costs a call of libm */

/* y[i] = f(x[i]) for n elements; x and y may be the same memory. */
typedef void (*sp_unary_fn)(const void *in, void *out, int64_t n, const void *arg);

/* Runs fn over all elements of input 0 into output 0; fn NULL: UNSUPPORTED_TYPE. */
sparoa_status sp_run_unary(const sparoa_node *node, const sparoa_exec *exec, sp_unary_fn fn,
                           const void *arg, int64_t grain);

/* Defines such a function: y = expr of x (type T), result type R. */
#define SP_UNARY_LOOP(name, T, R, expr)                                                            \
    static void name(const void *in, void *out, int64_t n, const void *arg)                        \
    {                                                                                              \
        const T *px = in;                                                                          \
        R *y = out;                                                                                \
        SP_IVDEP for (int64_t i = 0; i < n; i++)                                                   \
        {                                                                                          \
            const T x = px[i];                                                                     \
            y[i] = (R)(expr);                                                                      \
        }                                                                                          \
    }

/* infer: input 0 is floating point (or any number), output 0 the same. */
sparoa_status sp_infer_float(const sparoa_node *node, sparoa_error *err);
sparoa_status sp_infer_number(const sparoa_node *node, sparoa_error *err);

/* Costs per output element: 1 for an addition, multiplication or comparison (the default, no
 * function needed), 4 for a division or square root, 10 for one exponential, logarithm, power or
 * trigonometric function, 20 for what needs two of them or an erf. */
void sp_cost_div(const sparoa_node *node, sparoa_cost *cost);
void sp_cost_exp(const sparoa_node *node, sparoa_cost *cost);
void sp_cost_exp2(const sparoa_node *node, sparoa_cost *cost);

/* Begins the row of an operator of domain com.microsoft. */
#define SP_MS_HEAD(op)                                                                             \
    .struct_size = sizeof(sparoa_op), .name = (op), .domain = "com.microsoft", .since = 1
/* What rows of operators with one input have in common, after their head. */
#define SP_UNARY(tol)                                                                              \
    .min_in = 1, .max_in = 1, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_ELTWISE,        \
    .tolerance = (tol), .flags = SPAROA_OP_INPLACE | SPAROA_OP_UNARY_POINTWISE
#define SP_UNARY_HEAD(op, since_, tol) SP_OP_HEAD(op, since_, 0), SP_UNARY(tol)
/* The same for two inputs that broadcast; more: further flags. */
#define SP_BINARY(tol, more)                                                                       \
    .min_in = 2, .max_in = 2, .min_out = 1, .max_out = 1, .op_class = SPAROA_CLASS_ELTWISE,        \
    .tolerance = (tol), .flags = SPAROA_OP_BROADCASTS | (more)
#define SP_BINARY_HEAD(op, since_, tol, more) SP_OP_HEAD(op, since_, 0), SP_BINARY(tol, more)

#endif
