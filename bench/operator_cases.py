"""One-node models for operators.py: kinds of operators at sizes that networks have, most on 64 maps of 56x56."""

import collections

import numpy as np
from onnx import TensorProto, helper, numpy_helper

Case = collections.namedtuple("Case", "group name model feeds")
MAPS = (1, 64, 56, 56)
NEAREST = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}


class Cases:
    def __init__(self):
        self.all, self.random, self.group = [], np.random.default_rng(1), ""

    def floats(self, *shape, low=None, high=None):
        values = self.random.standard_normal(shape) if low is None else self.random.uniform(low, high, shape)
        return values.astype(np.float32)

    def add(self, name, op, inputs, constants=(), opset=18, outputs=1, **attributes):
        """One node: inputs are given in each run, constants are part of the model."""
        feeds = {f"x{i}": np.asarray(v) for i, v in enumerate(inputs)}
        fixed = [numpy_helper.from_array(np.asarray(v), f"c{i}") for i, v in enumerate(constants)]
        results = [f"y{i}" for i in range(outputs)]
        node = helper.make_node(op, [*feeds, *(t.name for t in fixed)], results, **attributes)
        graph = helper.make_graph(
            [node], "one",
            [helper.make_tensor_value_info(k, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape) for k, v in feeds.items()],
            [helper.make_empty_tensor_value_info(r) for r in results], fixed)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
        self.all.append(Case(self.group, name, model.SerializeToString(), feeds))


def reductions(c):
    for op in ("ReduceMax", "ReduceMean", "ReduceSum", "ReduceL2", "ReduceLogSumExp"):
        for axes in ((2, 3), (3,), (1,), (0, 1, 2, 3)):
            c.add(f"{op} {axes}", op, [c.floats(*MAPS)], [np.array(axes)])
    for axis in (1, 3):
        c.add(f"ArgMax {axis}", "ArgMax", [c.floats(*MAPS)], axis=axis)
    c.add("TopK 5 of 3136", "TopK", [c.floats(64, 3136)], [np.array([5])], outputs=2)
    c.add("CumSum 3", "CumSum", [c.floats(*MAPS)], [np.array(3)])
    c.add("GlobalAveragePool", "GlobalAveragePool", [c.floats(*MAPS)])


def normalisations(c):
    x, row = c.floats(*MAPS), lambda: c.floats(64)
    for axis in (1, 3):
        c.add(f"Softmax {axis}", "Softmax", [x], axis=axis)
        c.add(f"LogSoftmax {axis}", "LogSoftmax", [x], axis=axis)
        c.add(f"LpNormalization {axis}", "LpNormalization", [x], axis=axis)
    c.add("InstanceNormalization", "InstanceNormalization", [x], [row(), row()])
    c.add("GroupNormalization 8", "GroupNormalization", [x], [row(), row()], 21, num_groups=8)
    c.add("BatchNormalization", "BatchNormalization", [x], [row(), row(), row(), c.floats(64, low=.5, high=2)])
    c.add("LayerNormalization 64", "LayerNormalization", [c.floats(3136, 64)], [row(), row()])
    c.add("RMSNormalization 64", "RMSNormalization", [c.floats(3136, 64)], [row()], 23)


def elementwise(c):
    x, y = c.floats(*MAPS), c.floats(*MAPS)
    for op in ("Sin", "Cos", "Floor", "Ceil", "Round", "Selu", "Celu", "Elu", "Softplus", "Softsign", "Mish", "Exp", "Erf",
               "Sigmoid", "Tanh", "Gelu", "HardSwish", "Relu", "LeakyRelu", "Neg", "Abs", "Reciprocal", "Atan"):
        c.add(op, op, [x], opset=20)
    for op in ("Log", "Sqrt"):
        c.add(op, op, [c.floats(*MAPS, low=.01, high=10)])
    for op in ("Add", "Mul", "Div", "Max", "Less", "Equal"):
        c.add(op, op, [x, y])
    c.add("Where", "Where", [x > 0, x, y])
    c.add("Clip", "Clip", [x], [np.float32(-.5), np.float32(.5)])
    c.add("Pow 2.2", "Pow", [c.floats(*MAPS, low=.01, high=10)], [np.float32(2.2)])
    c.add("PRelu", "PRelu", [x], [c.floats(64, 1, 1)])
    half = x.astype(np.float16)
    c.add("Add of float16", "Add", [half, half])


def conversions(c):
    x = c.floats(*MAPS)
    for name, source, to in (("float16 to float32", np.float16, TensorProto.FLOAT),
                             ("float32 to float16", np.float32, TensorProto.FLOAT16),
                             ("float32 to int64", np.float32, TensorProto.INT64),
                             ("uint8 to float32", np.uint8, TensorProto.FLOAT),
                             ("float32 to uint8", np.float32, TensorProto.UINT8)):
        c.add(f"Cast {name}", "Cast", [np.abs(x * 50).astype(source)], to=to)
    scale, zero = np.float32(.02), np.uint8(128)
    c.add("QuantizeLinear", "QuantizeLinear", [x], [scale, zero])
    c.add("DequantizeLinear", "DequantizeLinear", [c.random.integers(0, 255, MAPS).astype(np.uint8)], [scale, zero])
    c.add("DynamicQuantizeLinear", "DynamicQuantizeLinear", [x], outputs=3)


