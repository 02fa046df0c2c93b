#!/bin/sh
# What the compiler made of the inner loops: those of the matrix products, sparse products and
# convolutions of small groups work on vectors of their instruction set's width, have the multiply-adds
# that their tile has, and keep all sums in registers. Read from the disassembly: a function's
# loop is the innermost one with most multiply-adds, a spill a vector that it loads from or stores
# to the stack.
#
#   loops.sh BUILD             check
#   loops.sh BUILD --list      print function, multiply-adds, bits and spills of every loop
set -eu
build=${1:?the build folder}
list=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cat >"$work/loops.awk" <<'AWK'
function hex(s,   i, v) {
    v = 0
    for (i = 1; i <= length(s); i++) v = v * 16 + index("0123456789abcdef", substr(s, i, 1)) - 1
    return v
}

function bits_of(text) {
    return text ~ /%zmm/ ? 512 : text ~ /%ymm/ ? 256 : 128
}

function is_spill(text) {
    return (text ~ /%[xyz]mm/ && text ~ /\(%rsp|-0x[0-9a-f]+\(%rbp/) ||
           text ~ /\t(ldr|str|ldp|stp)\t[qdv][0-9]+,.*\[(sp|x29)/
}

function back(i) {
    return jump[i] && jump[i] <= address[i] && (jump[i] in at)
}

function end_function(   i, j, k, inner, fmas, bits, spills, most, best) {
    most = 0
    for (i = 1; i <= n; i++) {
        if (!back(i)) continue
        inner = 1
        fmas = bits = spills = 0
        for (j = at[jump[i]]; j < i; j++) {
            if (back(j) && at[jump[j]] >= at[jump[i]]) inner = 0
            if (text[j] ~ /\t(vfn?madd[0-9]+ps|mulps|fml[as]|vpdpbusd)\t/) {
                fmas++
                k = bits_of(text[j])
                if (k > bits) bits = k
            }
            spills += is_spill(text[j])
        }
        if (inner && fmas > most) {
            most = fmas
            best = fmas " " bits " " spills
        }
    }
    if (most) print name, best
    n = 0
    split("", at)
}

/^[0-9a-f]+ <.*>:$/ {
    end_function()
    name = substr($2, 2, length($2) - 3)
    next
}

/^ *[0-9a-f]+:\t/ {
    n++
    address[n] = hex(substr($1, 1, length($1) - 1))
    at[address[n]] = n
    text[n] = "\t" substr($0, index($0, "\t") + 1) "\t"
    sub(/ +/, "\t", text[n])
    jump[n] = 0
    if ($2 ~ /^(j[a-z]+|b|b\.[a-z]+|cbn?z|tbn?z)$/)
        for (k = 3; k < NF; k++) if ($(k + 1) ~ /^</) jump[n] = hex($k)
}

END { end_function() }
AWK

# check ISA BITS: of a loop `tile_RxV` or `dot_RxV`, R times V multiply-adds or a multiple of that.
cat >"$work/check.awk" <<'AWK'
$1 ~ /^(tile|dot)_[0-9]+x[0-9]+$/ {
    split($1, part, /[_x]/)
    expect(part[2] * part[3])
}
$1 ~ /^(tile_([35]_[12]|pair)|run_[1-4])$/ { expect(1) }

function expect(fmas) {
    seen++
    if ($2 % fmas || $3 != bits || $4) {
        printf "%s: the loop of %s has %d multiply-adds of %d bits and %d spills, expected a " \
               "multiple of %d of %d bits and no spills\n", isa, $1, $2, $3, $4, fmas, bits
        bad++
    }
}

END {
    printf "%s: %d loops looked at\n", isa, seen
    exit bad > 0 || seen < least
}
AWK

# loops ISA FILE: what is in an object file of one instruction set.
loops() {
    object=$(find "$build" -path "*kernels_$1.dir*" -name "$2.c.o")
    tool=objdump
    [ "$1" != neon ] || ! command -v aarch64-linux-gnu-objdump >/dev/null || tool=aarch64-linux-gnu-objdump
    [ -z "$object" ] || $tool -d --no-show-raw-insn "$object" | awk -f "$work/loops.awk"
}

# check ISA BITS LEAST FILE...: at least LEAST loops.
check() {
    isa=$1 bits=$2 least=$3
    shift 3
    [ -n "$(find "$build" -path "*kernels_$isa.dir*" -name gemm.c.o)" ] || return 0
    for file; do loops "$isa" "$file"; done >"$work/$isa"
    if [ "$list" = --list ]; then
        sed "s/^/$isa /" "$work/$isa"
        return 0
    fi
    awk -v isa="$isa" -v bits="$bits" -v least="$least" -f "$work/check.awk" "$work/$isa" || failed=1
}

failed=0
check avx512 512 62 gemm q8 spmm dwconv gconv
check avx2 256 17 gemm spmm dwconv gconv
check neon 128 32 gemm spmm dwconv gconv
exit $failed
