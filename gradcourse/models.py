"""Networks built to be looked into: their layers have names, their weights come from a generator you hand in."""

from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from functools import partial

import torch
from torch import nn

from gradcourse.initialization import INITS, OTHER_INITS, draw_bias, draw_weight, lsuv, weight_variance
from gradcourse.layers import (
    ACTIVATIONS,
    Activation,
    Block,
    Conv2d,
    Dropout,
    Linear,
    WeightNormConv2d,
    WeightNormLinear,
    activation_name,
    make_activation,
)

__all__ = [
    "ACTIVATIONS",
    "GROUPS",
    "INITS",
    "NORMS",
    "OTHER_INITS",
    "RESIDUALS",
    "Activation",
    "activation_name",
    "branch_scale",
    "convnet",
    "draw_weight",
    "lsuv",
    "make_activation",
    "mlp",
    "one_thread",
    "weight_variance",
]

GROUPS = 8
"""Groups of units (channels) that norm="group" normalizes apart."""

_NORMS = {  # behind linear layers and behind convolutions, for the number of their outputs
    "batch": {"linear": nn.BatchNorm1d, "conv": nn.BatchNorm2d},
    "layer": {"linear": nn.LayerNorm, "conv": partial(nn.GroupNorm, 1)},
    "group": {"linear": partial(nn.GroupNorm, GROUPS), "conv": partial(nn.GroupNorm, GROUPS)},
}
NORMS = (*_NORMS, "weight")
"""Names of the normalizations."""

_ORDER = {  # of the parts of one hidden layer, for each kind of residual connection
    None: ("map", "norm", "activation", "dropout"),
    "add": ("activation", "dropout", "map", "norm"),
    "scaled": ("activation", "dropout", "map", "norm"),
    "rezero": ("activation", "dropout", "map", "norm"),
    "preactivation": ("norm", "activation", "dropout", "map"),
}
RESIDUALS = tuple(filter(None, _ORDER))
"""Names of the kinds of residual connections."""


def branch_scale(residual, scale, depth):
    """Return the factor on the residual branches of a network at initialization.

    Args:
        residual: a name in RESIDUALS: without a scale of your own it is 1 for "add" and "preactivation", one over the
            square root of the number of blocks for "scaled", and 0 for "rezero", which learns it (bachlechner2021).
        scale: a scale of your own, or None.
        depth: of the network; all layers but the first and the last are blocks.
    """
    if scale is not None:
        return float(scale)
    return {"scaled": max(depth - 2, 1) ** -0.5, "rezero": 0.0}.get(residual, 1.0)


@dataclass(frozen=True)
class _Layers:
    """How the layers of one network are made: everything that they have in common."""

    kind: str  # of the hidden maps: "linear" or "conv"
    depth: int
    width: int
    activation: object
    _: KW_ONLY
    generator: torch.Generator
    init: str = "xavier"
    gain: float = 1.0
    bias_std: float = 0.0
    bias: float = 0.0
    norm: str | None = None
    residual: str | None = None
    residual_scale: float | None = None
    dropout: float = 0.0
    mask_generator: torch.Generator | None = None
    dtype: torch.dtype = torch.float32

    def __post_init__(self):
        if self.depth < 1 or self.width < 1:
            name = "mlp" if self.kind == "linear" else "convnet"
            raise ValueError(f"{name}(depth={self.depth}, width={self.width}): depth and width must be >= 1")
        for name, allowed in (("norm", NORMS), ("residual", RESIDUALS)):
            if getattr(self, name) not in (None, *allowed):
                raise ValueError(f"{name}={getattr(self, name)!r} is unknown; take None or one of {', '.join(allowed)}")
        if self.dropout and self.mask_generator is None:
            raise ValueError(
                f"dropout={self.dropout} needs a mask_generator, a torch.Generator that draws what is dropped"
            )

    def hidden(self, inputs):
        """Return the named hidden layers, from the inputs (channels) to the width."""
        layers = OrderedDict()
        for number in range(1, self.depth):
            if self.residual is None:
                layers |= self.parts(_ORDER[None], number, inputs if number == 1 else self.width)
            elif number == 1:
                layers[f"{self.kind}1"] = self.map(self.kind, inputs, self.width, bias=self.bias)
            else:
                layers[f"block{number}"] = Block(self.parts(_ORDER[self.residual]), self._scale())
        return layers

    def parts(self, roles, number="", inputs=None):
        """Return the named parts of one hidden layer that play these roles, in this order."""
        make = {
            "map": lambda: (self.kind, self.map(self.kind, inputs or self.width, self.width, self.norm, self.bias)),
            "norm": lambda: self.norm in _NORMS and (f"{self.norm}norm", _NORMS[self.norm][self.kind](self.width)),
            "activation": lambda: (_layer_name(self.activation), make_activation(self.activation)),
            "dropout": lambda: self.dropout and ("dropout", Dropout(self.dropout, self.mask_generator)),
        }
        made = [part for role in roles if (part := make[role]())]
        return OrderedDict((f"{name}{number}", part.to(self.dtype)) for name, part in made)

    def map(self, kind, inputs, outputs, norm=None, bias=0.0):
        """Return a linear layer or 3x3 convolution with its initial weights, and its biases shifted by `bias`."""
        layer = _empty_map(kind, inputs, outputs, norm == "weight", self.dtype)
        fan_in = layer.weight[0].numel()
        fan_out = outputs * layer.weight[0, 0].numel()
        weight = draw_weight(self.init, self.gain, fan_in, fan_out, generator=self.generator, rows=outputs)
        bias = bias + draw_bias(self.init, self.bias_std, fan_in, outputs, generator=self.generator)
        with torch.no_grad():
            layer.weight.copy_(weight.view_as(layer.weight))
            layer.bias.copy_(bias)
            if norm == "weight":
                layer.scale = nn.Parameter(torch.linalg.vector_norm(layer.weight.flatten(1), dim=1))
        return layer

    def _scale(self):
        scale = branch_scale(self.residual, self.residual_scale, self.depth)
        return nn.Parameter(torch.full((1,), scale, dtype=self.dtype)) if self.residual == "rezero" else scale


