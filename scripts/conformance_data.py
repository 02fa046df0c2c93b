#!/usr/bin/env python3
"""Writes ONNX's node and simple backend tests, from the Python package onnx, in ONNX's test layout.

    python3 scripts/conformance_data.py OUT [--manifest FILE]

With a manifest (tests that must pass, as `sparoa test --write-manifest` writes them) only the tests
named there are written, and OUT/manifest.txt names those of them that this version of onnx has.
"""
import argparse
import pathlib
import warnings

from onnx import TensorProto, numpy_helper
from onnx.backend.test.case import model as model_cases
from onnx.backend.test.case import node as node_cases

WRITERS = {"sequence_type": numpy_helper.from_list, "optional_type": numpy_helper.from_optional,
           "map_type": numpy_helper.from_dict, "tensor_type": numpy_helper.from_array}


def listed(path):
    """The lines of a manifest by test name."""
    lines = {}
    for line in path.read_text().splitlines():
        words = line.split("#")[0].replace(":", " ").split()
        if words:
            lines[words[1] if words[0] in ("skip", "quant") else words[0]] = line
    return lines


def write_values(folder, kind, values, infos):
    for number, (value, info) in enumerate(zip(values, infos)):
        if not isinstance(value, TensorProto):
            value = WRITERS[info.type.WhichOneof("value")](value, info.name)
        (folder / f"{kind}_{number}.pb").write_bytes(value.SerializeToString())


def write_case(case, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(case.model.SerializeToString())
    for number, (inputs, outputs) in enumerate(case.data_sets):
        data = folder / f"test_data_set_{number}"
        data.mkdir(exist_ok=True)
        write_values(data, "input", inputs, case.model.graph.input)
        write_values(data, "output", outputs, case.model.graph.output)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--manifest", type=pathlib.Path)
    args = parser.parse_args()
    wanted = listed(args.manifest) if args.manifest else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = [*node_cases.collect_testcases(None), *model_cases.collect_testcases()]
    written = []
    for case in cases:
        name = f"{case.kind}/{case.name}"
        if case.model is None or not case.data_sets or (wanted is not None and name not in wanted):
            continue
        write_case(case, args.out / name)
        written.append(name)
    if wanted is not None:
        (args.out / "manifest.txt").write_text("".join(f"{wanted[name]}\n" for name in written))
    print(f"{len(written)} tests written to {args.out}")


if __name__ == "__main__":
    main()
