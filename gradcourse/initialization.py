"""Initial weights: how they are drawn, and the one scheme that looks at the data."""

import math

import torch
from torch import nn

_VARIANCE = {
    "xavier": lambda fan_in, fan_out: 2.0 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2.0 / fan_in,
    "lecun": lambda fan_in, fan_out: 1.0 / fan_in,
    "torch": lambda fan_in, fan_out: 1.0 / (3.0 * fan_in),
    "normal": lambda fan_in, fan_out: 1.0,
    "orthogonal": lambda fan_in, fan_out: 1.0 / max(fan_in, fan_out),
}
INITS = tuple(_VARIANCE)
"""Names of the random initialization schemes whose variance a formula gives."""

_FIXED = {"constant": 1.0, "zero": 0.0}
OTHER_INITS = (*_FIXED, "lsuv")
"""Names of the schemes without such a formula: every weight the same, and the scale set by data (see lsuv)."""


def weight_variance(init, gain, fan_in, fan_out):
    """Return the variance of one weight, gain**2 times that of the scheme.

    Args:
        init: "xavier" 2/(fan_in+fan_out) (glorot2010), "he" 2/fan_in (he2015), "lecun" 1/fan_in, "torch" 1/(3 fan_in)
            (what nn.Linear draws by default, uniform), "normal" 1 (so that the gain is the standard deviation),
            "orthogonal" 1/max(fan_in, fan_out).
        gain: factor on every weight.
        fan_in: number of inputs of the layer.
        fan_out: number of its outputs.

    Raises:
        ValueError: for a name that is not in INITS.
    """
    if init in OTHER_INITS:
        raise ValueError(f"init={init!r} has no formula for the variance of a weight; {', '.join(INITS)} have one")
    if init not in _VARIANCE:
        raise ValueError(f"init={init!r} is unknown; take one of {', '.join((*INITS, *OTHER_INITS))}")
    return gain**2 * _VARIANCE[init](fan_in, fan_out)


def draw_weight(init, gain, fan_in, fan_out, *, generator, rows=None):
    """Draw a weight matrix of shape (fan_out, fan_in) in float64.

    float32 draws differ between types of CPU; float64 draws don't. Everything that the course initializes comes
    through here.

    Args:
        init: a name in INITS or OTHER_INITS: "constant" makes every weight 1, "zero" 0, "lsuv" is the orthogonal draw
            that the function lsuv starts from.
        gain: factor on every weight.
        fan_in: number of inputs of the layer.
        fan_out: number of its outputs.
        generator: a torch.Generator.
        rows: number of rows where it is not fan_out: an input of a k x k convolution reaches k*k outputs per channel,
            all of them through one row of the matrix for each channel.
    """
    shape = (rows or fan_out, fan_in)
    if init in _FIXED:
        return torch.full(shape, gain * _FIXED[init], dtype=torch.float64)
    if init in ("orthogonal", "lsuv"):
        return gain * _orthogonal(torch.randn(shape, dtype=torch.float64, generator=generator))
    std = math.sqrt(weight_variance(init, gain, fan_in, fan_out))
    if init == "torch":
        return _uniform(shape, math.sqrt(3.0) * std, generator)  # on [-b, b] the standard deviation is b / sqrt(3)
    return std * torch.randn(shape, dtype=torch.float64, generator=generator)


def draw_bias(init, std, fan_in, fan_out, *, generator):
    """Draw the biases of a layer in float64, shape (fan_out,): Gaussian, or nn.Linear's own for init="torch"."""
    if init == "torch":
        return _uniform(fan_out, 1.0 / math.sqrt(fan_in), generator)
    return std * torch.randn(fan_out, dtype=torch.float64, generator=generator)


def _uniform(shape, bound, generator):
    return bound * (2.0 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1.0)


def _orthogonal(normal):
    """Turn a Gaussian matrix into a uniformly distributed one with orthonormal rows or columns."""
    tall = normal if normal.shape[0] >= normal.shape[1] else normal.T
    q, r = torch.linalg.qr(tall)
    q = q * torch.sign(torch.diagonal(r))  # makes the draw uniform over rotations
    return q if tall is normal else q.T


def lsuv(model, x, gain=1.0):
    """Scale each layer's weights so that its pre-activations have the standard deviation `gain` on a batch.

    One forward pass, in which the weights of each linear or convolution layer are divided by the standard deviation of
    what it puts out, first layer first (mishkin2016). A layer that puts out a constant stays as it is.

    Args:
        model: any torch module; it is changed in place.
        x: a batch of inputs.
        gain: the standard deviation that every layer gets.
    """

    def fit(layer, inputs, output):
        spread = output.std(correction=0)
        if spread > 0:
            layer.weight.mul_(gain / spread)
        return layer.forward(*inputs)  # the layers behind see what this one puts out now

    training = model.training
    handles = [m.register_forward_hook(fit) for m in model.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    try:
        with torch.no_grad():
            model.eval()(x)  # without dropout
    finally:
        model.train(training)
        for handle in handles:
            handle.remove()
