#!/usr/bin/env python3
"""Writes the corpus of the fuzz targets: small models and tensors that reach the loader's branches.
Needs the Python packages onnx and numpy. Usage: make_corpus.py FOLDER (the one with load/ and tensor/)."""
import os
import sys

import numpy as np
from onnx import AttributeProto
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper as nh

folder = sys.argv[1]
count = 0


def write(kind, name, data):
    path = os.path.join(folder, kind)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, name), "wb") as f:
        f.write(data)


def model(name, nodes, inputs, outputs, init=(), functions=(), opset=17, ir=8, imports=(), **more):
    graph = h.make_graph(nodes, name, inputs, outputs, list(init), **more)
    opsets = [h.make_opsetid("", opset)] + [h.make_opsetid(d, v) for d, v in imports]
    m = h.make_model(graph, opset_imports=opsets, ir_version=ir, functions=list(functions), producer_name="corpus")
    write("load", name + ".onnx", m.SerializeToString())


def f32(name, *shape):
    return h.make_tensor_value_info(name, T.FLOAT, shape)


def const(name, array):
    return nh.from_array(np.asarray(array), name)


rng = np.random.default_rng(1)
r = lambda *s: rng.standard_normal(s).astype(np.float32)
N = h.make_node
x, y = f32("x", 1, 3, 8, 8), h.make_tensor_value_info("y", T.FLOAT, None)

model("conv", [N("Conv", ["x", "w", "b"], ["t"], pads=[1, 1, 1, 1], strides=[2, 2]), N("Relu", ["t"], ["u"]),
               N("GlobalAveragePool", ["u"], ["v"]), N("Flatten", ["v"], ["y"])], [x], [y],
      [const("w", r(4, 3, 3, 3)), const("b", r(4))])
model("pool_bn", [N("MaxPool", ["x"], ["p"], kernel_shape=[3, 3], ceil_mode=1, auto_pad="SAME_UPPER"),
                  N("BatchNormalization", ["p", "s", "s", "s", "s"], ["y"])], [x], [y], [const("s", r(3))])
model("conv_transpose", [N("ConvTranspose", ["x", "w"], ["y"], group=1, output_padding=[1, 1], strides=[2, 2])], [x],
      [y], [const("w", r(3, 2, 3, 3))])
model("gemm", [N("Gemm", ["a", "w", "b"], ["t"], transB=1, alpha=0.5), N("Softmax", ["t"], ["y"], axis=-1)],
      [f32("a", "batch", 16)], [y], [const("w", r(10, 16)), const("b", r(10))])
model("matmul_norm", [N("MatMul", ["a", "w"], ["m"]), N("LayerNormalization", ["m", "s"], ["y"], axis=-1)],
      [f32("a", 2, "seq", 4)], [y], [const("w", r(4, 4)), const("s", r(4))])
model("shapes", [N("Shape", ["x"], ["s"]), N("Gather", ["s", "i"], ["g"]), N("Unsqueeze", ["g", "ax"], ["u"]),
                 N("Concat", ["u", "m"], ["c"], axis=0), N("Reshape", ["x", "c"], ["y"])], [x], [y],
      [const("i", np.int64(0)), const("ax", np.array([0])), const("m", np.array([-1]))])
model("slices", [N("Slice", ["x", "st", "en", "ax", "sp"], ["t"]), N("Transpose", ["t"], ["u"], perm=[0, 2, 3, 1]),
                 N("Pad", ["u", "pads"], ["y"], mode="reflect")], [x], [y],
      [const("st", np.array([1, -1])), const("en", np.array([2**62, -9])), const("ax", np.array([1, 2])),
       const("sp", np.array([1, -2])), const("pads", np.array([0, 1, 1, 0, 0, 1, 1, 0]))])
model("split_resize", [N("Split", ["x", "n"], ["a", "", "b"], axis=3), N("Resize", ["a", "", "sc"], ["y"], mode="linear")],
      [x], [y], [const("n", np.array([2, 3, 3])), const("sc", np.array([1, 1, 2, 2.5], np.float32))])
model("expand_tile", [N("ConstantOfShape", ["sh"], ["c"], value=const("", np.array([2.5], np.float32))),
                      N("Expand", ["c", "to"], ["e"]), N("Tile", ["e", "n"], ["y"])], [], [y],
      [const("sh", np.array([2, 1])), const("to", np.array([2, 5])), const("n", np.array([1, 2]))])
model("scatter", [N("ScatterND", ["a", "i", "u"], ["s"]), N("TopK", ["s", "k"], ["v", "w"], axis=0),
                  N("NonZero", ["v"], ["nz"]), N("OneHot", ["w", "d", "ov"], ["y"])], [f32("a", 6)],
      [y], [const("i", np.array([[1], [3]])), const("u", r(2)), const("k", np.array([3])), const("d", np.array(6)),
            const("ov", np.array([0, 1], np.float32))])
model("reduce_einsum", [N("ReduceSum", ["a", "ax"], ["s"], keepdims=0), N("Einsum", ["a", "a"], ["e"], equation="bij,bkj->bik"),
                        N("CumSum", ["s", "zero"], ["y"])], [f32("a", 2, 3, 4)], [y, h.make_tensor_value_info("e", T.FLOAT, None)],
      [const("ax", np.array([1])), const("zero", np.array(0))])
for op, k in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
    model(op.lower(), [N(op, ["a", "w", "r", "b"], ["y", "h"], hidden_size=4, direction="bidirectional")],
          [f32("a", "T", 1, 3)], [y], [const("w", r(2, 4 * k, 3)), const("r", r(2, 4 * k, 4)), const("b", r(2, 8 * k))])
