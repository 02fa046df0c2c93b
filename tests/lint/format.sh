#!/bin/sh
# Every C file is as clang-format leaves it (.clang-format).
set -eu
cd "$(dirname "$0")/../.."
if ! command -v clang-format >/dev/null; then
    echo "skipped: no clang-format"
    exit 77
fi
find include src kernels tests bench examples -name '*.[ch]' -o -name '*.cpp' | LC_ALL=C sort |
    xargs clang-format --dry-run -Werror
