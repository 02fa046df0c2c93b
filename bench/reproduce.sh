#!/bin/sh
# Our versions of the SparOA paper's figures and tables, for both Orins, both regimes and five models:
#   bench/reproduce.sh BUILD MODELS
# BUILD: a build folder; MODELS: a folder with resnet18/model.onnx ... (docs/models.md). Writes bench/results/policies.tsv,
# replan.txt and scale.txt, docs/figures/*.svg, and the part of docs/evaluation.md between its marks. About five
# minutes on two cores. SKIP_RUNS=1: only the document, from the results that are there.
set -eu
[ $# -eq 2 ] || { echo "usage: bench/reproduce.sh BUILD MODELS" >&2; exit 2; }
absolute() { # paths are relative to where this was called
    case $1 in /*) echo "$1" ;; *) echo "$PWD/$1" ;; esac
}
build=$(absolute "$1") models=$(absolute "$2")
cd "$(dirname "$0")/.."
results=bench/results figures=docs/figures page=docs/evaluation.md
orins=platforms/jetson_agx_orin_64gb.yaml,platforms/jetson_orin_nano_8gb.yaml
tab=$(printf '\t')
mkdir -p $figures
text=$(mktemp)
trap 'rm -f "$text" $results/*.new $page.new' EXIT
set --
for m in resnet18 mobilenet_v3_small mobilenet_v2 vit_b_16 swin_t; do
    [ ! -f "$models/$m/model.onnx" ] || set -- "$@" "$m=$models/$m/model.onnx"
done
head_of() {
    echo "# date: $(date +%Y-%m-%d)"
    echo "# machine: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1), $(nproc) cores (times to decide; all else is simulated)"
    echo "# commit: $(git rev-parse --short HEAD)"
    echo "# command: $1"
}
if [ -z "${SKIP_RUNS:-}" ]; then
    [ $# -gt 0 ] || { echo "no models under $models" >&2; exit 2; }
    { head_of "bench_policies 0 $orins NAME=MODEL..."; "$build/bench_policies" 0 $orins "$@"; } >$results/policies.new
    mv $results/policies.new $results/policies.tsv
    { head_of "bench_replan 4000 $orins NAME=MODEL..."; "$build/bench_replan" 4000 $orins "$@"; } >$results/replan.new
    mv $results/replan.new $results/replan.txt
    { head_of "bench_scale platforms/jetson_agx_orin_64gb.yaml"; "$build/bench_scale" platforms/jetson_agx_orin_64gb.yaml; } >$results/scale.new
    mv $results/scale.new $results/scale.txt
fi

rows() { # without head and titles
    grep -v '^#' $results/policies.tsv | sed 1d
}
panel='function panel() { return (/agx/ ? "AGX Orin 64 GB" : "Orin Nano 8 GB") ", " $2 " regime (simulated, " $1 ".yaml)" }'
# figure FILE TITLE UNIT OPTIONS PROGRAM: PROGRAM prints panel, group, series, value
figure() {
    rows | awk -F "$tab" -v OFS="$tab" "$panel $5" | awk -f bench/bars.awk -v title="$2" -v unit="$3" $4 >$figures/$1.svg
}
shown='$4 ~ /^(cpu|gpu|fixed|threshold|greedy|dp|heft|coexec|sac)$/'
figure fig5-latency "Latency, by that of SAC (simulated)" x "-v top=3" \
    "{ if (\$4 == \"sac\") sac[\$1 \$2 \$3] = \$7; line[NR] = \$0 } END { for (i = 1; i <= NR; i++) { \$0 = line[i]; if ($shown) print panel(), \$3, \$4, \$7 / sac[\$1 \$2 \$3] } }"
figure fig6-share "Share of the busy time that is not on the host" % "-v top=100" "$shown { print panel(), \$3, \$4, \$13 }"
figure fig7-copies "Time of copies between devices" ms "-v top=10" "$shown { print panel(), \$3, \$4, \$14 }"
figure fig10-time "Processor time until within 1 % of the final plan, here" ms "-v log10=1 -v low=0.001 -v top=10000" \
    '$4 ~ /^(greedy|dp|heft|optimal|portfolio|sac)$/ { print panel(), $3, $4, $19 }'
figure fig11-energy "Energy of an inference, by that of co-execution" x "-v top=2" \
    '{ if ($4 == "coexec") base[$1 $2 $3] = $11; line[NR] = $0 } END { for (i = 1; i <= NR; i++) { $0 = line[i]; if ($4 ~ /^(cpu|gpu|greedy|dp|heft|coexec|sac|energy|energy\+clock)$/) print panel(), $3, $4, $11 / base[$1 $2 $3] } }'

# table COLUMN FORMAT POLICY...: models by policies, for each platform and regime
table() {
    column=$1 format=$2
    shift 2
    rows | awk -F "$tab" -v c="$column" -v format="$format" -v policies="$*" '
        { key = $1 SUBSEP $2 SUBSEP $3; if (!(key in seen)) { seen[key] = 1; order[++n] = key }
          value[key, $4] = $c; proved[key] = proved[key] || ($4 == "optimal" && $20) }
        END {
            k = split(policies, p, " ")
            printf "| platform | regime | model |"; for (i = 1; i <= k; i++) printf " %s |", p[i]; print ""
            printf "|---|---|---|"; for (i = 1; i <= k; i++) printf "---:|"; print ""
            for (r = 1; r <= n; r++) {
                split(order[r], part, SUBSEP)
                printf "| %s | %s | %s |", part[1], part[2], part[3]
                for (i = 1; i <= k; i++) printf " " format "%s |", value[order[r], p[i]], p[i] == "optimal" && c == 6 && !proved[order[r]] ? "*" : ""
                print ""
            }
        }'
}
summary() { # of all cases: what the text says
    rows | awk -F "$tab" '
        { k = $1 SUBSEP $2 SUBSEP $3; ms[k, $4] = $6; sim[k, $4] = $7; mj[k, $4] = $10; least[k, $4] = $21; share[k, $4] = $13; copies[k, $4] = $14
          at[k, $4] = $19; took[k, $4] = $18; proved[k, $4] = $20; bound[k] = $4 == "sac" ? $9 : bound[k]; cases[k] = 1 }
        function better(a, b) { return b / a }
        END {
            for (k in cases) {
                n++; split(k, part, SUBSEP); eager = part[2] == "eager"
                best = ms[k, "optimal"]; gap = ms[k, "sac"] / best - 1
                if (proved[k, "optimal"]) { known++; if (gap > worst) worst = gap } else { open++; if (gap > open_gap) open_gap = gap; g = ms[k, "sac"] / bound[k] - 1; if (g > bound_gap) bound_gap = g }
                m = split("greedy dp heft", p, " ")
                for (i = 1; i <= m; i++) { if (ms[k, "sac"] > ms[k, p[i]] * (1 + 1e-9)) lost++; l[eager, p[i]] += log(ms[k, p[i]] / ms[k, "sac"]); if (ms[k, p[i]] / ms[k, "sac"] > top[eager, p[i]]) top[eager, p[i]] = ms[k, p[i]] / ms[k, "sac"]; s[eager, p[i]] += share[k, p[i]] }
                s[eager, "sac"] += share[k, "sac"]; regime[eager]++
                single = ms[k, "cpu"] < ms[k, "gpu"] ? ms[k, "cpu"] : ms[k, "gpu"]; l[eager, "single"] += log(single / ms[k, "sac"])
                l[eager, "fixed"] += log(ms[k, "fixed"] / ms[k, "sac"]); l[eager, "predictor"] += log(ms[k, "fixed"] / ms[k, "threshold"])
                if (at[k, "sac"] > slow) slow = at[k, "sac"]; if (took[k, "sac"] > slowest) slowest = took[k, "sac"]
                f = 1 - mj[k, "energy+clock"] / mj[k, "coexec"]; clocked[eager] += f; if (f >= 0.1) ten_clocked[eager]++
                g = 1 - least[k, "energy+clock"] / mj[k, "coexec"]; possible[eager] += g; if (f < 0.1 && g < 0.1) never[eager]++
                if (ms[k, "energy+clock"] / ms[k, "coexec"] > latest) latest = ms[k, "energy+clock"] / ms[k, "coexec"]
                e = 1 - mj[k, "energy"] / mj[k, "coexec"]; saved[eager] += e; if (e >= 0.1) ten[eager]++; late = ms[k, "energy"] / ms[k, "coexec"]; if (late > latest) latest = late
                if (copies[k, "fixed"] > 0) { c[eager] += 1 - copies[k, "sac"] / copies[k, "fixed"]; cn[eager]++ }
            }
            printf "- **SAC against the optimum**: proved in %d of %d cases; SAC is at most %.2f %% above it. Where it is not proved (marked *), SAC is at most %.2f %% above the best plan that the search found and %.1f %% above the lower bound.\n", known, n, 100 * worst, 100 * open_gap, 100 * bound_gap
            printf "- **SAC against greedy, dp, heft**: slower in %d of %d comparisons.", lost, 3 * n
            for (r = 1; r >= 0; r--) { printf " %s: faster in the geometric mean by", r ? "Eager" : "Graph"; for (i = 1; i <= m; i++) printf " %.3fx (%s; at most %.2fx)%s", exp(l[r, p[i]] / regime[r]), p[i], top[r, p[i]], i < m ? "," : "." }
            printf " The paper: 1.17x to 1.42x over its own greedy and DP.\n"
            for (r = 1; r >= 0; r--) printf "- **%s regime**: SAC is %.2fx faster than the better single device and %.2fx than the fixed rule; predicted thresholds alone %.2fx than the fixed rule (geometric means).\n", r ? "Eager" : "Graph", exp(l[r, "single"] / regime[r]), exp(l[r, "fixed"] / regime[r]), exp(l[r, "predictor"] / regime[r])
            for (r = 1; r >= 0; r--) printf "- **Share of the busy time on the GPU, %s**: SAC %.1f %%, greedy %.1f %%, dp %.1f %%.%s\n", r ? "eager" : "graph", s[r, "sac"] / regime[r], s[r, "greedy"] / regime[r], s[r, "dp"] / regime[r], r ? " The paper: 72.6 %, 55.6 %, 60.8 %." : ""
            for (r = 1; r >= 0; r--) if (cn[r]) printf "- **Copies, %s**: SAC spends %.0f %% less time on them than the fixed rule, where that has any (mean of %d cases).%s\n", r ? "eager" : "graph", 100 * c[r] / cn[r], cn[r], r ? " The paper: 14.1 % to 20.8 % less than static scheduling." : ""
            printf "- **Convergence**: within 1 %% of its final plan after at most %.2f s, all of training at most %.1f s of one processor (aim: 10 s on two). The paper: 33 to 46 s.\n", slow / 1e3, slowest / 1e3
            for (r = 1; r >= 0; r--) printf "- **Energy, %s**: within 1.1 times the latency of co-execution, the plan of least energy takes %.1f %% less in the mean (10 %% or more in %d of %d cases; at most %.1f %% is possible) with clocks chosen too, %.1f %% (%d cases) at full clocks. In %d of the cases below 10 %% no undivided plan at any clocks reaches it (lower bound).%s\n", r ? "eager" : "graph", 100 * clocked[r] / regime[r], ten_clocked[r], regime[r], 100 * possible[r] / regime[r], 100 * saved[r] / regime[r], ten[r], never[r], r ? " The paper: 7 % to 16 % below CoDL." : sprintf(" Mean of all %d cases: %.1f %% less, at most %.3fx the latency.", n, 100 * (clocked[0] + clocked[1]) / n, latest)
        }'
}

# The part of the page.
part() {
    cat <<TEXT
# The paper's figures, ours

**Everything here is simulated** with the platform files named; no Orin was at hand. Processor times to decide were measured.
Made by \`bench/reproduce.sh BUILD MODELS\` from [policies.tsv](../bench/results/policies.tsv),
[replan.txt](../bench/results/replan.txt) and [scale.txt](../bench/results/scale.txt), which name date, machine, commit and command. The
paper's figures were measured on the devices, with PyTorch as the engine; the regime that is like it is \`eager\`. Policies:
[scheduling.md](scheduling.md#policies).

## What comes out

TEXT
    summary
    cat <<TEXT

Why the two regimes differ: on an Orin a launch from a framework costs 60 to 270 us, so that small operators are faster on the CPU and
there is much to decide. With recorded graphs the GPU is faster for nearly all operators, a plan that leaves it pays for
copies, and "everything on the GPU" is the optimum or near it: every policy that finds this is as good as SAC. The paper's
gains belong to the first regime. Its greedy and DP were slower to plan by orders of magnitude than ours; both see the same prices as SAC here,
so that what SAC adds is queues, overlap and branches.

## Latency (paper's Fig. 5)

Simulated with noise and contention, mean of 50 runs, ms.

TEXT
    table 7 %.3f cpu gpu fixed threshold greedy dp heft coexec optimal portfolio sac
    cat <<TEXT

![Latency](figures/fig5-latency.svg)

Predicted, ms, with the optimum (*: best found, not proved) and a lower bound:

TEXT
    rows | awk -F "$tab" 'BEGIN { print "| platform | regime | model | nodes | greedy | dp | heft | sac | optimal | lower bound |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|" }
        { v[$4] = $6; if ($4 == "optimal") star = $20 ? "" : "*"; if ($4 == "sac") printf "| %s | %s | %s | %s | %.3f | %.3f | %.3f | %.3f | %.3f%s | %.3f |\n", $1, $2, $3, $5, v["greedy"], v["dp"], v["heft"], $6, v["optimal"], star, $9 }'
    cat <<TEXT

## Load of the GPU (Fig. 6)

Share of the busy time that is not on the host, %. The paper, AGX Orin: SAC 72.6, greedy 55.6, DP 60.8.

TEXT
    table 13 %.1f fixed threshold greedy dp heft coexec sac
    cat <<TEXT

![Share](figures/fig6-share.svg)

## Copies (Fig. 7)

Time of all copies of one inference, hidden or not, ms. The paper: 14.1 % to 20.8 % less than static scheduling.

TEXT
    table 14 %.3f fixed threshold greedy dp heft coexec sac
    cat <<TEXT

![Copies](figures/fig7-copies.svg)

## Predictor (Table 3)

The paper: 92.3 % (sparsity) and 90.6 % (intensity) within 10 %, CNN 36.2 and 38.5 %, linear regression 23.7 and 20.4 %, 4 MB, on a split by
operator. Ours on models never trained on, labels and times simulated, made by \`sparoa train predictor --compare\`
([results](../bench/results/predictor.txt)); what the figures mean, and why the first guess is already near:
[models/predictor](../models/predictor/README.md#how-it-is-judged).

TEXT
    sed -n '/^Models never trained/,$p' $results/predictor.txt
    cat <<TEXT

## Ablation (Fig. 9)

Times faster than the fixed rule (1e8 FLOPs), simulated. The paper: predictor 1.4x to 1.6x; with the scheduler 1.9x to 2.4x
(MobileNetV2) and 1.7x to 2.1x (ViT-B/16).

TEXT
    rows | awk -F "$tab" 'BEGIN { print "| platform | regime | model | + predictor | + SAC | better single device |\n|---|---|---|---:|---:|---:|" }
        { v[$4] = $7; if ($4 == "sac") printf "| %s | %s | %s | %.2f | %.2f | %.2f |\n", $1, $2, $3, v["fixed"] / v["threshold"], v["fixed"] / $7, v["fixed"] / (v["cpu"] < v["gpu"] ? v["cpu"] : v["gpu"]) }'
    cat <<TEXT

## Time to decide (Fig. 10)

Processor time here, ms: of SAC until its best plan was within 1 % of its final one, of the others in all. The paper, on the AGX Orin:
greedy 40 to 240, DP 39,000 to 415,000, SAC 33,000 to 46,000.

TEXT
    table 19 %.3g greedy dp heft optimal portfolio sac
    cat <<TEXT

![Time](figures/fig10-time.svg)

## Energy (Fig. 11)

Simulated, mJ per inference. \`coexec\` is the co-execution baseline, \`energy\` the plan of least energy at no more than 1.1
times its latency, \`energy+clock\` the same where clocks are part of the decision (\`sparoa plan --choose-clocks\`). The paper: 7 % to 16 %
below CoDL. Aim: 10 %.

TEXT
    table 11 %.1f cpu gpu greedy dp heft coexec sac energy energy+clock
    cat <<TEXT

![Energy](figures/fig11-energy.svg)

Predicted, % less than co-execution, with what no plan can pass ("bound": of undivided plans, at any clocks of the platform file
where clocks are chosen), the latency relative to co-execution, and the clocks chosen (share of the highest):

TEXT
    rows | awk -F "$tab" 'BEGIN { print "| platform | regime | model | coexec, mJ | divided nodes | energy, % less | bound | energy+clock, % less | bound | latency | host clock | GPU clock |\n|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|" }
        { ms[$4] = $6; mj[$4] = $10; least[$4] = $21; split_nodes[$4] = $17
          if ($4 == "energy+clock") { c = mj["coexec"]; printf "| %s | %s | %s | %.1f | %d | %.1f | %.1f | %.1f | %.1f | %.3f | %s | %s |\n", $1, $2, $3, c, split_nodes["coexec"], 100 * (1 - mj["energy"] / c), 100 * (1 - least["energy"] / c), 100 * (1 - $10 / c), 100 * (1 - $21 / c), $6 / ms["coexec"], $22, $23
            k = $1 ", " $2; if (!(k in n)) order[++count] = k; n[k]++; saved[k] += 1 - $10 / c; full[k] += 1 - mj["energy"] / c; can[k] += 1 - $21 / c } }
        END { for (i = 1; i <= count; i++) { k = order[i]; printf "| **mean** | %s | | | | %.1f | | %.1f | %.1f | | | |\n", k, 100 * full[k] / n[k], 100 * saved[k] / n[k], 100 * can[k] / n[k] } }'
    echo
    sed -n '/^## Why energy/,$p' bench/evaluation.notes.md
    cat <<TEXT

## Changing load

$(sed -n '/^ \*\/$/q; s/^ \* \{0,1\}//p' bench/bench_replan.c | sed 's/ *Usage:.*//')

Times faster than the best static plan, in the mean over 200 inferences. Aim: 1.2x.

TEXT
    grep '^|' $results/replan.txt
    echo
    grep -v '^[|#]' $results/replan.txt | grep -v '^ ' 
    echo
    sed -n '/^## Why changing/,/^## Why energy/p' bench/evaluation.notes.md | sed '/^## Why energy/d; s/^## Why changing load.*/### What it means/'
    cat <<TEXT

## Ten thousand operators

Chains of residual blocks, AGX Orin, eager; \`price\`: times and energies on all devices; \`sac\`: a trained policy, pricing included; \`plan\`:
reasons and YAML.

TEXT
    grep -v '^#' $results/scale.txt
}
part >"$text"
awk -v file="$text" '
    /^<!-- bench\/reproduce.sh: begin -->/ { print; while ((getline line < file) > 0) print line; skip = 1 }
    /^<!-- bench\/reproduce.sh: end -->/ { skip = 0 }
    !skip' $page | awk '!(/^<!-- bench\/reproduce.sh: begin -->/ && seen++)' >$page.new
mv $page.new $page
