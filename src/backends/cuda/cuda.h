/*
 * cuda.h - inside the CUDA plug-in: its device, the libraries it finds at run time, and the rows
 * through which operators are offered. A row lives in the file of its family and starts with a line
 * "SP_CUDA_KERNEL(symbol) = {"; cmake/cuda.cmake gathers the rows into the table.
 */
#ifndef SP_BACKENDS_CUDA_H
#define SP_BACKENDS_CUDA_H

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdatomic.h>

#include "backends/cuda/libs.h"
#include "kernels/cuda/launch.h"
#include "ops/op.h"

typedef struct sp_cuda_row sp_cuda_row;

struct sparoa_dev {
    const sparoa_host *engine;
    sparoa_allocator allocator;
    int index;
    struct cudaDeviceProp prop;
    bool tf32;     /* option tf32=1: products may round their operands to 10 bits of mantissa */
    bool autotune; /* unless option autotune=0: ways to convolve are timed when they are prepared */
    int sparse_ways; /* option sparse: 0 none, 1 those that win, 2 our own, 3 cuSPARSE, always */
    bool unified;    /* kernels use mapped host memory: integrated GPUs, or option zero_copy=1 */
    bool raw_graphs; /* option graph=raw: recordings are left as they are */
    int way;         /* option way: the shape that depthwise and thin kernels take; -1: measured */
    sp_cuda_libs libs;
    void *lt;                   /* cublasLtHandle_t, or NULL */
    void *dnn;                  /* cudnnHandle_t, or NULL */
    void *sparse;               /* cusparseHandle_t, or NULL */
    pthread_mutex_t lock;       /* of dnn and of the memory pool */
    int *fault;                 /* pinned: set by kernels that met a bad index */
    int *fault_dev;             /* the same as the device sees it */
    struct sp_cuda_block *idle; /* freed memory kept for the next allocation */
    size_t idle_bytes, idle_limit;
    struct sparoa_queue *queues;
    struct sp_cuda_tuned *tuned; /* choices that were measured (tuned.c) */
    char tuned_path[512];        /* file that keeps them; "": none */
    bool tuned_changed;
};

struct sparoa_queue {
    sparoa_dev *dev;
    cudaStream_t stream;
    bool capturing;
    struct sparoa_queue *next;
};

struct sparoa_event {
    sparoa_dev *dev;
    cudaEvent_t event;
};

struct sparoa_kernel {
    sparoa_dev *dev;
    const sp_cuda_row *row;
    int op; /* index of the operator's name in row->ops */
    const char *variant;
    bool widens;  /* float16 tensors are converted to float32 around it (widen.c) */
    size_t bytes; /* device memory that it keeps */
    void *state;  /* row->state_bytes, zeroed */
};

/* One family of operators. Functions that are not needed may be NULL. */
struct sp_cuda_row {
    const char *const *ops; /* ends with NULL */
    const char *domain;     /* NULL: "" */
    const char *variant;
    size_t state_bytes, prepared_bytes;
    /* The node can be done on its float16 tensors as they are. NULL: never; then they are converted
     * to float32 and back around it. */
    bool (*half)(sparoa_dev *dev, const sparoa_node *node, int op);
    /* NULL: the node can be done; else what stands in the way. Shapes may be unknown. */
    const char *(*refuses)(sparoa_dev *dev, const sparoa_node *node, int op);
    sparoa_status (*create)(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err);
    void (*destroy)(sparoa_kernel *k);
    bool (*keeps_input)(const sparoa_kernel *k, int32_t input);
    /* prepared: row->prepared_bytes, zeroed. */
    sparoa_status (*prepare)(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                             size_t *workspace, sparoa_error *err);
    void (*unprepare)(sparoa_kernel *k, void *prepared);
    sparoa_status (*run)(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                         const sparoa_node *node, void *workspace, sparoa_error *err);
};

#define SP_CUDA_KERNEL(symbol) const sp_cuda_row sp_cuda_kernel_##symbol

extern const sp_cuda_row *const sp_cuda_kernel_table[]; /* generated; ends with NULL */

/* *widens: it wants the node's float16 tensors as float32. */
const sp_cuda_row *sp_cuda_row_find(sparoa_dev *dev, const sparoa_node *node, int *op, bool *widens,
                                    const char **why);

