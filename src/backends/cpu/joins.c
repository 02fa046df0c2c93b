/* Which nodes that follow each other have a kernel that does all of them in one go. */
#include "backends/cpu/conv.h"

sparoa_status sp_cpu_join(const sp_cpu_host *host, const sp_cpu_kernel_row *const *rows,
                          void *const *states, const sparoa_node *const *nodes, int32_t count,
                          bool kept, const sp_cpu_kernel_row **row, void **state, sparoa_error *err)
{
    int32_t convs = 0;
    *state = NULL;
    if (count < 2) return SPAROA_OK;
    for (int32_t i = 0; i < count; i++) {
        if (rows[i] != &sp_cpu_kernel_Conv) continue;
        if (((const conv_state *)states[i])->deep) return SPAROA_OK;
        convs++;
    }
    if (kept) {
        *row = &sp_conv_mean_row;
        if (count != 2 || convs != 1 || rows[1] != &sp_cpu_kernel_GlobalAveragePool)
            return SPAROA_OK;
        return sp_conv_mean_join(host, states[0], nodes[0], nodes[1], state, err);
    }
    if (count == 2 && rows[0] == &sp_cpu_kernel_Mul && convs == 1) {
        *row = &sp_conv_gate_row;
        return sp_conv_gate_join(host, states[1], nodes[0], nodes[1], state, err);
    }
    if (count == 2 && convs == 1 && !rows[0] && strcmp(nodes[0]->op, "Transpose") == 0) {
        *row = &sp_conv_planes_row;
        return sp_conv_planes_join(host, states[1], nodes[0], nodes[1], state, err);
    }
    *row = &sp_conv_join_row;
    return convs == count ? sp_conv_join(host, states, nodes, count, state, err) : SPAROA_OK;
}
