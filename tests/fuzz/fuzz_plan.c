/* Fuzz target: any bytes as a plan; what is accepted must write, read back to the same bytes and be
 * compared and placed without harm. */
#include <string.h>

#include "schedule/plan.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_plan(const sparoa_allocator *alloc, const sp_plan *plan)
{
    sp_text text;
    sp_plan *again = NULL;
    sp_env *env = NULL;
    sparoa_error err;
    uint8_t device[64];
    sp_text_init(&text, alloc);
    sp_plan_write(plan, &text);
    if (sp_plan_parse(alloc, "again", text.data, text.size, &again, &err)) __builtin_trap();
    if (sp_plan_diff(plan, again, NULL, NULL)) __builtin_trap();
    uint32_t nodes = plan->node_count < 64 ? plan->node_count : 64;
    if (nodes && sp_env_random(alloc, 1, nodes, 2, &env, &err) == SPAROA_OK)
        (void)sp_plan_assignment(plan, env, device, &err);
    sp_env_destroy(env);
    sp_plan_destroy(again);
    sp_text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    sparoa_error err;
    sp_plan *plan = NULL;
    if (size > 65536) return 0;
    if (sp_plan_parse(&alloc, "fuzz", data, size, &plan, &err) == SPAROA_OK)
        try_plan(&alloc, plan);
    else if (!memchr(err.message, 0, sizeof err.message))
        __builtin_trap();
    sp_plan_destroy(plan);
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
