"""Lesson 04: an activation with its slope, where the units are, and what a layer does to the variance."""

import functools

import numpy as np
import torch

from gradcourse.explorer.controls import Menu, Slider
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.picture import SOFT, Axis, Panel, Picture
from gradcourse.explorer.wide_layers import WideLayers

_NAMES = ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu")
_LAYERS = 19  # hidden ones of the lesson's network
_REACH = 4.0  # of the variance map
_MAP = np.linspace(0, _REACH, 41)


def activation_functions():
    """Return the Explorer of an activation and the gain of the weights against the variance and the gradient."""
    return Explorer(
        "Which gain does an activation need?",
        _draw,
        id="04-x1",
        activation=Menu("activation φ", "gelu", _NAMES),
        gain=Slider("gain of the weights", 1.0, 0.3, 2.0, step=0.01),
        leak=Slider("slope a, leaky_relu's", 0.01, 0.0, 1.0, step=0.01),
    )


def _draw(activation, gain, leak):
    phi = torch.nn.LeakyReLU(leak) if activation == "leaky_relu" else activation
    layers = WideLayers(phi, gain**2)
    signal, rest = layers.signal(_LAYERS), layers.rest(gain**2)
    measured, _, gradient = layers.measure(_LAYERS)
    followed = layers.gradient_factor(signal[1:]).prod()
    theory, seen = (total ** (0.5 / (_LAYERS - 1)) for total in (followed, gradient[0] / gradient[-1]))
    at_rest = float(layers.gradient_factor(rest)[0]) ** 0.5
    fitted = float(WideLayers(phi, 1.0).next_variance(1.0)[0]) ** -0.5
    name = f"leaky_relu with slope {leak:.2g}" if activation == "leaky_relu" else activation
    words = (
        f"{name}, gain {gain:.3g}; a gain of {fitted:.3g} would keep a variance of 1. The largest slope is "
        f"{_largest_slope(activation, leak):.3g}. The variance {_settles(rest, signal)}. Gradient per layer: theory "
        f"{theory:.2f}, measured {seen:.2f} over {_LAYERS} layers; {at_rest:.2f} in the long run."
    )
    return Picture((_function(activation, leak, signal[-1]), _variance_map(layers, signal, measured, rest)), words)


def _settles(rest, signal):
    if not 0 < rest < np.inf and 0.8 < signal[-1] / signal[0] < 1.25:
        return f"hardly changes over {_LAYERS} layers"
    if rest == 0.0:
        return "dies out"
    return f"settles at {rest:.2g}" if np.isfinite(rest) else "grows without bound"


@functools.lru_cache(256)
def _curves(activation, leak, count=162):
    """Return u, phi(u) and its slope; 0, where slopes jump, lies between two of an even count."""
    layers = WideLayers(torch.nn.LeakyReLU(leak) if activation == "leaky_relu" else activation, 1.0)
    grid = torch.linspace(-4, 4, count, dtype=torch.float64)
    return grid.numpy(), layers.phi(grid).detach().numpy(), layers.slope(grid).numpy()


@functools.lru_cache(256)
def _largest_slope(activation, leak):
    return _curves(activation, leak, 20_000)[2].max()


def _function(activation, leak, variance):
    """Draw phi and its slope over a hill that shows where the units of the last layer are."""
    panel = Panel(
        f"{activation}, its slope, and where the units are",
        Axis("pre-activation u", -4, 4),
        Axis("φ and its slope", -2, 3),
    )
    grid, values, slopes = _curves(activation, leak)
    spread = np.clip(variance, 2e-3, 1e12) ** 0.5
    units = np.clip(spread * np.linspace(-4, 4, 65), -4, 4)
    hill = np.exp(-0.5 * (units / spread) ** 2) * 2.9 - 1.99
    panel.area([*units, 4, -4], [*hill, -1.99, -1.99], colour=0)
    panel.line([-4, 4], [0, 0], colour=SOFT, width=1)
    panel.line(grid, values, "φ(u)", colour=2, dash="-.", width=3)
    panel.line(grid, slopes, "slope φ'(u)", colour=1, width=3)
    panel.line(units, hill, f"units of layer {_LAYERS}", colour=0, dash=":", width=2)
    return panel


def _variance_map(layers, signal, measured, rest):
    """Draw the map from one layer's variance to the next one's, the way that the layers take, and a network's."""
    panel = Panel(
        "Variance, from one layer to the next", Axis("variance q of a layer", 0, _REACH), Axis("of the next", 0, _REACH)
    )
    panel.line([0, _REACH], [0, _REACH], "unchanged", colour=SOFT, dash="--", width=1.4)
    panel.line(_MAP, layers.next_variance(_MAP), "theory", width=3)
    panel.line(np.repeat(signal, 2)[:-1], np.repeat(signal, 2)[1:], "layer by layer", colour=1, width=1.6)
    panel.line(measured[:-1], measured[1:], "measured", colour=0, marker=True, width=0)
    if 0 < rest < np.inf:
        panel.point(rest, rest, text="rests", size=7)
    return panel
