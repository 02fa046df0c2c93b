#!/bin/sh
# sparoa train predictor: the same bytes twice, use of the weights by plan, fine-tuning from a profile with
# measured times, errors that name file, line and field.
set -eu
sparoa=${SPAROA_COMMAND:-$1/sparoa}
root=$(cd "$(dirname "$0")/../.." && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
nano=$root/platforms/jetson_orin_nano_8gb.yaml
corpus=$dir/corpus.tsv
# a small corpus: two families to train on, two to hold out
awk -F '\t' 'NR == 1 || $1 == "digits" || $1 == "crepe" || $1 == "vgg19" || $1 == "mnist8_cntk"' \
    "$root/models/predictor/corpus.tsv" >"$corpus"

# fewer operators on an emulated processor, where each takes a hundred times as long
few=${SPAROA_EMULATOR:+--inventions 8}

fail() { echo "train.sh: $*" >&2; exit 1; }
wants() { grep -q -- "$2" "$1" || { cat "$1" >&2; fail "no '$2'"; }; }
train() { "$sparoa" train predictor -q --corpus "$corpus" --hold-out crepe,digits -p "$nano" $few "$@"; }

train --network linear --epochs 1 -o "$dir/a.spw"
train --network linear --epochs 1 -o "$dir/b.spw"
cmp "$dir/a.spw" "$dir/b.spw" || fail "two trainings differ"
train --network linear --epochs 1 --seed 5 -o "$dir/c.spw"
cmp -s "$dir/a.spw" "$dir/c.spw" && fail "another seed, the same weights"
train --network linear --epochs 1 --inventions 3 -o "$dir/c.spw"
cmp -s "$dir/a.spw" "$dir/c.spw" && fail "fewer inventions, the same weights"
"$sparoa" plan -p "$nano" --policy threshold --predictor "$dir/a.spw" -o "$dir/plan.yaml" >"$dir/out"
wants "$dir/plan.yaml" 'policy: "threshold"'

"$sparoa" plan -q -p "$nano" --profile "$dir/static.yaml" >/dev/null
refuses() {
    code=$1 text=$2
    shift 2
    status=0
    "$@" >"$dir/out" 2>&1 || status=$?
    [ $status -eq "$code" ] || { cat "$dir/out" >&2; fail "exit code $status, expected $code: $*"; }
    wants "$dir/out" "$text"
}
refuses 1 'hold no times of cpu' train --finetune "$dir/static.yaml" -o "$dir/d.spw"
# times of this machine's CPU, and others as if they were a GPU's
"$sparoa" plan -q -p "$nano" --zero-runs 3 --measure cpu --profile "$dir/cpu.yaml" >/dev/null
wants "$dir/cpu.yaml" 'devices: \["cpu"\]'
wants "$dir/cpu.yaml" 'measured_us: \['
sed 's/^devices: .*/devices: ["gpu"]/' "$dir/cpu.yaml" >"$dir/gpu.yaml"
"$sparoa" train predictor --corpus "$corpus" --hold-out crepe,digits -p "$nano" --epochs 1 \
    $few --finetune "$dir/cpu.yaml" --finetune "$dir/gpu.yaml" -o "$dir/d.spw" >"$dir/out"
wants "$dir/out" 'fine-tuned from [1-9][0-9]* measured times'
cmp -s "$dir/d.spw" "$root/models/predictor/predictor.spw" && fail "fine-tuning changed nothing"

refuses 2 'sparoa train predictor' "$sparoa" train sac
refuses 2 '--platform FILE' "$sparoa" train predictor -o "$dir/x"
refuses 2 '--output FILE' "$sparoa" train predictor -p "$nano"
refuses 1 "no family 'nobody'" "$sparoa" train predictor -p "$nano" --corpus "$corpus" --hold-out nobody -o "$dir/x"
refuses 1 "no network 'mlp'" train --network mlp -o "$dir/x"
sed 's/\tconv\t/\tsoup\t/' "$corpus" >"$dir/bad.tsv"
refuses 1 "bad.tsv:[0-9]*: kind: expected a kind of operator, not 'soup'" \
    "$sparoa" train predictor -p "$nano" --corpus "$dir/bad.tsv" -o "$dir/x"
head -c 1000 "$dir/a.spw" >"$dir/cut.spw"
refuses 1 'checksum' "$sparoa" plan -p "$nano" --predictor "$dir/cut.spw"
refuses 1 'cannot open' "$sparoa" plan -p "$nano" --predictor "$dir/none.spw"
echo ok
