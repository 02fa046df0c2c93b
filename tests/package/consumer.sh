#!/bin/sh
# Installs into a folder of its own and builds a small program against it in every way that users do:
# find_package with the shared and the static library, pkg-config shared and static. Of a cross build
# CMAKE_TOOLCHAIN_FILE, CC, READELF and SPAROA_EMULATOR are the tools and what starts its programs.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
build=$(cd "${1:?the build folder}" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
model=$root/models/digits/digits.onnx

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log" || {
    cat "$work/install.log"
    exit 1
}
mkdir "$work/consumer"
cat >"$work/consumer/main.c" <<'C'
#include <sparoa.h>
#include <stdio.h>

int main(int argc, char **argv)
{
    sparoa_runtime *rt = NULL;
    sparoa_model *model = NULL;
    sparoa_session *session = NULL;
    sparoa_error err;
    if (argc < 2 || sparoa_runtime_create(NULL, &rt, &err) ||
        sparoa_model_load(rt, argv[1], NULL, &model, &err) ||
        sparoa_session_create(model, NULL, &session, &err)) {
        puts(err.message);
        return 1;
    }
    printf("%s: %u outputs\n", sparoa_version(), (unsigned)sparoa_model_output_count(model));
    sparoa_session_destroy(session);
    sparoa_model_destroy(model);
    sparoa_runtime_destroy(rt);
    return 0;
}
C
cat >"$work/consumer/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.25)
project(consumer LANGUAGES C)
find_package(sparoa 0.1 REQUIRED)
add_executable(with_shared main.c)
target_link_libraries(with_shared PRIVATE sparoa::sparoa)
add_executable(with_static main.c)
target_link_libraries(with_static PRIVATE sparoa::sparoa_static)
CMAKE

try() {
    echo "== $1"
    shift
    # shellcheck disable=SC2086 # a command and its options
    ${SPAROA_EMULATOR:-} "$@" "$model"
}

# a cross build looks for packages in the target's folders, and where it is told that it installs to
cmake -S "$work/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" \
    -DCMAKE_INSTALL_PREFIX="$work/prefix" \
    ${CMAKE_TOOLCHAIN_FILE:+-DCMAKE_STAGING_PREFIX="$work/prefix"} >"$work/log" 2>&1 &&
    cmake --build "$work/build" >>"$work/log" 2>&1 || {
    cat "$work/log"
    exit 1
}
try "find_package, shared" "$work/build/with_shared"
try "find_package, static" "$work/build/with_static"
"${READELF:-readelf}" -d "$work/build/with_static" >"$work/dynamic"
grep NEEDED "$work/dynamic" | grep libsparoa && exit 1

command -v pkg-config >/dev/null || {
    echo "no pkg-config"
    exit 1
}
libdir=$(dirname "$(find "$work/prefix" -name 'libsparoa.so')")
compiler=${CC:-$(command -v cc || command -v gcc || command -v clang)} # cc is a link that only root makes
PKG_CONFIG_PATH=$libdir/pkgconfig
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # one word for each flag
{
    "$compiler" "$work/consumer/main.c" -o "$work/pc_shared" $(pkg-config --cflags --libs sparoa) \
        -Wl,-rpath,"$libdir"
    "$compiler" -DSPAROA_STATIC "$work/consumer/main.c" -o "$work/pc_static" $(pkg-config --cflags sparoa) \
        "$libdir/libsparoa.a" $(pkg-config --static --libs-only-l sparoa | sed 's/-lsparoa//')
}
try "pkg-config, shared" "$work/pc_shared"
try "pkg-config, static" "$work/pc_static"