/* ---- float16 for rows that compute in float32 (widen.c) ---- */
bool sp_cuda_has_half(const sparoa_node *node);
/* Calls the row's functions with float32 tensors in place of float16 ones. */
const char *sp_cuda_widened_refuses(sparoa_dev *dev, const sp_cuda_row *row,
                                    const sparoa_node *node, int op);
sparoa_status sp_cuda_widened_create(sparoa_kernel *k, const sparoa_node *node, sparoa_error *err);
sparoa_status sp_cuda_widened_prepare(sparoa_kernel *k, const sparoa_node *node, void *prepared,
                                      size_t *workspace, sparoa_error *err);
sparoa_status sp_cuda_widened_run(sparoa_kernel *k, void *prepared, cudaStream_t stream,
                                  const sparoa_node *node, void *workspace, sparoa_error *err);

/* ---- measured choices (tuned.c) ---- */
typedef struct sp_cuda_choice {
    int kind, index, tile, splits;
} sp_cuda_choice;
/* Reads the device's file; nothing happens where there is none. */
void sp_cuda_tuned_load(sparoa_dev *dev);
void sp_cuda_tuned_save(sparoa_dev *dev); /* and forgets them */
bool sp_cuda_tuned_find(sparoa_dev *dev, const char *key, sp_cuda_choice *choice);
void sp_cuda_tuned_keep(sparoa_dev *dev, const char *key, const sp_cuda_choice *choice);

/* ---- memory (memory.c) ---- */
sparoa_status sp_cuda_alloc(sparoa_dev *dev, size_t bytes, void **ptr);
void sp_cuda_free(sparoa_dev *dev, void *ptr, size_t bytes);
void sp_cuda_pool_trim(sparoa_dev *dev);
/* Device memory with a copy of `bytes` of host memory; counted in k->bytes (k may be NULL). */
sparoa_status sp_cuda_upload(sparoa_dev *dev, sparoa_kernel *k, const void *host, size_t bytes,
                             void **ptr, sparoa_error *err);
void *sp_cuda_host_alloc(sparoa_dev *dev, size_t bytes); /* zeroed */
void sp_cuda_host_free(sparoa_dev *dev, void *ptr, size_t bytes);

/* ---- time (time.c) ---- */
/* Milliseconds on the device of `times` runs of a step, replayed from a graph; negative: it failed.
 * A launch that the device refuses is a mistake of ours and is logged. */
float sp_cuda_time(sparoa_dev *dev, int times, void (*step)(void *arg, cudaStream_t stream),
                   void *arg);

/* ---- errors (backend.c) ---- */
sparoa_status sp_cuda_status(cudaError_t error);
sparoa_status sp_cuda_fail(sparoa_error *err, const sparoa_node *node, const char *what,
                           cudaError_t error);

/* ---- what rows share (rows.c) ---- */
/* The type as kernels name it, or -1. */
int sp_cuda_type(sparoa_dtype dtype);
bool sp_cuda_is_half(const sparoa_node *node); /* input 0 is float16 */
/* Every input and output that is there is float16: rows that compute on it as it is. */
bool sp_cuda_all_half(sparoa_dev *dev, const sparoa_node *node, int op);
/* true: rows that move elements, whatever they are. */
bool sp_cuda_any_half(sparoa_dev *dev, const sparoa_node *node, int op);
bool sp_cuda_is_f32(const sparoa_node *node, int32_t input); /* there and float32 */
bool sp_cuda_all_f32(const sparoa_node *node); /* every input and output that is there */
/* Input i is absent or a constant (or has a value that is already known). */
bool sp_cuda_known(const sparoa_node *node, int32_t i);
/* The space of out's shape with the strides of each input under broadcasting, dimensions merged. */
void sp_cuda_space(sp_cu_space *s, const sparoa_tensor *out, int n,
                   const sparoa_tensor *const in[]);
void sp_cuda_move_axis(sp_cu_move *m, int64_t dim, int64_t src, int64_t dst);
/* A plain copy of all bytes. */
void sp_cuda_copy(void *dst, const void *src, size_t bytes, cudaStream_t stream);
#define SP_CUDA_NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

/* How products are summed up: float32; float32 operands rounded to TF32; float16 with float32 sums.
 */
