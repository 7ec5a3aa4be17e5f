"""Lesson 05: the phases of random networks, and what a point of the diagram does to signal and gradient."""

import functools
import math

import numpy as np

from gradcourse.explorer.controls import Menu, Slider
from gradcourse.explorer.live import Explorer
from gradcourse.explorer.picture import INK, SOFT, Axis, Panel, Picture
from gradcourse.explorer.wide_layers import WideLayers

_NAMES = ("relu", "tanh", "elu", "selu", "sigmoid")
_LAYERS = 50
_WEIGHTS, _BIASES = 5.0, 1.0  # ends of the diagram
_FACTORS = (0.5, 0.8, 1.2, 1.5)  # of the gradient per layer, which have lines of their own
_NEARLY = 5e-3  # |ln chi| up to which a point counts as critical: the sliders have steps


def phase_diagram():
    """Return the Explorer of the variances of weights and biases against signal and gradient over 50 layers."""
    return Explorer(
        "Ordered, critical or chaotic?",
        _draw,
        id="05-x1",
        activation=Menu("activation", "relu", _NAMES),
        weights=Slider("weight variance x fan-in", 0.33, 0.01, _WEIGHTS, step=0.01),
        biases=Slider("bias variance", 0.005, 0.0, _BIASES, step=0.005),
    )


def _draw(activation, weights, biases):
    layers = WideLayers(activation, weights, biases)
    signal, rest = layers.signal(_LAYERS), layers.rest(weights + biases)
    gap, factors = layers.difference(signal), layers.gradient_factor([*signal[1:], rest])
    gradient = np.append(np.cumprod(factors[-2::-1])[::-1], 1.0)
    measured = layers.measure(_LAYERS)
    chi, seen = float(factors[-1]), (measured[2][0] / measured[2][-1]) ** (0.5 / (_LAYERS - 1))
    alike, seen_alike = 1 - gap[-1] / signal[-1], 1 - measured[1][-1] / measured[0][-1]
    words = (
        f"{activation}, weight variance {weights:.3g}, bias variance {biases:.3g}: {_phase(chi)}. Gradient per layer "
        f"{chi**0.5:.2f} in the long run, measured {seen:.2f} over {_LAYERS} layers; depth scale {_depth_scale(chi)}. "
        f"The signal {_settles(rest)}. Correlation of two inputs at layer {_LAYERS}: theory {_shown(alike)}, "
        f"measured {_shown(seen_alike)}."
    )
    return Picture((_diagram(activation, weights, biases), _profiles((signal, gap, gradient), measured)), words)


def _shown(correlation):
    return f"{abs(correlation) if abs(correlation) < 0.005 else correlation:.2f}"  # no minus in front of 0.00


def _phase(chi):
    if abs(math.log(max(chi, 1e-300))) <= _NEARLY:
        return "critical"
    return "ordered, gradients vanish" if chi < 1 else "chaotic, gradients explode"


def _depth_scale(chi):
    """Write after how many layers the mean-square gradient has changed by a factor e (schoenholz2017)."""
    rate = abs(math.log(max(chi, 1e-300)))
    return f"{1 / rate:.2g} layers" if rate > _NEARLY else "over 200 layers"


def _settles(rest):
    if rest == 0.0:
        return "dies out"
    return f"settles at a size of {rest**0.5:.2g}" if math.isfinite(rest) else "grows without bound"


@functools.cache
def _line(activation, factor):
    """Return the points of the diagram, (weights, biases), at which the gradient changes by this factor per layer.

    By the variance q at which layers rest: chi = factor**2 gives the weights, q = their share + biases the biases.
    """
    q, slopes, squares = _means(activation)
    weights = factor**2 / slopes
    if np.ptp(weights) < 1e-9 * weights[0]:  # straight pieces through 0: the same at every variance
        return weights[:2], np.array([0.0, _BIASES])
    biases = q - weights * squares
    up = np.maximum.accumulate(biases) <= biases  # beyond its highest point the signal does not rest there
    seen = (biases >= 0) & (biases <= 1.2 * _BIASES) & up
    return weights[seen], biases[seen]


@functools.cache
def _means(activation):
    """Return variances q, and the mean squares of phi' and of phi over them, (K,) each."""
    q, one = np.logspace(-5, 3, 200), WideLayers(activation, 1.0)
    return q, one.gradient_factor(q), one.next_variance(q)


def _diagram(activation, weights, biases):
    panel = Panel(
        f"Phases of {activation}",
        Axis("weight variance x fan-in", 0, _WEIGHTS),
        Axis("bias variance", 0, _BIASES),
        drag=("weights", "biases"),
    )
    x, y = _line(activation, 1.0)
    x, y = [x[0], *x, x[-1]], [0.0, *y, 2 * _BIASES]
    panel.area([0, *x, 0], [0, *y, y[-1]], colour=5, opacity=0.35)
    panel.area([2 * _WEIGHTS, *x, 2 * _WEIGHTS], [0, *y, y[-1]], colour=4, opacity=0.35)
    panel.text(0.08, 0.93, "ordered", anchor="start")
    panel.text(_WEIGHTS - 0.08, 0.93, "chaotic" if x[0] < _WEIGHTS else "", anchor="end")
    _contours(panel, activation)
    panel.line(x, y, "critical: gradients keep their size", width=3.4)
    panel.point(weights, biases, "you are here", colour=1, size=10)
    return panel


def _contours(panel, activation):
    """Draw the lines of the other factors, and name those that leave room for it."""
    free = 0.0
    for factor in _FACTORS:
        x, y = _line(activation, factor)
        panel.line(x, y, "", colour=SOFT, dash=":", width=1.6)
        if len(y) and y[0] < 0.8 < y[-1] and (place := np.interp(0.8, y, x)) > free:
            panel.text(place, 0.8, f"× {factor:g}")
            free = place + 0.7


def _profiles(theory, measured):
    panel = Panel(
        f"Through {_LAYERS} layers",
        Axis("layer", 1, _LAYERS, ticks={n: str(n) for n in (1, 10, 20, 30, 40, 50)}),
        Axis("root mean square", 1e-12, 1e8, log=True),
    )
    layers = np.arange(1, _LAYERS + 1)
    styles = ("signal", 0, "-"), ("two inputs' difference", 2, "-."), ("gradient", 1, "--")
    for squares, (label, colour, dash) in zip(measured, styles, strict=True):
        panel.line(layers, np.sqrt(squares), label, colour=colour, dash=dash, width=3.4)
    for number, squares in enumerate(theory):
        panel.line(layers, np.sqrt(squares), "" if number else "theory", colour=INK, dash=":", width=1.8)
    return panel
