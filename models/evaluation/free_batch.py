"""One graph for any batch size out of two exports at fixed, different batch sizes.

Exported with a dynamic batch, a transformer drags shape arithmetic through every reshape; exported
with a fixed one, the exporter folds all of that into constants. Two fixed exports have the same
nodes and differ just in the constants that hold the batch, and these can be made free.
"""
import numpy as np
from onnx import TensorProto, helper, numpy_helper, shape_inference
from onnx.reference import ReferenceEvaluator


def constants(graph):
    """Constant tensors by name, wherever the exporter keeps them."""
    found = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            node.attribute[0].t.name = node.output[0]
            found[node.output[0]] = node.attribute[0].t
    return found


def known_shapes(graph):
    """Dimensions of the tensors that have no free one."""
    shapes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            shapes[value.name] = np.array([d.dim_value for d in dims], np.int64)
    return shapes


def fold(model):
    """Computes what depends on constants and fixed shapes alone; the exporter leaves some of it."""
    graph = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    known, shapes = constants(graph), known_shapes(graph)
    fixed, left = [], []
    for node in graph.node:
        if node.op_type == "Shape" and node.input[0] in shapes and not node.attribute:
            node = helper.make_node("Constant", [], node.output, node.name, value=(
                numpy_helper.from_array(shapes[node.input[0]], node.output[0])))
        elif node.op_type == "Constant" or not all(i in known or not i for i in node.input):
            left.append(node)
            continue
        fixed.append(node)
        known.update(dict.fromkeys(node.output))
    needed = {name for node in left for name in node.input}
    results = [name for node in fixed for name in node.output if name in needed]
    used = {name for node in fixed for name in node.input}
    inputs = [tensor for name, tensor in known.items() if tensor is not None and name in used]
    part = helper.make_graph(fixed, "constants", [],
                             [helper.make_empty_tensor_value_info(name) for name in results], inputs)
    evaluator = ReferenceEvaluator(helper.make_model(part, opset_imports=model.opset_import))
    for name, value in zip(results, evaluator.run(None, {}) if results else ()):
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    del graph.node[:]
    graph.node.extend(n for n in left if n.op_type != "Constant" or n.output[0] in needed)
    for tensor in [tensor for tensor in graph.initializer if tensor.name not in needed]:
        graph.initializer.remove(tensor)
    model.graph.CopyFrom(graph)
    return model


def fold_all(model):
    """Folds until nothing more becomes known: a folded constant can settle a shape after it."""
    count = 0
    while count != len(model.graph.node):
        count = len(model.graph.node)
        model = fold(model)
    return model


def freed_shape(a, b, consumers, name):
    """The target of a Reshape with -1 where the batch was."""
    changed = np.flatnonzero(a != b)
    if len(changed) != 1 or (a == -1).any() or any(node.op_type != "Reshape" for node in consumers):
        raise ValueError(f"constant {name}: {a.tolist()} against {b.tolist()} can't be made free")
    freed = a.copy()
    freed[changed[0]] = -1
    return freed


def expand_to_batch(graph, name, value, rank):
    """Nodes that repeat a tensor of batch 1 as often as the input's batch says."""
    batch, shape, full = f"{name}.batch", f"{name}.shape", f"{name}.expanded"
    graph.initializer.append(numpy_helper.from_array(value, name))
    for part, content in (("first", [0]), ("next", [1]), ("ones", [1] * (rank - 1))):
        graph.initializer.append(numpy_helper.from_array(np.array(content, np.int64),
                                                         f"{name}.{part}"))
    nodes = [
        helper.make_node("Shape", [graph.input[0].name], [f"{name}.input_shape"]),
        helper.make_node("Slice", [f"{name}.input_shape", f"{name}.first", f"{name}.next"], [batch]),
        helper.make_node("Concat", [batch, f"{name}.ones"], [shape], axis=0),
        helper.make_node("Expand", [name, shape], [full]),
    ]
    for node in nodes:
        node.name = f"{name}/{node.op_type}"
    return full, nodes


def merge(first, second):
    """first with the batch made free; raises ValueError where the two don't match."""
    first, second = fold_all(first), fold_all(second)
    if [n.op_type for n in first.graph.node] != [n.op_type for n in second.graph.node]:
        raise ValueError("the two exports have different nodes")
    graph, other = first.graph, constants(second.graph)
    renamed, added = {}, []
    for name, tensor in constants(graph).items():
        a, b = numpy_helper.to_array(tensor), numpy_helper.to_array(other[name])
        if a.shape == b.shape and np.array_equal(a, b):
            continue
        if a.dtype == np.int64 and a.shape == b.shape:
            users = [node for node in graph.node if name in node.input]
            tensor.CopyFrom(numpy_helper.from_array(freed_shape(a, b, users, name), name))
        elif a.shape[1:] == b.shape[1:] and np.array_equal(a[0], b[-1]) and (a == a[:1]).all():
            graph.initializer.remove(tensor)
            renamed[name], nodes = expand_to_batch(graph, name, a[:1].copy(), a.ndim)
            added += nodes
        else:
            raise ValueError(f"constant {name}: {a.shape} against {b.shape} can't be made free")
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = renamed.get(name, name)
    kept = list(graph.node)
    del graph.node[:]
    graph.node.extend(added + kept)
    for value in (*graph.input, *graph.output):
        assert value.type.tensor_type.elem_type == TensorProto.FLOAT
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del graph.value_info[:]
    return first
