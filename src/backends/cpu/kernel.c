#include "backends/cpu/kernel.h"

#include <stdio.h>

#include "base/cpu.h"

const sp_cpu_kernel_row *sp_cpu_kernel_find(const sp_cpu_host *host, const sparoa_node *node,
                                            const char **variant)
{
    const char *domain = strcmp(node->domain, "ai.onnx") == 0 ? "" : node->domain;
    for (const sp_cpu_kernel_row *const *row = sp_cpu_kernel_table; *row; row++) {
        if (strcmp((*row)->op, node->op) != 0 || strcmp((*row)->domain, domain) != 0) continue;
        const char *name = (*row)->supports(host, node);
        if (!name) continue;
        if (variant) *variant = name;
        return *row;
    }
    return NULL;
}

static const struct isa_row {
    const char *name;
    sp_isa isa;
    const sp_kernels *kernels;
} isa_rows[] = {
#if defined(SP_GENERIC_ONLY) /* the fuzzers */
#elif defined(__x86_64__)
    {"avx512", SP_CPU_AVX512, &sp_kernels__avx512},
    {"avx2", SP_CPU_AVX2, &sp_kernels__avx2},
#elif defined(__aarch64__)
    {"neon", SP_CPU_NEON, &sp_kernels__neon},
#endif
    {"generic", SP_CPU_GENERIC, &sp_kernels__generic},
};

const sp_kernels *sp_cpu_kernels(const char *isa)
{
    for (size_t i = 0; i < sizeof isa_rows / sizeof *isa_rows; i++) {
        if (isa && *isa && strcmp(isa, isa_rows[i].name) != 0) continue;
        if (sp_cpu_has(isa_rows[i].isa)) return isa_rows[i].kernels;
    }
    return NULL;
}

const char *sp_cpu_isas(char *text, size_t size)
{
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < sizeof isa_rows / sizeof *isa_rows && used < size; i++)
        if (sp_cpu_has(isa_rows[i].isa))
            used += (size_t)snprintf(text + used, size - used, "%s%s", used ? ", " : "",
                                     isa_rows[i].name);
    return text;
}

void *sp_cpu_alloc(const sp_cpu_host *host, size_t bytes)
{
    if (bytes == 0) bytes = 1;
    void *ptr = host->allocator.alloc(host->allocator.user, bytes, 64);
    if (ptr) memset(ptr, 0, bytes);
    return ptr;
}

sparoa_status sp_cpu_keep_plan(const sp_cpu_host *host, const sparoa_node *node, const void *plan,
                               size_t bytes, void **prepared, sparoa_error *err)
{
    if (!*prepared) *prepared = sp_cpu_alloc(host, bytes);
    if (!*prepared) return sparoa_fail(err, SPAROA_OUT_OF_MEMORY, node, "no memory for the plan");
    memcpy(*prepared, plan, bytes);
    return SPAROA_OK;
}

int32_t sp_cpu_pack_pieces(const sp_cpu_host *host, size_t floats, size_t parts)
{
    const size_t grain = 65536; /* below, other threads would come too late */
    size_t most = host->engine ? (size_t)host->threads : 1, pieces = floats / grain + 1;
    if (pieces > parts) pieces = parts;
    if (pieces > most) pieces = most;
    return pieces ? (int32_t)pieces : 1;
}

void sp_cpu_pack_tasks(const sp_cpu_host *host, int32_t count, void (*task)(void *arg, int32_t i),
                       void *arg)
{
    if (host->engine && count > 1)
        host->engine->parallel(host->engine->pool, count, task, arg);
    else
        for (int32_t i = 0; i < count; i++) task(arg, i);
}

/* Parts of a large array, whatever the number of threads: they share keys. */
#define KEY_PARTS 16
#define KEY_GRAIN ((size_t)1 << 20)

typedef struct key_task {
    const char *bytes;
    size_t count;
    sp_pack_key keys[KEY_PARTS];
} key_task;

static void key_piece(void *arg, int32_t i)
{
    key_task *t = arg;
    size_t begin = t->count * (size_t)i / KEY_PARTS, end = t->count * (size_t)(i + 1) / KEY_PARTS;
    t->keys[i] = sp_pack_key_of("part");
    sp_pack_key_add(&t->keys[i], t->bytes + begin, end - begin);
}

void sp_cpu_pack_key_add(const sp_cpu_host *host, sp_pack_key *key, const void *bytes, size_t count)
{
    key_task t = {.bytes = bytes, .count = count};
    if (count < KEY_GRAIN) {
        sp_pack_key_add(key, bytes, count);
        return;
    }
    sp_cpu_pack_tasks(host, KEY_PARTS, key_piece, &t);
    sp_pack_key_add(key, t.keys, sizeof t.keys);
}

void sp_cpu_free(const sp_cpu_host *host, void *ptr, size_t bytes)
{
    if (ptr) host->allocator.free(host->allocator.user, ptr, bytes ? bytes : 1);
}
