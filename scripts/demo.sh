#!/usr/bin/env bash
# Builds the sparoa command and lets the bundled model read a handwritten digit.
#
#   scripts/demo.sh [PICTURE.png]
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
model=models/digits/digits.onnx
labels=models/digits/labels.txt
pictures=(models/digits/test/digit_3_*.png)
picture=${1:-${pictures[0]}}

scripts/deps.sh
# shellcheck source=/dev/null
[ ! -e build/deps/env.sh ] || . build/deps/env.sh

log=build/demo.log
mkdir -p build
echo "Building the sparoa command in build/release (log: $log)"
if ! { cmake --preset release && cmake --build --preset release --target sparoa_command; } >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    exit 1
fi

show() {
    printf '\n$ sparoa %s\n' "$*"
    build/release/sparoa "$@"
}

show run "$model" --input "$picture" --labels "$labels" --top 3
show profile "$model" --input "$picture"
