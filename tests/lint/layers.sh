#!/bin/sh
# Includes go down only. Each folder of src/ may include itself and the folders named for it here;
# the public headers are everybody's. The command and the examples include sparoa.h alone, protobuf
# stays in src/onnx, and kernels know plain pointers.
set -eu
cd "$(dirname "$0")/../.."

awk '
BEGIN {
    may["base"] = ""
    may["ops"] = "base"
    may["nn"] = "base ops kernels/cpu"
    may["graph"] = "base ops"
    may["onnx"] = "base ops graph"
    may["platform"] = "base ops graph"
    may["profile"] = "base ops graph platform"
    may["predict"] = "base ops nn graph platform profile kernels/cpu"
    may["schedule"] = "base ops nn graph platform profile predict kernels/cpu"
    may["engine"] = "base ops graph platform schedule"
    may["backends/cpu"] = "base ops kernels/cpu"
    may["backends/emu"] = "base"
    may["backends/cuda"] = "base ops kernels/cuda"
    may["api"] = "base ops nn graph onnx platform profile predict schedule engine backends/cpu"
    may["cli"] = ""
    may["kernels/cpu"] = "ops base"
    may["kernels/cuda"] = ""
    for (i = 1; i < ARGC; i++) check(ARGV[i])
    exit failed
}

function folder_of(path,   parts, n) {
    n = split(path, parts, "/")
    if (n < 2) return ""
    if (parts[1] == "backends" || parts[1] == "kernels") return parts[1] "/" parts[2]
    return parts[1]
}

function refuse(file, line, text, why) {
    printf "%s:%d: %s: %s\n", file, line, text, why
    failed = 1
}

function check(file,   line, number, home, target, name) {
    name = file
    sub(/^src\//, "", name)
    home = folder_of(name)
    if (!(home in may)) refuse(file, 0, home, "a folder without a place in tests/lint/layers.sh")
    while ((getline line < file) > 0) {
        number++
        if (line ~ /protobuf|onnx\.pb-c/ && line ~ /#include/ && home != "onnx")
            refuse(file, number, line, "protobuf is known in src/onnx only")
        if (line !~ /^#include "/) continue
        split(line, quoted, "\"")
        target = quoted[2]
        if (home == "cli" && target == "sparoa_backend.h")
            refuse(file, number, line, "the command uses sparoa.h only")
        if (target !~ /\//) continue # a public header, or a neighbour
        target = folder_of(target)
        if (target == home) continue
        if (index(" " may[home] " ", " " target " ") == 0)
            refuse(file, number, line, home " must not know " target)
    }
    close(file)
}
' $(find src kernels -name '*.[ch]' | LC_ALL=C sort)
