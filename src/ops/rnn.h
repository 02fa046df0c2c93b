/* rnn.h - what RNN, GRU and LSTM share: parsed attributes and sizes (rnn_parse.c) and the
 * computation (rnn_run.c). */
#ifndef SP_OPS_RNN_H
#define SP_OPS_RNN_H

#include "ops/check.h"

#define SP_RNN_LANES 8 /* columns of a packed panel of weights */

typedef enum sp_rnn_fn {
    SP_RNN_RELU,
    SP_RNN_TANH,
    SP_RNN_SIGMOID,
    SP_RNN_AFFINE,
    SP_RNN_LEAKYRELU,
    SP_RNN_THRESHOLDEDRELU,
    SP_RNN_SCALEDTANH,
    SP_RNN_HARDSIGMOID,
    SP_RNN_ELU,
    SP_RNN_SOFTSIGN,
    SP_RNN_SOFTPLUS,
    SP_RNN_FN_COUNT
} sp_rnn_fn;

typedef struct sp_rnn_act {
    sp_rnn_fn fn;
    float a, b;
} sp_rnn_act;

typedef struct sp_rnn {
    int32_t gates;                       /* 1: RNN, 3: GRU, 4: LSTM */
    int32_t dirs;                        /* 1 or 2 */
    bool reverse;                        /* direction 0 runs backwards */
    bool batch_first;                    /* layout 1 */
    bool linear_before_reset;            /* GRU */
    bool input_forget;                   /* LSTM */
    float clip;                          /* INFINITY: none */
    int64_t steps, batch, input, hidden; /* -1: unknown yet */
    sp_rnn_act act[2][3];                /* by direction */
} sp_rnn;

/* Weights in panels of SP_RNN_LANES output columns: for each direction and gate, W then R, each as
 * [ceil(hidden/8)][K][8] with K = input or hidden. One element type, that of the computation. */
typedef struct sp_rnn_packed {
    size_t bytes; /* of this struct and what follows it */
    sparoa_dtype dtype;
    void *data;
} sp_rnn_packed;

sparoa_status sp_rnn_parse(const sparoa_node *node, sp_rnn *p, sparoa_error *err);
/* Elements of all panels; -1 if it overflows. */
int64_t sp_rnn_packed_count(const sp_rnn *p);
void sp_rnn_pack(const sp_rnn *p, const sparoa_node *node, sparoa_dtype dtype, void *data);
/* True where create packs the weights, so that run needs no room for it. */
bool sp_rnn_packs_once(const sparoa_node *node);
/* Elements of run's buffers without the panels; -1 if it overflows. */
int64_t sp_rnn_work_count(const sp_rnn *p);
/* Whether sequence_lens, where given, are in range. */
sparoa_status sp_rnn_check_lengths(const sparoa_node *node, const sp_rnn *p, sparoa_error *err);
sparoa_status sp_rnn_run(const sparoa_node *node, const sparoa_exec *exec);

#endif
