#!/usr/bin/env python3
"""Writes docs/performance.md from result files and a template:

report.py five=bench/results/five.json real=bench/results/real.json > docs/performance.md

The template (bench/performance.template.md) holds the prose. A line {{name:table}} becomes that table of the
result file called name; one whose file was not given becomes a line that says so. Tables: about, latency,
slower, memory, peak, idle, failures, versions."""

import argparse
import json
import pathlib
import re
import sys

import tables


def about(document):
    machine = document["machine"]
    peaks = ", ".join(f"{t} thread{'s' if t != '1' else ''} {p['gflops_all']:.0f} GFLOP/s and {p['bandwidth']:.0f} GB/s"
                      for t, p in document["peaks"].items())
    isa = next(iter(document["peaks"].values()))["isa"] if document["peaks"] else "unknown"
    cases = [c for c in document["cases"] if "foreign_cores" in c]
    busy = sorted(c["foreign_cores"] for c in cases)
    noisy = sum(not e["clean"] for c in cases for e in c["engines"].values() if "clean" in e)
    pairs = sum("clean" in e for c in cases for e in c["engines"].values())
    lines = [f"- date {document['date']}, commit {document['commit']}, nice {document['nice']}",
             f"- {machine['processor']} (family {machine['family']}, model {machine['model']}), {machine['cores']} cores, "
             f"{machine['memory_bytes'] / 2**30:.0f} GiB, Linux {machine['kernel']}, kernels {isa}",
             f"- measured peak: {peaks}",
             f"- command: `{document['command']}`"]
    if busy:
        lines.append(f"- other processes took {busy[len(busy) // 2]:.2f} cores during the rounds (median case; "
                     f"{busy[0]:.2f} to {busy[-1]:.2f}); {noisy} of {pairs} comparisons had too few undisturbed rounds and "
                     "are marked (~)")
    return "\n".join(lines) + "\n"


TABLES = {"about": about, "latency": tables.latency, "slower": tables.slower, "memory": tables.start_and_memory,
          "peak": tables.peak_share, "idle": tables.idle, "failures": tables.failures, "versions": tables.versions}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("results", nargs="+", help="NAME=FILE")
    p.add_argument("--template", default=pathlib.Path(__file__).with_name("performance.template.md"), type=pathlib.Path)
    arguments = p.parse_args()
    documents = {}
    for text in arguments.results:
        name, _, path = text.partition("=")
        with open(path, encoding="utf-8") as f:
            documents[name] = json.load(f)

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
