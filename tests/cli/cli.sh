#!/bin/sh
# Exercises every command of sparoa on the bundled model: exit codes, JSON, files written.
# usage: cli.sh BUILD_DIR
build=${1:?usage: cli.sh BUILD_DIR}
root=$(cd "$(dirname "$0")/../.." && pwd)
sparoa=${SPAROA_COMMAND:-$build/sparoa}
model=$root/models/digits/digits.onnx
if [ ! -x "$sparoa" ] || [ ! -f "$model" ]; then
    echo "nothing to test: no $sparoa or no $model"
    exit 0
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
failures=0

# expect CODE WORDS...: runs the command, output to $work/out, and compares the exit code.
expect() {
    want=$1
    shift
    "$sparoa" "$@" >"$work/out" 2>"$work/err"
    got=$?
    if [ $got -ne "$want" ]; then
        echo "FAIL sparoa $*: exit code $got, expected $want"
        cat "$work/out" "$work/err"
        failures=$((failures + 1))
    fi
}

# has TEXT: the last command's output or error has it.
has() {
    if ! grep -q -e "$1" "$work/out" "$work/err"; then
        echo "FAIL: no \"$1\" in"
        cat "$work/out" "$work/err"
        failures=$((failures + 1))
    fi
}

# json FILE: it parses.
json() {
    if command -v python3 >/dev/null; then
        python3 -m json.tool "$1" >/dev/null
    else
        "$(find "$build" -name test_cli -type f | head -n 1)" "$1"
    fi
    if [ $? -ne 0 ]; then
        echo "FAIL: not JSON:"
        cat "$1"
        failures=$((failures + 1))
    fi
}

expect 2
expect 0 --help
has "doctor"
expect 0 --version
expect 2 prfile
has "nearest is profile"
for command in run test profile bench check diff doctor operators calibrate report; do
    expect 0 $command --help
    has "usage: sparoa $command"
    expect 2 $command --no-such-option
    has "unknown option"
done
expect 2 bench --thread=x
has "nearest is --threads"

expect 0 run
has "probabilities\|  *[0-9]  *0\."
expect 0 run "$model" --batch 3 --seed 7 --output "$work/out.d" --json="$work/run.json"
json "$work/run.json"
[ -f "$work/out.d/probabilities.npy" ] || { echo "FAIL: no .npy written"; failures=$((failures + 1)); }
for picture in "$root"/models/digits/test/digit_*.png; do
    [ -f "$picture" ] || continue
    digit=$(basename "$picture" | cut -d_ -f2)
    expect 0 run -q --top 1 -i "$picture"
    has "^ *$digit "
done
expect 0 run "$model" -i "image=$root/models/digits/test_data_set_0/input_0.pb" --top 2 \
    --labels "$root/models/digits/labels.txt" --json
json "$work/out"
has '"top"'
expect 1 run "$work/absent.onnx"
has "NOT_FOUND"
expect 1 run "$model" --dim nosuch=3
has "no input has a dimension of that name"
expect 1 run "$model" --shape nosuch=3
has "no such input"
printf 'not a model' >"$work/bad.onnx"
expect 1 run "$work/bad.onnx"
expect 1 run "$model" -i nothing=x.npy
has "no such input"
expect 2 run "$model" --dim batch=x
expect 2 run "$model" "$model"
expect 1 run "$model" -i "$work/bad.onnx"

expect 0 profile -n 2 --trace "$work/trace.json" --csv="$work/nodes.csv" --json="$work/profile.json" "$model"
has "add up to"
json "$work/trace.json"
json "$work/profile.json"
grep -q "^node,op,class" "$work/nodes.csv" || { echo "FAIL: CSV"; failures=$((failures + 1)); }
expect 0 profile -n 2 --sort time --limit 2 --no-peak
expect 2 profile --sort colour
expect 0 profile -n 2 --no-peak --inputs "$root/models/digits/test" --save "$work/p.yaml" \
    --save "$work/p.json" --save "$work/p.csv" --svg "$work/p.svg"
json "$work/p.json"
grep -q "spread_us: " "$work/p.yaml" || { echo "FAIL: no spread"; failures=$((failures + 1)); }
head -1 "$work/p.csv" | grep -q "flops_per_byte,quadrant,cpu_us,cpu_spread_us" ||
    { echo "FAIL: columns of the profile"; failures=$((failures + 1)); }