model("quant", [N("QuantizeLinear", ["x", "s", "z"], ["q"]), N("DequantizeLinear", ["q", "s", "z"], ["y"])], [x], [y],
      [const("s", np.float32(0.1)), const("z", np.uint8(128))])
model("nms", [N("NonMaxSuppression", ["bx", "sc", "m", "iou"], ["y"])], [f32("bx", 1, 6, 4), f32("sc", 1, 1, 6)],
      [h.make_tensor_value_info("y", T.INT64, ["k", 3])], [const("m", np.array(3)), const("iou", np.float32(0.5))])
model("constants", [N("Constant", [], ["a"], value_floats=[1.0, 2.0]), N("Constant", [], ["b"], value_int=3),
                    N("Constant", [], ["c"], value=const("", r(2))), N("Add", ["a", "c"], ["t"]),
                    N("Constant", [], ["s"], sparse_value=h.make_sparse_tensor(const("v", r(1)), const("", np.array([1])), [2])),
                    N("Mul", ["t", "s"], ["y"])], [], [y])
model("casts", [N("Cast", ["x"], ["h"], to=T.FLOAT16), N("Cast", ["h"], ["i"], to=T.INT8), N("Cast", ["i"], ["b"], to=T.BOOL),
                N("Where", ["b", "x", "h2"], ["y"])], [x], [y], [const("h2", np.float32(1))])

body = h.make_graph([N("Add", ["v", "one"], ["v2"]), N("Identity", ["c"], ["c2"]), N("Add", ["v2", "x0"], ["o"])], "body",
                    [h.make_tensor_value_info("i", T.INT64, []), h.make_tensor_value_info("c", T.BOOL, []), f32("v", 2)],
                    [h.make_tensor_value_info("c2", T.BOOL, []), f32("v2", 2), f32("o", 2)], [const("one", np.float32(1))])
model("loop", [N("Loop", ["n", "", "x0"], ["last", "y"], body=body)], [f32("x0", 2)], [f32("last", 2), y],
      [const("n", np.array(3))])
branch = lambda op: h.make_graph([N(op, ["x0"], [op + "o"])], op, [], [f32(op + "o", 2)])
model("if", [N("ReduceSum", ["x0"], ["s"], keepdims=0), N("Cast", ["s"], ["b"], to=T.BOOL),
             N("If", ["b"], ["y"], then_branch=branch("Relu"), else_branch=branch("Neg"))], [f32("x0", 2)], [y])
scan = h.make_graph([N("Add", ["st", "e"], ["so"]), N("Identity", ["so"], ["ys"])], "scan", [f32("st", 2), f32("e", 2)],
                    [f32("so", 2), f32("ys", 2)])
model("scan", [N("Scan", ["x0", "seq"], ["fin", "y"], body=scan, num_scan_inputs=1)], [f32("x0", 2), f32("seq", 5, 2)],
      [f32("fin", 2), y])



def reference(name, to):
    return AttributeProto(name=name, type=AttributeProto.FLOAT, ref_attr_name=to)


leaky = N("LeakyRelu", ["a"], ["b"])
leaky.attribute.append(reference("alpha", "slope"))
f = h.make_function("local", "act", ["a"], ["b"], [leaky], [h.make_opsetid("", 17)],
                    attribute_protos=[h.make_attribute("slope", 0.25)])
g = h.make_function("local", "twice", ["a"], ["c", "a"], [N("act", ["a"], ["b"], domain="local", slope=0.5),
                                                          N("act", ["b"], ["c"], domain="local")],
                    [h.make_opsetid("", 17), h.make_opsetid("local", 1)])
model("functions", [N("twice", ["x"], ["t", "u"], domain="local"), N("Add", ["t", "u"], ["y"])], [x], [y],
      functions=[f, g], imports=[("local", 1)], ir=9)
model("old", [N("Upsample", ["x", "sc"], ["u"], mode="nearest"), N("Dropout", ["u"], ["y"], ratio=0.5)], [x, f32("sc", 4)], [y],
      [const("sc", np.array([1, 1, 2, 2], np.float32))], opset=9, ir=3)
model("unsupported", [N("Foo", ["x"], ["a"], domain="com.acme"), N("Bar", ["a"], ["y"])], [x], [y], imports=[("com.acme", 1)])
ext = T(name="w", data_type=T.FLOAT, dims=[2], data_location=T.EXTERNAL)
ext.external_data.add(key="location", value="../w.bin")
model("external", [N("Add", ["x", "w"], ["y"])], [x], [y], [ext])
model("strings", [N("Identity", ["s"], ["y"])], [], [h.make_tensor_value_info("y", T.STRING, [1])],
      [h.make_tensor("s", T.STRING, [1], [b"text"])])
typed = [h.make_tensor(f"t{t}", t, [3], [0, 1, 1]) for t in (1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 16)]
model("typed", [N("Identity", ["t1"], ["y"])], [], [y], typed)

for t in typed:
    write("tensor", t.name + ".pb", t.SerializeToString())
for dtype in (np.float32, np.int64, np.bool_):
    write("tensor", f"raw_{np.dtype(dtype).name}.pb", const("r", np.arange(300).astype(dtype)).SerializeToString())
write("tensor", "packed.pb", h.make_tensor("p", T.INT64, [2000], [(-1) ** i * i for i in range(2000)]).SerializeToString())
write("tensor", "floats.pb", h.make_tensor("p", T.FLOAT, [300], range(300)).SerializeToString())
