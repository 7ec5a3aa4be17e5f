"""Networks built to be looked into: their layers have names, their weights come from a generator you hand in."""

import math
from collections import OrderedDict
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils import skip_init

ACTIVATIONS = {
    "identity": nn.Identity,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "softplus": nn.Softplus,
}
"""Activation modules by name."""

_VARIANCE = {
    "xavier": lambda fan_in, fan_out: 2.0 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2.0 / fan_in,
    "lecun": lambda fan_in, fan_out: 1.0 / fan_in,
    "torch": lambda fan_in, fan_out: 1.0 / (3.0 * fan_in),
    "normal": lambda fan_in, fan_out: 1.0,
    "orthogonal": lambda fan_in, fan_out: 1.0 / max(fan_in, fan_out),
}
INITS = tuple(_VARIANCE)
"""Names of the initialization schemes."""


class Activation(nn.Module):
    """An elementwise function as a module, so that hooks can see it."""

    def __init__(self, function, name):
        super().__init__()
        self.function = function
        self.name = name

    def forward(self, pre_activation):
        """Apply the function to each entry."""
        return self.function(pre_activation)

    def extra_repr(self):
        """Return the function's name for the module's repr."""
        return self.name


def activation_name(activation):
    """Return the name under which an activation (a name or a callable) appears in layers and plots."""
    if isinstance(activation, str):
        return activation
    return getattr(activation, "__name__", type(activation).__name__).strip("<>")


def make_activation(activation):
    """Return a module for an activation given by name or as an elementwise callable on tensors, a module included.

    Raises:
        ValueError: for a name that is not in ACTIVATIONS.
        TypeError: for anything that is neither a name nor callable, and for a class in place of its instance.
    """
    if isinstance(activation, str):
        if activation not in ACTIVATIONS:
            raise ValueError(
                f"activation={activation!r} is unknown; take one of {', '.join(ACTIVATIONS)} or a callable on tensors"
            )
        return ACTIVATIONS[activation]()
    if isinstance(activation, nn.Module):
        return deepcopy(activation)  # each layer gets its own
    if callable(activation) and not isinstance(activation, type):
        return Activation(activation, activation_name(activation))
    raise TypeError(
        f"activation={activation!r} must be a name or a callable on tensors, not {type(activation).__name__}"
    )


def weight_variance(init, gain, fan_in, fan_out):
    """Return the variance of one weight, gain**2 times that of the scheme.

    Args:
        init: "xavier" 2/(fan_in+fan_out) (glorot2010), "he" 2/fan_in (he2015), "lecun" 1/fan_in, "torch" 1/(3 fan_in)
            (what nn.Linear draws by default, uniform), "normal" 1 (so that the gain is the standard deviation),
            "orthogonal" 1/max(fan_in, fan_out).
        gain: factor on every weight.
        fan_in: number of inputs of the layer.
        fan_out: number of its outputs.
    """
    if init not in _VARIANCE:
        raise ValueError(f"init={init!r} is unknown; take one of {', '.join(INITS)}")
    return gain**2 * _VARIANCE[init](fan_in, fan_out)


def draw_weight(init, gain, fan_in, fan_out, *, generator):
    """Draw a weight matrix of shape (fan_out, fan_in) in float64.

    float32 draws differ between types of CPU; float64 draws don't. Everything that the course initializes comes
    through here.
    """
    std = math.sqrt(weight_variance(init, gain, fan_in, fan_out))
    shape = (fan_out, fan_in)
    if init == "torch":
        bound = math.sqrt(3.0) * std  # a uniform draw on [-b, b] has the standard deviation b / sqrt(3)
        return bound * (2.0 * torch.rand(shape, dtype=torch.float64, generator=generator) - 1.0)
    normal = torch.randn(shape, dtype=torch.float64, generator=generator)
    if init == "orthogonal":
        return gain * _orthogonal(normal)
    return std * normal


def _orthogonal(normal):
    """Turn a Gaussian matrix into a uniformly distributed one with orthonormal rows or columns."""
    tall = normal if normal.shape[0] >= normal.shape[1] else normal.T
    q, r = torch.linalg.qr(tall)
    q = q * torch.sign(torch.diagonal(r))  # makes the draw uniform over rotations
    return q if tall is normal else q.T


def _linear(fan_in, fan_out, init, gain, bias_std, dtype, generator):
    layer = skip_init(nn.Linear, fan_in, fan_out, dtype=dtype)  # draws nothing from torch's global generator
    with torch.no_grad():
        layer.weight.copy_(draw_weight(init, gain, fan_in, fan_out, generator=generator))
        if init == "torch":
            bound = 1.0 / math.sqrt(fan_in)
            layer.bias.copy_(bound * (2.0 * torch.rand(fan_out, dtype=torch.float64, generator=generator) - 1.0))
        else:
            layer.bias.copy_(bias_std * torch.randn(fan_out, dtype=torch.float64, generator=generator))
    return layer


def mlp(
    depth,
    width,
    activation,
    *,
    generator,
    init="xavier",
    gain=1.0,
    bias_std=0.0,
    inputs=64,
    outputs=10,
    dtype=torch.float32,
):
    """Build a plain multilayer perceptron with named layers.

    Its children are ``linear1, sigmoid1, linear2, ..., linear<depth>``: `depth` linear layers with an activation after
    each but the last. Shapes go (B, inputs) -> (B, width) -> ... -> (B, outputs).

    Args:
        depth: number of linear layers, the output layer included.
        width: units of each hidden layer.
        activation: a name in ACTIVATIONS or an elementwise callable on tensors.
        generator: a torch.Generator; the global one is left alone.
        init: name of the initialization scheme, see weight_variance.
        gain: factor on every initial weight.
        bias_std: standard deviation of the initial biases (init="torch" draws nn.Linear's own instead).
        inputs: size of the input.
        outputs: number of classes.
        dtype: of the parameters.

    Raises:
        ValueError: for a depth or width below 1, an unknown activation or init.
    """
    if depth < 1 or width < 1:
        raise ValueError(f"mlp(depth={depth}, width={width}): depth and width must be >= 1")
    sizes = [inputs, *[width] * (depth - 1), outputs]
    name = activation_name(activation)
    if name.startswith("linear"):  # a function of that name would take the place of a layer
        name = "activation"
    layers = OrderedDict()
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        layers[f"linear{number}"] = _linear(fan_in, fan_out, init, gain, bias_std, dtype, generator)
        if number < depth:
            layers[f"{name}{number}"] = make_activation(activation).to(dtype)
    return nn.Sequential(layers)


@contextmanager
def one_thread():
    """Compute with one thread: the digits of a result then don't depend on how many this machine has.

    Matrices of this course are too small for a second thread to gain much, and where other processes want the
    processors too, threads that wait for each other make a run many times slower: 300 times was seen.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
