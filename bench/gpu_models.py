#!/usr/bin/env python3
"""Writes the evaluation models as ONNX files for a machine without a network: random weights.

    python3 bench/gpu_models.py OUT [NAME ...]

models/evaluation/make.py makes the same architectures with calibrated weights and references, which
takes minutes; latency on a GPU does not depend on the weights.
"""
import io
import pathlib
import sys
import warnings

import onnx
import torch
import torchvision

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "models" / "evaluation"))
import free_batch  # noqa: E402

MODELS = ("resnet18", "mobilenet_v3_small", "mobilenet_v2", "vit_b_16", "swin_t")


def exported(net, batch):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.randn(batch, 3, 224, 224),), buffer, input_names=["input"],
                          output_names=["logits"], opset_version=17, do_constant_folding=True,
                          dynamo=False)
    return onnx.load_from_string(buffer.getvalue())


def main():
    out = pathlib.Path(sys.argv[1])
    torch.backends.mha.set_fastpath_enabled(False)  # has no ONNX form
    for name in sys.argv[2:] or MODELS:
        torch.manual_seed(1)
        net = getattr(torchvision.models, name)(weights=None).eval()
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        with torch.no_grad():
            onnx.save(free_batch.merge(exported(net, 2), exported(net, 3)), folder / "model.onnx")


if __name__ == "__main__":
    main()
