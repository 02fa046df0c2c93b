#!/usr/bin/env python3
"""Writes docs/performance.md from result files and a template:

report.py five=bench/results/five_b1.json,bench/results/five_b8.json real=... > docs/performance.md

The template (bench/performance.template.md) holds the prose. A line {{name:table}} becomes that table of the
result file called name; one whose file was not given becomes a line that says so. Files joined by commas
make one table. Tables: about, latency, slower, memory, fresh, peak, idle, failures, versions; classes of a file of
layer_classes.py; sweep of what bench_sparse printed and alone of what operators.py printed, .tsv files."""

import argparse
import json
import pathlib
import re
import sys

import tables


def read(paths):
    """One document of several runs: their cases together, and each run's circumstances."""
    runs = []
    if paths.endswith(".tsv"):
        return pathlib.Path(paths).read_text(encoding="utf-8").splitlines()
    for path in paths.split(","):
        with open(path, encoding="utf-8") as f:
            runs.append(json.load(f))
    if "cases" not in runs[0]:
        return runs[0]
    peers = list(dict.fromkeys(p for r in runs for p in r["peers"]))
    peaks = {}
    for r in runs:
        for threads, peak in r["peaks"].items():
            if threads not in peaks or peak["gflops_all"] > peaks[threads]["gflops_all"]:
                peaks[threads] = peak
    return runs[0] | {"cases": [c for r in runs for c in r["cases"]], "peers": peers, "peaks": peaks, "runs": runs}


def describe(run):
    cases = [c for c in run["cases"] if "foreign_cores" in c]
    busy = sorted(c["foreign_cores"] for c in cases)
    marks = [e["clean"] for c in cases for e in c["engines"].values() if "clean" in e]
    lines = [f"- {run['date']}, commit {run['commit']}, nice {run['nice']}: `{run['command']}`"]
    if busy:
        lines.append(f"  Other processes took {busy[len(busy) // 2]:.2f} cores in the median case ({busy[0]:.2f} to "
                     f"{busy[-1]:.2f}); {marks.count(False)} of {len(marks)} comparisons are marked (~).")
    return lines


def about(document):
    machine = document["machine"]
    peaks = ", ".join(f"{t} thread{'s' if t != '1' else ''} {p['gflops_all']:.0f} GFLOP/s and {p['bandwidth']:.0f} GB/s"
                      for t, p in sorted(document["peaks"].items()))
    isa = next(iter(document["peaks"].values()))["isa"] if document["peaks"] else "unknown"
    lines = [f"- {machine['processor']} (family {machine['family']}, model {machine['model']}), {machine['cores']} cores, "
             f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}, kernels {isa}",
             f"- measured peak: {peaks}"]
    for run in document["runs"]:
        lines += describe(run)
    return "\n".join(lines) + "\n"


TABLES = {"about": about, "latency": tables.latency, "slower": tables.slower, "memory": tables.start_and_memory,
          "peak": tables.peak_share, "idle": tables.idle, "failures": tables.failures, "fresh": tables.fresh_start,
          "classes": tables.layer_classes, "sweep": tables.sweep, "alone": tables.alone, "versions": tables.versions}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", nargs="+", help="NAME=FILE")
    p.add_argument("--template", default=pathlib.Path(__file__).with_name("performance.template.md"), type=pathlib.Path)
    arguments = p.parse_args()
    documents = {}
    for text in arguments.results:
        name, _, path = text.partition("=")
        documents[name] = read(path)

    def fill(match):
        name, table = match.groups()
        if table not in TABLES:
            p.error(f"the template asks for an unknown table: {table}")
        return TABLES[table](documents[name]).rstrip("\n") if name in documents else "Not measured yet."

    template = arguments.template.read_text(encoding="utf-8")
    sys.stdout.write(re.sub(r"^\{\{(\w+):(\w+)\}\}$", fill, template, flags=re.MULTILINE))
    return 0


if __name__ == "__main__":
    sys.exit(main())
