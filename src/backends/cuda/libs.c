#include "backends/cuda/libs.h"

#include <dlfcn.h>
#include <glob.h>
#include <stdio.h>
#include <string.h>

/* Opens the first file that matches the pattern, newest version first. */
static void *open_matching(const char *pattern, char *why, size_t size)
{
    glob_t found;
    void *handle = NULL;
    if (glob(pattern, 0, NULL, &found) != 0) return NULL;
    for (size_t i = found.gl_pathc; i-- > 0 && !handle;) {
        handle = dlopen(found.gl_pathv[i], RTLD_NOW | RTLD_GLOBAL);
        if (!handle && why) snprintf(why, size, "%s", dlerror());
    }
    globfree(&found);
    return handle;
}

/* names: sonames, newest first. stem: "libcudnn.so". package: the folder of the wheel. */
static void *open_library(const char *const names[], const char *stem, const char *package,
                          const char *folders, char *why, size_t size)
{
    char pattern[512];
    for (int i = 0; names[i]; i++) {
        void *handle = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
        if (handle) return handle;
        if (why) snprintf(why, size, "%s", dlerror());
    }
    for (const char *at = folders; at && *at;) {
        size_t n = strcspn(at, ":");
        static const char *const forms[] = {"%.*s/%s.*", "%.*s/nvidia/%s/lib/%s.*",
                                            "%.*s/nvidia/cu1[0-9]/lib/%s.*"};
        for (int form = 0; form < 3; form++) {
            if (form == 1)
                snprintf(pattern, sizeof pattern, forms[1], (int)n, at, package, stem);
            else
                snprintf(pattern, sizeof pattern, forms[form], (int)n, at, stem);
            void *handle = open_matching(pattern, why, size);
            if (handle) return handle;
        }
        at += n + (at[n] == ':');
    }
    static const char *const toolkits[] = {
        "/usr/local/cuda/lib64", "/usr/local/cuda/targets/*-linux/lib", "/usr/lib/*-linux-gnu",
        "/usr/local/lib/python3*/*-packages/nvidia/*/lib"};
    for (size_t i = 0; i < sizeof toolkits / sizeof toolkits[0]; i++) {
        snprintf(pattern, sizeof pattern, "%s/%s.*", toolkits[i], stem);
        void *handle = open_matching(pattern, why, size);
        if (handle) return handle;
    }
    return NULL;
}

static bool resolve(void *handle, const char *symbol, void *slot)
{
    void *address = dlsym(handle, symbol);
    memcpy(slot, &address, sizeof address);
    return address != NULL;
}

void sp_cuda_libs_open(sp_cuda_libs *libs, const char *folders, const char *bus)
{
    static const char *const blas[] = {"libcublasLt.so.13", "libcublasLt.so.12",
                                       "libcublasLt.so.11", NULL};
    static const char *const dnn[] = {"libcudnn.so.9", "libcudnn.so.8", NULL};
    static const char *const sparse[] = {"libcusparse.so.12", "libcusparse.so.11", NULL};
    static const char *const nvml[] = {"libnvidia-ml.so.1", NULL};
    memset(libs, 0, sizeof *libs);
    libs->blas = open_library(blas, "libcublasLt.so", "cublas", folders, libs->blas_why,
                              sizeof libs->blas_why);
    libs->dnn =
        open_library(dnn, "libcudnn.so", "cudnn", folders, libs->dnn_why, sizeof libs->dnn_why);
    libs->cusparse = open_library(sparse, "libcusparse.so", "cusparse", folders, NULL, 0);
    libs->nvml = dlopen(nvml[0], RTLD_NOW);
    /* A library that lacks one function is as good as none. They stay loaded: their threads and
     * tables do not survive being unloaded. */
#define X(library, member, symbol, result, arguments)                                              \
    if (libs->library && !resolve(libs->library, symbol, &libs->member)) {                         \
        libs->library = NULL;                                                                      \
        snprintf(libs->library##_why, sizeof libs->library##_why, "%s is missing", symbol);        \
    }
    SP_CUDA_SYMBOLS(X)
#undef X
#define X(library, member, symbol, result, arguments)                                              \
    if (libs->library && !resolve(libs->library, symbol, &libs->member)) libs->library = NULL;
    SP_CUDA_SPARSE_SYMBOLS(X)
    SP_CUDA_NVML_SYMBOLS(X)
#undef X
    if (libs->nvml && (libs->nvml_init() != 0 || libs->nvml_by_bus(bus, &libs->nvml_device) != 0))
        libs->nvml = NULL;
}
