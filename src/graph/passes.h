/*
 * passes.h - rewriting a graph. Each pass is a function in pass_<name>.c, listed in pass.c in the
 * order they run; after each one the graph is compacted, verified, inferred anew, and dumped if
 * asked for. A pass that finds nothing to do changes nothing; any of them can be left out and the
 * model still runs.
 */
#ifndef SP_GRAPH_PASSES_H
#define SP_GRAPH_PASSES_H

#include "base/log.h"
#include "graph/graph.h"

typedef struct sp_pass {
    const char *name;
    sparoa_status (*run)(sp_graph *graph, sparoa_error *err);
    const char *what; /* one line for people */
    bool default_off; /* runs only where the options name it with a + */
} sp_pass;

/* All passes in order; ends with name NULL. */
extern const sp_pass sp_pass_table[];

typedef struct sp_pass_options {
    const char *disabled; /* names separated by commas, or "all", or NULL; "+name" turns on a pass
                             that is off by default */
    const char *enabled;  /* names of passes that run whatever `disabled` says, or NULL */
    const char *dump_dir; /* or NULL */
    const char *dump_name;
    const sp_log *log;
} sp_pass_options;

/* Runs the passes. Fails with INVALID_ARGUMENT for an unknown name in `disabled`. */
sparoa_status sp_passes_run(sp_graph *graph, const sp_pass_options *options, sparoa_error *err);

/* Writes a graph as text: one line per node with shapes, values and attributes. */
sparoa_status sp_graph_dump(const sp_graph *graph, const char *path, sparoa_error *err);

sparoa_status sp_pass_quantize(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_fold(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_dce(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_simplify(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_pattern(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_attention(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_qkv(sp_graph *graph, sparoa_error *err);
/* The moves of pass "pattern" and "simplify" once more. */
sparoa_status sp_pass_clean(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_scale(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_fuse(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_layout(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_window(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_half(sp_graph *graph, sparoa_error *err);
/* Chains of element-wise operators as one. */
sparoa_status sp_pass_chain(sp_graph *graph, sparoa_error *err);
sparoa_status sp_pass_tf32(sp_graph *graph, sparoa_error *err);

#endif
