#include "cli/embedded.h"

#ifdef SP_DIGITS_MODEL
/* The assembler copies the file in: no generated source, and no C array for the compiler to read.
 */
__asm__(".pushsection .rodata\n"
        ".balign 16\n"
        ".globl sp_cli_digits_model\n"
        ".hidden sp_cli_digits_model\n"
        "sp_cli_digits_model:\n"
        ".incbin \"" SP_DIGITS_MODEL "\"\n"
        "sp_cli_digits_model_end:\n"
        ".balign 8\n"
        ".globl sp_cli_digits_model_size\n"
        ".hidden sp_cli_digits_model_size\n"
        "sp_cli_digits_model_size:\n"
        ".quad sp_cli_digits_model_end - sp_cli_digits_model\n"
        ".popsection\n");
#else
const unsigned char sp_cli_digits_model[1] = {0};
const size_t sp_cli_digits_model_size = 0;
#endif
