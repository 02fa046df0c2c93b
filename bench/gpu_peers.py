#!/usr/bin/env python3
"""PyTorch on a GPU: eager and torch.compile (max-autotune, CUDA graphs) on the evaluation models.

    python3 bench/gpu_peers.py --out FILE.jsonl [--seconds S] [--budget S] [--jobs N]

Every configuration runs in a process of its own: first all are compiled, several at a time, into
Inductor's cache, then each is measured alone. A line of the file is one measurement: `wall_us` is
the median time of one call and waiting for it, `stream_us` that of one of twenty calls enqueued
behind each other, inputs and outputs on the GPU. What does not compile within the budget is left
out.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

MODELS = ("resnet18", "mobilenet_v3_small", "mobilenet_v2", "vit_b_16", "swin_t")
PRECISIONS = ("float16", "tf32", "float32")
BATCHES = (1, 32)


def build(name, precision, batch, channels_last):
    import torch
    import torchvision

    torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True
    torch.manual_seed(1)
    net = getattr(torchvision.models, name)(weights=None).eval().cuda()
    x = torch.randn(batch, 3, 224, 224, device="cuda")
    if precision == "float16":
        net, x = net.half(), x.half()
    if channels_last:
        net, x = net.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    return net, x


def measure(call, seconds):
    import torch

    for _ in range(8):
        call()
    torch.cuda.synchronize()
    wall, stream, end = [], [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(wall) < 20:
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        wall.append(time.perf_counter() - start)
    for _ in range(7):
        first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        first.record()
        for _ in range(20):
            call()
        last.record()
        torch.cuda.synchronize()
        stream.append(first.elapsed_time(last) / 20e3)
    return {"wall_us": statistics.median(wall) * 1e6, "stream_us": statistics.median(stream) * 1e6}


def one(args):
    import torch

    with torch.inference_mode():
        for batch in args.batches:
            for mode in args.modes.split(","):
                for channels_last in ((False, True) if mode == "eager" else (True,)):
                    net, x = build(args.model, args.precision, batch, channels_last)
                    start = time.perf_counter()
                    if mode == "compiled":
                        torch._dynamo.reset()
                        net = torch.compile(net, mode="max-autotune")
                        for _ in range(3):
                            net(x)
                        torch.cuda.synchronize()
                    row = {"engine": f"torch_{mode}", "model": args.model,
                           "precision": args.precision, "batch": batch,
                           "channels_last": channels_last,
                           "ready_s": round(time.perf_counter() - start, 1)}
                    if args.seconds > 0:
                        row |= measure(lambda: net(x), args.seconds)
                    print(json.dumps(row), flush=True)


def command(args, model, precision, batches, modes, seconds):
    return [sys.executable, __file__, "--one", "--model", model, "--precision", precision,
            "--batches", *map(str, batches), "--modes", modes, "--seconds", str(seconds),
            "--out", args.out]


def compile_all(args, configurations, deadline):
    """Fills the cache, args.jobs processes at a time; returns the configurations that are done."""
    env = dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS="3")
    waiting, running, done = list(configurations), [], []
    while waiting or running:
        while waiting and len(running) < args.jobs:
            c = waiting.pop(0)
            running.append((c, time.time(), subprocess.Popen(
                command(args, *c[:2], c[2:], "compiled", 0), env=env, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL)))
        for item in list(running):
            c, start, process = item
            if process.poll() is None:
                if time.time() < deadline:
                    continue
                process.kill()
            running.remove(item)
            print(f"compile {c}: {process.poll()} after {time.time() - start:.0f} s", flush=True)
            if process.returncode == 0:
                done.append(c)
        if time.time() >= deadline:
            waiting = []
        time.sleep(0.2)
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", default="gpu_peers.jsonl")
    parser.add_argument("--seconds", type=float, default=0.5, help="measured, per configuration")
    parser.add_argument("--budget", type=float, default=300, help="seconds for compiling")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--batches", type=int, nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--modes", default="eager,compiled", help=argparse.SUPPRESS)
    parser.add_argument("--phase", choices=("compile", "measure", "both"), default="both")
    args = parser.parse_args()
    if args.one:
        return one(args)
    every = [(m, p, b) for p in PRECISIONS for b in BATCHES for m in MODELS]
    done = pathlib.Path(args.out + ".compiled")
    if args.phase != "measure":
        done.write_text(json.dumps(compile_all(args, every, time.time() + args.budget)))
    if args.phase == "compile":
        return None
    compiled = [tuple(c) for c in json.loads(done.read_text())] if done.exists() else []
    with pathlib.Path(args.out).open("w") as out:
        for model, precision in [(m, p) for p in PRECISIONS for m in MODELS]:
            ready = [b for b in BATCHES if (model, precision, b) in compiled]
            rest = [b for b in BATCHES if b not in ready]
            for batches, modes in ((ready, "eager,compiled"), (rest, "eager")):
                if not batches:
                    continue
                result = subprocess.run(command(args, model, precision, batches, modes,
                                                args.seconds), text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
                out.write(result.stdout)
                out.flush()
                print(result.stdout, end="", flush=True)
    return None


if __name__ == "__main__":
    main()
