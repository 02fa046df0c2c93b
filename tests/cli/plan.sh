#!/bin/sh
# sparoa plan and simulate on the built-in model: the same plan twice, reasons, errors with line and field.
set -eu
sparoa=${SPAROA_COMMAND:-$1/sparoa}
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
agx=$root/platforms/jetson_agx_orin_64gb.yaml nano=$root/platforms/jetson_orin_nano_8gb.yaml
# what learns does so in fewer steps on an emulated processor, where each takes a hundred times as long
steps=200 few=
[ -z "${SPAROA_EMULATOR:-}" ] || steps=50 few='--updates 50'

fail() { echo "plan.sh: $*" >&2; exit 1; }
wants() { grep -q -- "$2" "$1" || { cat "$1" >&2; fail "no '$2'"; }; }

for regime in eager graph; do
    "$sparoa" plan -q -p "$agx" --regime $regime -o "$dir/a.yaml" --profile "$dir/profile.yaml" >/dev/null
    "$sparoa" plan -q -p "$agx" --regime $regime -o "$dir/b.yaml" >/dev/null
    cmp "$dir/a.yaml" "$dir/b.yaml" || fail "two plans differ ($regime)"
    wants "$dir/a.yaml" "regime: $regime"
    wants "$dir/profile.yaml" 'format: sparoa-profile'
done
"$sparoa" plan -p "$agx" --regime graph -o "$dir/a.yaml" >"$dir/out"
wants "$dir/out" 'predicted for jetson_agx_orin_64gb, graph regime'
node=$(sed -n 's/.*{name: "\([^"]*\)", op: "Conv.*/\1/p' "$dir/a.yaml" | head -n 1)
[ -n "$node" ] || fail "no convolution in the plan"
"$sparoa" plan -p "$agx" --why "$node" --pin "$node=gpu" >"$dir/out"
wants "$dir/out" PINNED
"$sparoa" plan -p "$agx" --policy cpu --pin "$node=gpu" -o "$dir/c.yaml" --diff "$dir/a.yaml" >"$dir/out"
wants "$dir/out" 'nodes differ from'
"$sparoa" plan -p "$nano" --recost "$dir/a.yaml" -o "$dir/d.yaml" >"$dir/out"
wants "$dir/d.yaml" 'platform: "jetson_orin_nano_8gb"'
# a plan's own clocks hold when it is priced again, below a mode's; one that is named goes before
"$sparoa" plan -q -p "$agx" --policy gpu --objective energy --clock gpu=0.471 -o "$dir/low.yaml" >/dev/null
"$sparoa" plan -q -p "$agx" --recost "$dir/low.yaml" -o "$dir/again.yaml" >/dev/null
cmp "$dir/low.yaml" "$dir/again.yaml" || fail "a plan priced again lost its clocks"
"$sparoa" plan -q -p "$agx" --mode MODE_15W --recost "$dir/low.yaml" -o "$dir/mode.yaml" >/dev/null
wants "$dir/mode.yaml" 'name: "gpu".*clock: 0.314'
"$sparoa" plan -q -p "$agx" --recost "$dir/low.yaml" --clock gpu=0.9 -o "$dir/mode.yaml" >/dev/null
wants "$dir/mode.yaml" 'name: "gpu".*clock: 0.9'
"$sparoa" plan -p "$agx" --mode MODE_15W --load cpu=0.5 --json --profile "$dir/p.csv" >"$dir/out"
wants "$dir/out" '"reason"'
wants "$dir/p.csv" '^name,op,class,kind,flops'

"$sparoa" plan -p "$agx" --regime eager --split --objective energy --latency-limit 1.1 --clock gpu=0.8 \
    -o "$dir/e.yaml" >"$dir/out"
wants "$dir/e.yaml" 'objective: energy'
"$sparoa" train scheduler -p "$nano" --regime eager --updates $steps -o "$dir/model.sac" >"$dir/out"
wants "$dir/out" 're-planning [0-9]* nodes takes'
"$sparoa" plan -p "$nano" --regime eager --trained "$dir/model.sac" --load gpu=0.9 -o "$dir/r.yaml" >"$dir/out"
wants "$dir/r.yaml" 'policy: "replan"'

