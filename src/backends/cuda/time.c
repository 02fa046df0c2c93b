/* Device time of a step: the time on which choices between kernels are made. */
#include "backends/cuda/cuda.h"

/* The runs as one captured graph, so that the time to enqueue them does not count. NULL: it can't
 * be captured. */
static cudaGraphExec_t captured(int times, void (*step)(void *arg, cudaStream_t stream), void *arg,
                                cudaStream_t stream)
{
    cudaGraph_t graph = NULL;
    cudaGraphExec_t exec = NULL;
    if (cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed) != cudaSuccess) return NULL;
    for (int i = 0; i < times; i++) step(arg, stream);
    if (cudaStreamEndCapture(stream, &graph) != cudaSuccess || !graph) return NULL;
    if (cudaGraphInstantiateWithFlags(&exec, graph, 0) != cudaSuccess) exec = NULL;
    cudaGraphDestroy(graph);
    return exec;
}

static bool launched(sparoa_dev *dev)
{
    const sparoa_host *h = dev->engine;
    cudaError_t error = cudaGetLastError();
    if (error != cudaSuccess && h->log) {
        char line[160];
        snprintf(line, sizeof line, "cuda%d: a launch that was to be timed failed: %s", dev->index,
                 cudaGetErrorString(error));
        h->log(h->log_user, SPAROA_LOG_WARN, line);
    }
    return error == cudaSuccess;
}

float sp_cuda_time(sparoa_dev *dev, int times, void (*step)(void *arg, cudaStream_t stream),
                   void *arg)
{
    cudaEvent_t start = NULL, end = NULL;
    cudaStream_t stream = NULL;
    cudaGraphExec_t graph = NULL;
    float best = -1;
    if (cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) == cudaSuccess &&
        cudaEventCreate(&start) == cudaSuccess && cudaEventCreate(&end) == cudaSuccess) {
        step(arg, stream); /* loads the code */
        if (launched(dev)) graph = captured(times, step, arg, stream);
        for (int k = 0; k < 3 && graph; k++) {
            float ms;
            cudaEventRecord(start, stream);
            cudaGraphLaunch(graph, stream);
            cudaEventRecord(end, stream);
            if (cudaEventSynchronize(end) != cudaSuccess ||
                cudaEventElapsedTime(&ms, start, end) != cudaSuccess)
                break;
            if (best < 0 || ms < best) best = ms;
        }
    }
    if (graph) cudaGraphExecDestroy(graph);
    if (start) cudaEventDestroy(start);
    if (end) cudaEventDestroy(end);
    if (stream) cudaStreamDestroy(stream);
    cudaGetLastError();
    return best;
}
