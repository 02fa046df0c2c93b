#!/usr/bin/env python3
"""Trains the bundled digits model and writes everything in this folder but the model card.

    python3 models/digits/train.py [--out DIR] [--epochs N]

Fixed seed, one thread: the same packages on the same processor give the same bytes.
"""
import argparse
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

SEED = 2026
TEST_SHARE = 0.2
UPSCALE = 8  # every pixel becomes a square of 8x8, so a whole-factor downscale gives it back exactly
PICTURES_OF_LABEL = {label: 2 if label in (3, 8) else 1 for label in range(10)}


class Block(nn.Module):
    """Convolution without bias, batch normalisation, ReLU."""

    def __init__(self, c_in, c_out, kernel, stride=1, group=1):
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=group, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x):
        return torch.relu(self.norm(self.conv(x)))


class DigitsNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = Block(1, 16, 3)
        self.depthwise = Block(16, 16, 3, group=16)
        self.pointwise = Block(16, 32, 1)
        self.down = Block(32, 40, 3, stride=2)
        self.residual = Block(40, 40, 3)
        self.classifier = nn.Linear(40, 10)

    def forward(self, x):
        x = self.down(self.pointwise(self.depthwise(self.stem(x))))
        x = x + self.residual(x)
        return self.classifier(x.mean((2, 3)))


def load_split():
    """Pictures as they come back from an 8-bit file: sixteen grey levels as k * 255 / 16, rounded."""
    digits = load_digits()
    pixels = np.rint(digits.images * 255 / 16).astype(np.uint8)[:, None]
    index = np.arange(len(pixels))
    train, test = train_test_split(index, test_size=TEST_SHARE, random_state=SEED,
                                   stratify=digits.target)
    return pixels, digits.target, train, test


def scaled(pixels):
    return pixels.astype(np.float32) / 255


def shifted(x, generator):
    """Each picture moved by up to one pixel, as a person's hand would."""
    padded = nn.functional.pad(x, (1, 1, 1, 1))
    dy, dx = torch.randint(0, 3, (2, len(x)), generator=generator)
    return torch.stack([p[:, j:j + 8, i:i + 8] for p, j, i in zip(padded, dy, dx)])


