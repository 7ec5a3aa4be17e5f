"""Networks at initialization for explorers: the size of every layer's signal and gradient, in a few milliseconds.

What `gradcourse.measure` would record, without a model and its hooks: weights are drawn once, as standard normal
numbers, and scaled to where the sliders stand. In float64, since forty sigmoid layers leave less than float32 holds.
"""

import math
from functools import cache

import numpy as np
import torch
from torch.nn.functional import batch_norm, cross_entropy, layer_norm

from gradcourse import models
from gradcourse.data import digits
from gradcourse.explorer.wide_layers import WideLayers

WIDTH = 96
_PIXELS, _CLASSES = 64, 10


@models.one_thread()
def plain(depth, activation, *, init, gain=1.0, norm=None, batch=64):
    """Return the sizes of signal and gradient in a network without skips.

    Args:
        depth: number of linear layers.
        activation: a name.
        init: a name of gradcourse.initialization.
        gain: factor on every weight.
        norm: None, "batch" or "layer", behind each linear layer but the last.
        batch: images.

    Returns:
        RMS of h and RMS of dL/dh, h the output of a linear layer, float64 arrays (depth,), input side first.
    """
    x, y = images(batch)
    phi, normalize = models.make_activation(activation), _NORMS[norm]
    outputs = []
    for layer in range(1, depth + 1):
        h = x @ weight(layer, depth, init, gain).T  # (B, width)
        outputs.append(h.requires_grad_() if layer == 1 else h)
        x = phi(normalize(h))
    return _sizes(outputs, cross_entropy(h, y))


@models.one_thread()
def stream(blocks, activation, *, scale, skip=True, batch=32):
    """Return the sizes of signal and gradient along a residual stream x + scale * W phi(x), He's weights.

    Args:
        blocks: their number; a linear layer stands before the first and behind the last.
        activation: a name.
        scale: alpha, the factor on each branch.
        skip: whether the stream itself is handed on.
        batch: images.

    Returns:
        RMS of x and RMS of dL/dx, x in front of each block and behind the last, float64 arrays (blocks + 1,).
    """
    (x, y), depth, phi = images(batch), blocks + 2, models.make_activation(activation)
    x = (x @ weight(1, depth, "he").T).requires_grad_()  # (B, width)
    states = [x]
    for block in range(2, depth):
        branch = scale * (phi(x) @ weight(block, depth, "he").T)
        x = x + branch if skip else branch
        states.append(x)
    return _sizes(states, cross_entropy(x @ weight(depth, depth, "he").T, y))


def weight(layer, depth, init, gain=1.0):
    """Return the weights of one of the layers, counted from 1, (fan_out, fan_in)."""
    fan_in = _PIXELS if layer == 1 else WIDTH
    fan_out = _CLASSES if layer == depth else WIDTH
    return math.sqrt(models.weight_variance(init, gain, fan_in, fan_out)) * _normal(layer, fan_in, fan_out)


@cache
def _normal(layer, fan_in, fan_out):
    generator = torch.Generator().manual_seed(layer)
    return models.draw_weight("normal", 1.0, fan_in, fan_out, generator=generator)


@cache
def images(batch):
    """Return digits, (B, 64), and their classes."""
    split = digits()
    return split.x_train[:batch], split.y_train[:batch]


_NORMS = {
    None: lambda h: h,
    "batch": lambda h: batch_norm(h, None, None, training=True),
    "layer": lambda h: layer_norm(h, h.shape[1:]),
}


def _sizes(states, loss):
    return _rms(states), _rms(torch.autograd.grad(loss, states))


def _rms(tensors):
    norms = torch.stack([torch.linalg.vector_norm(tensor.detach()) for tensor in tensors]).numpy()
    return norms / np.sqrt([tensor.numel() for tensor in tensors])


@models.one_thread()
def plain_in_theory(depth, activation, *, init, gain=1.0):
    """Return what theory for wide layers says of `plain` without a norm.

    Returns:
        RMS of h, and RMS of dL/dh as a share of the last layer's, float64 arrays (depth,).
    """
    unit, q, variances = WideLayers(activation, 1.0), 1.0, []  # q: the mean square of what a layer gets
    for layer in range(1, depth + 1):
        fan_in, fan_out = _PIXELS if layer == 1 else WIDTH, _CLASSES if layer == depth else WIDTH
        variances.append(fan_in * models.weight_variance(init, gain, fan_in, fan_out) * q)
        q = float(unit.next_variance(variances[-1])[0])
    back = [width * models.weight_variance(init, gain, WIDTH, width) for width in (WIDTH, _CLASSES)]
    factors = unit.gradient_factor(variances[:-1]) * np.array([back[0]] * (depth - 2) + [back[1]])
    shares = np.cumprod(np.append(factors, 1.0)[::-1])[::-1]
    return np.sqrt(variances), np.sqrt(shares)
