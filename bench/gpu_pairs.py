#!/usr/bin/env python3
"""The evaluation models on a GPU, in turns with PyTorch in the same seconds.

    python3 bench/gpu_pairs.py --program build/gpu/gpu_model --plugin build/gpu/libsparoa_cuda.so \
        --models DIR --out FILE.jsonl [--budget S] [--rounds N] [--only MODEL,...] \
        [--precisions P,...] [--batches N,...]

For each model (bench/gpu_models.py makes them), precision and batch size, gpu_model and PyTorch take
turns of a few hundredths of a second each, the first turn of every round going to the other than in
the round before. Both sides have inputs and outputs on the GPU:

  sparoa          device time of the captured model
  torch_eager     channels last: time of one of ten calls enqueued behind each other
  torch_graph     the same captured in one CUDA graph
  torch_compiled  torch.compile with max-autotune (which uses CUDA graphs), compiled beforehand,
                  several at a time, as far as a part of the budget reaches

A line is one comparison: medians of both sides and the median and quartiles of the rounds' ratios,
PyTorch's time over ours. What does not fit the budget (seconds in all) is left out.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from gpu_peers import MODELS, PRECISIONS, build


class Ours:
    """gpu_model, which measures once for each line it reads."""

    def __init__(self, args, model, precision, batch):
        self.process = subprocess.Popen(
            [args.program, args.plugin, f"{args.models}/{model}/model.onnx", "--precision",
             precision, "--batch", str(batch), "--turns", "--seconds", str(args.turn)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)

    def measure(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())["device_us"]

    def close(self):
        self.process.stdin.close()
        self.process.wait(20)


def torch_measure(call, seconds):
    import torch

    first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    times, end = [], time.perf_counter() + seconds
    call()
    while time.perf_counter() < end or len(times) < 3:
        first.record()
        for _ in range(10):
            call()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last) * 100)
    return statistics.median(times)


def captured(net, x):
    """A call that replays the network from a graph."""
    import torch

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            net(x)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        net(x)
    return graph.replay


def peers(model, precision, batch, compiled):
    """Names and calls of PyTorch's sides."""
    import torch

    net, x = build(model, precision, batch, True)
    yield "torch_eager", lambda: net(x)
    yield "torch_graph", captured(net, x)
    if compiled:
        fast = torch.compile(net, mode="max-autotune")
        for _ in range(3):
            fast(x)
        yield "torch_compiled", lambda: fast(x)


def compare(args, model, precision, batch, compiled):
    import torch

    with torch.inference_mode():
        ours = Ours(args, model, precision, batch)
        ours.measure()
        torch._dynamo.reset()
        for name, call in peers(model, precision, batch, compiled):
            torch_measure(call, args.turn)
            a, b = [], []
            for i in range(args.rounds):
                for side in (0, 1) if i % 2 else (1, 0):
                    if side:
                        a.append(ours.measure())
                    else:
                        b.append(torch_measure(call, args.turn))
            ratios = [v / u for u, v in zip(a, b)]
            quartiles = statistics.quantiles(ratios, n=4)
            line = json.dumps({
                "model": model, "precision": precision, "batch": batch, "peer": name,
                "sparoa_us": round(statistics.median(a), 1),
                "peer_us": round(statistics.median(b), 1),
                "ratio": round(quartiles[1], 3),
                "quartiles": [round(quartiles[0], 3), round(quartiles[2], 3)],
                "rounds": args.rounds})
            print(line, file=args.file, flush=True)
        ours.close()


def compile_one(configuration):
    import torch

    model, precision, batch = configuration.split(",")
    with torch.inference_mode():
        net, x = build(model, precision, int(batch), True)
        net = torch.compile(net, mode="max-autotune")
        for _ in range(3):
            net(x)
        torch.cuda.synchronize()


def compare_all(args, configurations, done, deadline):
    for c in sorted(configurations, key=lambda c: c not in done):
        if time.time() > deadline - 8:
            break
        try:
            compare(args, *c, c in done)
        except Exception as failure:  # the next one may work
            print(f"{c}: {failure}", file=sys.stderr, flush=True)


def command(args, configuration):
    return [sys.executable, __file__, "--program", args.program, "--plugin", args.plugin,
            "--models", args.models, "--compile", ",".join(map(str, configuration))]


def compile_all(args, configurations, deadline):
    """Fills Inductor's cache, args.jobs processes at a time; returns the configurations done."""
    env = dict(os.environ, TORCHINDUCTOR_COMPILE_THREADS=str(args.threads))
    waiting, running, done = list(configurations), [], set()
    while (waiting or running) and time.time() < deadline:
        while waiting and len(running) < args.jobs:
            c = waiting.pop(0)
            running.append((c, subprocess.Popen(command(args, c), env=env,
                                                stdout=subprocess.DEVNULL,
                                                stderr=subprocess.DEVNULL)))
        for item in [r for r in running if r[1].poll() is not None]:
            running.remove(item)
            if item[1].returncode == 0:
                done.add(item[0])
        time.sleep(0.2)
    for _, process in running:
        process.kill()
        process.wait()
    return done


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("--program", "--plugin", "--models"):
        parser.add_argument(name, required=True)
    parser.add_argument("--out", default="gpu_pairs.jsonl")
    parser.add_argument("--budget", type=float, default=400, help="seconds for all")
    parser.add_argument("--compiling", type=float, default=0.4, help="part of it for compiling")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--turn", type=float, default=0.03, help="seconds of one side")
    parser.add_argument("--jobs", type=int, default=7, help="compiled at a time")
    parser.add_argument("--threads", type=int, default=2, help="of one compilation")
    parser.add_argument("--only", default=",".join(MODELS), help="models, separated by commas")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    parser.add_argument("--batches", default="1,32")
    parser.add_argument("--compile", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.compile:
        return compile_one(args.compile)
    start = time.time()
    every = [(m, p, int(b)) for p in args.precisions.split(",") for b in args.batches.split(",")
             for m in args.only.split(",")]
    done = compile_all(args, every, start + args.budget * args.compiling)
    print(f"compiled {len(done)} of {len(every)} in {time.time() - start:.0f} s", flush=True)
    with pathlib.Path(args.out).open("w") as args.file:
        compare_all(args, every, done, start + args.budget)
    return None


if __name__ == "__main__":
    main()
