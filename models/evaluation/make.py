#!/usr/bin/env python3
"""Makes the evaluation models: five architectures with seeded random weights, dense and pruned.

    python3 models/evaluation/make.py OUT [--models NAME ...] [--sparsity PERCENT ...]

No weights are downloaded. Each model is written as OUT/NAME/model.onnx with reference tensors at
batch 1 and 8 (test_data_set_0, test_data_set_1), pruned ones as OUT/NAME_pPERCENT, and its sizes
as a line of OUT/models.tsv.
"""
import argparse
import collections
import gc
import io
import pathlib
import warnings
import zlib

import numpy as np
import onnx
import onnx.shape_inference
import onnxruntime as ort
import torch
import torchvision
from onnx import numpy_helper
from torch import nn

import free_batch

SEED = 2026
CLASSES = 1000
SIZE = 224
OPSET = 17
BATCHES = (1, 8)
CALIBRATION = 48  # pictures
ERROR_LIMIT = 2e-5  # of the largest logit
LOGIT_SPREAD = 2.0  # standard deviation of the logits over the classes, as in trained classifiers

# Parameters, operators and FLOPs as the paper gives them (its two MobileNet rows look swapped).
PAPER = {
    "resnet18": ("11.7 M", 53, "1.8 G"),
    "mobilenet_v3_small": ("3.5 M", 112, "0.3 G"),
    "mobilenet_v2": ("2.5 M", 121, "0.05 G"),
    "vit_b_16": ("86 M", 65, "17.6 G"),
    "swin_t": ("28 M", 125, "4.5 G"),
}
COLUMNS = ("name", "parameters", "nonzero", "weight_sparsity", "macs", "operators", "node_kinds",
           "bytes", "relu_sparsity", "activation_sparsity_max", "logit_std", "error_to_double",
           "paper_parameters", "paper_operators", "paper_flops")


def pictures(count, seed):
    """Noise with the falling spectrum of photographs, normalised as photographs are."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(count, 3, SIZE, SIZE)
    for side in (4, 7, 14, 28, 56, 112, 224):
        noise = torch.randn(count, 3, side, side, generator=generator)
        grey = torch.randn(count, 1, side, side, generator=generator)
        layer = 0.4 * noise + 0.6 * grey
        x += nn.functional.interpolate(layer, (SIZE, SIZE), mode="bilinear",
                                       align_corners=False) * (4 / side) ** 0.6
    return x / x.std((1, 2, 3), keepdim=True)


def initialise(net):
    """He for convolutions, Xavier for linear layers, spread affine parameters for normalisations."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out" if module.groups == 1 else "fan_in")
            if module.groups > 1:
                module.weight.data += 1.5 * module.weight.data.std()  # smoothing, as most learned are
        elif isinstance(module, nn.Linear):
            nn.init.xavier_normal_(module.weight)
        elif isinstance(module, nn.MultiheadAttention):
            nn.init.xavier_normal_(module.in_proj_weight)
            nn.init.normal_(module.in_proj_bias, std=0.02)
        elif isinstance(module, (nn.BatchNorm2d, nn.LayerNorm)):
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.15)
            continue
        else:
            continue
        if getattr(module, "bias", None) is not None:
            nn.init.normal_(module.bias, std=0.02)
    for name, parameter in net.named_parameters():
        if name.endswith(("class_token", "pos_embedding", "relative_position_bias_table")):
            nn.init.normal_(parameter, std=0.2)
    blocks = torchvision.models
    for module in net.modules():
        if isinstance(module, blocks.resnet.BasicBlock):
            # A sum with a rectified branch is mostly positive: centre what the ReLU after it sees.
            module.bn2.bias.data -= 0.6
        elif isinstance(module, (blocks.mobilenetv2.InvertedResidual,
                                 blocks.mobilenetv3.InvertedResidual)):
            # Branches quieter than the skip keep a deep random net from amplifying rounding.
            last = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)][-1]
            last.weight.data *= 0.5
            last.bias.data *= 0.5


