"""Lesson 07: what a normalization does to the gradient of each layer."""

import itertools
from functools import cache, lru_cache

import numpy as np

from gradcourse.explorer.controls import Menu, Slider
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.networks import plain, plain_in_theory
from gradcourse.explorer.picture import Axis, Panel, Picture
from gradcourse.recording import factor_per_layer
from gradcourse.theory import batchnorm_gradient_factor, layernorm_gradient_factor

_NORMS = {"none": None, "batch": "batch", "layer": "layer"}
_FACTORS = {"batch": batchnorm_gradient_factor, "layer": layernorm_gradient_factor}
_LOOKS = {"batch": (0, "-", "o"), "none": (1, "--", "^"), "layer": (2, "-.", "s")}  # colour, dash, marker
_ACTIVATIONS = ("relu", "elu", "tanh", "sigmoid")
_DEEPEST, _LARGE_BATCH = 50, 32
_LAYERS = "layer (1 = next to the input)"
_SIZE = Axis("RMS of dL/dh, relative", 1e-5, 1e5, log=True)


def batchnorm():
    """Return the Explorer of normalization, depth, activation and batch size against the gradient of each layer."""
    for activation, name in itertools.product(_ACTIVATIONS, _NORMS):  # what would hold up the first moves
        _theory(activation, name)
    _gradient(_DEEPEST, "relu", "none", 64)
    return Explorer(
        "What does a normalization do to the gradient?",
        _draw,
        id="07-x1",
        norm=Menu("normalization", "batch", tuple(_NORMS)),
        activation=Menu("activation", "relu", _ACTIVATIONS),
        depth=Slider("depth (layers)", 20, 4, _DEEPEST),
        batch=Menu("images per batch", "64", ("2", "4", "8", "16", "32", "64")),
    )


def _draw(norm, activation, depth, batch):
    gradients = {name: _gradient(depth, activation, name, int(batch)) for name in {"none", norm}}
    totals = _theory(activation, norm)[: depth - 2]
    theory = totals[-1] / totals  # at layers 2 to depth - 1
    panels = (_profile(norm, depth, gradients, theory), _growth(activation, norm, depth, gradients))
    return Picture(panels, _words(norm, activation, depth, batch, gradients, theory))


@lru_cache(maxsize=256)
def _gradient(depth, activation, norm, batch):
    """Return RMS of dL/dh at the hidden layers, the last of them 1, shape (depth - 1,)."""
    _, delta = plain(depth, activation, init="he", norm=_NORMS[norm], batch=batch)
    return delta[:-1] / delta[-2]


@cache
def _theory(activation, norm):
    """Return what the gradient is multiplied by from layers 2, 3, ... to layer 2."""
    if norm == "none":
        _, shares = plain_in_theory(_DEEPEST, activation, init="he")
        return shares[1] / shares[1:-1]
    return _FACTORS[norm](activation) ** (0.5 * np.arange(_DEEPEST - 2))


def _profile(norm, depth, gradients, theory):
    layers = np.arange(1, depth)
    ticks = {number: str(number) for number in (1, 10, 20, 30, 40, 50)}
    panel = Panel("Gradient of each hidden layer", Axis(_LAYERS, 0, _DEEPEST + 2, ticks=ticks), _SIZE)
    if norm != "none":
        panel.line(layers, gradients["none"], "no norm", colour=_LOOKS["none"][0], marker=_LOOKS["none"][2], width=1)
    colour, _, marker = _LOOKS[norm]
    panel.line(layers, gradients[norm], f"{_named(norm)}, measured", colour=colour, marker=marker)
    panel.line(layers[1:], theory, "theory", width=1.5)
    return panel


def _growth(activation, norm, depth, gradients):
    depths = np.arange(3, _DEEPEST + 1)
    panel = Panel("Last hidden layer to layer 2, in all", Axis("depth (layers)", 0, _DEEPEST + 2), _SIZE)
    for name, (colour, dash, _) in _LOOKS.items():
        panel.line(depths, _theory(activation, name), name, colour=colour, dash=dash)
    for name, gradient in gradients.items():
        chosen = name == norm
        panel.point(depth, gradient[1], "measured" * chosen, colour=_LOOKS[name][0], size=8 if chosen else 5)
    return panel


def _named(norm):
    return "no norm" if norm == "none" else f"{norm} norm"


def _words(norm, activation, depth, batch, gradients, theory):
    measured, predicted = factor_per_layer(gradients[norm][1:]), factor_per_layer(theory)
    bare = "" if norm == "none" else f"; without a norm it is {gradients['none'][1]:.2g}"
    small = norm == "batch" and int(batch) < _LARGE_BATCH
    return (
        f"{depth} {activation} layers with {_named(norm)}, He's weights, {batch} images: on its way to the input the "
        f"gradient is multiplied by {measured:.3g} per layer, theory{' for large batches' if small else ''} says "
        f"{predicted:.3g}. From layer {depth - 1} to layer 2 that makes a factor of {gradients[norm][1]:.2g}{bare}."
    )
