/* Fuzz target: any bytes as a file with one TensorProto. */
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "onnx/load.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    int fd = memfd_create("tensor", MFD_CLOEXEC);
    char path[40], name[16];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) return 0;
    sparoa_tensor tensor = {0};
    sparoa_error err;
    sparoa_status status = sp_onnx_load_tensor(path, &alloc, &tensor, name, sizeof name, &err);
    if (status == SPAROA_OK) {
        volatile uint8_t sum = 0;
        size_t bytes = sparoa_tensor_bytes(&tensor);
        for (size_t i = 0; i < bytes; i++) sum = (uint8_t)(sum + ((const uint8_t *)tensor.data)[i]);
        sp_free(&alloc, tensor.data, bytes);
    }
    close(fd);
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