def prunable(net):
    """Weights of 1x1 convolutions and of linear layers, the ones stored as matrices."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1 and module.kernel_size == (1, 1):
            yield module.weight
        elif isinstance(module, nn.Linear):
            yield module.weight
        elif isinstance(module, nn.MultiheadAttention):
            yield module.in_proj_weight


def prune(net, percent):
    """Sets the smallest weights of each layer to zero and gives the others the lost energy back."""
    for weight in prunable(net):
        flat = weight.data.view(-1)
        energy = flat.square().sum()
        smallest = flat.abs().argsort(stable=True)[:flat.numel() * percent // 100]
        flat[smallest] = 0
        flat *= (energy / flat.square().sum()).sqrt()


def calibrate_norms(net, x):
    """Batch-normalisation statistics of the pictures, in one pass, layer after layer."""
    def set_statistics(norm, inputs):
        variance, mean = torch.var_mean(inputs[0], (0, 2, 3))
        # A channel that hardly varies would be blown up, rounding errors and all.
        norm.running_var.copy_(variance.clamp(min=0.3 * float(variance.mean())))
        norm.running_mean.copy_(mean)

    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(set_statistics) for norm in norms]
    if hooks:
        net(x)
    for hook in hooks:
        hook.remove()


def calibrate_head(net, x):
    """Centres and scales the logits, so that they tell pictures apart."""
    head = [m for m in net.modules() if isinstance(m, nn.Linear) and m.out_features == CLASSES][-1]
    head.bias.data.zero_()
    logits = net(x)
    mean = logits.mean(0)
    scale = LOGIT_SPREAD / (logits - mean).std()
    head.weight.data *= scale
    head.bias.data = -mean * scale + 0.5 * torch.randn(CLASSES)


def measure(net, x):
    """Shares of zeros behind each ReLU, and behind each activation of any kind."""
    relu, every, hooks = [], [], []

    def on_activation(module, _, output):
        share = float((output == 0).float().mean())
        every.append(share)
        if isinstance(module, (nn.ReLU, nn.ReLU6)):
            relu.append(share)

    for module in net.modules():
        if isinstance(module, (nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.GELU)):
            hooks.append(module.register_forward_hook(on_activation))
    net(x)
    for hook in hooks:
        hook.remove()
    return relu, every


def multiply_adds(model):
    """Of convolutions and matrix products at batch 1; None where a shape stays unknown."""
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    shapes = free_batch.known_shapes(onnx.shape_inference.infer_shapes(model, data_prop=True).graph)
    shapes.update((tensor.name, np.array(tensor.dims)) for tensor in model.graph.initializer)
    total = 0
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm", "MatMul"):
            continue
        if any(name not in shapes for name in (*node.input[:2], node.output[0])):
            return None
        a, b = (shapes[name] for name in node.input[:2])
        depth = b[1:].prod() if node.op_type == "Conv" else a[-1]
        total += int(shapes[node.output[0]].prod() * depth)
    return total


def exported(net, batch, **options):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (pictures(batch, SEED),), buffer, input_names=["input"],
                          output_names=["logits"], opset_version=OPSET, do_constant_folding=True,
                          dynamo=False, **options)
    return onnx.load_from_string(buffer.getvalue())


def export(net, path, raw):
    """Writes the graph as PyTorch's exporter gives it, batch normalisation folded, any batch."""
    if raw:
        axes = {"input": {0: "batch"}, "logits": {0: "batch"}}
        model = exported(net, 2, dynamic_axes=axes)
    else:
        model = free_batch.merge(exported(net, 2), exported(net, 3))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def write_references(folder, net):
    """Tensors of onnxruntime without optimisation; their error against double precision."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(str(folder / "model.onnx"), options,
                                   providers=["CPUExecutionProvider"])
    error = 0.0
    for number, batch in enumerate(BATCHES):
        x = pictures(batch, SEED + 100 + number)
        logits = session.run(["logits"], {"input": x.numpy()})[0]
        assert logits.shape == (batch, CLASSES) and np.isfinite(logits).all()
        exact = net.double()(x[:2].double()).numpy()  # slow, so a few pictures are enough
        net.float()
        error = max(error, float(np.abs(logits[:2] - exact).max() / np.abs(exact).max()))
        target = folder / f"test_data_set_{number}"
        target.mkdir(exist_ok=True)
        for kind, name, array in (("input", "input", x.numpy()), ("output", "logits", logits)):
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
            (target / f"{kind}_0.pb").write_bytes(tensor.SerializeToString())
    if error > ERROR_LIMIT:
        raise SystemExit(f"{folder.name}: ill-conditioned, error {error:.1e} to double precision")
    return error, float(logits.std())


def make(name, percent, raw, out):
    label = name + (f"_p{percent}" if percent else "") + ("_raw" if raw else "")
    folder = out / label
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(SEED + zlib.crc32(name.encode()) % 1000)
    net = getattr(torchvision.models, name)(weights=None, num_classes=CLASSES).eval()
    with torch.no_grad():
        initialise(net)
        if percent:
            prune(net, percent)
        x = pictures(CALIBRATION, SEED + 1)
        calibrate_norms(net, x)
        calibrate_head(net, x)
        relu, every = measure(net, pictures(1, SEED + 2))
        export(net, folder / "model.onnx", raw)
        error, spread = write_references(folder, net)
    model = onnx.load(folder / "model.onnx")
    kinds = collections.Counter(node.op_type for node in model.graph.node)
    operators = sum(count for kind, count in kinds.items() if kind not in ("Constant", "Identity"))
    macs = multiply_adds(model)
    parameters = sum(p.numel() for p in net.parameters())
    nonzero = sum(int(p.count_nonzero()) for p in net.parameters())
    row = dict(zip(COLUMNS, (
        label, parameters, nonzero, f"{1 - nonzero / parameters:.3f}", macs, operators,
        " ".join(f"{kind}:{count}" for kind, count in kinds.most_common()),
        (folder / "model.onnx").stat().st_size, f"{np.mean(relu):.2f}" if relu else "-",
        f"{max(every):.2f}", f"{spread:.2f}", f"{error:.1e}", *PAPER[name]), strict=True))
    print(f"{label}: {parameters / 1e6:.2f} M parameters (paper {PAPER[name][0]}), "
          f"{operators} operators (paper {PAPER[name][1]}), "
          f"{f'{macs / 1e9:.2f}' if macs else '?'} G multiply-adds (paper {PAPER[name][2]}), "
          f"{1 - nonzero / parameters:.0%} of the weights zero, zeros after ReLU "
          f"{row['relu_sparsity']}, logits' deviation {spread:.2f}, error {error:.1e}", flush=True)
    return row


def save_rows(path, rows):
    """Replaces the lines of the models made now, keeps the others."""
    table = {}
    if path.exists():
        for line in path.read_text().splitlines()[1:]:
            table[line.split("\t")[0]] = line
    for row in rows:
        table[row["name"]] = "\t".join(str(value) for value in row.values())
    path.write_text("\n".join(["\t".join(COLUMNS), *(table[k] for k in sorted(table))]) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--models", nargs="+", choices=list(PAPER), default=list(PAPER))
    parser.add_argument("--sparsity", nargs="+", type=int, default=[0, 80, 90, 95],
                        help="per cent of the weights set to zero, 0 for the dense model")
    parser.add_argument("--raw", action="store_true",
                        help="keep the shape arithmetic of an export with dynamic batch, as NAME_raw")
    args = parser.parse_args()
    if any(not 0 <= percent < 100 for percent in args.sparsity):
        parser.error("--sparsity takes per cent from 0 to 99")
    torch.use_deterministic_algorithms(True)
    torch.backends.mha.set_fastpath_enabled(False)  # has no ONNX form
    args.out.mkdir(parents=True, exist_ok=True)
    for percent in args.sparsity:
        for name in args.models:
            save_rows(args.out / "models.tsv", [make(name, percent, args.raw, args.out)])
            gc.collect()


if __name__ == "__main__":
    main()
