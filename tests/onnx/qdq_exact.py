#!/usr/bin/env python3
"""Evaluates a quantised model of the form QuantizeLinear/DequantizeLinear in double precision, exactly as its nodes
say, and compares with reference outputs and, if given, with ours. A development tool:

    python tests/onnx/qdq_exact.py ../shared/models/mobilenetv2_qdq_224 [FOLDER...]

FOLDER: where `sparoa run MODEL --input test_data_set_K/input_0.pb --output FOLDER` wrote its output, one for each data
set. Needs numpy, onnx and torch (models/requirements.txt)."""
import glob
import sys

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper

TYPES = {1: torch.float64, 2: torch.uint8, 3: torch.int8, 6: torch.int32, 7: torch.int64, 11: torch.float64}


def load(path):
    tensor = onnx.TensorProto()
    tensor.ParseFromString(open(path, "rb").read())
    return numpy_helper.to_array(tensor)


def per_axis(scale, x, axis):
    if scale.numel() == 1:
        return scale.reshape(())
    return scale.reshape([-1 if i == axis % x.dim() else 1 for i in range(x.dim())])


def node(op, x, a):
    if op == "Identity":
        return x[0]
    if op == "Cast":
        return x[0].to(TYPES[a["to"]])
    if op == "DequantizeLinear":
        zero = x[2].double() if len(x) > 2 else torch.zeros(1, dtype=torch.float64)
        axis = a.get("axis", 1)
        return (x[0].double() - per_axis(zero, x[0], axis)) * per_axis(x[1].double(), x[0], axis)
    if op == "QuantizeLinear":
        axis = a.get("axis", 1)
        q = torch.round(x[0] / per_axis(x[1].double(), x[0], axis)) + per_axis(x[2].double(), x[0], axis)
        info = torch.iinfo(x[2].dtype)
        return q.clamp(info.min, info.max).to(x[2].dtype)
    if op == "Conv":
        pads = a.get("pads", [0, 0, 0, 0])
        assert pads[:2] == pads[2:]
        return torch.nn.functional.conv2d(x[0], x[1], x[2] if len(x) > 2 else None, a.get("strides", [1, 1]), pads[:2],
                                          a.get("dilations", [1, 1]), a.get("group", 1))
    if op == "Relu":
        return x[0].relu()
    if op == "Add":
        return x[0] + x[1]
    if op == "GlobalAveragePool":
        return x[0].mean((2, 3), keepdim=True)
    if op == "Flatten":
        return x[0].flatten(1)
    if op == "Gemm":
        return x[0] @ (x[1].T if a.get("transB") else x[1]) + x[2]
    raise SystemExit(f"no double-precision {op} here")


def evaluate(graph, value):
    env = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    env[graph.input[0].name] = torch.from_numpy(value.astype(np.float64))
    for n in graph.node:
        a = {x.name: helper.get_attribute_value(x) for x in n.attribute}
        if n.op_type == "Constant":
            env[n.output[0]] = torch.from_numpy(numpy_helper.to_array(a["value"]).copy())
        else:
            env[n.output[0]] = node(n.op_type, [env[i] for i in n.input if i], a)
    return env[graph.output[0].name].numpy().ravel()


folder, ours = sys.argv[1], sys.argv[2:]
graph = onnx.load(folder + "/model.onnx").graph
for k, case in enumerate(sorted(glob.glob(folder + "/test_data_set_*"))):
    exact = evaluate(graph, load(case + "/input_0.pb"))
    reference = load(case + "/output_0.pb").ravel()
    wrong = np.abs(exact - reference)
    print(f"{case.split('/')[-1]}: exact against the reference: largest difference {wrong.max():.3g} on "
          f"{(wrong > 1e-5 * np.abs(exact).max()).sum()} of {exact.size} values")
    if k < len(ours):
        mine = np.load(glob.glob(ours[k] + "/*.npy")[0]).ravel()
        print(f"    exact against ours: largest difference {np.abs(exact - mine).max():.3g}")
