#!/bin/sh
# Every status has its section in docs/errors.md, every knob its row in docs/knobs.md, and the other
# way round.
set -eu
cd "$(dirname "$0")/../.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
failed=0

same() { # what, file
    LC_ALL=C sort "$work/code" >"$work/code.sorted"
    LC_ALL=C sort "$work/page" >"$work/page.sorted"
    diff -u "$work/code.sorted" "$work/page.sorted" || {
        echo "$1 and $2 differ"
        failed=1
    }
}

sed -n 's/^ *X(\([A-Z_]*\), -\{0,1\}[0-9]*, ".*/\1/p' include/sparoa.h >"$work/code"
sed -n 's/^### \([A-Z_]*\) .*/\1/p' docs/errors.md >"$work/page"
[ -s "$work/code" ] || { echo "no status found in include/sparoa.h"; failed=1; }
same "the statuses of include/sparoa.h" docs/errors.md

sed -n 's/^ *X([a-z_]*, "\([A-Z_]*\)".*/\1/p' src/base/knobs.h >"$work/code"
sed -n 's/^| `\([A-Z_]*\)` .*/\1/p' docs/knobs.md >"$work/page"
[ -s "$work/code" ] || { echo "no knob found in src/base/knobs.h"; failed=1; }
same "the knobs of src/base/knobs.h" docs/knobs.md
exit $failed
