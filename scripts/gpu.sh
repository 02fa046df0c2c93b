#!/usr/bin/env bash
# Builds what is needed and runs the tests and measurements of the CUDA plug-in on a machine with an NVIDIA GPU, without a
# network and within ten minutes. Results are files in build/gpu-results, and packed in $OUT where that is set.
#
#   scripts/gpu.sh --prepare [SKIP...]   on a machine where the project builds: gathers in build/gpu-deps what a bare GPU
#                                        machine lacks (protobuf-c, its generated code, cmocka, libyaml, and the ONNX
#                                        tests and real models of ../shared but for those named); carry that folder along
#   scripts/gpu.sh [STAGE...]            on the GPU machine; needs gcc, cmake, ninja, nvcc. Without names: all stages
#
# Stages, each with a limit of its own; one that fails does not stop the next:
#   check        every family of operators against the plain operator; the contract of plug-ins
#   conformance  ONNX's tests (../shared/onnx-backend-tests) on cuda0
#   models       the real models (../shared/models) on cuda0
#   sanitizer    compute-sanitizer's memcheck, where it is there
#   zeros        layers with 0 to 99 % zeros, dense and sparse ways in turns (zeros.jsonl)
#   nodes        the evaluation models (random weights) in three precisions at batch 1 and 32, captured: models.jsonl, and
#                the time of each node, nodes.txt. Needs PyTorch and onnx to make the models
#   pairs        the same in turns with PyTorch: eager, captured in a CUDA graph, torch.compile (pairs.jsonl)
#   trace        traces of runs with the GPU's queues, and the share of the time of copies that is hidden behind computation
#                (bench/gpu_overlap.py, overlap.jsonl). Needs PyTorch and onnx to make the model
#   archs        compiles the kernels for every architecture that packages hold
set -uo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
deps=$PWD/build/gpu-deps
results=$PWD/build/gpu-results
build=$PWD/build/gpu
limit=${GPU_LIMIT:-570} # seconds for all
started=$SECONDS
failed=0

