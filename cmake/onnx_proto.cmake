# onnx.proto -> C, by protobuf-c's compiler.
find_program(PROTOC_C protoc-c REQUIRED)
set(onnx_pb_dir ${CMAKE_BINARY_DIR}/onnx_pb)
file(MAKE_DIRECTORY ${onnx_pb_dir})
add_custom_command(
    OUTPUT ${onnx_pb_dir}/onnx.pb-c.c ${onnx_pb_dir}/onnx.pb-c.h
    COMMAND ${PROTOC_C} --c_out=${onnx_pb_dir} --proto_path=${CMAKE_SOURCE_DIR}/src/onnx
            ${CMAKE_SOURCE_DIR}/src/onnx/onnx.proto
    DEPENDS ${CMAKE_SOURCE_DIR}/src/onnx/onnx.proto VERBATIM)
add_library(onnx_pb OBJECT ${onnx_pb_dir}/onnx.pb-c.c)
target_include_directories(onnx_pb PUBLIC ${onnx_pb_dir})
find_library(PROTOBUF_C_STATIC NAMES libprotobuf-c.a REQUIRED)
