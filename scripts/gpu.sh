#!/usr/bin/env bash
# Builds the CUDA plug-in and runs its tests and measurements on a machine with an NVIDIA GPU, without a network and
# within ten minutes. Results are files in $OUT, or build/gpu-results where that is not set.
#
#   scripts/gpu.sh --prepare    on a machine where the project builds: gathers in build/gpu-deps what a bare GPU
#                               machine lacks (protobuf-c, its generated code, cmocka, libyaml); carry that folder along
#   scripts/gpu.sh              on the GPU machine; needs gcc, cmake, ninja, nvcc
#   scripts/gpu.sh --quick      the same without the rest of the build and compute-sanitizer
#
# Where Python has PyTorch and onnx, the five evaluation models are made with random weights and measured in three
# precisions at batch 1 and 32 (models.jsonl: device time of the captured model; nodes.txt: of each node), and PyTorch on
# the same models as far as the time reaches (peers.jsonl).
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
deps=$PWD/build/gpu-deps

prepare() {
    local lib
    rm -rf "$deps"
    mkdir -p "$deps/include" "$deps/lib" "$deps/bin" "$deps/onnx_pb"
    protoc-c --c_out="$deps/onnx_pb" --proto_path=src/onnx src/onnx/onnx.proto
    cp -r /usr/include/protobuf-c /usr/include/cmocka*.h /usr/include/yaml.h "$deps/include/"
    for lib in libprotobuf-c.a libyaml.a libcmocka.so; do
        cp -L "$(find /usr/lib /usr/lib64 -name "$lib" -print -quit)" "$deps/lib/"
    done
    cp "$deps/lib/libcmocka.so" "$deps/lib/libcmocka.so.0"
    # stands in for the compiler of protobuf-c: hands out what was generated here
    cat >"$deps/bin/protoc-c" <<'EOF'
#!/bin/sh
for argument; do
    case $argument in --c_out=*) cp "$(dirname "$0")"/../onnx_pb/* "${argument#--c_out=}" ;; esac
done
EOF
    chmod +x "$deps/bin/protoc-c"
    du -sh "$deps"
}

case ${1:-} in
    --prepare) prepare; exit ;;
    '' | --quick) ;;
    *) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

results=${OUT:-build/gpu-results}
build=build/gpu
mkdir -p "$results"
rm -f "$results/models.jsonl" "$results/nodes.txt" # those of an earlier run: these are added to
export PATH=$PATH:/usr/local/cuda/bin
started=$SECONDS
stage() { echo "== $1 ($((SECONDS - started)) s)"; }

# Libraries of CUDA may be those of Python's wheels.
if site=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null); then
    for folder in "$site"/*/lib; do
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    done
fi
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$deps/lib

stage machine
{
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv
    nvcc --version | tail -2
    gcc --version | head -1
    cmake --version | head -1
} 2>&1 | tee "$results/machine.txt" || true
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d . || true)

options=(-DCMAKE_BUILD_TYPE=Release -DSPAROA_CUDA=ON "-DSPAROA_CUDA_ARCH=${arch:-90}-real" -DSPAROA_EXAMPLES=OFF)
if [ -d "$deps" ]; then
    options+=("-DPROTOC_C=$deps/bin/protoc-c" "-DPROTOBUF_C_STATIC=$deps/lib/libprotobuf-c.a"
        "-DYAML_STATIC=$deps/lib/libyaml.a" "-DCMOCKA=$deps/lib/libcmocka.so"
        "-DCMAKE_C_FLAGS=-isystem $deps/include")
fi

stage configure
cmake -G Ninja -S . -B "$build" "${options[@]}" >"$results/configure.log" 2>&1 || {
    tail -30 "$results/configure.log"
    exit 1
}
stage "build the plug-in"
ninja -C "$build" sparoa_cuda gpu_check gpu_model >"$results/build.log" 2>&1 || {
    grep -A5 -E 'error|FAILED' "$results/build.log" | head -60
    exit 1
}

failed=0
stage gpu_check
timeout 240 "$build/gpu_check" "$build/libsparoa_cuda.so" "$results/bench.jsonl" >"$results/gpu_check.txt" 2>&1 || failed=1
grep -vE '^FAIL' "$results/gpu_check.txt" | tail -70
grep -E '^FAIL' "$results/gpu_check.txt" | head -60 || true
cat "$results/bench.jsonl" 2>/dev/null || true
[ "${1:-}" != --quick ] || exit $failed

if command -v compute-sanitizer >/dev/null; then
    stage compute-sanitizer
    for family in conv gather pad resize reduce; do
        timeout 60 compute-sanitizer --tool memcheck --error-exitcode 9 "$build/gpu_check" \
            "$build/libsparoa_cuda.so" /dev/null "$family" >"$results/sanitizer.txt" 2>&1 || {
            code=$?
            [ $code -ne 9 ] || failed=1 # 9: it found something; others: no time, or it can't run here
            echo "compute-sanitizer, $family: exit code $code"
            grep -m8 -E '=====|FAIL' "$results/sanitizer.txt" || true
        }
        tail -1 "$results/sanitizer.txt"
    done
fi

measure_models() {
    local model precision batch models=$build/models
    python3 bench/gpu_models.py "$models" >"$results/make-models.log" 2>&1 || {
        tail -3 "$results/make-models.log"
        return 1
    }
    for precision in float32 tf32 float16; do
        for model in "$models"/*/model.onnx; do
            for batch in 1 32; do
                timeout 60 "$build/gpu_model" "$build/libsparoa_cuda.so" "$model" --precision $precision \
                    --batch $batch --nodes >"$results/one.txt" 2>&1 || return 1
                head -1 "$results/one.txt" | tee -a "$results/models.jsonl"
                cat "$results/one.txt" >>"$results/nodes.txt"
            done
        done
    done
    rm -f "$results/one.txt"
}

if python3 -c 'import torch, torchvision, onnx' 2>/dev/null; then
    stage "whole models"
    measure_models || failed=1
fi

stage "build the rest"
if timeout 200 ninja -k 0 -C "$build" >"$results/build-all.log" 2>&1; then
    stage ctest
    (cd "$build" && timeout 120 ctest -j8 -R 'cuda|gpu|plugin|hybrid|device' -E '^gpu_check$' --output-on-failure) \
        >"$results/ctest.txt" 2>&1 || failed=1
    tail -15 "$results/ctest.txt"
else
    grep -E 'error|FAILED' "$results/build-all.log" | head -20
    failed=1
fi
left=$((560 - (SECONDS - started)))
if [ -f "$results/models.jsonl" ] && [ $left -gt 60 ]; then
    stage "PyTorch"
    timeout $left python3 bench/gpu_peers.py --out "$results/peers.jsonl" --budget $((left / 2)) --seconds 0.2 \
        2>/dev/null || echo "PyTorch: the time was over"
fi
stage "done, failed=$failed"
exit $failed
