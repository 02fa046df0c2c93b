/* Fuzz target: any bytes as a model, through loading and the inference of types and shapes. */
#include <string.h>

#include "graph/infer.h"
#include "onnx/load.h"

#define MEMORY_LIMIT ((size_t)256 << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, MEMORY_LIMIT);
    sp_graph *graph = NULL;
    sp_model_meta meta;
    sparoa_error err;
    sparoa_status status =
        sp_onnx_load(&(sp_onnx_source){.data = data, .size = size}, &alloc, &graph, &meta, &err);
    if (status == SPAROA_OK) status = sp_graph_infer(graph, &err);
    sp_graph_destroy(graph);
    if (status != SPAROA_OK &&
        (err.status != status || !memchr(err.message, 0, sizeof err.message)))
        __builtin_trap();
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
