# kernels/cpu/*.c are compiled once for each instruction set, with SP_ISA naming it; functions are
# written SP_KERNEL(name) and get the suffix __<isa>. The choice is made at run time (base/cpu.h).
file(GLOB kernel_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/kernels/cpu/*.c)
set(kernel_objects "")
function(add_isa isa)
    add_library(kernels_${isa} OBJECT ${kernel_files})
    target_link_libraries(kernels_${isa} PRIVATE sparoa_flags)
    target_compile_definitions(kernels_${isa} PRIVATE SP_ISA=${isa} SP_ISA_${isa}=1)
    target_compile_options(kernels_${isa} PRIVATE -O3 -ffp-contract=fast ${ARGN})
    set(kernel_objects ${kernel_objects} $<TARGET_OBJECTS:kernels_${isa}> PARENT_SCOPE)
    set_property(GLOBAL APPEND_STRING PROPERTY SPAROA_ISAS " ${isa}")
endfunction()
if(kernel_files)
    add_isa(generic)
    # clang needs ten minutes for the unrolled tiles of one instruction set with the fuzzers' checks
    if(SPAROA_FUZZ)
        target_compile_options(kernels_generic PRIVATE -O1 -fno-sanitize=undefined)
        target_compile_definitions(sparoa_flags INTERFACE SP_GENERIC_ONLY=1)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
        add_isa(avx2 -mavx2 -mfma -mf16c -mbmi2)
        add_isa(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512cd -mfma -mf16c -mbmi2
            -mprefer-vector-width=512 -mtune=icelake-server)
    elseif(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64|arm64")
        # moving loads up before registers are given out spills sums of the largest tiles
        add_isa(neon $<$<C_COMPILER_ID:GNU>:-fno-schedule-insns>)
    endif()
endif()
