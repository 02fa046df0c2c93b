/* reduce.h - how a node of the Reduce family walks its input: neighbouring axes of the same kind
 * merged, those of size 1 left out. */
#ifndef SP_OPS_REDUCE_H
#define SP_OPS_REDUCE_H

#include "ops/op.h"

typedef struct sp_reduce_group {
    int64_t size, stride;
} sp_reduce_group;

/* The innermost group is `inner` where it is kept and `run` where it is reduced; kept and reduced
 * hold the others, outermost first. */
typedef struct sp_reduce_axes {
    sp_reduce_group kept[SPAROA_MAX_RANK], reduced[SPAROA_MAX_RANK];
    int32_t n_kept, n_reduced;
    int64_t outer; /* product of the kept groups, `inner` left out */
    int64_t inner; /* the contiguous kept group, or 1 */
    int64_t run;   /* the contiguous reduced group where inner is 1 and there is one, else 1 */
    int64_t rows;  /* product of the reduced groups, `run` left out */
    int64_t total; /* elements reduced into one */
} sp_reduce_axes;

sparoa_status sp_reduce_read_axes(const sparoa_node *node, sp_reduce_axes *axes, sparoa_error *err);

/* Where index i of the first n groups begins. */
static inline int64_t sp_reduce_offset(const sp_reduce_group *groups, int32_t n, int64_t i)
{
    int64_t offset = 0;
    for (int32_t g = n - 1; g >= 0; g--) {
        offset += i % groups[g].size * groups[g].stride;
        i /= groups[g].size;
    }
    return offset;
}

#endif
