#!/usr/bin/env python3
"""How near to the peak is each class of layer? Profiles models with `sparoa profile`, one thread, batch 1, and adds up
time and operations by class: what the kernel is (Winograd, depthwise), for other convolutions the size of their window.

layer_classes.py --sparoa build/release/sparoa --out results/classes.json MODEL...

A MODEL is a folder with model.onnx. Times are the fastest of each operator's runs. Needs the package onnx."""

import argparse
import collections
import csv
import datetime
import io
import json
import os
import subprocess
import sys

import onnx

import compare


def windows(path):
    """Kernel size of each convolution, by node name and by the name of its first output; the first one of the graph."""
    graph = onnx.load(path).graph
    dims = {i.name: list(i.dims) for i in graph.initializer}
    found, first = {}, None
    for node in graph.node:
        if node.op_type != "Conv":
            continue
        size = "x".join(str(d) for d in dims.get(node.input[1], [])[2:])
        found[node.name] = found[node.output[0]] = size
        first = first or node.name
    return found, first


def class_of(row, sizes, first):
    if row["op"] == "Conv":
        if "winograd" in row["kernel"]:
            return "convolution 3x3, Winograd"
        if row["kernel"].startswith("dwconv"):
            return "convolution, depthwise"
        if row["node"] == first:
            return "convolution, first layer"
        size = sizes.get(row["node"], "")
        return "convolution 1x1" if size == "1x1" else f"convolution {size}".rstrip()
    return {"gemm": "matrix product", "attention": "attention", "norm": "normalisation", "pool": "pooling",
            "move": "data movement", "eltwise": "element-wise"}.get(row["class"], row["class"])


def profile(program, folder, runs):
    """Classes of one model with their time and operations, and the peak that was measured first."""
    path = os.path.join(folder, "model.onnx")
    text = subprocess.run([program, "profile", path, "--threads", "1", "-n", str(runs), "--csv"], check=True,
                          capture_output=True, text=True).stdout
    rows = [r for r in csv.DictReader(io.StringIO(text)) if r.get("class")]
    sizes, first = windows(path)
    totals, peak, busiest = collections.defaultdict(lambda: [0.0, 0.0, 0]), 0.0, 0.0
    for row in rows:
        total = totals[class_of(row, sizes, first)]
        total[0] += float(row["min us"])
        total[1] += float(row["MFLOP"])
        total[2] += 1
        share = float(row["% peak"]) if row["% peak"] not in ("", "-") else 0.0
        if share > busiest:
            busiest, peak = share, float(row["GFLOP/s"]) / share * 100
    return {"classes": {k: {"us": t[0], "mflop": t[1], "nodes": t[2]} for k, t in totals.items()}, "peak_gflops": peak}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="+")
    p.add_argument("--sparoa", default="build/release/sparoa", help="the program")
    p.add_argument("--runs", type=int, default=20)
    p.add_argument("--out", help="JSON; default: standard output")
    a = p.parse_args()
    found = {os.path.basename(m.rstrip("/")): profile(a.sparoa, m, a.runs) for m in a.models}
    document = {"schema": 1, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                "machine": compare.machine(), "commit": compare.commit(a.sparoa), "models": found}
    document["command"] = " ".join(["bench/layer_classes.py", "--runs", str(a.runs)] + list(found))
    with (open(a.out, "w", encoding="utf-8") if a.out else sys.stdout) as f:
        json.dump(document, f, indent=1)
        f.write("\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
