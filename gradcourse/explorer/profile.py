"""Lesson 03: the gradient of each layer of a network at initialization, beside theory."""

import numpy as np

from gradcourse.explorer.controls import Menu, Slider
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.networks import plain, plain_in_theory
from gradcourse.explorer.picture import Axis, Panel, Picture
from gradcourse.recording import factor_per_layer

_ACTIVATIONS = ("sigmoid", "tanh", "relu", "elu")
_DEEPEST = 40
_LAYERS = "layer (1 = next to the input)"


def gradients():
    """Return the Explorer of activation, depth and gain against the gradient and the signal of each layer."""
    plain(_DEEPEST, "sigmoid", init="xavier")  # draws the weights, which would hold up the first move
    return Explorer(
        "Where does the gradient go?",
        _draw,
        id="03-x1",
        activation=Menu("activation", "sigmoid", _ACTIVATIONS),
        depth=Slider("depth (layers)", 20, 3, _DEEPEST),
        gain=Slider("gain of Xavier's weights", 1.0, 0.1, 16.0, step=0.02, log=True),
    )


def _draw(activation, depth, gain):
    signal, delta = plain(depth, activation, init="xavier", gain=gain)
    signal_theory, share = plain_in_theory(depth, activation, init="xavier", gain=gain)
    backward = _panel("Backwards: the gradient", "RMS of dL/dh", (1e-18, 1e6), delta, share * delta[-1])
    forward = _panel("Forwards: the pre-activations", "RMS of h", (1e-6, 1e6), signal, signal_theory)
    return Picture((backward, forward), _words(activation, depth, gain, delta, share, signal))


def _panel(title, label, ends, measured, theory):
    layers = np.arange(1, len(measured) + 1)
    panel = Panel(
        title,
        Axis(_LAYERS, 0, _DEEPEST + 1, ticks={n: str(n) for n in (1, 10, 20, 30, 40)}),
        Axis(label, *ends, log=True),
    )
    panel.line(layers, measured, "measured", colour=0, marker="o")
    panel.line(layers, theory, "theory, wide layers", width=1.5)
    return panel


def _words(activation, depth, gain, delta, share, signal):
    measured, theory = (factor_per_layer(values[:-1]) for values in (delta, share))
    return (
        f"{depth} {activation} layers, gain {gain:.3g}: on its way to the input the gradient is multiplied by "
        f"{measured:.3f} per layer, theory says {theory:.3f}. "
        f"From the last hidden layer to the first that makes a factor of {delta[0] / delta[-2]:.2g}. "
        f"The pre-activations have RMS {signal[0]:.2g} at layer 1 and {signal[-2]:.2g} at layer {depth - 1}."
    )
