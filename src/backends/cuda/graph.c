/* Recorded graphs. Fills and copies within the device that a library or we ourselves enqueued
 * become kernels: the driver launches a row of nothing but kernels in one go. */
#include "backends/cuda/graph.h"

#define MOST 8 /* neighbours of a node that is replaced; recordings of one queue have one */

#if CUDART_VERSION >= 13000
#define BEFORE(node, list, n) cudaGraphNodeGetDependencies(node, list, NULL, n)
#define BEHIND(node, list, n) cudaGraphNodeGetDependentNodes(node, list, NULL, n)
#define CONNECT(graph, from, to) cudaGraphAddDependencies(graph, from, to, NULL, 1)
#else
#define BEFORE(node, list, n) cudaGraphNodeGetDependencies(node, list, n)
#define BEHIND(node, list, n) cudaGraphNodeGetDependentNodes(node, list, n)
#define CONNECT(graph, from, to) cudaGraphAddDependencies(graph, from, to, 1)
#endif

/* Puts a kernel that sp_cu_bulk describes in the place of the node. */
static bool replace(cudaGraph_t graph, cudaGraphNode_t old, const sp_cu_bulk *bulk)
{
    cudaGraphNode_t before[MOST], behind[MOST], made;
    size_t n_before = 0, n_behind = 0;
    struct cudaKernelNodeParams params = {0};
    void *arguments[] = {(void *)bulk};
    if (BEFORE(old, NULL, &n_before) || BEHIND(old, NULL, &n_behind)) return false;
    if (n_before > MOST || n_behind > MOST) return false;
    if ((n_before && BEFORE(old, before, &n_before)) ||
        (n_behind && BEHIND(old, behind, &n_behind)))
        return false;
    params.func = sp_cu_bulk_kernel(bulk, &params.gridDim, &params.blockDim);
    params.kernelParams = arguments;
    if (cudaGraphAddKernelNode(&made, graph, before, n_before, &params)) return false;
    for (size_t i = 0; i < n_behind; i++)
        if (CONNECT(graph, &made, &behind[i])) return false;
    return cudaGraphDestroyNode(old) == cudaSuccess;
}

static bool is_fill(cudaGraphNode_t node, sp_cu_bulk *bulk)
{
    struct cudaMemsetParams p;
    if (cudaGraphMemsetNodeGetParams(node, &p) ||
        (p.height > 1 && p.pitch != p.width * p.elementSize))
        return false;
    *bulk = (sp_cu_bulk){.to = p.dst,
                         .bytes = p.width * p.height * p.elementSize,
                         .value = p.value,
                         .size = p.elementSize};
    return true;
}

static bool is_copy(cudaGraphNode_t node, sp_cu_bulk *bulk)
{
    struct cudaMemcpy3DParms p;
    if (cudaGraphMemcpyNodeGetParams(node, &p) || p.kind != cudaMemcpyDeviceToDevice) return false;
    if (p.srcArray || p.dstArray || p.extent.height > 1 || p.extent.depth > 1) return false;
    if (p.srcPos.x || p.dstPos.x) return false;
    *bulk = (sp_cu_bulk){.to = p.dstPtr.ptr, .from = p.srcPtr.ptr, .bytes = p.extent.width};
    return true;
}

static void say(sparoa_dev *dev, const sp_cuda_graph_counts *c)
{
    const sparoa_host *h = dev->engine;
    char line[160];
    if (!h->log) return;
    snprintf(line, sizeof line,
             "cuda%d: recorded %zu kernels, %zu fills, %zu copies, %zu others; %zu made kernels",
             dev->index, c->kernels, c->fills, c->copies, c->others, c->replaced);
    h->log(h->log_user, SPAROA_LOG_INFO, line);
}

void sp_cuda_graph_refine(sparoa_dev *dev, cudaGraph_t graph)
{
    sp_cuda_graph_counts c = {0};
    size_t n = 0;
    if (cudaGraphGetNodes(graph, NULL, &n) || n == 0) return;
    cudaGraphNode_t *nodes = sp_cuda_host_alloc(dev, n * sizeof *nodes);
    size_t bytes = n * sizeof *nodes;
    if (!nodes) return;
    if (cudaGraphGetNodes(graph, nodes, &n)) n = 0;
    for (size_t i = 0; i < n; i++) {
        enum cudaGraphNodeType type;
        sp_cu_bulk bulk;
        bool found = false;
        if (cudaGraphNodeGetType(nodes[i], &type)) continue;
        if (type == cudaGraphNodeTypeKernel) {
            c.kernels++;
        } else if (type == cudaGraphNodeTypeMemset) {
            c.fills++;
            found = is_fill(nodes[i], &bulk);
        } else if (type == cudaGraphNodeTypeMemcpy) {
            c.copies++;
            found = is_copy(nodes[i], &bulk);
        } else {
            c.others++;
        }
        if (found && !dev->raw_graphs && replace(graph, nodes[i], &bulk)) c.replaced++;
    }
    sp_cuda_host_free(dev, nodes, bytes);
    cudaGetLastError();
    say(dev, &c);
}
