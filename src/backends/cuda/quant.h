/* quant.h - what rows of 8-bit operators share. */
#ifndef SP_BACKENDS_CUDA_QUANT_H
#define SP_BACKENDS_CUDA_QUANT_H

#include "backends/cuda/window.h"

bool sp_cuda_is_q8(const sparoa_tensor *t);                       /* int8 or uint8 */
bool sp_cuda_is_scale(const sparoa_node *node, int32_t input);    /* there and float32 */
const void *sp_cuda_data(const sparoa_node *node, int32_t input); /* NULL: left out */

#endif
