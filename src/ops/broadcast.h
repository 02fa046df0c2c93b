/*
 * broadcast.h - the engine below every operator that broadcasts its inputs. A plan collapses
 * dimensions and hands an operator runs: rows of n output elements next to each other, where each
 * input advances by one element (step 1) or stays (step 0). An operator supplies only the loop over
 * a run, one instance per element type.
 */
#ifndef SP_OPS_BROADCAST_H
#define SP_OPS_BROADCAST_H

#include "ops/op.h"

#define SP_BROADCAST_MAX_IN 3

/* rows * n output elements, contiguous; input k starts at in[k], moves by row[k] elements from row
 * to row. */
typedef struct sp_run {
    int64_t rows, n;
    void *out;
    const void *in[SP_BROADCAST_MAX_IN];
    int64_t row[SP_BROADCAST_MAX_IN];
    int64_t step[SP_BROADCAST_MAX_IN]; /* 0 or 1 */
    const void *arg;                   /* the operator's own */
} sp_run;

typedef void (*sp_run_fn)(const sp_run *run);

typedef struct sp_bcast {
    int32_t rank, n_in;            /* rank >= 1 */
    int64_t dims[SPAROA_MAX_RANK]; /* of the output, collapsed */
    int64_t stride[SP_BROADCAST_MAX_IN][SPAROA_MAX_RANK];
    size_t in_size[SP_BROADCAST_MAX_IN], out_size; /* bytes of an element */
    const char *in[SP_BROADCAST_MAX_IN];
    sp_run_fn fn;
    const void *arg;
} sp_bcast;

/* Plans for inputs that broadcast to out's shape (checked before). */
void sp_bcast_plan(sp_bcast *plan, const sparoa_tensor *out, int32_t n_in,
                   const sparoa_tensor *const *in, sp_run_fn fn, const void *arg);
/* Runs elements begin..end-1 of the output; `out` is where element `begin` goes. */
void sp_bcast_range(const sp_bcast *plan, int64_t begin, int64_t end, void *out);
/* Plans and runs all of out, in pieces of at least `grain` elements. */
void sp_bcast_run(const sparoa_exec *exec, sparoa_tensor *out, int32_t n_in,
                  const sparoa_tensor *const *in, sp_run_fn fn, const void *arg, int64_t grain);

/* Input 1 of a binary operator under the shape that aligns it with input 0: itself from opset 7 on;
 * before, with attribute axis, its first dimension belongs to that axis. */
sparoa_status sp_second_operand(const sparoa_node *node, sparoa_tensor *second, sparoa_error *err);
/* Both inputs of one of `types`; shape of out 0 by broadcasting; its type is that of input 0, or
 * `result` if that is not SPAROA_UNDEFINED. */
sparoa_status sp_infer_binary(const sparoa_node *node, uint32_t types, sparoa_dtype result,
                              sparoa_error *err);
/* Runs a binary operator of such a node; fn NULL: UNSUPPORTED_TYPE. */
sparoa_status sp_run_binary(const sparoa_node *node, const sparoa_exec *exec, sp_run_fn fn,
                            const void *arg, int64_t grain);

/* Lets the compiler vectorise a loop whose output may be one of its inputs, at the same index. */
#if defined(__clang__)
#define SP_IVDEP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define SP_IVDEP _Pragma("GCC ivdep")
#else
#define SP_IVDEP
#endif

/* Defines a run function: y = expr of a (input 0, type A) and b (input 1, type B), result type R.
 */
#define SP_BINARY_LOOP2(name, A, B, R, expr)                                                       \
    static void name(const sp_run *run)                                                            \
    {                                                                                              \
        const int64_t n = run->n;                                                                  \
        for (int64_t r = 0; r < run->rows; r++) {                                                  \
            const A *pa = (const A *)run->in[0] + r * run->row[0];                                 \
            const B *pb = (const B *)run->in[1] + r * run->row[1];                                 \
            R *y = (R *)run->out + r * n;                                                          \
            if (run->step[0] && run->step[1]) {                                                    \
                SP_IVDEP for (int64_t i = 0; i < n; i++)                                           \
                {                                                                                  \
                    const A a = pa[i];                                                             \
                    const B b = pb[i];                                                             \
                    y[i] = (R)(expr);                                                              \
                }                                                                                  \
            } else if (run->step[0]) {                                                             \
                const B b = *pb;                                                                   \
                SP_IVDEP for (int64_t i = 0; i < n; i++)                                           \
                {                                                                                  \
                    const A a = pa[i];                                                             \
                    y[i] = (R)(expr);                                                              \
                }                                                                                  \
            } else if (run->step[1]) {                                                             \
                const A a = *pa;                                                                   \
                SP_IVDEP for (int64_t i = 0; i < n; i++)                                           \
                {                                                                                  \
                    const B b = pb[i];                                                             \
                    y[i] = (R)(expr);                                                              \
                }                                                                                  \
            } else {                                                                               \
                const A a = *pa;                                                                   \
                const B b = *pb;                                                                   \
                const R v = (R)(expr);                                                             \
                for (int64_t i = 0; i < n; i++) y[i] = v;                                          \
            }                                                                                      \
        }                                                                                          \
    }
#define SP_BINARY_LOOP(name, T, R, expr) SP_BINARY_LOOP2(name, T, T, R, expr)

#endif
