"""What share of the time of a trace's copies was hidden behind computation.

  overlap.py TRACE.json...      traces of `sparoa bench --trace` with a plan that uses two devices
  overlap.py --model FILE.onnx  makes a model with work for two devices (needs the Python package onnx): products d0, d1 ... for
                                one, p0, p1 ... for the other, which adds to each what the first made before

A copy counts from when what it copies was made (the queue may have waited for that before), a node of the host
from when the last copy that ended in its time was there (it may have waited for that), so neither side counts waiting.
"""
import bisect
import json
import sys


def union(spans):
    merged = []
    for begin, end in sorted(spans):
        if begin >= end:
            continue
        if merged and begin <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([begin, end])
    return merged


def of_kind(events, kind):
    return sorted(((e["ts"], e["ts"] + e["dur"], e["name"]) for e in events if e.get("cat") == kind))


def hidden(events):
    """For each copy its name, time, and how much of that something was computed, in microseconds."""
    streams, copies, nodes = (of_kind(events, k) for k in ("stream", "copy", "node"))
    made = {}
    for _, end, name in streams:
        made.setdefault(name, []).append(end)
    ends = sorted(end for _, end, _ in copies)
    work = [(begin, end) for begin, end, _ in streams]
    for begin, end, _ in nodes:
        last = bisect.bisect_left(ends, end) - 1
        work.append((max(begin, ends[last]) if last >= 0 else begin, end))
    work = union(work)
    for begin, end, name in copies:
        before = [t for t in made.get(name, []) if t <= end]
        begin = max([begin] + before[-1:])
        yield name, end - begin, sum(max(0.0, min(end, b) - max(begin, a)) for a, b in work)


def make_model(path, side=384, depth=10):
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(1)
    nodes, weights, there, here = [], [], "x", "x"
    for i in range(depth):
        for name in (f"wd{i}", f"wp{i}"):
            values = random.standard_normal((side, side)) / side**0.5
            weights.append(numpy_helper.from_array(values.astype(numpy.float32), name))
        nodes.append(helper.make_node("MatMul", [there, f"wd{i}"], [f"d{i}"], name=f"d{i}"))
        nodes.append(helper.make_node("MatMul", [here, f"wp{i}"], [f"p{i}"], name=f"p{i}"))
        nodes.append(helper.make_node("Add", [f"p{i}", there], [f"h{i}"], name=f"h{i}"))
        there, here = f"d{i}", f"h{i}"
    nodes.append(helper.make_node("Add", [there, here], ["y"], name="y"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [side, side]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


if sys.argv[1:2] == ["--model"]:
    make_model(sys.argv[2])
    sys.exit()
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        text = json.load(file)
    events = text["traceEvents"] if isinstance(text, dict) else text
    by_name = {}
    for name, time, covered in hidden([e for e in events if e.get("ph") == "X"]):
        sums = by_name.setdefault(name, [0, 0.0, 0.0])
        sums[0] += 1
        sums[1] += time
        sums[2] += covered
    total, covered = (sum(s[k] for s in by_name.values()) for k in (1, 2))
    print(f"{path}: copies {total / 1e3:.1f} ms, hidden {100 * covered / total if total else 0:.1f} %")
    for name, (count, time, part) in by_name.items():
        print(f"  {name}: {count} copies of {time / count:.0f} us, hidden {100 * part / max(time, 1e-9):.1f} %")