typedef enum sp_cuda_math { SP_CUDA_MATH_F32, SP_CUDA_MATH_TF32, SP_CUDA_MATH_F16 } sp_cuda_math;
/* By the type of input 0, the node's attribute sp.tf32 and the device's option. */
sp_cuda_math sp_cuda_math_of(const sparoa_dev *dev, const sparoa_node *node);
static inline size_t sp_cuda_math_bytes(sp_cuda_math math)
{
    return math == SP_CUDA_MATH_F16 ? 2 : 4;
}
static inline bool sp_cuda_has_cores(const sparoa_dev *dev, sp_cuda_math math)
{
    return math != SP_CUDA_MATH_F32 && dev->prop.major >= 8;
}

/* Counters of a product whose inner dimension is cut into parts, on tensor cores. */
typedef struct sp_cuda_parts {
    int tile, splits;
    unsigned *arrivals;
    size_t bytes;
} sp_cuda_parts;
bool sp_cuda_parts_make(sparoa_dev *dev, sp_cuda_parts *p, const sp_cu_window *w);
void sp_cuda_parts_done(sparoa_dev *dev, sp_cuda_parts *p);

/* ---- products (product.c, product_tune.c): y = epilogue(alpha * a b) ---- */
#define SP_CUDA_LT_ALGOS 6
#define SP_CUDA_SPMM_ALGOS 3
typedef enum sp_cuda_product_kind {
    SP_CUDA_PRODUCT_PLAIN,
    SP_CUDA_PRODUCT_LT,
    SP_CUDA_PRODUCT_TENSOR,
    SP_CUDA_PRODUCT_SPMM, /* our own sparse product */
    SP_CUDA_PRODUCT_CUSPARSE,
    SP_CUDA_PRODUCT_THIN /* few channels, on tensor cores */
} sp_cuda_product_kind;

/* A product as cuBLASLt sees it, with or without the epilogue. */
typedef struct sp_cuda_lt {
    void *desc, *layout_a, *layout_b, *layout_y;
    lt_algo algos[SP_CUDA_LT_ALGOS];
    size_t needs[SP_CUDA_LT_ALGOS];
    int count; /* 0: it can't */
} sp_cuda_lt;

typedef struct sp_cuda_product {
    sp_cu_gemm shape; /* one call */
    sp_cuda_math math;
    sp_cuda_product_kind kind;
    int32_t outer_rank; /* batch dimensions that one call can't take, outermost first */
    int64_t outer[SPAROA_MAX_RANK], outer_a[SPAROA_MAX_RANK], outer_b[SPAROA_MAX_RANK];
    int64_t outer_y; /* elements of y that one call writes */
    bool fused;      /* cuBLASLt does the epilogue, too */
    bool has_bias;
    int algo;         /* of the set that is used */
    sp_cuda_lt lt[2]; /* without and with the epilogue */
    sp_cuda_parts parts;
    sp_cu_window window;                 /* the product as a convolution, for tensor cores */
    const struct sp_cuda_sparse *sparse; /* b once more, where it has many zeros; not owned */
    void *spmm_x, *spmm_y;
    size_t spmm_needs[SP_CUDA_SPMM_ALGOS]; /* SIZE_MAX: can't */
    int way;                               /* shape of our own sparse product, or of the thin one */
    size_t workspace;
    sp_cu_epilogue epilogue;
} sp_cuda_product;
/* epilogue: act, residual, channels (n) and inner (1); has_bias: a bias [n] comes with it. Where
 * the device tunes, the ways are timed. Bias and residual have the type of the operands. */
void sp_cuda_product_plan(sparoa_dev *dev, sp_cuda_product *p, const sp_cu_epilogue *epilogue,
                          bool has_bias);
void sp_cuda_product_done(sparoa_dev *dev, sp_cuda_product *p);
const char *sp_cuda_product_variant(const sp_cuda_product *p);
sparoa_status sp_cuda_product_run(sparoa_dev *dev, sp_cuda_product *p, const void *a, const void *b,
                                  const void *bias, const void *residual, void *y, void *workspace,
                                  cudaStream_t stream, const sparoa_node *node, sparoa_error *err);
/* Sets what p is to use: kind, and by kind fused and algo (index = algo * 2 + fused), tile and
 * splits, tile alone, or cuSPARSE's algorithm (index); false: it can't. */
bool sp_cuda_product_choose(sparoa_dev *dev, sp_cuda_product *p, const sp_cuda_choice *choice);
void sp_cuda_product_tune(sparoa_dev *dev, sp_cuda_product *p);

#endif
