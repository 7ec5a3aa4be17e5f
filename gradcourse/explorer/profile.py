"""Lesson 03: the gradient of each layer of a network at initialization, beside theory."""

import numpy as np

from gradcourse.explorer.controls import Menu, Slider
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.picture import Axis, Panel, Picture
from gradcourse.theory import gradient_factor
from gradcourse.training import Config, run

_ACTIVATIONS = ("sigmoid", "tanh", "relu", "gelu", "selu")


def gradients():
    """Return the Explorer of depth, gain and activation against the size of delta in each layer."""
    return Explorer(
        "Where does the gradient go?",
        _draw,
        activation=Menu("activation", "sigmoid", _ACTIVATIONS),
        depth=Slider("depth (layers)", 20, 2, 40),
        gain=Slider("gain of Xavier's weights", 1.0, 0.25, 4.0, step=0.05),
    )


def _draw(activation, depth, gain):
    config = Config(depth=depth, width=64, activation=activation, init="xavier", gain=gain, batch_size=64, steps=0)
    trace = run(config)
    delta = trace.delta[0]
    measured, theory = trace.factor_per_layer("delta"), gradient_factor(activation, gain**2) ** 0.5
    layers = np.arange(1, len(delta) + 1)
    panel = Panel(
        "Gradient of each layer, at initialization",
        Axis("layer (1 is the first)", 1, 40),
        Axis("RMS of dL/dh", 1e-16, 1e4, log=True),
    )
    panel.line(layers, delta, "measured", colour=0, marker=True)
    panel.line(layers, delta[-1] * theory ** (layers[-1] - layers), "theory", dash="--")
    words = (
        f"{depth} {activation} layers, gain {gain:g}: the gradient changes by {measured:.3f} per layer on its way to the "
        f"input, theory for wide layers says {theory:.3f}. From the last layer to the first: a factor of "
        f"{delta[0] / delta[-1]:.1e}."
    )
    return Picture((panel,), words)
