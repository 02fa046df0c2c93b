#!/usr/bin/env python3
"""Share of the time of copies that is hidden behind computation, on a device.

    python3 bench/gpu_overlap.py --sparoa build/gpu/sparoa --plugin build/gpu/libsparoa_cuda.so --device cuda0 \
        --models DIR --work DIR [--small] [--budget S] [--only CASE,...]

Each case is a model, a plan that gives both devices work (or none: two sessions on the device in turns), and a
trace of some runs (bench/overlap.py reads it):

  branches   two chains of products that exchange values (overlap.py --model), the longer one on the device
  divided    ViT-B/16 at batch 32, output channels of the first product of each perceptron made by the CPU
  sessions   ViT-B/16 at batch 32 on the device alone, two sessions: copies of one, computing of the other

DIR has the models of bench/gpu_models.py; a case without its model is left out. --small: ResNet-18 at batch 1 in place of
ViT, small products: for an emulated device. A line of JSON for each case; its trace stays in the work folder. Needs the
Python package onnx.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys
import time

import onnx

import overlap

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLATFORM = ROOT / "platforms" / "jetson_orin_nano_8gb.yaml"  # prices do not matter: plans are by rule


def run(args, *command):
    done = subprocess.run([args.sparoa, *map(str, command)], capture_output=True, text=True,
                          timeout=max(5, args.end - time.time()), check=False)
    if done.returncode:
        raise RuntimeError((done.stderr or done.stdout).strip()[-400:])
    return done.stdout


def plan(args, case, change):
    """All on the accelerator, but for what change(line of a node) writes."""
    path = args.work / f"{case['name']}.yaml"
    run(args, "plan", case["model"], "--platform", PLATFORM, "--policy", "gpu", "--zero-runs", 0,
        "-q", "-o", path)
    lines = path.read_text().split("\n")
    path.write_text("\n".join(change(line) if '{name: "' in line and "op:" in line else line
                              for line in lines))
    return path


def on_cpu(pattern):
    return lambda line: (line.replace('device: "gpu"', 'device: "cpu"')
                         if re.search(f'name: "{pattern}"', line) else line)


def with_share(pattern, share):
    split = f'split: {{device2: "cpu", axis: channels, share: {share}}}'
    return lambda line: (line.rstrip("}") + f", {split}}}"
                         if re.search(f'name: "{pattern}"', line) else line)


def fixed(args, name, batch):
    """The model for one batch size: plans are for the nodes that are left then."""
    source, path = args.models / name / "model.onnx", args.work / f"{name}_b{batch}.onnx"
    if source.exists() and not path.exists():
        model = onnx.load(source)
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.shape.dim[0].dim_value = batch
        onnx.save(model, path)
    return path


def run_planned(args, command, path):
    """Nodes that the device cannot run go to the CPU, one after the other as it names them."""
    for _ in range(40):
        try:
            return run(args, *command)
        except RuntimeError as failure:
            node = re.search(r"'([^']+)': planned for device 'gpu'", str(failure))
            if not node:
                raise
            name = f'name: "{node[1]}"'
            lines = path.read_text().split("\n")
            path.write_text("\n".join(line.replace('device: "gpu"', 'device: "cpu"')
                                      if name in line else line for line in lines))
    raise RuntimeError("too many nodes that the device cannot run")


def cases(args):
    two = args.work / "two.onnx"
    side, depth, ratio = (384, 10, 1) if args.small else (1024, 10, args.ratio)
    overlap.make_model(two, side, depth, ratio)
    net = fixed(args, "resnet18", 1) if args.small else fixed(args, "vit_b_16", 32)
    part = (".*/conv1/Conv", 0.5) if args.small else (".*/mlp/mlp.0/MatMul", args.share)
    yield {"name": "branches", "model": two, "change": on_cpu("(p|h)[0-9]+|y")}
    yield {"name": "divided", "model": net, "change": with_share(*part)}
    yield {"name": "sessions", "model": net, "change": None}


def measure(args, case):
    trace = args.work / f"{case['name']}.json"
    command = ["bench", case["model"], "--plugin", args.plugin, "--trace", trace,
               f"--json={args.work / 'bench.json'}", "-q", *args.plugin_options]
    runs = ["--runs", args.runs]
    if case["change"]:
        path = plan(args, case, case["change"])
        run_planned(args, [*command, "--plan", path, *runs], path)
    else:
        run(args, *command, "--device", args.device, "--scenario", "offline", "--sessions", 2, *runs)
    total, covered, by_name = overlap.share(trace)
    bench = json.loads((args.work / "bench.json").read_text())
    line = {"case": case["name"], "device": args.device, "copies": sum(s[0] for s in by_name.values()),
            "copies_ms": round(total / 1e3, 2),
            "hidden_percent": round(100 * covered / total, 1) if total else None,
            "runs": bench["runs"], "latency_ms": round(bench["latency_ms"]["p50"], 3)}
    print(json.dumps(line), flush=True)
    for name, (count, spent, part) in by_name.items():
        print(f"    {name}: {count} copies of {spent / count:.0f} us, "
              f"hidden {100 * part / max(spent, 1e-9):.1f} %", file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--sparoa", "--plugin", "--device"):
        parser.add_argument(name, required=True)
    for name in ("--models", "--work"):
        parser.add_argument(name, required=True, type=pathlib.Path)
    parser.add_argument("--small", action="store_true", help="for an emulated device")
    parser.add_argument("--ratio", type=int, default=20, help="branches: products of the device for one here")
    parser.add_argument("--share", type=float, default=0.0105, help="divided: the CPU's")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--budget", type=float, default=120, help="seconds for all")
    parser.add_argument("--only", default="")
    parser.add_argument("--plugin-options", default="", help="of the plug-in")
    args = parser.parse_args()
    args.end = time.time() + args.budget
    args.plugin_options = ["--plugin-options", args.plugin_options] if args.plugin_options else []
    args.work.mkdir(parents=True, exist_ok=True)
    failed = False
    for case in cases(args):
        if (args.only and case["name"] not in args.only.split(",")) or not case["model"].exists():
            continue
        try:
            measure(args, case)
        except (RuntimeError, subprocess.TimeoutExpired) as failure:  # the next one may work
            failed = True
            print(f"{case['name']}: {failure}", file=sys.stderr, flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