def train_net(x, y, epochs):
    torch.manual_seed(SEED)
    generator = torch.Generator().manual_seed(SEED)
    net, batch = DigitsNet(), 64
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3, weight_decay=1e-2)
    steps = epochs * (len(x) // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for epoch in range(epochs):
        order, total = torch.randperm(len(x), generator=generator), 0.0
        for i in range(0, len(x) - batch + 1, batch):
            pick = order[i:i + batch]
            loss = nn.functional.cross_entropy(net(shifted(x[pick], generator)), y[pick])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item()
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / (len(x) // batch):.4f}")
    return net.eval()


class GraphWriter:
    """Collects nodes and initialisers; batch normalisation stays a node of its own."""

    def __init__(self):
        self.nodes, self.weights = [], []

    def weight(self, name, tensor):
        self.weights.append(numpy_helper.from_array(tensor.detach().numpy(), name))
        return name

    def node(self, op, inputs, name, output=None, **attributes):
        output = output or name
        self.nodes.append(helper.make_node(op, inputs, [output], name=name, **attributes))
        return output

    def block(self, x, name, block):
        conv, norm = block.conv, block.norm
        pad = conv.padding[0]
        x = self.node("Conv", [x, self.weight(f"{name}.conv.weight", conv.weight)], f"{name}.conv",
                      kernel_shape=list(conv.kernel_size), strides=list(conv.stride),
                      pads=[pad] * 4, dilations=[1, 1], group=conv.groups)
        statistics = [self.weight(f"{name}.norm.{part}", getattr(norm, part))
                      for part in ("weight", "bias", "running_mean", "running_var")]
        x = self.node("BatchNormalization", [x, *statistics], f"{name}.norm", epsilon=norm.eps)
        return self.node("Relu", [x], f"{name}.relu")


def to_onnx(net, accuracy):
    g = GraphWriter()
    x = g.block("image", "stem", net.stem)
    x = g.block(x, "depthwise", net.depthwise)
    x = g.block(x, "pointwise", net.pointwise)
    skip = g.block(x, "down", net.down)
    x = g.block(skip, "residual", net.residual)
    x = g.node("Add", [skip, x], "residual.add")
    x = g.node("GlobalAveragePool", [x], "pool")
    x = g.node("Flatten", [x], "flatten", axis=1)
    x = g.node("Gemm", [x, g.weight("classifier.weight", net.classifier.weight),
                        g.weight("classifier.bias", net.classifier.bias)], "classifier", transB=1)
    g.node("Softmax", [x], "softmax", output="probabilities", axis=1)
    graph = helper.make_graph(
        g.nodes, "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 8, 8])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10])], g.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
                              producer_name="libsparoa models/digits/train.py")
    model.doc_string = "Handwritten digits, 8x8 greyscale, white ink on black, scaled 0..1"
    helper.set_model_props(model, {"licence": "Apache-2.0",
                                   "test_accuracy": f"{accuracy:.4f}"})
    onnx.checker.check_model(model, full_check=True)
    return model


def reference_session(model):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options,
                                providers=["CPUExecutionProvider"])


def accuracy_of(session, x, y):
    return float((session.run(None, {"image": x})[0].argmax(1) == y).mean())


def enlarged(picture):
    return Image.fromarray(picture[0].repeat(UPSCALE, 0).repeat(UPSCALE, 1), mode="L")


def check_round_trip(session, pixels, y):
    """Enlarged pictures, reduced again by each usual method, must give the same pixels."""
    for name in ("NEAREST", "BOX"):
        reduced = np.stack([np.asarray(enlarged(p).resize((8, 8), Image.Resampling[name]))[None]
                            for p in pixels])
        assert np.array_equal(reduced, pixels), name
        print(f"accuracy after enlarging and reducing ({name.lower()}): "
              f"{accuracy_of(session, scaled(reduced), y):.4f}")
    # Bilinear without a filter reads between pixels 8i+3 and 8i+4, which are equal.
    big = torch.from_numpy(pixels.repeat(UPSCALE, 2).repeat(UPSCALE, 3)).float() / 255
    small = nn.functional.interpolate(big, (8, 8), mode="bilinear", align_corners=False).numpy()
    assert np.abs(small - scaled(pixels)).max() < 1e-6
    print(f"accuracy after enlarging and reducing (bilinear): {accuracy_of(session, small, y):.4f}")


def write_pictures(folder, pixels, y, test, session):
    """The first held-out pictures of each label in the split's order, right or wrong."""
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("digit_*.png"):
        old.unlink()
    chosen = [i for label, count in PICTURES_OF_LABEL.items()
              for i in [i for i in test if y[i] == label][:count]]
    for i in chosen:
        enlarged(pixels[i]).save(folder / f"digit_{y[i]}_{i}.png", optimize=True)
        p = session.run(None, {"image": scaled(pixels[i:i + 1])})[0][0]
        print(f"test/digit_{y[i]}_{i}.png: {p.argmax()} ({p.max():.3f})")
    return chosen


def write_data_set(folder, session, x):
    folder.mkdir(parents=True, exist_ok=True)
    for kind, name, array in (("input", "image", x),
                              ("output", "probabilities", session.run(None, {"image": x})[0])):
        tensor = numpy_helper.from_array(array, name)
        (folder / f"{kind}_0.pb").write_bytes(tensor.SerializeToString())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path(__file__).parent)
    parser.add_argument("--epochs", type=int, default=80)
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    pixels, y, train, test = load_split()
    x = scaled(pixels)
    net = train_net(torch.from_numpy(x[train]), torch.from_numpy(y[train]), args.epochs)
    accuracy = accuracy_of(reference_session(to_onnx(net, 0)), x[test], y[test])
    model = to_onnx(net, accuracy)
    session = reference_session(model)
    print(f"{sum(p.numel() for p in net.parameters())} parameters, "
          f"{len(train)} training pictures, {len(test)} held out")
    print(f"training accuracy: {accuracy_of(session, x[train], y[train]):.4f}")
    print(f"test accuracy: {accuracy:.4f}")
    check_round_trip(session, pixels[test], y[test])
    assert accuracy >= 0.97, "the test accuracy is below 97 %"

    args.out.mkdir(parents=True, exist_ok=True)
    onnx.save(model, args.out / "digits.onnx")
    (args.out / "labels.txt").write_text("".join(f"{label}\n" for label in range(10)))
    chosen = write_pictures(args.out / "test", pixels, y, test, session)
    write_data_set(args.out / "test_data_set_0", session, x[chosen[:1]])
    write_data_set(args.out / "test_data_set_1", session, x[chosen])


if __name__ == "__main__":
    main()
