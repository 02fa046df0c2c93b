/* Fuzz target: any bytes as a profile; what is accepted must be priced and write back, as YAML, as
 * JSON, and as CSV where its devices' names make titles, to the same text. */
#include <math.h>
#include <string.h>

#include "profile/profile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void again(const sparoa_allocator *alloc, const sp_text *text, const sp_text *want,
                  bool must)
{
    sp_profile *p;
    sparoa_error err;
    sp_text got;
    if (sp_profile_parse(alloc, "again", text->data, text->size, &p, &err)) {
        if (must) __builtin_trap();
        return;
    }
    sp_text_init(&got, alloc);
    sp_profile_write(p, &got);
    if (got.size != want->size || memcmp(got.data, want->data, got.size)) __builtin_trap();
    sp_text_free(&got);
    sp_profile_destroy(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sp_mem mem;
    sparoa_allocator alloc = sp_mem_init(&mem, NULL, (size_t)256 << 20);
    sparoa_error err;
    sp_profile *p = NULL;
    if (size > 65536) return 0;
    if (sp_profile_parse(&alloc, "fuzz", data, size, &p, &err) == SPAROA_OK) {
        sp_text yaml, json, csv, svg;
        sp_text_init(&csv, &alloc);
        sp_text_init(&yaml, &alloc);
        sp_text_init(&json, &alloc);
        sp_text_init(&svg, &alloc);
        for (uint32_t i = 0; i < p->node_count; i++) {
            const sp_profile_node *n = &p->nodes[i];
            if (n->first_in + n->n_in > p->read_count || n->first_out + n->n_out > p->value_count ||
                !isfinite(sp_flops_per_byte(n)))
                __builtin_trap();
        }
        sp_profile_svg(p, NULL, &svg);
        sp_profile_write(p, &yaml);
        sp_profile_write_json(p, &json);
        sp_profile_write_csv(p, &csv);
        again(&alloc, &yaml, &yaml, true);
        again(&alloc, &json, &yaml, true);
        again(&alloc, &csv, &yaml, p->node_count && !p->device_count);
        sp_text_free(&csv);
        sp_text_free(&yaml);
        sp_text_free(&json);
        sp_text_free(&svg);
        sp_profile_destroy(p);
    } else if (!memchr(err.message, 0, sizeof err.message)) {
        __builtin_trap();
    }
    if (atomic_load(&mem.used) != 0) __builtin_trap(); /* a leak */
    return 0;
}
