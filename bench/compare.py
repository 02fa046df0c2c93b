#!/usr/bin/env python3
"""Compares libsparoa with other inference engines on ONNX models, in one interleaved run.

Example: compare.py --library build/release/libsparoa.so --engines onnxruntime \\
         --threads 1,2 --batch 1,8 --out results.json models/resnet18/model.onnx
bench/README.md says what the numbers mean. For development only: nothing of the library needs it."""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import random
import select
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import onnx
from onnx import numpy_helper

import noise
import tables

HERE = pathlib.Path(__file__).resolve().parent
ORACLE = "onnxruntime"


class Failure(Exception):
    """One engine cannot do one case; the others go on."""


class Process:
    """A worker process, driven over a pair of pipes."""

    def __init__(self, spec, log):
        self.spec = spec
        self.child = subprocess.Popen([spec.python, str(HERE / "worker.py")], stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=log, text=True, env=spec.environment())

    def ask(self, do, timeout=900, **arguments):
        try:
            self.child.stdin.write(json.dumps({"do": do} | arguments) + "\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            raise Failure(f"the process ended with {self.child.wait()}") from None
        if not select.select([self.child.stdout], [], [], timeout)[0]:
            self.child.kill()
            raise Failure(f"no answer in {timeout} s")
        line = self.child.stdout.readline()
        if not line:
            raise Failure(f"the process ended with {self.child.wait()} in {do}")
        answer = json.loads(line)
        if "error" in answer:
            raise Failure(answer["error"])
        return answer

    def close(self):
        with contextlib.suppress(BrokenPipeError, OSError):
            self.child.stdin.close()
        try:
            self.child.wait(20)
        except subprocess.TimeoutExpired:
            self.child.kill()
            self.child.wait()


class Spec:
    """An engine as named on the command line: "onnxruntime", or "sparoa@other/libsparoa.so"."""

    def __init__(self, name, arguments):
        self.name, _, library = name.partition("@")
        self.label = name
        self.python = dict(arguments.python).get(self.name, sys.executable)
        self.options = {"library": os.path.abspath(library or arguments.library), "spin_us": arguments.spin_us}
        self.path = dict(arguments.pythonpath).get(self.name)

    def environment(self):
        path = [self.path] if self.path else []
        return os.environ | {"PYTHONPATH": os.pathsep.join(path)}


class Case:
    """One model at one batch: its feeds, and what onnxruntime makes of them."""

    def __init__(self, model, batch, folder):
        self.model, self.batch = os.path.abspath(model), batch
        path = pathlib.Path(self.model)
        self.name = path.parent.name if path.stem == "model" else path.stem
        self.feeds = os.path.join(folder, "feeds.npz")
        self.reference = os.path.join(folder, "reference.npz")
        graph = onnx.load(self.model, load_external_data=False).graph
        constant = {i.name for i in graph.initializer}
        self.inputs = [i for i in graph.input if i.name not in constant]
        self.output_names = [o.name for o in graph.output]
        feeds = self._feeds(path.parent)
        np.savez(self.feeds, names=np.array(list(feeds)), **{f"a{i}": a for i, a in enumerate(feeds.values())})

    def _feeds(self, folder):
        """Inputs of test_data_set_0. A batch is made of rows of all sets in turn, so that the values
        are as in real use; random values of a model without sets are only good for its time."""
        sets = sorted(folder.glob("test_data_set_*"))
        result = {}
        for index, declared in enumerate(self.inputs):
            rows = []
            for one in sets:
                tensor = onnx.TensorProto()
                tensor.ParseFromString((one / f"input_{index}.pb").read_bytes())
                rows.append(numpy_helper.to_array(tensor))
            if not rows:
                kind = declared.type.tensor_type
                shape = [d.dim_value or 1 for d in kind.shape.dim]
                dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
                rows = [np.random.default_rng(index).standard_normal(shape).astype(dtype)]
            array = rows[0]
            if self.batch:
                usable = [r for r in rows if r.shape == array.shape]
                array = np.concatenate([usable[i % len(usable)] for i in range(self.batch)])[:self.batch]
            result[declared.name] = np.require(array, requirements="C")
        return result

    def check(self, path):
        """Largest difference from onnxruntime, scaled by the largest magnitude of that output."""
        worst = 0.0
        with np.load(self.reference) as want, np.load(path) as got:
            for key in want.files:
                a, b = want[key], got[key] if key in got.files else None
                if b is None or a.size != b.size:
                    raise Failure(f"output {key[1:]}: {None if b is None else b.shape}, expected {a.shape}")
                if a.size and a.dtype.kind in "fiub":
                    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
                    same = (a == b) | (np.isnan(a) & np.isnan(b))
                    with np.errstate(invalid="ignore"):
                        difference = np.where(same, 0.0, np.abs(a - b))
                    finite = np.abs(a[np.isfinite(a)])
                    scale = max(1e-6, float(finite.max())) if finite.size else 1.0
                    worst = max(worst, float(np.nan_to_num(difference.max(), nan=np.inf)) / scale)
        return worst


def busy_seconds():
    """Processor time that the whole machine spent on anything but idling and waiting."""
    with open("/proc/stat", encoding="ascii") as f:
        fields = [int(x) for x in f.readline().split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def open_engine(spec, case, threads, folder, log):
    """A process with the model loaded and its outputs checked, and what is known of it."""
    own = os.path.join(folder, spec.label.replace("/", "_"))
    os.makedirs(own, exist_ok=True)
    process = Process(spec, log)
    try:
        options = spec.options | {"output_names": case.output_names}
        about = process.ask("open", engine=spec.name, threads=threads, options=options, model=case.model,
                            feeds=case.feeds, folder=own)
        process.ask("outputs", path=os.path.join(own, "outputs.npz"))
        about["error"] = case.check(os.path.join(own, "outputs.npz"))
        return process, about
    except Failure:
        process.close()
        raise


def make_reference(case, arguments, folder, log):
    """Runs onnxruntime once: the outputs that everyone's are compared with."""
    process = Process(Spec(ORACLE, arguments), log)
    try:
        process.ask("open", engine=ORACLE, threads=0, options={}, model=case.model, feeds=case.feeds, folder=folder)
        process.ask("outputs", path=case.reference)
    finally:
        process.close()


def time_rounds(running, threads, arguments, generator):
    """The interleaved rounds: every engine once a round, in random order, after a rest in which the
    threads of the one before go to sleep. Goes on until enough rounds are undisturbed or the time
    is over."""
    sizes, rounds = {}, noise.Rounds(list(running), threads)
    for label, process in running.items():
        sizes[label] = process.ask("calibrate", seconds=arguments.round_ms * 1e-3, group_s=1e-3)
        time.sleep(arguments.rest_ms * 1e-3)
    begin, busy, own = time.monotonic(), busy_seconds(), 0.0
    while rounds.undisturbed() < arguments.rounds:
        order = list(running)
        generator.shuffle(order)
        one = {}
        for label in order:
            time.sleep(arguments.rest_ms * 1e-3)
            one[label] = running[label].ask("round", **sizes[label])
            own += one[label]["cpu"]
        rounds.add(one)
        if len(rounds) >= arguments.min_rounds and time.monotonic() - begin > arguments.case_seconds:
            break
    wall = time.monotonic() - begin
    return rounds, max(0.0, busy_seconds() - busy - own) / wall


def start_rounds(running, arguments, generator):
    found = {label: [] for label in running}
    for _ in range(arguments.start_rounds):
        order = list(running)
        generator.shuffle(order)
        for label in order:
            time.sleep(arguments.rest_ms * 1e-3)
            found[label].append(running[label].ask("start"))
    return found


def run_case(case, threads, specs, arguments, generator, folder, log):
    """All engines on one model at one batch and thread count."""
    result = {"model": case.name, "threads": threads, "batch": case.batch, "engines": {}}
    running = {}
    try:
        for spec in specs:
            try:
                running[spec.label], about = open_engine(spec, case, threads, folder, log)
                result["engines"][spec.label] = about
            except Failure as problem:
                result["engines"][spec.label] = {"failed": str(problem)}
        ours = specs[0].label
        rounds, foreign = time_rounds(running, threads, arguments, generator)
        memory = {label: process.ask("memory") for label, process in running.items()}
        idle = {label: process.ask("idle", seconds=arguments.idle_s)["share"] if arguments.idle_s else None
                for label, process in running.items()}
        starts = start_rounds(running, arguments, generator)
        result |= {"rounds": len(rounds), "foreign_cores": foreign}
        for label in running:
            about = result["engines"][label]
            about |= rounds.latency(label)
            about |= {"memory_peak": memory[label]["peak"], "memory_anonymous": memory[label]["anonymous"],
                      "memory_file": memory[label]["file"], "idle_share": idle[label],
                      "memory_engine": max(0, memory[label]["peak"] - memory[label]["base"])}
            if starts[label]:
                about["start_s"] = statistics.median(s["load_s"] + s["first_s"] - s["waited_s"] * (threads == 1)
                                                      for s in starts[label])
                about["start_load_s"] = statistics.median(s["load_s"] for s in starts[label])
            if label != ours and ours in running:
                about |= rounds.paired(label, ours)
    except Failure as problem:
        result["failed"] = str(problem)
    finally:
        for process in running.values():
            process.close()
    return result


def machine():
    name, model = "unknown", {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as f:
        for line in f:
            key, _, value = line.partition(":")
            model.setdefault(key.strip(), value.strip())
    name = model.get("model name") or model.get("CPU implementer", name)
    with open("/proc/meminfo", encoding="ascii") as f:
        total = int(f.readline().split()[1]) * 1024
    return {"processor": name, "family": model.get("cpu family"), "model": model.get("model"),
            "cores": len(os.sched_getaffinity(0)), "memory_bytes": total, "kernel": os.uname().release,
            "architecture": os.uname().machine}


def commit(library):
    """The commit that the library's folder belongs to, with "+" if files differ from it."""
    def git(*words):
        return subprocess.run(["git", "-C", os.path.dirname(os.path.abspath(library))] + list(words),
                              capture_output=True, text=True, check=False).stdout.strip()
    return git("rev-parse", "--short=12", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")


def pair(text):
    name, _, value = text.partition("=")
    return name, value


def parse():
    def numbers(text):
        return [int(x) for x in text.split(",")]
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("models", nargs="*", help="ONNX files, or folders of one model.onnx or of such folders")
    p.add_argument("--models", dest="more", default="", help="the same as one list with commas")
    p.add_argument("--library", default="build/release/libsparoa.so", help="libsparoa.so (%(default)s)")
    p.add_argument("--engines", default=ORACLE, help="peers, with commas (%(default)s); sparoa@PATH is another "
                   "libsparoa.so")
    p.add_argument("--threads", type=numbers, default=[1], help="such as 1,2")
    p.add_argument("--batch", type=numbers, default=[0], help="such as 1,8; 0: the inputs as the test set has them")
    p.add_argument("--rounds", type=int, default=15)
    p.add_argument("--min-rounds", type=int, default=5, help="even if --case-seconds is over")
    p.add_argument("--case-seconds", type=float, default=60, help="time for the rounds of one case")
    p.add_argument("--round-ms", type=float, default=50, help="least time of one engine's part of a round")
    p.add_argument("--rest-ms", type=float, default=20, help="rest before it")
    p.add_argument("--start-rounds", type=int, default=3, help="how often loading is timed; 0: not")
    p.add_argument("--idle-s", type=float, default=1, help="how long idleness is watched; 0: not")
    p.add_argument("--spin-us", type=int, default=0, help="spinning of libsparoa's workers (0: its default)")
    p.add_argument("--python", action="append", type=pair, default=[], help="ENGINE=interpreter that has it")
    p.add_argument("--pythonpath", action="append", type=pair, default=[], help="ENGINE=folder of more packages")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--out", help="JSON file; written after every case")
    p.add_argument("--log", default=os.devnull, help="file for what the engines print")
    arguments = p.parse_args()
    arguments.models += [m for m in arguments.more.split(",") if m]
    return p, arguments


def find_models(names):
    found = []
    for name in map(pathlib.Path, names):
        if name.is_dir():
            direct = name / "model.onnx"
            found += [direct] if direct.exists() else sorted(name.glob("*/model.onnx"))
        else:
            found.append(name)
    return [str(f) for f in found]


def measure_peaks(spec, arguments, log):
    peaks = {}
    for threads in arguments.threads:
        process = Process(spec, log)
        try:
            peaks[str(threads)] = process.ask("peak", library=spec.options["library"], threads=threads)
        finally:
            process.close()
    return peaks


def main():
    parser, arguments = parse()
    models = find_models(arguments.models)
    if not models:
        parser.error("no model given")
    specs = [Spec("sparoa", arguments)] + [Spec(e, arguments) for e in arguments.engines.split(",") if e]
    generator = random.Random(arguments.seed)
    with open(arguments.log, "a", encoding="utf-8") as log:
        document = {"schema": 1, "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
                    "command": " ".join(["bench/compare.py"] + [os.path.basename(a.rstrip("/")) if a.startswith("/")
                                                                else a for a in sys.argv[1:]]), "machine": machine(),
                    "commit": commit(arguments.library), "nice": os.getpriority(os.PRIO_PROCESS, 0),
                    "peaks": measure_peaks(specs[0], arguments, log), "ours": specs[0].label,
                    "peers": [s.label for s in specs[1:]], "cases": []}
        for model in models:
            for batch in arguments.batch:
                with tempfile.TemporaryDirectory() as folder:
                    try:
                        case = Case(model, batch, folder)
                        make_reference(case, arguments, folder, log)
                    except (Failure, OSError) as problem:
                        print(f"{model}: no reference: {problem}", file=sys.stderr)
                        document["cases"].append({"model": pathlib.Path(model).parent.name, "batch": batch,
                                                  "threads": 0, "engines": {}, "failed": str(problem)})
                        continue
                    for threads in arguments.threads:
                        result = run_case(case, threads, specs, arguments, generator, folder, log)
                        document["cases"].append(result)
                        print(tables.line(document, result), flush=True)
                        if arguments.out:
                            with open(arguments.out, "w", encoding="utf-8") as f:
                                json.dump(document, f, indent=1)
                                f.write("\n")
    print("\n" + tables.latency(document))
    return 0


if __name__ == "__main__":
    sys.exit(main())
