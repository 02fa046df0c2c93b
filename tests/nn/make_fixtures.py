#!/usr/bin/env python3
"""Writes fixtures/nn.bin: inputs, parameters, outputs and gradients of every layer of src/nn, from PyTorch.

Usage: make_fixtures.py [OUT]      (torch 2.5.1; about 50 KB)

The file is a list of arrays: a line "name count" in ASCII, then count little-endian float32. Parameters and
their gradients are flat, in the order that src/nn/nn.h lays them out; W is stored [in][out].
"""
import pathlib
import sys

import numpy as np
import torch
from torch import nn

torch.manual_seed(20)
arrays = []


def put(name, tensor):
    arrays.append((name, np.array(tensor.detach().numpy(), dtype="<f4").ravel()))  # a copy


def linear(w, b):
    return [w.T.reshape(-1), b.reshape(-1)]


def case(name, x, run, parts):
    """parts(get): list of flat arrays, from get(p) of each parameter."""
    x.requires_grad_(True)
    y = run(x)
    dy = torch.randn_like(y)
    y.backward(dy)
    for key, t in dict(x=x, y=y, dy=dy, dx=x.grad).items():
        put(f"{name}.{key}", t)
    if parts:
        put(f"{name}.params", torch.cat(parts(lambda p: p.detach())))
        put(f"{name}.grads", torch.cat(parts(lambda p: p.grad)))


def attention_parts(m, g):
    return linear(g(m.in_proj_weight), g(m.in_proj_bias)) + \
        linear(g(m.out_proj.weight), g(m.out_proj.bias))


m = nn.Linear(7, 9)
case("linear", torch.randn(5, 7), m, lambda g: linear(g(m.weight), g(m.bias)))

norm = nn.LayerNorm(24)
nn.init.normal_(norm.weight)
nn.init.normal_(norm.bias)
case("norm", torch.randn(5, 24) * 3 + 1, norm, lambda g: [g(norm.weight), g(norm.bias)])

att = nn.MultiheadAttention(16, 4, batch_first=True)
nn.init.normal_(att.in_proj_bias)
nn.init.normal_(att.out_proj.bias)
case("attention", torch.randn(1, 6, 16), lambda x: att(x, x, x, need_weights=False)[0],
     lambda g: attention_parts(att, g))

lstm = nn.LSTM(6, 5, bidirectional=True, batch_first=True)
with torch.no_grad():  # ours has one bias, PyTorch two that add up
    lstm.bias_hh_l0.zero_()
    lstm.bias_hh_l0_reverse.zero_()
case("lstm", torch.randn(1, 7, 6), lambda x: lstm(x)[0], lambda g: (
    linear(g(lstm.weight_ih_l0), g(lstm.bias_ih_l0)) + [g(lstm.weight_hh_l0).T.reshape(-1)] +
    linear(g(lstm.weight_ih_l0_reverse), g(lstm.bias_ih_l0_reverse)) +
    [g(lstm.weight_hh_l0_reverse).T.reshape(-1)]))

enc = nn.TransformerEncoderLayer(16, 4, 32, dropout=0, batch_first=True, norm_first=True)
for p in (enc.norm1.weight, enc.norm1.bias, enc.norm2.weight, enc.norm2.bias):
    nn.init.normal_(p)
case("encoder", torch.randn(1, 6, 16), enc, lambda g: (
    [g(enc.norm1.weight), g(enc.norm1.bias)] + attention_parts(enc.self_attn, g) +
    [g(enc.norm2.weight), g(enc.norm2.bias)] + linear(g(enc.linear1.weight), g(enc.linear1.bias)) +
    linear(g(enc.linear2.weight), g(enc.linear2.bias))))

mlp = nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh(), nn.Linear(12, 3))
case("mlp", torch.randn(5, 7), mlp, lambda g: sum(
    (linear(g(mlp[i].weight), g(mlp[i].bias)) for i in (0, 2, 4)), []))

for name, f in dict(relu=torch.relu, tanh=torch.tanh, sigmoid=torch.sigmoid,
                    silu=nn.functional.silu, gelu=nn.functional.gelu).items():
    case(name, torch.randn(3, 11) * 2, f, None)

y, target = torch.randn(40, requires_grad=True), torch.randn(40)
loss = nn.functional.mse_loss(y, target)
loss.backward()
for key, t in dict(y=y, target=target, loss=loss.reshape(1), dy=y.grad).items():
    put(f"mse.{key}", t)

p = torch.randn(50, requires_grad=True)
put("adam.before", p)
opt = torch.optim.Adam([p], lr=1e-2)
for step in range(3):
    p.grad = torch.randn(50)
    put(f"adam.grad{step}", p.grad)
    opt.step()
    put(f"adam.after{step}", p)

out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "fixtures/nn.bin")
with out.open("wb") as f:
    for name, a in arrays:
        f.write(f"{name} {a.size}\n".encode() + a.tobytes())
