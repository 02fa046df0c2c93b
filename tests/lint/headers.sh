#!/bin/sh
# The public headers compile alone, without a warning, as C99, C17 and C++17; sparoa.h first and last.
# CC names the compiler of a cross build.
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

check() { # compiler, file, flags...
    compiler=$1 file=$2
    shift 2
    "$compiler" "$@" -pedantic -Wall -Wextra -Werror -I"$root/include" -c "$file" -o "$work/out.o" ||
        failed=1
}

for header in sparoa.h sparoa_backend.h sparoa_schedule.h sparoa_live.h sparoa_serve.h; do
    printf '#include <%s>\n#include <%s>\nint use(void);\nint use(void)\n{\n    return 0;\n}\n' \
        $header $header >"$work/use.c"
    cp "$work/use.c" "$work/use.cpp"
    for compiler in cc gcc clang ${CC:-}; do
        command -v $compiler >/dev/null || continue
        for standard in c99 c17; do
            check $compiler "$work/use.c" -std=$standard
        done
    done
    for compiler in g++ clang++; do
        command -v $compiler >/dev/null || continue
        # the C++ driver may be there without its standard library; the headers need none of it
        check $compiler "$work/use.cpp" -std=c++17
    done
done
exit $failed
