/* control_facts.h - types and shapes across the border of If, Loop and Scan. */
#ifndef SP_GRAPH_CONTROL_FACTS_H
#define SP_GRAPH_CONTROL_FACTS_H

#include "graph/graph.h"

/* Gives the subgraphs' inputs and captures what is known of them from outside. */
void sp_control_input_facts(const sp_graph *graph, const sp_gnode *node);
/* Sets the node's outputs from its subgraphs' outputs; checks that the numbers of inputs and
 * outputs fit. */
sparoa_status sp_control_output_facts(sp_graph *graph, const sp_gnode *node, sparoa_error *err);

#endif