def movements(c):
    x, y, none = c.floats(*MAPS), c.floats(*MAPS), np.array([], np.float32)
    def resize(name, size, **how):
        c.add(f"Resize {name}", "Resize", [x], [none, np.array([1, 1, size, size], np.float32)], 13, **how)
    resize("nearest, 2", 2, **NEAREST)
    resize("nearest, half", .5, **NEAREST)
    resize("linear, 2", 2, mode="linear")
    resize("linear, half", .5, mode="linear")
    resize("cubic, 2", 2, mode="cubic")
    c.add("Concat 1", "Concat", [x, y], axis=1)
    c.add("Concat 3", "Concat", [x, y], axis=3)
    c.add("Split 1", "Split", [x], outputs=2, axis=1, num_outputs=2)
    c.add("Slice", "Slice", [x], [np.array([8]), np.array([48]), np.array([3])])
    c.add("Pad", "Pad", [x], [np.array([0, 0, 1, 1, 0, 0, 1, 1])])
    c.add("Gather of rows", "Gather", [c.floats(3136, 64)], [c.random.integers(0, 3136, 3136)], axis=0)
    c.add("GatherElements 3", "GatherElements", [x], [c.random.integers(0, 56, MAPS)], axis=3)
    c.add("Expand", "Expand", [c.floats(1, 64, 1, 1)], [np.array(MAPS)])
    for perm in ((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3)):
        c.add(f"Transpose {perm}", "Transpose", [x], perm=perm)
    c.add("DepthToSpace", "DepthToSpace", [x], blocksize=2)
    c.add("SpaceToDepth", "SpaceToDepth", [x], blocksize=2)
    c.add("GridSample", "GridSample", [x, c.floats(1, 56, 56, 2, low=-1, high=1)], opset=16, mode="bilinear")
    c.add("Einsum bij,bjk->bik", "Einsum", [c.floats(8, 56, 64), c.floats(8, 64, 56)], equation="bij,bjk->bik")


def convolutions(c):
    def conv(name, c_in, c_out, groups, *size, kernel=3, stride=1, dilation=1, computed=False):
        weights = c.floats(c_out, c_in // groups, *[kernel] * len(size)) / np.float32(kernel * np.sqrt(c_in // groups))
        pads = [dilation * (kernel // 2)] * (2 * len(size))
        c.add(name, "Conv", [c.floats(1, c_in, *size)] + [weights] * computed, [] if computed else [weights], group=groups,
              strides=[stride] * len(size), dilations=[dilation] * len(size), pads=pads)
    def transposed(name, c_in, c_out, groups, *size, kernel, stride, pad):
        weights = c.floats(c_in, c_out // groups, *[kernel] * len(size)) / np.float32(kernel * np.sqrt(c_in // groups))
        c.add(name, "ConvTranspose", [c.floats(1, c_in, *size)], [weights], group=groups, strides=[stride] * len(size),
              pads=[pad] * (2 * len(size)))
    conv("Conv 64 at 56x56", 64, 64, 1, 56, 56)
    for per_group, channels, size in ((2, 64, 56), (4, 128, 56), (8, 256, 28), (16, 512, 14), (32, 1024, 7)):
        conv(f"Conv {channels} in groups of {per_group} at {size}x{size}", channels, channels, channels // per_group, size, size)
    conv("Conv 256 in groups of 8, stride 2", 256, 256, 32, 56, 56, stride=2)
    conv("Conv 1x1, 240 in 3 groups", 240, 240, 3, 28, 28, kernel=1)
    conv("Conv depthwise, 64 at 56x56", 64, 64, 64, 56, 56)
    conv("Conv depthwise, dilation 2", 256, 256, 256, 28, 28, dilation=2)
    conv("Conv depthwise, two outputs each", 64, 128, 64, 56, 56)
    conv("Conv, dilation 12", 256, 256, 1, 28, 28, dilation=12)
    conv("Conv, weights computed", 64, 64, 1, 28, 28, computed=True)
    conv("Conv 3-D, 32 at 16x28x28", 32, 32, 1, 16, 28, 28)
    conv("Conv 3-D depthwise, 54", 54, 54, 54, 16, 28, 28)
    transposed("ConvTranspose 2x2, stride 2, 256 to 128", 256, 128, 1, 28, 28, kernel=2, stride=2, pad=0)
    transposed("ConvTranspose 4x4, stride 2, 256", 256, 256, 1, 16, 16, kernel=4, stride=2, pad=1)
    transposed("ConvTranspose 4x4, stride 2, 64 to 3", 64, 3, 1, 64, 64, kernel=4, stride=2, pad=1)
    transposed("ConvTranspose 4x4 depthwise, 64", 64, 64, 64, 56, 56, kernel=4, stride=2, pad=1)
    transposed("ConvTranspose 3-D, 2x2x2, stride 2", 64, 32, 1, 8, 14, 14, kernel=2, stride=2, pad=0)
    for op in ("MaxPool", "AveragePool"):
        c.add(f"{op} 3x3", op, [c.floats(*MAPS)], kernel_shape=[3, 3], pads=[1] * 4)
        c.add(f"{op} 3-D", op, [c.floats(1, 64, 8, 56, 56)], kernel_shape=[2, 2, 2], strides=[2, 2, 2])


def make():
    cases = Cases()
    for family in (reductions, normalisations, elementwise, conversions, movements, convolutions):
        cases.group = family.__name__
        family(cases)
    return cases.all
