/*
 * libs.h - libraries that are found at run time: cuBLASLt, cuDNN, cuSPARSE and NVML. Only what the
 * plug-in uses is declared, so that it builds without their headers. Sources: the libraries' own
 * documentation; the values are part of their ABI since cuDNN 8 and cuBLAS 11.
 */
#ifndef SP_BACKENDS_CUDA_LIBS_H
#define SP_BACKENDS_CUDA_LIBS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- cuBLASLt ---- */
enum {
    LT_COMPUTE_32F = 68,
    LT_COMPUTE_32F_FAST_TF32 = 77,
    LT_R_32F = 0, /* cudaDataType_t */
    LT_R_16F = 2,
    LT_DESC_TRANSA = 3,
    LT_DESC_TRANSB = 4,
    LT_DESC_EPILOGUE = 7,
    LT_DESC_BIAS_POINTER = 8,
    LT_LAYOUT_BATCH_COUNT = 5,
    LT_LAYOUT_BATCH_STRIDE = 6,
    LT_PREF_MAX_WORKSPACE = 1,
    LT_PREF_ALIGN_A = 5,
    LT_PREF_ALIGN_B = 6,
    LT_PREF_ALIGN_C = 7,
    LT_PREF_ALIGN_D = 8,
    LT_EPILOGUE_DEFAULT = 1,
    LT_EPILOGUE_RELU = 2,
    LT_EPILOGUE_BIAS = 4,
    LT_EPILOGUE_GELU = 32, /* the tanh form */
    LT_OP_N = 0,
    LT_OP_T = 1
};
typedef struct lt_algo {
    uint64_t data[8];
} lt_algo;
typedef struct lt_heuristic {
    lt_algo algo;
    size_t workspace;
    int state;
    float waves;
    int reserved[4];
} lt_heuristic;

/* ---- cuDNN ---- */
enum {
    DNN_FLOAT = 0,
    DNN_HALF = 2,
    DNN_NCHW = 0,
    DNN_NHWC = 1,
    DNN_CROSS_CORRELATION = 1,
    DNN_DEFAULT_MATH = 0,
    DNN_TENSOR_MATH = 1,
    DNN_FMA_MATH = 3,
    DNN_ACT_RELU = 1,
    DNN_ACT_IDENTITY = 5,
    DNN_PRECOMP_GEMM = 1
};
typedef struct dnn_perf {
    int algo, status;
    float time;
    size_t memory;
    int determinism, math;
    int reserved[3];
} dnn_perf;

/* ---- cuSPARSE ---- */
enum {
    SPARSE_INDEX_32I = 2,
    SPARSE_ORDER_COL = 1,
    SPARSE_CSR_ALG1 = 4,
    SPARSE_CSR_ALG2 = 6,
    SPARSE_CSR_ALG3 = 12
};

/* ---- NVML ---- */
typedef struct nvml_utilization {
    unsigned gpu, memory;
} nvml_utilization;

/* X(library, member, symbol, result, arguments) */
#define SP_CUDA_SYMBOLS(X)                                                                         \
    X(blas, lt_version, "cublasLtGetVersion", size_t, (void))                                      \
    X(blas, lt_create, "cublasLtCreate", int, (void **))                                           \
    X(blas, lt_destroy, "cublasLtDestroy", int, (void *))                                          \
    X(blas, lt_desc_create, "cublasLtMatmulDescCreate", int, (void **, int, int))                  \
    X(blas, lt_desc_destroy, "cublasLtMatmulDescDestroy", int, (void *))                           \
    X(blas, lt_desc_set, "cublasLtMatmulDescSetAttribute", int,                                    \
      (void *, int, const void *, size_t))                                                         \
    X(blas, lt_layout_create, "cublasLtMatrixLayoutCreate", int,                                   \
      (void **, int, uint64_t, uint64_t, int64_t))                                                 \
    X(blas, lt_layout_destroy, "cublasLtMatrixLayoutDestroy", int, (void *))                       \
    X(blas, lt_layout_set, "cublasLtMatrixLayoutSetAttribute", int,                                \
      (void *, int, const void *, size_t))                                                         \
    X(blas, lt_pref_create, "cublasLtMatmulPreferenceCreate", int, (void **))                      \
    X(blas, lt_pref_destroy, "cublasLtMatmulPreferenceDestroy", int, (void *))                     \
    X(blas, lt_pref_set, "cublasLtMatmulPreferenceSetAttribute", int,                              \
      (void *, int, const void *, size_t))                                                         \
    X(blas, lt_heuristic, "cublasLtMatmulAlgoGetHeuristic", int,                                   \
      (void *, void *, void *, void *, void *, void *, void *, int, lt_heuristic *, int *))        \
    X(blas, lt_matmul, "cublasLtMatmul", int,                                                      \
      (void *, void *, const void *, const void *, void *, const void *, void *, const void *,     \
       const void *, void *, void *, void *, const void *, void *, size_t, cudaStream_t))          \
    X(dnn, dnn_create, "cudnnCreate", int, (void **))                                              \
    X(dnn, dnn_destroy, "cudnnDestroy", int, (void *))                                             \
    X(dnn, dnn_version, "cudnnGetVersion", size_t, (void))                                         \
    X(dnn, dnn_set_stream, "cudnnSetStream", int, (void *, cudaStream_t))                          \
    X(dnn, dnn_tensor_create, "cudnnCreateTensorDescriptor", int, (void **))                       \
    X(dnn, dnn_tensor_destroy, "cudnnDestroyTensorDescriptor", int, (void *))                      \
    X(dnn, dnn_tensor_set, "cudnnSetTensor4dDescriptor", int,                                      \
      (void *, int, int, int, int, int, int))                                                      \
    X(dnn, dnn_filter_create, "cudnnCreateFilterDescriptor", int, (void **))                       \
    X(dnn, dnn_filter_destroy, "cudnnDestroyFilterDescriptor", int, (void *))                      \
    X(dnn, dnn_filter_set, "cudnnSetFilter4dDescriptor", int,                                      \
      (void *, int, int, int, int, int, int))                                                      \
    X(dnn, dnn_conv_create, "cudnnCreateConvolutionDescriptor", int, (void **))                    \
    X(dnn, dnn_conv_destroy, "cudnnDestroyConvolutionDescriptor", int, (void *))                   \
    X(dnn, dnn_conv_set, "cudnnSetConvolution2dDescriptor", int,                                   \
      (void *, int, int, int, int, int, int, int, int))                                            \
    X(dnn, dnn_conv_group, "cudnnSetConvolutionGroupCount", int, (void *, int))                    \
    X(dnn, dnn_conv_math, "cudnnSetConvolutionMathType", int, (void *, int))                       \
    X(dnn, dnn_act_create, "cudnnCreateActivationDescriptor", int, (void **))                      \
    X(dnn, dnn_act_destroy, "cudnnDestroyActivationDescriptor", int, (void *))                     \
    X(dnn, dnn_act_set, "cudnnSetActivationDescriptor", int, (void *, int, int, double))           \
    X(dnn, dnn_get, "cudnnGetConvolutionForwardAlgorithm_v7", int,                                 \
      (void *, void *, void *, void *, void *, int, int *, dnn_perf *))                            \
    X(dnn, dnn_forward, "cudnnConvolutionForward", int,                                            \
      (void *, const void *, void *, const void *, void *, const void *, void *, int, void *,      \
       size_t, const void *, void *, void *))                                                      \
    X(dnn, dnn_fused, "cudnnConvolutionBiasActivationForward", int,                                \
      (void *, const void *, void *, const void *, void *, const void *, void *, int, void *,      \
       size_t, const void *, void *, const void *, void *, const void *, void *, void *, void *))