prepare() {
    local lib skip=()
    rm -rf "$deps"
    mkdir -p "$deps/include" "$deps/lib" "$deps/bin" "$deps/onnx_pb"
    protoc-c --c_out="$deps/onnx_pb" --proto_path=src/onnx src/onnx/onnx.proto
    cp -r /usr/include/protobuf-c /usr/include/cmocka*.h /usr/include/yaml.h "$deps/include/"
    for lib in libprotobuf-c.a libyaml.a libcmocka.so; do
        cp -L "$(find /usr/lib /usr/lib64 -name "$lib" -print -quit)" "$deps/lib/"
    done
    cp "$deps/lib/libcmocka.so" "$deps/lib/libcmocka.so.0"
    # stands in for the compiler of protobuf-c: hands out what was generated here
    cat >"$deps/bin/protoc-c" <<'EOS'
#!/bin/sh
for argument; do
    case $argument in --c_out=*) cp "$(dirname "$0")"/../onnx_pb/* "${argument#--c_out=}" ;; esac
done
EOS
    chmod +x "$deps/bin/protoc-c"
    for lib; do skip+=(--exclude "models/$lib"); done
    if [ -d ../shared/models ]; then
        tar -C ../shared "${skip[@]}" -cf - onnx-backend-tests models | xz -T0 -6 >"$deps/shared.tar.xz"
    fi
    du -sh "$deps"
}

# stage NAME SECONDS: says that it begins; true where there is time for it. $left: seconds that it may take.
stage() {
    left=$((limit - (SECONDS - started)))
    [ "$left" -le "$2" ] || left=$2
    echo "== $1 ($((SECONDS - started)) s)"
    [ "$left" -gt 5 ] || { echo "no time left"; return 1; }
}

# bounded LOG COMMAND...: within the stage's time; remembers a failure.
bounded() {
    local log=$results/$1 code=0 begin=$SECONDS
    shift
    timeout "$left" "$@" >>"$log" 2>&1 || code=$?
    left=$((left - (SECONDS - begin)))
    [ "$left" -gt 1 ] || left=1
    [ $code -eq 0 ] || { failed=1; echo "exit code $code: $*"; }
    return $code
}

machine() {
    nvidia-smi --query-gpu=name,driver_version,compute_cap,memory.total --format=csv
    nvcc --version | tail -2
    gcc --version | head -1
    cmake --version | head -1
    python3 -c 'import torch; print("torch", torch.__version__)'
} 2>&1

build_all() {
    local arch
    arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | head -1 | tr -d .)
    options=(-DCMAKE_BUILD_TYPE=Release -DSPAROA_CUDA=ON "-DSPAROA_CUDA_ARCH=${arch:-90}-real" -DSPAROA_EXAMPLES=OFF)
    if [ -d "$deps" ]; then
        options+=("-DPROTOC_C=$deps/bin/protoc-c" "-DPROTOBUF_C_STATIC=$deps/lib/libprotobuf-c.a"
            "-DYAML_STATIC=$deps/lib/libyaml.a" "-DCMOCKA=$deps/lib/libcmocka.so"
            "-DCMAKE_C_FLAGS=-isystem $deps/include")
    fi
    bounded configure.log cmake -G Ninja -S . -B "$build" "${options[@]}" || { tail -30 "$results/configure.log"; exit 1; }
    bounded build.log ninja -k 0 -C "$build" sparoa_cuda gpu_check gpu_model plugin_check sparoa_command || grep -A5 -E 'error|FAILED' "$results/build.log" | head -60
    [ -e "$build/libsparoa_cuda.so" ] || exit 1
    if [ -e "$deps/shared.tar.xz" ] && [ ! -d build/gpu-shared ]; then
        mkdir -p build/gpu-shared
        tar -C build/gpu-shared -xJf "$deps/shared.tar.xz"
    fi
    shared=../shared
    [ -d $shared ] || shared=build/gpu-shared
}

run_check() {
    bounded gpu_check.txt "$build/gpu_check" "$build/libsparoa_cuda.so" "$results/bench.jsonl"
    grep -vE '^(FAIL|log)' "$results/gpu_check.txt" | tail -60
    grep -E '^(FAIL|log)' "$results/gpu_check.txt" | cut -c1-400 | head -80
    bounded plugin_check.txt "$build/plugin_check" "$build/libsparoa_cuda.so"
    tail -4 "$results/plugin_check.txt"
}

on_gpu=(--plugin "$build/libsparoa_cuda.so" --device cuda0)

run_conformance() {
    local tests=$shared/onnx-backend-tests
    [ -e "$tests/INDEX.tsv" ] || { echo "no $tests"; return; }
    bounded conformance.txt "$build/sparoa" test "$tests" --index "$tests/INDEX.tsv" --only core --manifest \
        tests/conformance.txt "${on_gpu[@]}" --plugin-options autotune=0 --jobs 6
    grep -v '^PASS' "$results/conformance.txt" | cut -c1-300 | tail -40
}

run_models() {
    [ -d "$shared/models" ] || { echo "no $shared/models"; return; }
    # models that were not carried along are not expected
    while read -r line; do
        name=${line#quant }
        [[ $line == \#* ]] || [ -d "$shared/models/${name%%:*}" ] || continue
        echo "$line"
    done <tests/models.txt >"$results/models.list"
    bounded real.txt "$build/sparoa" test "$shared/models" --compare scaled --manifest "$results/models.list" \
        "${on_gpu[@]}" --jobs 4 -v
    grep -v '^PASS' "$results/real.txt" | cut -c1-300 | tail -12
}

run_sanitizer() {
    local family code
    command -v compute-sanitizer >/dev/null || { echo "no compute-sanitizer"; return; }
    for family in conv conv_light sparse conv_q8 matmul_q8 rnn linear single_q8 gather pad resize reduce; do
        code=0
        timeout "$((left < 70 ? left : 70))" compute-sanitizer --tool memcheck --error-exitcode 9 "$build/gpu_check" \
            "$build/libsparoa_cuda.so" /dev/null $family >"$results/sanitizer-$family.txt" 2>&1 || code=$?
        [ $code -ne 9 ] || failed=1 # 9: it found something; others: no time, or it can't run here
        echo "$family: exit code $code, $(tail -1 "$results/sanitizer-$family.txt")"
        [ $code -eq 0 ] || grep -m8 -E '=====|FAIL' "$results/sanitizer-$family.txt"
        left=$((limit - (SECONDS - started)))
        [ "$left" -gt 10 ] || return
    done
}

run_zeros() {
    bounded zeros.txt "$build/gpu_check" "$build/libsparoa_cuda.so" "$results/zeros.jsonl" zeros
    cat "$results/zeros.jsonl"
}

make_models() {
    [ ! -d "$build/models" ] || return 0
    bounded make-models.log python3 bench/gpu_models.py "$build/models" || tail -3 "$results/make-models.log"
}

run_nodes() {
    local model precision batch
    make_models || return
    for precision in float32 tf32 float16; do
        for model in "$build/models"/*/model.onnx; do
            for batch in 1 32; do
                bounded one.txt "$build/gpu_model" "$build/libsparoa_cuda.so" "$model" --precision $precision \
                    --batch $batch --nodes || return
                head -1 "$results/one.txt" | tee -a "$results/models.jsonl"
                cat "$results/one.txt" >>"$results/nodes.txt"
                rm "$results/one.txt"
            done
        done
    done
}