tail -1 "$work/p.svg" | grep -q "^</svg>$" || { echo "FAIL: SVG"; failures=$((failures + 1)); }
expect 1 profile --inputs "$work/absent"
mkdir -p "$work/none"
expect 1 profile --inputs "$work/none"
has "holds no .npy"
emu=
[ -f "$build/libsparoa_emu.so" ] && emu="--plugin $build/libsparoa_emu.so"
# the policies that report compares learn in fewer steps where each takes a hundred times as long
few=
[ -z "${SPAROA_EMULATOR:-}" ] || few="--updates 50"
expect 0 calibrate -t 1 --seconds 0.2 $emu -o "$work/here.yaml" --check "$model" --json="$work/check.json"
has "median error"
json "$work/check.json"
expect 0 plan "$model" --platform "$work/here.yaml" --policy greedy
expect 0 calibrate -p "$work/here.yaml" -t 1 --check "$model" --nodes "$work/nodes.csv"
grep -q "^model,node,op,kind" "$work/nodes.csv" || { echo "FAIL: CSV of nodes"; failures=$((failures + 1)); }
expect 1 calibrate -p "$work/here.yaml" --device absent
expect 0 report "$model" --platform "$work/here.yaml" -n 5 $few -o "$work/r.html"
grep -q "<b>simulated</b> on this_machine" "$work/r.html" || { echo "FAIL: label"; failures=$((failures + 1)); }
[ "$(grep -c "<svg" "$work/r.html")" -eq 2 ] || { echo "FAIL: pictures"; failures=$((failures + 1)); }
grep -q "https\?://[^w]" "$work/r.html" && { echo "FAIL: the page needs the network"; failures=$((failures + 1)); }
tail -1 "$work/r.html" | grep -q "</html>" || { echo "FAIL: the page ends early"; failures=$((failures + 1)); }
expect 2 report "$model" --platform "$work/here.yaml" --policy absent
expect 0 bench --runs 5 --energy --json
json "$work/out"
has '"sensor"'
expect 0 doctor --no-peak
has "^sensor "
expect 1 calibrate -p "$work/p.yaml"
has "expected 'sparoa-platform'"
expect 0 bench --runs 20 --warmup 1
has "p99"
expect 0 bench --runs 20 --json --batch 2
json "$work/out"
expect 0 bench --scenario offline --runs 20 --sessions 2 --json
json "$work/out"
expect 0 bench --scenario server --seconds 0.3 --rate 500 --max-batch 8 --delay 1 --preferred 4 --json
json "$work/out"
expect 1 bench --scenario server --seconds 0.1 --rate 100 --p99 0.000001
expect 2 bench --scenario server --seconds 0.1 --max-batch 4 --preferred x
expect 0 bench --runs 20 --trace "$work/bench.trace"
json "$work/bench.trace"
expect 0 check "$model"
has "^ok"
expect 0 check "$model" --json
json "$work/out"
expect 1 check "$work/bad.onnx" --json
json "$work/out"
has '"ok": false'
expect 0 diff "$model" --all
has "0 differ"
expect 0 diff "$model" --against reference --all
has "sum"
has "0 differ"
expect 1 diff "$model" --against nobody
expect 2 diff "$model" --against reference --rtol x
expect 0 diff --json --dump "$work/dump" -b 2
json "$work/out"
expect 0 doctor --no-peak
expect 0 doctor --json
json "$work/out"
expect 0 operators
has "Conv"
expect 0 operators --markdown
has "| Conv |"
"$sparoa" operators --markdown | while IFS= read -r line; do
    grep -qxF -e "$line" "$root/docs/operators.md" || echo "$line"
done >"$work/undocumented"
if [ -s "$work/undocumented" ]; then
    echo "FAIL: docs/operators.md lacks (write it anew from sparoa operators --markdown):"
    cat "$work/undocumented"
    failures=$((failures + 1))
fi
expect 0 operators --json
json "$work/out"

expect 0 test "$root/models/digits" -v
has "^1 passed, 0 failed, 0 skipped$"
expect 0 test "$root/models/digits" --compare scaled --jobs 0 --repeat 2 --json
json "$work/out"
expect 0 test "$root/models/digits" --write-manifest "$work/manifest"
grep -q "^digits$" "$work/manifest" || { echo "FAIL: manifest"; failures=$((failures + 1)); }
expect 0 test "$root/models/digits" --manifest "$work/manifest"
echo "not/there" >>"$work/manifest"
expect 1 test "$root/models/digits" --manifest "$work/manifest"
has "no such test"
echo "skip digits: not today" >"$work/manifest"
expect 0 test "$root/models/digits" --manifest "$work/manifest" -s
has "SKIP digits: not today"
has "^0 passed, 0 failed, 1 skipped$"
mkdir -p "$work/tests/broken/test_data_set_0"
cp "$work/bad.onnx" "$work/tests/broken/model.onnx"
expect 1 test "$work/tests"
has "FAIL broken"
mkdir "$work/empty"
expect 1 test "$work/empty"
expect 2 test "$work/absent"
expect 2 test
expect 2 test "$work" --only core

# Device against device, node by node; float16 too. A device that computes wrongly is found out.
if [ -n "$emu" ]; then
    expect 0 diff "$model" $emu --device emu0 --against cpu -b 2
    has "0 differ"
    expect 0 diff "$model" $emu --device emu0 --against reference --precision float16 --json
    json "$work/out"
fi

# One device for all tests of a process: what fails in one does not spoil the next.
if [ -n "$emu" ]; then
    for name in a b c d e f; do cp -r "$root/models/digits" "$work/tests/$name"; done
    for jobs in 0 1 2; do
        expect 1 test "$work/tests" --jobs $jobs $emu --device emu0
        has "^6 passed, 1 failed, 0 skipped$"
        # each device is lost at its 60th operation: tests that come first on theirs pass
        expect 1 test "$work/tests" --jobs $jobs $emu --plugin-options lose_at=60 --device emu0 -v
        has "^PASS a"
        has "^FAIL .: .*the device failed"
        has "^PASS [c-f]"
        expect 1 test "$work/tests" --jobs $jobs $emu --plugin-options lose_at=60 --device emu0 --fallback allow
        has "^6 passed, 1 failed, 0 skipped$"
    done
fi

[ $failures -eq 0 ] || { echo "$failures failures"; exit 1; }
echo "all passed"