def _empty_map(kind, inputs, outputs, weight_norm, dtype):
    """Return a map whose parameters hold anything."""
    if kind == "conv":
        return (WeightNormConv2d if weight_norm else Conv2d)(inputs, outputs, 3, padding=1, dtype=dtype)
    return (WeightNormLinear if weight_norm else Linear)(inputs, outputs, dtype=dtype)


def _layer_name(activation):
    """Return the name of an activation's layers, "activation" where its own would take another layer's place."""
    name = activation_name(activation)
    taken = name.startswith(("linear", "conv", "block", "dropout", *(f"{norm}norm" for norm in _NORMS)))
    return "activation" if taken or name == "scale" or hasattr(Block, name) else name


def mlp(
    depth,
    width,
    activation,
    *,
    generator,
    init="xavier",
    gain=1.0,
    bias_std=0.0,
    bias=0.0,
    norm=None,
    residual=None,
    residual_scale=None,
    dropout=0.0,
    mask_generator=None,
    inputs=64,
    outputs=10,
    dtype=torch.float32,
):
    """Build a multilayer perceptron with named layers.

    Its children are ``linear1, sigmoid1, linear2, ..., linear<depth>``: `depth` linear layers with an activation after
    each but the last. Shapes go (B, inputs) -> (B, width) -> ... -> (B, outputs). With a norm and dropout a hidden
    layer is ``linear1, batchnorm1, sigmoid1, dropout1``.

    With residual connections the children are ``linear1, block2, ..., linear<depth>``. A block adds its branch to its
    input: x + scale * W phi(x), with the norm behind W; "preactivation" is x + W phi(norm(x)) (he2016). Nothing stands
    between the stream and the first and last linear layer.

    Args:
        depth: number of linear layers, the output layer included.
        width: units of each hidden layer.
        activation: a name in ACTIVATIONS or an elementwise callable on tensors.
        generator: a torch.Generator; the global one is left alone.
        init: name of the initialization scheme, see weight_variance and draw_weight.
        gain: factor on every initial weight.
        bias_std: standard deviation of the initial biases (init="torch" draws nn.Linear's own instead).
        bias: added to every hidden layer's initial biases.
        norm: None or a name in NORMS: over the batch, the units, or each of GROUPS groups of units; "weight" normalizes
            the hidden layers' weights.
        residual: None or a name in RESIDUALS.
        residual_scale: factor on the branches; None: see branch_scale.
        dropout: probability with which a hidden unit is dropped in training.
        mask_generator: a torch.Generator, needed for dropout.
        inputs: size of the input.
        outputs: number of classes.
        dtype: of the parameters.

    Raises:
        ValueError: for a depth or width below 1, an unknown activation, init, norm or residual.
    """
    layers = _Layers(
        "linear",
        depth,
        width,
        activation,
        generator=generator,
        init=init,
        gain=gain,
        bias_std=bias_std,
        bias=bias,
        norm=norm,
        residual=residual,
        residual_scale=residual_scale,
        dropout=dropout,
        mask_generator=mask_generator,
        dtype=dtype,
    )
    stack = layers.hidden(inputs)
    stack[f"linear{depth}"] = layers.map("linear", inputs if depth == 1 else width, outputs)
    return nn.Sequential(stack)


def convnet(depth, width, activation, *, generator, image=(1, 8, 8), outputs=10, **options):
    """Build a convolutional network with named layers.

    As mlp, with 3x3 convolutions of `width` channels in place of the hidden linear layers: ``image, conv1, relu1,
    ..., pool, flatten, linear<depth>``. The pictures keep their size up to the 2x2 average pool. With "preactivation"
    the stream ends in a norm and an activation in front of the pool: without them its scale, which grows with the
    number of blocks, would reach the output. Shapes go (B, pixels) -> (B, width, 8, 8) -> (B, width * 16) ->
    (B, outputs).

    Args:
        depth: number of layers with weights: depth - 1 convolutions and the linear output layer.
        width: channels of each convolution.
        activation: a name in ACTIVATIONS or an elementwise callable on tensors.
        generator: a torch.Generator; the global one is left alone.
        image: channels, height and width of the pictures that the inputs hold.
        outputs: number of classes.
        **options: those of mlp, from init on. The fan-in of a convolution is 9 times its input channels.

    Raises:
        ValueError: as mlp.
    """
    layers = _Layers("conv", depth, width, activation, generator=generator, **options)
    channels, height, breadth = image
    stack = OrderedDict(image=nn.Unflatten(1, image), **layers.hidden(channels))
    if layers.residual == "preactivation":
        stack |= layers.parts(("norm", "activation"), depth)
    features = (channels if depth == 1 else width) * (height // 2) * (breadth // 2)
    stack |= {"pool": nn.AvgPool2d(2), "flatten": nn.Flatten()}
    stack[f"linear{depth}"] = layers.map("linear", features, outputs)
    return nn.Sequential(stack)


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
