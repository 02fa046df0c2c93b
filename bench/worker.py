"""The process of one engine in bench/compare.py: reads commands from stdin, one JSON object a line,
and answers each with one. It blocks in read between commands, so that it costs nothing while
another engine is measured."""

import gc
import json
import math
import os
import resource
import statistics
import sys
import time
import traceback

import numpy as np


def memory(key):
    with open("/proc/self/status", encoding="ascii", errors="replace") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def reset_peak():
    """Makes VmHWM start again from the memory in use now; False where the system refuses."""
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as f:
            f.write("5")
        return True
    except OSError:
        return False


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def waited_seconds():
    """Time that the threads of this process were ready to run but had no core: what other
    processes took from it. Linux counts it per thread; 0 where it does not."""
    total = 0
    try:
        for task in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{task}/schedstat", encoding="ascii") as f:
                total += int(f.read().split()[1])
    except OSError:
        return 0.0
    return total * 1e-9


class Worker:
    def __init__(self):
        self.engine = None

    def feeds(self, path):
        with np.load(path) as data:
            names = [str(n) for n in data["names"]]
            return {name: np.require(data[f"a{i}"], requirements="CA") for i, name in enumerate(names)}

    def open(self, engine, threads, options, model, feeds, folder):
        """Imports the engine and loads the model: the time that an application waits."""
        import engines
        self.data = self.feeds(feeds)
        gc.collect()
        reset_peak()
        self.base = memory("VmRSS")
        start = time.perf_counter()
        self.engine = engines.ENGINES[engine](threads, options)
        imported = time.perf_counter()
        self.path = self.engine.convert(model, self.data, folder)
        converted = time.perf_counter()
        if self.path != model:
            # The converter ran in this process or left its garbage here: it is not inference.
            gc.collect()
            reset_peak()
        before = time.perf_counter()
        self.engine.load(self.path, self.data)
        loaded = time.perf_counter()
        self.engine.run()
        first = time.perf_counter()
        return {"version": self.engine.version, "notes": self.engine.notes, "import_s": imported - start,
                "convert_s": converted - imported, "load_s": loaded - before, "first_s": first - loaded,
                "info": self.engine.info()}

    def outputs(self, path):
        peak = memory("VmHWM")
        found = self.engine.outputs()
        np.savez(path, **{f"a{i}": a for i, a in enumerate(found)})
        return {"count": len(found), "peak_before": peak}

    def calibrate(self, seconds, group_s):
        """How many groups of how many inferences make a round of at least `seconds`."""
        run, best = self.engine.run, None
        begin = time.perf_counter()
        for _ in range(5):
            start = time.perf_counter()
            run()
            took = time.perf_counter() - start
            best = took if best is None else min(best, took)
            if time.perf_counter() - begin > 2 * seconds:
                break
        size = max(1, math.ceil(group_s / best))
        return {"group": size, "groups": max(1, math.ceil(seconds / (best * size)))}

    def round(self, group, groups):
        """Times of an inference in each group, the processor time of each, and
        the share of the time in which any thread waited for a core."""
        run, clock = self.engine.run, time.perf_counter
        times, alone, waits = [], [], []
        cpu = cpu_seconds()
        gc.disable()
        for _ in range(groups):
            waited, each = waited_seconds(), []
            cpu_before = time.process_time()
            for _ in range(group):
                start = clock()
                run()
                each.append(clock() - start)
            times.append(statistics.median(each))
            alone.append(min(sum(each), time.process_time() - cpu_before) / group)
            waits.append((waited_seconds() - waited) / sum(each))
        gc.enable()
        return {"times": times, "alone": alone, "waits": waits, "cpu": cpu_seconds() - cpu}

    def start(self):
        """Loads the model once more: the library and the file are in memory by now."""
        self.engine.close()
        gc.collect()
        waited, begin = waited_seconds(), time.perf_counter()
        self.engine.load(self.path, self.data)
        loaded = time.perf_counter()
        self.engine.run()
        return {"load_s": loaded - begin, "first_s": time.perf_counter() - loaded,
                "waited_s": max(0.0, waited_seconds() - waited)}

    def idle(self, seconds):
        """Share of a core that the process takes after work. The first moment, in which threads may
        still spin, is not counted."""
        self.engine.run()
        time.sleep(0.3)
        cpu, begin = cpu_seconds(), time.perf_counter()
        time.sleep(seconds)
        return {"share": (cpu_seconds() - cpu) / (time.perf_counter() - begin)}

    def memory(self):
        return {"peak": memory("VmHWM"), "base": self.base, "anonymous": memory("RssAnon"), "file": memory("RssFile")}

    def peak(self, library, threads):
        import sparoa_binding
        lib = sparoa_binding.Library(library)
        found = [sparoa_binding.measure_peak(lib, threads) for _ in range(5)]
        for key in ("gflops_one", "gflops_all", "bandwidth"):
            found[0][key] = max(f[key] for f in found)
        return found[0] | {"version": lib.version()}


def main():
    # Engines print to stdout: what goes to the parent gets a descriptor of its own.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    worker = Worker()
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as problem:  # whatever an engine throws becomes a line of the table
            traceback.print_exc()
            text = str(problem).strip().splitlines()
            answer = {"error": f"{type(problem).__name__}: {text[-1] if text else ''}"[:300]}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
