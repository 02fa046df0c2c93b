# Flags that every target of the project uses.
add_library(sparoa_flags INTERFACE)
target_compile_options(sparoa_flags INTERFACE -Wall -Wextra -Wshadow -Wstrict-prototypes
    -Wmissing-prototypes -Wpointer-arith -Wno-unused-parameter -fno-math-errno
    -fno-trapping-math -ffp-contract=off)
target_compile_definitions(sparoa_flags INTERFACE _GNU_SOURCE)
target_include_directories(sparoa_flags INTERFACE ${CMAKE_SOURCE_DIR}/include ${CMAKE_SOURCE_DIR}/src
    ${CMAKE_SOURCE_DIR})
if(SPAROA_WERROR)
    target_compile_options(sparoa_flags INTERFACE -Werror)
endif()
if(SPAROA_SANITIZE)
    target_compile_options(sparoa_flags INTERFACE -fsanitize=${SPAROA_SANITIZE} -fno-omit-frame-pointer
        -fno-sanitize-recover=all)
    if(CMAKE_C_COMPILER_ID MATCHES Clang)
        # clang counts NULL + 0 among overflows; empty tensors do that, and C2y allows it
        target_compile_options(sparoa_flags INTERFACE -fno-sanitize=pointer-overflow)
    endif()
    target_link_options(sparoa_flags INTERFACE -fsanitize=${SPAROA_SANITIZE})
endif()
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