/* What can be done without. */
#define SP_CUDA_SPARSE_SYMBOLS(X)                                                                  \
    X(cusparse, sparse_create, "cusparseCreate", int, (void **))                                   \
    X(cusparse, sparse_destroy, "cusparseDestroy", int, (void *))                                  \
    X(cusparse, sparse_version, "cusparseGetVersion", int, (void *, int *))                        \
    X(cusparse, sparse_set_stream, "cusparseSetStream", int, (void *, cudaStream_t))               \
    X(cusparse, sparse_csr, "cusparseCreateCsr", int,                                              \
      (void **, int64_t, int64_t, int64_t, void *, void *, void *, int, int, int, int))            \
    X(cusparse, sparse_matrix_destroy, "cusparseDestroySpMat", int, (void *))                      \
    X(cusparse, sparse_dense, "cusparseCreateDnMat", int,                                          \
      (void **, int64_t, int64_t, int64_t, void *, int, int))                                      \
    X(cusparse, sparse_dense_destroy, "cusparseDestroyDnMat", int, (void *))                       \
    X(cusparse, sparse_dense_set, "cusparseDnMatSetValues", int, (void *, void *))                 \
    X(cusparse, sparse_spmm_size, "cusparseSpMM_bufferSize", int,                                  \
      (void *, int, int, const void *, void *, void *, const void *, void *, int, int, size_t *))  \
    X(cusparse, sparse_spmm, "cusparseSpMM", int,                                                  \
      (void *, int, int, const void *, void *, void *, const void *, void *, int, int, void *))

#define SP_CUDA_NVML_SYMBOLS(X)                                                                    \
    X(nvml, nvml_init, "nvmlInit_v2", int, (void))                                                 \
    X(nvml, nvml_by_bus, "nvmlDeviceGetHandleByPciBusId_v2", int, (const char *, void **))         \
    X(nvml, nvml_utilization, "nvmlDeviceGetUtilizationRates", int, (void *, nvml_utilization *))  \
    X(nvml, nvml_clock, "nvmlDeviceGetClockInfo", int, (void *, int, unsigned *))                  \
    X(nvml, nvml_temperature, "nvmlDeviceGetTemperature", int, (void *, int, unsigned *))          \
    X(nvml, nvml_power, "nvmlDeviceGetPowerUsage", int, (void *, unsigned *))

typedef struct sp_cuda_libs {
#define X(library, member, symbol, result, arguments) result(*member) arguments;
    SP_CUDA_SYMBOLS(X)
    SP_CUDA_SPARSE_SYMBOLS(X)
    SP_CUDA_NVML_SYMBOLS(X)
#undef X
    void *blas, *dnn, *cusparse, *nvml, *nvml_device; /* handles of dlopen; NULL: not found */
    char blas_why[160], dnn_why[160];                 /* why not */
} sp_cuda_libs;

/* Looks where the loader looks, then in the toolkit, then in folders (separated by ':', may be
 * NULL) and their python wheels' nvidia/<package>/lib. What is not found stays NULL. bus: PCI
 * address, for NVML. */
void sp_cuda_libs_open(sp_cuda_libs *libs, const char *folders, const char *bus);

#endif
