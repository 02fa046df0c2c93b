#!/usr/bin/env python3
"""The evaluation models on a GPU with two builds of the CUDA plug-in, in turns in the same seconds.

    python3 bench/gpu_versions.py --program build/gpu/gpu_model --old OLD.so --new NEW.so \
        --models DIR --out FILE.jsonl [--only MODEL,...] [--precisions P,...] [--batches N,...]

A line is one configuration: medians of the device time of the captured model with both, and the
median and quartiles of the rounds' ratios, the old one's time over the new one's. The first turn of
every round goes to the other build than in the round before.
"""
import argparse
import copy
import json
import pathlib
import statistics

from gpu_pairs import Ours
from gpu_peers import MODELS, PRECISIONS


def compare(args, model, precision, batch):
    sides = []
    for plugin in (args.old, args.new):
        side = copy.copy(args)
        side.plugin = plugin
        sides.append(Ours(side, model, precision, batch))
    times = [[], []]
    for i in range(-1, args.rounds):
        for k in (0, 1) if i % 2 else (1, 0):
            us = sides[k].measure()
            if i >= 0:
                times[k].append(us)
    for side in sides:
        side.close()
    ratios = [a / b for a, b in zip(*times)]
    quartiles = statistics.quantiles(ratios, n=4)
    return {"model": model, "precision": precision, "batch": batch,
            "old_us": round(statistics.median(times[0]), 1),
            "new_us": round(statistics.median(times[1]), 1), "ratio": round(quartiles[1], 3),
            "quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)], "rounds": args.rounds}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--program", "--old", "--new", "--models"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", default="gpu_versions.jsonl")
    parser.add_argument("--only", default=",".join(MODELS), help="models, separated by commas")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.03, help="seconds of one side")
    args = parser.parse_args()
    with pathlib.Path(args.out).open("w") as out:
        for model in args.only.split(","):
            for precision in args.precisions.split(","):
                for batch in map(int, args.batches.split(",")):
                    line = json.dumps(compare(args, model, precision, batch))
                    print(line, flush=True)
                    print(line, file=out, flush=True)


if __name__ == "__main__":
    main()
