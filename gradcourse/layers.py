"""The layers that torch does not have, or not so that a network of the course could be looked into or repeated."""

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import nn
from torch.nn.functional import linear

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


class Dropout(nn.Module):
    """Set each entry to 0 with probability p while training and scale the others by 1/(1-p).

    The n-th mask follows from a seed, drawn at construction, and from n, which is a buffer: a copy, or a model that is
    put back to an earlier state, drops the same entries again.
    """

    def __init__(self, p, generator):
        super().__init__()
        self.p = p
        self.seed = int(torch.randint(2**62, (), generator=generator))
        self.register_buffer("masks", torch.tensor(0))

    def forward(self, h):
        """Return h with entries dropped in training mode, h itself in evaluation mode."""
        if not self.training:
            return h
        generator = torch.Generator().manual_seed(self.seed + int(self.masks))
        self.masks += 1
        kept = torch.rand(h.shape, generator=generator) >= self.p
        return h * kept.to(h) / (1.0 - self.p)

    def extra_repr(self):
        """Return the probability for the module's repr."""
        return f"p={self.p}"


class Linear(nn.Linear):
    """A linear layer whose parameters hold anything until they are set: torch would draw from its global generator."""

    def reset_parameters(self):
        """Draw nothing."""


class Conv2d(nn.Conv2d):
    """A convolution whose parameters hold anything until they are set."""

    def reset_parameters(self):
        """Draw nothing."""


class WeightNormLinear(Linear):
    """A linear layer that uses scale * weight / |weight| for each output (salimans2016)."""

    def forward(self, x):
        """Apply the layer with its normalized weight."""
        return linear(x, _weight_normed(self), self.bias)


class WeightNormConv2d(Conv2d):
    """A convolution that uses scale * weight / |weight| for each output channel (salimans2016)."""

    def forward(self, x):
        """Apply the layer with its normalized weight."""
        return self._conv_forward(x, _weight_normed(self), self.bias)


def _weight_normed(layer):
    direction = layer.weight.flatten(1)
    factor = layer.scale / torch.linalg.vector_norm(direction, dim=1)
    return (factor[:, None] * direction).view_as(layer.weight)


class Block(nn.Sequential):
    """A residual block, x + scale * branch(x); its children are the branch."""

    def __init__(self, branch, scale):
        super().__init__(OrderedDict(branch))
        self.scale = scale

    def forward(self, x):
        """Add the scaled branch to the stream."""
        return x + self.scale * super().forward(x)
