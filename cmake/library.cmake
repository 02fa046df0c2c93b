include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

# libsparoa: one set of objects, linked as a shared and as a static library.
file(GLOB_RECURSE sparoa_files CONFIGURE_DEPENDS
    ${CMAKE_SOURCE_DIR}/src/base/*.c ${CMAKE_SOURCE_DIR}/src/ops/*.c ${CMAKE_SOURCE_DIR}/src/graph/*.c
    ${CMAKE_SOURCE_DIR}/src/onnx/*.c ${CMAKE_SOURCE_DIR}/src/engine/*.c
    ${CMAKE_SOURCE_DIR}/src/platform/*.c ${CMAKE_SOURCE_DIR}/src/profile/*.c ${CMAKE_SOURCE_DIR}/src/schedule/*.c
    ${CMAKE_SOURCE_DIR}/src/predict/*.c
    ${CMAKE_SOURCE_DIR}/src/backends/cpu/*.c ${CMAKE_SOURCE_DIR}/src/api/*.c)
find_library(YAML_STATIC NAMES libyaml.a REQUIRED)
add_library(sparoa_objects OBJECT ${sparoa_files} ${CMAKE_BINARY_DIR}/op_table.c
    ${CMAKE_BINARY_DIR}/cpu_kernel_table.c)
target_link_libraries(sparoa_objects PRIVATE sparoa_flags)
set(weights ${CMAKE_SOURCE_DIR}/models/predictor/predictor.spw)
set_source_files_properties(src/predict/shipped.c PROPERTIES
    COMPILE_DEFINITIONS SP_PREDICT_WEIGHTS="${weights}" OBJECT_DEPENDS ${weights})
if(CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64" AND CMAKE_C_COMPILER_VERSION VERSION_LESS 13)
    # gcc 12 for aarch64 ends in an internal error of its vectoriser on these files
    set_source_files_properties(src/schedule/sac_loss.c PROPERTIES COMPILE_OPTIONS -fno-tree-vectorize)
endif()
target_include_directories(sparoa_objects PRIVATE ${onnx_pb_dir})
add_dependencies(sparoa_objects onnx_pb)

# The training library of the predictor and of SAC; also a library of its own for programs that train.
file(GLOB nn_files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/src/nn/*.c)
add_library(sparoa_nn_objects OBJECT ${nn_files})
target_link_libraries(sparoa_nn_objects PRIVATE sparoa_flags)
target_compile_options(sparoa_nn_objects PRIVATE -O3)
add_library(sparoa_nn STATIC $<TARGET_OBJECTS:sparoa_nn_objects>)

set(sparoa_parts $<TARGET_OBJECTS:sparoa_objects> $<TARGET_OBJECTS:sparoa_nn_objects> $<TARGET_OBJECTS:onnx_pb> ${kernel_objects})

# Everything, symbols visible: what the unit tests link.
add_library(sparoa_internal STATIC ${sparoa_parts})
target_link_libraries(sparoa_internal PUBLIC sparoa_flags ${PROTOBUF_C_STATIC} ${YAML_STATIC} Threads::Threads m)
target_include_directories(sparoa_internal PUBLIC ${onnx_pb_dir})

function(sparoa_usage target)
    target_include_directories(${target} PUBLIC $<BUILD_INTERFACE:${CMAKE_SOURCE_DIR}/include>
        $<INSTALL_INTERFACE:${CMAKE_INSTALL_INCLUDEDIR}>)
endfunction()

# The shared library. protobuf-c and libyaml are inside it, hidden; exports.map names what is visible.
add_library(sparoa SHARED ${sparoa_parts})
set_target_properties(sparoa PROPERTIES VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}
    LINK_DEPENDS ${CMAKE_SOURCE_DIR}/cmake/exports.map)
target_link_options(sparoa PRIVATE -Wl,--version-script=${CMAKE_SOURCE_DIR}/cmake/exports.map
    -Wl,--gc-sections)
if(NOT SPAROA_SANITIZE) # a sanitizer's runtime comes with the executable
    target_link_options(sparoa PRIVATE -Wl,--no-undefined)
endif()
target_link_libraries(sparoa PRIVATE $<BUILD_INTERFACE:sparoa_flags> ${PROTOBUF_C_STATIC} ${YAML_STATIC} Threads::Threads m)
sparoa_usage(sparoa)

# The static library: one object in which everything but sparoa_* is local, so that nothing of ours or of
# theirs can clash with what the application links.
set(prelinked ${CMAKE_BINARY_DIR}/sparoa_prelinked.o)
add_custom_command(OUTPUT ${prelinked}
    COMMAND ${CMAKE_LINKER} -r -o ${prelinked}.all ${sparoa_parts} ${PROTOBUF_C_STATIC} ${YAML_STATIC}
    COMMAND ${CMAKE_OBJCOPY} --wildcard --keep-global-symbol sparoa_* ${prelinked}.all ${prelinked}
    DEPENDS sparoa_objects onnx_pb ${sparoa_parts} COMMAND_EXPAND_LISTS VERBATIM)
set_source_files_properties(${prelinked} PROPERTIES EXTERNAL_OBJECT TRUE GENERATED TRUE)
add_library(sparoa_static STATIC ${prelinked})
set_target_properties(sparoa_static PROPERTIES OUTPUT_NAME sparoa LINKER_LANGUAGE C)
target_compile_definitions(sparoa_static INTERFACE SPAROA_STATIC)
target_link_libraries(sparoa_static INTERFACE Threads::Threads m $<BUILD_INTERFACE:sparoa_flags>)
sparoa_usage(sparoa_static)

install(TARGETS sparoa sparoa_static EXPORT sparoa
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR} ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES include/sparoa.h include/sparoa_backend.h include/sparoa_schedule.h
    include/sparoa_live.h include/sparoa_serve.h DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(EXPORT sparoa NAMESPACE sparoa:: FILE sparoa-targets.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sparoa)
configure_package_config_file(cmake/sparoa-config.cmake.in ${CMAKE_BINARY_DIR}/sparoa-config.cmake
    INSTALL_DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sparoa)
write_basic_package_version_file(${CMAKE_BINARY_DIR}/sparoa-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/sparoa-config.cmake ${CMAKE_BINARY_DIR}/sparoa-config-version.cmake
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/cmake/sparoa)
# Found from where the file lies, so that an installed tree may be moved.
file(RELATIVE_PATH sparoa_pc_to_prefix /prefix/${CMAKE_INSTALL_LIBDIR}/pkgconfig /prefix)
configure_file(cmake/sparoa.pc.in ${CMAKE_BINARY_DIR}/sparoa.pc @ONLY)
install(FILES ${CMAKE_BINARY_DIR}/sparoa.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
