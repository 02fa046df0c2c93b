/*
 * cut.h - where an axis is cut whose two parts go to two devices.
 */
#ifndef SP_OPS_CUT_H
#define SP_OPS_CUT_H

#include "ops/op.h"

/* Elements before the cut, when what is behind it is to be `share` of them: at least one on either
 * side, and all before it where there is only one. */
int64_t sp_cut(int64_t size, float share);

#endif
