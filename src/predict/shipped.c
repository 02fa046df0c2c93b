#include "predict/shipped.h"

#include "predict/features.h"

/* The assembler copies the file in. */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        ".globl sp_predict_shipped\n"
        ".hidden sp_predict_shipped\n"
        "sp_predict_shipped:\n"
        ".incbin \"" SP_PREDICT_WEIGHTS "\"\n"
        "sp_predict_shipped_end:\n"
        ".balign 8\n"
        ".globl sp_predict_shipped_size\n"
        ".hidden sp_predict_shipped_size\n"
        "sp_predict_shipped_size:\n"
        ".quad sp_predict_shipped_end - sp_predict_shipped\n"
        ".popsection\n");

sparoa_status sp_predictor_shipped(const sparoa_allocator *alloc, sp_predictor **made,
                                   sparoa_error *err)
{
    return sp_predictor_load(alloc, sp_cpu_kernels(NULL), sp_predict_shipped,
                             sp_predict_shipped_size, sp_predict_schema(), made, err);
}
