#include "kernels/cpu/gemm.h"
#include "kernels/cpu/protos.h"

extern const sp_kernels SP_KERNEL(sp_kernels);

const sp_kernels SP_KERNEL(sp_kernels) = {
    .isa = SP_ISA_STRING,
    .vector = VL,
    .gemm_name = "gemm_f32_" TILE_NAME "__" SP_ISA_STRING,
    .conv_name = "conv_f32_" TILE_NAME "__" SP_ISA_STRING,
    .dwconv_name = "dwconv_f32__" SP_ISA_STRING,
    .winograd_name = "conv_winograd_f32_" TILE_NAME "__" SP_ISA_STRING,
    .attention_name = "attention_f32_" TILE_NAME "__" SP_ISA_STRING,
    .q8_name = "conv_q8__" SP_ISA_STRING,
    .name = "f32__" SP_ISA_STRING,
    .gemm_rows = MR_OF_2,
    .gemm_columns = NR,
    .gemm_f32_panels = SP_KERNEL(sp_gemm_f32_panels),
    .gemm_f32_packed_floats = SP_KERNEL(sp_gemm_f32_packed_floats),
    .gemm_f32_pack = SP_KERNEL(sp_gemm_f32_pack),
    .gemm_f32 = SP_KERNEL(sp_gemm_f32),
    .dwconv_f32_packed_floats = SP_KERNEL(sp_dwconv_f32_packed_floats),
    .dwconv_f32_pack = SP_KERNEL(sp_dwconv_f32_pack),
    .dwconv_f32 = SP_KERNEL(sp_dwconv_f32),
    .winograd_in_f32 = SP_KERNEL(sp_winograd_in_f32),
    .winograd_out_f32 = SP_KERNEL(sp_winograd_out_f32),
    .gemm_q8_packed_bytes = SP_KERNEL(sp_gemm_q8_packed_bytes),
    .gemm_q8_pack = SP_KERNEL(sp_gemm_q8_pack),
    .gemm_q8 = SP_KERNEL(sp_gemm_q8),
    .dwconv_q8 = SP_KERNEL(sp_dwconv_q8),
    .act_f32 = SP_KERNEL(sp_act_f32),
    .unary_f32 = SP_KERNEL(sp_unary_f32),
    .binary_f32 = SP_KERNEL(sp_binary_f32),
    .softmax_f32 = SP_KERNEL(sp_softmax_f32),
    .layernorm_f32 = SP_KERNEL(sp_layernorm_f32),
    .pool_f32 = SP_KERNEL(sp_pool_f32),
    .peak_fma_f32 = SP_KERNEL(sp_peak_fma_f32),
    .peak_read_f32 = SP_KERNEL(sp_peak_read_f32),
};
