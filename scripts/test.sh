#!/usr/bin/env bash
# Builds everything and runs all tests: unit tests, the ONNX conformance tests, real models and the
# bundled model. The last line sums them up: N passed, N failed, N skipped.
#
#   scripts/test.sh [PRESET [PART...]]
#
# PRESET          release unless told: debug, asan, tsan, aarch64 (cross-built, run by qemu-aarch64) ...
# PART            ctest, conformance, models or bundled; all of them unless told
# SPAROA_CTEST    regular expression: only tests of CTest that match, built alone
# SPAROA_SHARED   folder with onnx-backend-tests and models (default: ../shared beside this repository)
# SPAROA_JOBS     compile and test jobs at once (default: one for each core)
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
preset=${1:-release}
build=build/$preset
shared=${SPAROA_SHARED:-../shared}
jobs=${SPAROA_JOBS:-$(nproc)}
parts=("${@:2}")
[ ${#parts[@]} -gt 0 ] || parts=(ctest conformance models bundled)
only=${SPAROA_CTEST:-}
passed=0 failed=0 skipped=0
runner=()
if [ "$preset" = aarch64 ]; then
    scripts/arm64_sysroot.sh
    libs=$PWD/build/arm64-root/usr/lib/aarch64-linux-gnu:$PWD/build/arm64-root/lib/aarch64-linux-gnu
    runner=(qemu-aarch64 -L /usr/aarch64-linux-gnu -E "LD_LIBRARY_PATH=$libs")
fi

scripts/deps.sh
# shellcheck source=/dev/null
[ ! -e build/deps/env.sh ] || . build/deps/env.sh

count() {
    passed=$((passed + $1)) failed=$((failed + $2)) skipped=$((skipped + $3))
}

skip() {
    echo "$1: skipped, $2"
    count 0 0 1
}

finish() {
    echo
    echo "$passed passed, $failed failed, $skipped skipped"
    [ "$failed" -eq 0 ]
}

build_all() {
    local targets=() name known
    cmake --preset "$preset" || return
    if [ -n "$only" ]; then
        targets=(--target sparoa_command)
        known=$(cmake --build "$build" --target help)
        for name in $(ctest --test-dir "$build" -N -R "$only" | sed -n 's/^ *Test *#[0-9]*: //p'); do
            if ! grep -q "^$name: phony" <<<"$known"; then # a script, which may need anything
                targets=()
                break
            fi
            targets+=(--target "$name")
        done
    fi
    cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"
}

run_ctest() {
    local log=$build/ctest.log code=0 total=0 bad=0 skips=0
    ctest --test-dir "$build" ${only:+-R "$only"} --output-on-failure --no-tests=error --parallel "$jobs" 2>&1 |
        tee "$log" || code=$?
    total=$(sed -n 's/.* tests failed out of \([0-9]*\)$/\1/p' "$log")
    bad=$(sed -n 's/.*, \([0-9]*\) tests failed out of .*/\1/p' "$log")
    skips=$(grep -c '^[[:space:]]*[0-9]* - .* (Skipped)' "$log") || skips=0
    if [ -z "$total" ] || { [ "$code" -ne 0 ] && [ "$bad" -eq 0 ]; }; then
        echo "ctest ended with code $code"
        count 0 1 0
        return
    fi
    count $((total - bad - skips)) "$bad" "$skips"
}

# run_models NAME ARGUMENT...: a run of `sparoa test`, whose last line is its summary.
run_models() {
    local log=$build/$1.log code=0 summary
    printf '\n%s\n' "$1"
    "${runner[@]}" "$build/sparoa" test "${@:2}" 2>&1 | tee "$log" || code=$?
    summary=$(tail -n 1 "$log")
    if [[ $summary =~ ^([0-9]+)\ passed,\ ([0-9]+)\ failed,\ ([0-9]+)\ skipped$ ]]; then
        count "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}" "${BASH_REMATCH[3]}"
        [ "$code" -eq 0 ] || [ "${BASH_REMATCH[2]}" -gt 0 ] || count 0 1 0
    else
        echo "$1 ended with code $code and no summary"
        count 0 1 0
    fi
}

# with_manifest FILE: the options for it, where there is one.
with_manifest() {
    manifest=()
    [ ! -e "$1" ] || manifest=(--manifest "$1")
}

run_conformance() {
    local data=$shared/onnx-backend-tests list=tests/conformance.txt
    if [ -e "$data/INDEX.tsv" ]; then
        with_manifest "$list"
        run_models conformance "$data" --index "$data/INDEX.tsv" --only core "${manifest[@]}"
        if [ -e "$build/libsparoa_emu.so" ] && [ "$preset" != aarch64 ]; then
            run_models conformance-emu "$data" --index "$data/INDEX.tsv" --only core "${manifest[@]}" \
                --plugin "$build/libsparoa_emu.so" --device emu0
        fi
    elif [ ! -e "$list" ]; then
        skip conformance "no $data and no $list"
    elif ! python3 -c 'import onnx' 2>/dev/null; then
        skip conformance "no $data and no Python package onnx to generate it (pip install onnx)"
    else
        data=build/onnx-backend-tests
        rm -rf "$data"
        python3 scripts/conformance_data.py "$data" --manifest "$list"
        run_models conformance "$data" --manifest "$data/manifest.txt"
    fi
}

run_shared_models() {
    local limit=()
    [ "$preset" != aarch64 ] || limit=(--timeout 600) # emulated, the largest take minutes
    if [ -d "$shared/models" ]; then
        with_manifest tests/models.txt
        run_models models "$shared/models" --compare scaled "${limit[@]}" "${manifest[@]}"
    else
        skip models "no $shared/models"
    fi
}

if ! build_all; then
    echo "the build failed"
    count 0 1 0
    finish
    exit
fi
run_bundled() {
    run_models bundled models/digits --compare scaled --manifest tests/bundled.txt
}

for part in "${parts[@]}"; do
    case $part in
        ctest | conformance | bundled) "run_$part" ;;
        models) run_shared_models ;;
        *)
            echo "unknown part: $part"
            count 0 1 0
            ;;
    esac
done
finish
