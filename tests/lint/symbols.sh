#!/bin/sh
# What the built libraries show to others: the exported names are those of exports.txt, the static
# library defines no other global name, nothing but libc, libm and the loader is needed, and the
# stripped library is at most 5 MB. NM, READELF and STRIP name the tools of a cross build.
#
#   symbols.sh BUILD            check
#   symbols.sh BUILD --update   write exports.txt anew, after a deliberate change of the interface
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=${1:?the build folder}
library=$build/libsparoa.so
limit=$((5 * 1024 * 1024))
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

fail() {
    echo "symbols.sh: $*"
    failed=1
}

"${NM:-nm}" -D --defined-only "$library" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | LC_ALL=C sort -u \
    >"$work/exports"
if [ "${2:-}" = --update ]; then
    cp "$work/exports" "$here/exports.txt"
    exit
fi
diff -u "$here/exports.txt" "$work/exports" ||
    fail "the exported names differ from tests/lint/exports.txt (--update writes it anew)"
grep -v '^sparoa_' "$work/exports" && fail "exports must begin with sparoa_"

"${NM:-nm}" -g --defined-only "$build/libsparoa.a" | awk 'NF == 3 && $2 != "A" { print $3 }' |
    grep -v '^sparoa_' && fail "the static library defines global names that are not sparoa_*"

"${READELF:-readelf}" -d "$library" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p' >"$work/needed"
grep -q '^libc\.so\.6$' "$work/needed" || fail "the library needs no libc? $(cat "$work/needed")"
grep -vE '^(libm\.so\.6|libc\.so\.6|libpthread\.so\.0|libdl\.so\.2|ld-linux[^/]*)$' "$work/needed" &&
    fail "the library needs more than libc, libm and the loader"

"${STRIP:-strip}" -o "$work/stripped.so" "$library"
size=$(wc -c <"$work/stripped.so")
[ "$size" -le "$limit" ] || fail "the stripped library has $size bytes; at most $limit are allowed"
echo "$(wc -l <"$work/exports") exported names, $size bytes stripped"
exit $failed
