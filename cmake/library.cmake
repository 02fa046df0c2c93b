# libsparoa: one set of objects, linked as a shared and as a static library.
file(GLOB_RECURSE sparoa_files CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/src/base/*.c ${CMAKE_SOURCE_DIR}/src/ops/*.c ${CMAKE_SOURCE_DIR}/src/graph/*.c
    ${CMAKE_SOURCE_DIR}/src/onnx/*.c ${CMAKE_SOURCE_DIR}/src/engine/*.c
    ${CMAKE_SOURCE_DIR}/src/backends/cpu/*.c ${CMAKE_SOURCE_DIR}/src/api/*.c)
add_library(sparoa_objects OBJECT ${sparoa_files} ${CMAKE_BINARY_DIR}/op_table.c
    ${CMAKE_BINARY_DIR}/cpu_kernel_table.c)
target_link_libraries(sparoa_objects PRIVATE sparoa_flags)
target_include_directories(sparoa_objects PRIVATE ${onnx_pb_dir})
add_dependencies(sparoa_objects onnx_pb)

set(sparoa_parts $<TARGET_OBJECTS:sparoa_objects> $<TARGET_OBJECTS:onnx_pb> ${kernel_objects})

# Everything, symbols visible: what the unit tests and the library's own tools link.
add_library(sparoa_internal STATIC ${sparoa_parts})
target_link_libraries(sparoa_internal PUBLIC sparoa_flags ${PROTOBUF_C_STATIC} Threads::Threads m)
target_include_directories(sparoa_internal PUBLIC ${onnx_pb_dir})