"$sparoa" simulate -p "$nano" -n 20 --burst 0.3 $few --trace "$dir/trace.json" >"$dir/out"
wants "$dir/out" 'simulated on jetson_orin_nano_8gb'
wants "$dir/trace.json" 'simulated: jetson_orin_nano_8gb'
# at lowered clocks too the ideal machine does what the plan predicts
"$sparoa" simulate -p "$nano" -n 3 --ideal --clock gpu=0.4 $few --json >"$dir/ideal"
tr -d ' \n' <"$dir/ideal" | tr '{' '\n' | awk -F '[:,]' '/"policy":"gpu"/ { for (i = 1; i < NF; i++) {
    if ($i ~ /predicted_us/) p = $(i + 1); if ($i ~ /mean_us/) m = $(i + 1) }
    if (m > 0.98 * p && m < 1.02 * p) good = 1; else print "predicted " p ", simulated " m }
    END { exit !good }' || { echo "simulate --ideal --clock departs from the plan"; exit 1; }
"$sparoa" simulate -p "$nano" -n 20 --updates 100 --json >"$dir/1"
wants "$dir/1" '"label": "simulated"'
# the steps are what planning by sac takes its time for
"$sparoa" simulate -p "$nano" -n 20 --updates 2 --json >"$dir/2"
sac_us() { tr -d ' \n' <"$1" | tr '{' '\n' | sed -n 's/.*"policy":"sac".*"plan_us":\([^,}]*\).*/\1/p'; }
awk "BEGIN { exit !($(sac_us "$dir/2") < 0.5 * $(sac_us "$dir/1")) }" || fail "--updates 2 is as slow as 100"

refuses() {
    want=$1 code=0
    shift
    "$@" >"$dir/out" 2>&1 || code=$?
    [ $code -ne 0 ] || fail "accepted: $*"
    wants "$dir/out" "$want"
}
# measured here instead of predicted
set -- "$1" --device auto --auto-cache "$dir/auto.yaml"
[ ! -e "$1/libsparoa_emu.so" ] || set -- "$@" --plugin "$1/libsparoa_emu.so"
shift
"$sparoa" plan "$@" >"$dir/out"
wants "$dir/out" 'chosen'
wants "$dir/out" 'cache absent'
"$sparoa" plan "$@" >"$dir/out"
wants "$dir/out" 'cached; cache used'
"$sparoa" bench "$@" -n 3 --json >"$dir/out"
wants "$dir/out" '"source": "cached"'
SPAROA_SPARSE=never "$sparoa" plan "$@" >"$dir/out"
wants "$dir/out" 'cache other_options: measured for options'
"$sparoa" plan "$@" --threads 3 >"$dir/out"
wants "$dir/out" 'cache other_threads: measured for threads'
refuses 'need --platform' "$sparoa" plan "$@" -o "$dir/none.yaml"
refuses 'need --platform' "$sparoa" plan "$@" --why x

sed 's/^idle_watts: .*/idle_watts: -1/' "$agx" >"$dir/bad.yaml"
refuses 'bad.yaml:[0-9]*: idle_watts: -1 is not within' "$sparoa" plan -p "$dir/bad.yaml"
sed 's/device: "[a-z]*"/device: "tpu"/' "$dir/a.yaml" >"$dir/bad.yaml"
refuses 'bad.yaml:[0-9]*: nodes\[[0-9]*\].device' "$sparoa" plan -p "$agx" --recost "$dir/bad.yaml"
refuses 'keeps devices and clocks' "$sparoa" plan -p "$agx" --recost "$dir/a.yaml" --pin "$node=gpu"
refuses 'keeps devices and clocks' "$sparoa" plan -p "$agx" --recost "$dir/a.yaml" --choose-clocks
refuses 'no power mode' "$sparoa" plan -p "$agx" --mode TURBO
refuses 'no policy' "$sparoa" plan -p "$agx" --policy luck
refuses 'no node' "$sparoa" plan -p "$agx" --pin nothing=gpu
refuses 'needed' "$sparoa" plan
echo ok
