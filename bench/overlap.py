"""What share of the time of a trace's copies was hidden behind computation of any device.

  overlap.py TRACE.json...      traces of `sparoa bench --trace` with a plan that uses two devices
  overlap.py --model FILE.onnx [SIDE DEPTH RATIO]
                                makes a model with work for two devices (needs the Python package onnx): squares of SIDE
                                (384); DEPTH (10) times RATIO (1) products dI_J for one, a product pI for the other, which
                                adds to it what the first made before

Slices of a trace begin where the work does: neither a copy's nor a node's counts what it waited for.
"""
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


def of_kind(events, *kinds):
    return [(e["ts"], e["ts"] + e["dur"], e["name"]) for e in events
            if e.get("ph") == "X" and e.get("cat") in kinds]


def hidden(events):
    """For each copy its name, time, and how much of that something was computed, in microseconds."""
    work = union((begin, end) for begin, end, _ in of_kind(events, "stream", "node"))
    for begin, end, name in of_kind(events, "copy"):
        yield name, end - begin, sum(max(0.0, min(end, b) - max(begin, a)) for a, b in work)


def read(path):
    with open(path, encoding="utf-8") as file:
        return json.load(file)["traceEvents"]


def share(path):
    """Microseconds of all copies of a trace and of those that were hidden, and both by name."""
    by_name = {}
    for name, time, covered in hidden(read(path)):
        sums = by_name.setdefault(name, [0, 0.0, 0.0])
        sums[0] += 1
        sums[1] += time
        sums[2] += covered
    total, covered = (sum(s[k] for s in by_name.values()) for k in (1, 2))
    return total, covered, by_name


def make_model(path, side=384, depth=10, ratio=1):
    import numpy
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = numpy.random.default_rng(1)
    nodes, weights, there, here = [], [], "x", "x"
    for i in range(depth):
        for name in (f"wd{i}", f"wp{i}"):
            values = random.standard_normal((side, side)) / side**0.5
            weights.append(numpy_helper.from_array(values.astype(numpy.float32), name))
        after = there
        for j in range(ratio):
            nodes.append(helper.make_node("MatMul", [after, f"wd{i}"], [f"d{i}_{j}"], name=f"d{i}_{j}"))
            after = f"d{i}_{j}"
        nodes.append(helper.make_node("MatMul", [here, f"wp{i}"], [f"p{i}"], name=f"p{i}"))
        nodes.append(helper.make_node("Add", [f"p{i}", there], [f"h{i}"], name=f"h{i}"))
        there, here = after, f"h{i}"
    nodes.append(helper.make_node("Add", [there, here], ["y"], name="y"))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [side, side]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "two", ends[:1], ends[1:], weights)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def main():
    if sys.argv[1:2] == ["--model"]:
        return make_model(sys.argv[2], *map(int, sys.argv[3:]))
    for path in sys.argv[1:]:
        total, covered, by_name = share(path)
        print(f"{path}: copies {total / 1e3:.1f} ms, "
              f"hidden {100 * covered / total if total else 0:.1f} %")
        for name, (count, time, part) in by_name.items():
            print(f"  {name}: {count} copies of {time / count:.0f} us, "
                  f"hidden {100 * part / max(time, 1e-9):.1f} %")
    return None


if __name__ == "__main__":
    main()
