#ifndef SP_OPS_RESIZE_RUN_H
#define SP_OPS_RESIZE_RUN_H

#include "ops/resize.h"

size_t sp_resize_workspace(const sparoa_node *node, int32_t threads);
sparoa_status sp_resize_run(const sparoa_node *node, const sparoa_exec *exec);

#endif
