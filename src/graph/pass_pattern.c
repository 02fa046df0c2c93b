/* What exporters spell out in several nodes becomes the operator that it is: activations,
 * normalisations, global pools, merged moves of data; and attention, as a pass of its own. */
#include "graph/passes.h"
#include "graph/pattern.h"

sparoa_status sp_pass_pattern(sp_graph *graph, sparoa_error *err)
{
    static const sp_pattern_fn patterns[] = {
        sp_pattern_activation, sp_pattern_norm,       sp_pattern_pool, sp_pattern_einsum,
        sp_pattern_broadcast,  sp_pattern_arithmetic, sp_pattern_move, NULL};
    return sp_patterns_run(graph, patterns, err);
}

sparoa_status sp_pass_attention(sp_graph *graph, sparoa_error *err)
{
    static const sp_pattern_fn patterns[] = {sp_pattern_attention, NULL};
    return sp_patterns_run(graph, patterns, err);
}

sparoa_status sp_pass_qkv(sp_graph *graph, sparoa_error *err)
{
    static const sp_pattern_fn patterns[] = {sp_pattern_qkv, sp_pattern_rows, sp_pattern_move,
                                             NULL};
    return sp_patterns_run(graph, patterns, err);
}

/* Behind pass layout: rows that layout would move as channels are left to it. */
sparoa_status sp_pass_window(sp_graph *graph, sparoa_error *err)
{
    static const sp_pattern_fn patterns[] = {sp_pattern_window, NULL};
    return sp_patterns_run(graph, patterns, err);
}

sparoa_status sp_pass_clean(sp_graph *graph, sparoa_error *err)
{
    static const sp_pattern_fn patterns[] = {sp_pattern_move, NULL};
    SP_TRY(sp_patterns_run(graph, patterns, err));
    return sp_pass_simplify(graph, err);
}
