#include "ops/chain.h"

#define X(name) #name,
static const char *const names[] = {SP_CHAIN_FNS(X)};
#undef X

bool sp_chain_step_of(const sparoa_node *node, sp_chain_step *step)
{
    int32_t fn = 0;
    if (node->domain[0]) return false;
    while (fn < SP_CHAIN_FN_COUNT && strcmp(node->op, names[fn]) != 0) fn++;
    *step = (sp_chain_step){.fn = (sp_chain_fn)fn, .input = -1};
    switch (step->fn) {
    case SP_CHAIN_LeakyRelu: step->a = sparoa_attr_float(node, "alpha", 0.01f); break;
    case SP_CHAIN_HardSigmoid:
        step->a = sparoa_attr_float(node, "alpha", 0.2f);
        step->b = sparoa_attr_float(node, "beta", 0.5f);
        break;
    case SP_CHAIN_Swish:
    case SP_CHAIN_Elu: step->a = sparoa_attr_float(node, "alpha", 1); break;
    case SP_CHAIN_Clip:
        step->a = sparoa_attr_float(node, "min", -INFINITY);
        step->b = sparoa_attr_float(node, "max", INFINITY);
        break;
    case SP_CHAIN_Gelu:
        step->a = strcmp(sparoa_attr_string(node, "approximate", "none"), "tanh") == 0;
        break;
    case SP_CHAIN_FN_COUNT: return false;
    default: break;
    }
    return true;
}

bool sp_chain_read(const sparoa_node *node, sp_chain *chain)
{
    size_t n;
    const sparoa_attr *args = sparoa_attr_find(node, "sp.args");
    const int64_t *steps = sparoa_attr_ints(node, "sp.steps", &n);
    *chain = (sp_chain){.count = (int32_t)(n / 3)};
    if (!steps || n % 3 || n < 3 || n / 3 > SP_CHAIN_STEPS || !args ||
        args->type != SPAROA_ATTR_FLOATS || args->count != n / 3 * 2)
        return false;
    for (int32_t i = 0; i < chain->count; i++) {
        int64_t fn = steps[i * 3], input = steps[i * 3 + 1];
        if (fn < 0 || fn >= SP_CHAIN_FN_COUNT) return false;
        if (fn >= SP_CHAIN_Add ? input < 0 || input >= node->n_in : input != -1) return false;
        chain->steps[i] = (sp_chain_step){(sp_chain_fn)fn, (int32_t)input, steps[i * 3 + 2] != 0,
                                          args->v.floats[i * 2], args->v.floats[i * 2 + 1]};
    }
    return true;
}