run_pairs() {
    make_models || return
    bounded pairs.txt python3 bench/gpu_pairs.py --program "$build/gpu_model" --plugin "$build/libsparoa_cuda.so" \
        --models "$build/models" --out "$results/pairs.jsonl" --budget $((left - 10))
    cat "$results/pairs.jsonl"
}

run_trace() {
    bounded trace.txt "$build/sparoa" bench models/digits/digits.onnx "${on_gpu[@]}" --trace "$results/trace.json" --runs 20
    grep -o '"name":"[^"]*"' "$results/trace.json" | sort | uniq -c | sort -rn | head -12
    local models=$build/models
    if [ ! -e "$models/vit_b_16/model.onnx" ]; then
        models=$build/overlap-models
        bounded make-models.log python3 bench/gpu_models.py "$models" vit_b_16 || tail -3 "$results/make-models.log"
    fi
    bounded overlap.txt python3 bench/gpu_overlap.py --sparoa "$build/sparoa" --plugin "$build/libsparoa_cuda.so" \
        --device cuda0 --models "$models" --work "$build/overlap" --budget $((left - 5))
    grep '^{' "$results/overlap.txt" | tee "$results/overlap.jsonl"
    grep -v '^{' "$results/overlap.txt" | head -60
    for trace in "$build"/overlap/*.json; do
        [ ! -e "$trace" ] || gzip -c "$trace" >"$results/$(basename "$trace").gz"
    done
}

run_archs() {
    bounded archs.log cmake -G Ninja -S . -B "$build-archs" "${options[@]}" "-DSPAROA_CUDA_ARCH=75;80;86;87;89;90;100;120"
    bounded archs.log ninja -C "$build-archs" sparoa_cuda && echo "compiled for all architectures"
    grep -A3 -E 'error|FAILED' "$results/archs.log" | head -20
}

case ${1:-} in
    --prepare) shift; set -e; prepare "$@"; exit ;;
    -*) sed -n '2,/^set /s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
stages=("$@")
[ $# -gt 0 ] || stages=(check conformance models zeros nodes trace pairs sanitizer)

rm -rf "$results"
mkdir -p "$results"
pack() {
    [ -z "${OUT:-}" ] || tar -C "$results" -czf "$OUT/results.tgz" .
}
trap pack EXIT
export PATH=$PATH:/usr/local/cuda/bin
# Libraries of CUDA may be those of Python's wheels.
if site=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null); then
    for folder in "$site"/*/lib; do
        LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
    done
fi
export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$deps/lib

stage machine 30 && machine | tee "$results/machine.txt"
stage build 300 && build_all
for name in "${stages[@]}"; do
    case $name in
        check) seconds=170 ;;
        conformance | models | nodes | sanitizer) seconds=150 ;;
        zeros) seconds=60 ;;
        trace) seconds=200 ;;
        *) seconds=600 ;;
    esac
    stage "$name" $seconds && "run_$name"
done
echo "== done, failed=$failed ($((SECONDS - started)) s)"
exit $failed
