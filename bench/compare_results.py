#!/usr/bin/env python3
"""Compares two result files of bench/compare.py: compare_results.py BEFORE.json AFTER.json

Times of two runs cannot be compared directly on a machine whose speed changes between them. What is
compared is libsparoa against the same peer in the same run: peer / libsparoa before and after. A case is
a regression if that ratio fell by more than the threshold and more than both runs' spread explains.
Without a common peer the times themselves are compared. Exit code: 0 no regression, 1 regression,
2 the files have no case in common."""

import argparse
import json
import sys

import tables


def read(path):
    with open(path, encoding="utf-8") as f:
        document = json.load(f)
    cases = {(c["model"], c["threads"], c["batch"]): c["engines"] for c in document["cases"]}
    return document, cases


def half_spread(e):
    """Half the distance between the quartiles, as a share of the median."""
    return (e["ratio_p75"] - e["ratio_p25"]) / (2 * e["ratio"])


def speed(before, after, ours, peers):
    """How much faster `after` is (1: the same), and the noise of that figure as a share."""
    found = [(after[p]["ratio"] / before[p]["ratio"], half_spread(before[p]) + half_spread(after[p]))
             for p in peers if "ratio" in before.get(p, {}) and "ratio" in after.get(p, {})]
    if found:
        return min(found, key=lambda f: f[1])
    a, b = before.get(ours, {}), after.get(ours, {})
    if "latency_s" not in a or "latency_s" not in b:
        return None
    noise = sum((e["latency_p75_s"] - e["latency_p25_s"]) / (2 * e["latency_s"]) for e in (a, b))
    return a["latency_s"] / b["latency_s"], noise


def compare(before, after, threshold, out):
    one, old = before
    two, new = after
    ours = one["ours"]
    peers = [p for p in one["peers"] if p in two["peers"]]
    bad, gains, rows = 0, [], tables.header(["model", "threads", "batch", "faster by", "noise", "verdict"])
    for key, engines in new.items():
        if key not in old:
            continue
        was, now = old[key].get(ours, {}), engines.get(ours, {})
        if "latency_s" in was and "latency_s" not in now:
            bad += 1
            rows.append(f"| {key[0]} | {key[1]} | {key[2]} | - | - | FAILS now: {now.get('failed', 'not timed')} |")
            continue
        found = speed(old[key], engines, ours, peers)
        if found is None:
            continue
        gain, noise = found
        gains.append(gain)
        limit = max(threshold, noise)
        verdict = "REGRESSION" if gain < 1 - limit else "faster" if gain > 1 + limit else "same"
        bad += verdict == "REGRESSION"
        rows.append(f"| {key[0]} | {key[1]} | {key[2]} | {100 * gain - 100:+.1f} % | {100 * noise:.1f} % | {verdict} |")
    print("\n".join(rows), file=out)
    if gains:
        print(f"\ngeometric mean {100 * tables.geometric(gains) - 100:+.1f} % over {len(gains)} cases, "
              f"{bad} regressions", file=out)
    return 2 if len(rows) == 2 else 1 if bad else 0


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("before")
    p.add_argument("after")
    p.add_argument("--threshold", type=float, default=0.03, help="share that counts as noise (%(default)s)")
    arguments = p.parse_args()
    return compare(read(arguments.before), read(arguments.after), arguments.threshold, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
