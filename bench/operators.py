#!/usr/bin/env python3
"""Operators alone beside onnxruntime's: one node a model, one thread, both engines in turns in one process.

    operators.py [--library FILE] [--round-ms MS] [--rounds N] [FILTER...] > operators.tsv

Prints the median times in milliseconds, the median of onnxruntime's time by ours of each round with its quartiles (above
1: libsparoa is faster), and the largest difference of the results by their largest value. FILTER: groups or beginnings
of names. Times hold what a caller sees: a convolution alone turns its image twice, where it stores channels last."""

import argparse
import datetime
import pathlib
import statistics
import sys
import tempfile
import time

import numpy as np
import onnxruntime

import compare
import operator_cases
import sparoa_binding


def timed(function, seconds):
    count, start = 0, time.perf_counter()
    while True:
        function()
        count += 1
        passed = time.perf_counter() - start
        if passed >= seconds:
            return passed / count


def open_peer(case):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(case.model, options, providers=["CPUExecutionProvider"])
    wanted = session.run(None, case.feeds)
    binding = session.io_binding()
    keep = [onnxruntime.OrtValue.ortvalue_from_numpy(v) for v in (*case.feeds.values(), *map(np.ascontiguousarray, wanted))]
    for name, value in zip(case.feeds, keep):
        binding.bind_ortvalue_input(name, value)
    for output, value in zip(session.get_outputs(), keep[len(case.feeds):]):
        binding.bind_ortvalue_output(output.name, value)
    return (lambda: session.run_with_iobinding(binding)), wanted, keep


def difference(ours, wanted):
    worst = 0.0
    for a, b in zip(ours, wanted):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if a.shape != b.shape:
            return float("inf")
        if b.size:
            worst = max(worst, float(np.max(np.abs(a - b)) / max(float(np.max(np.abs(b))), 1e-30)))
    return worst


def measure(library, case, folder, seconds, rounds):
    path = str(pathlib.Path(folder) / "model.onnx")
    pathlib.Path(path).write_bytes(case.model)
    ours = sparoa_binding.Session(library, path, case.feeds, 1)
    try:
        peer, wanted, _keep = open_peer(case)
        ours.run()
        error = difference(ours.outputs(), wanted)
        timed(ours.run, seconds / 2)
        timed(peer, seconds / 2)
        pairs = []
        for i in range(rounds):
            first = timed(peer if i % 2 else ours.run, seconds)
            second = timed(ours.run if i % 2 else peer, seconds)
            pairs.append((second, first) if i % 2 else (first, second))
    finally:
        ours.close()
    low, middle, high = statistics.quantiles([b / a for a, b in pairs], n=4)
    times = [statistics.median(t) * 1e3 for t in zip(*pairs)]
    return f"{times[0]:.4f}\t{times[1]:.4f}\t{middle:.3f}\t{low:.3f}\t{high:.3f}\t{error:.1e}"


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("filter", nargs="*", metavar="FILTER")
    p.add_argument("--library", default="build/release/libsparoa.so")
    p.add_argument("--round-ms", type=float, default=4)
    p.add_argument("--rounds", type=int, default=9)
    a = p.parse_args()
    library, machine = sparoa_binding.Library(a.library), compare.machine()
    print(f"# {datetime.date.today()}, commit {compare.commit(a.library)}, {machine['processor']} (family {machine['family']}, model "
          f"{machine['model']}), onnxruntime {onnxruntime.__version__}: `{' '.join(['bench/operators.py', *sys.argv[1:]])}`")
    print("group\toperator\tsparoa_ms\tonnxruntime_ms\tratio\tq1\tq3\tdifference")
    with tempfile.TemporaryDirectory() as folder:
        for case in operator_cases.make():
            if a.filter and not any(case.group == f or case.name.startswith(f) for f in a.filter):
                continue
            try:
                print(f"{case.group}\t{case.name}\t{measure(library, case, folder, a.round_ms / 1e3, a.rounds)}", flush=True)
            except Exception as failure:  # one engine lacks it: said, and the others go on
                print(f"# {case.name}: {str(failure).splitlines()[0][:120]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
