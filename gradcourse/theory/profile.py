"""The gradient of every layer of the network that a Config describes, predicted from the Config alone."""

import math
from typing import NamedTuple

import numpy as np
import torch

from gradcourse.models import branch_scale, make_activation, weight_variance
from gradcourse.theory.gaussian import gaussian_mean, gaussian_pair_mean, mean_square, mean_square_slope

_PIXELS = 64
_CLASSES = 10
_SIDE = 8  # pixels of a picture's side
_POOL = 2  # side of the squares whose mean the output layer of a convolutional network sees

_INPUTS = {  # scaling -> mean square of a pixel over the digits, and of its mean over them
    "standard": (1.0, 0.0),
    "unit": (0.2346, 0.1613),
    "raw": (0.2346 * 16.0**2, 0.1613 * 16.0**2),
    "255": (0.2346 * 255.0**2, 0.1613 * 255.0**2),
}


class _Signal(NamedTuple):
    """Statistics of a signal: a number for each place of the picture, shape (8, 8), or (1, 1) without places.

    Attributes:
        square: mean square over units and inputs, `centre` left out.
        shared: mean product of the same unit's values for two inputs, `centre` left out.
        centre: a constant that every unit contains.
    """

    square: np.ndarray
    shared: np.ndarray
    centre: float = 0.0


class _Hidden(NamedTuple):
    """What the backward pass needs to know of a hidden layer.

    Attributes:
        slope: mean square of the slope of activation and dropout, for each place.
        norm: mean square of what the normalization divides by, 1.0 without.
        back: factor on the mean-square gradient on its way through the layer's weights, per place that it comes from.
    """

    slope: np.ndarray
    norm: float
    back: float


def gradient_profile(config, input_mean_square=None):
    """Predict how the gradient changes from layer to layer in the network of a Config, at initialization.

    Follows the variance of the pre-activations forwards through each layer, and the mean square of delta_l = dL/dh_l,
    h_l the output of the l-th linear map, backwards; nothing is assumed to have settled. The laws, for wide layers:

    * plain (schoenholz2017): E delta_l**2 = E[phi'(u_l)**2] fan_out Var(W_{l+1}) E delta_{l+1}**2, u_l Gaussian of
      variance q_l, q_{l+1} = fan_in Var(W_{l+1}) E[phi(u_l)**2] + Var(b). Dropout with probability p divides both
      means by 1 - p (schoenholz2017). A constant bias is the mean of u_l.
    * norm "batch" and "layer": u_l is standard normal, and delta_l is divided by the standard deviation of h_l over the
      batch, or over the units. So batch norm needs a large batch, layer norm wide layers; torch's eps is left out.
      "weight": as without, since the scales begin as the norms of the weights (salimans2016).
    * residual: see residual_gradient_factor; within a block delta is that of the branch, scale times the stream's. In a
      convolutional network with "preactivation" a norm and an activation end the stream.
    * init "lsuv": weights such that every h_l has variance gain**2 (mishkin2016).
    * model "conv": the fan-in is 9 times the channels. The picture's border is padded with zeros, so that variances
      and gradients are smaller there; they are followed for each of the 8 x 8 places (xiao2018 has the theory without a
      border). Pixels count as equally bright. The pool's four places share a gradient.

    At finite width the mean of the logarithm of the squared gradient lies below the logarithm of its mean, by about
    half its variance: see width_fluctuation. With batch norm inputs count as alike: it leaves differences between
    their norms, which GELU and SiLU amplify from layer to layer; the first layers also feel how few directions the data
    have (about 1 / 64 more per layer for 64 independent inputs).

    Args:
        config: a Config, or anything with its fields model, data, scaling, depth, width, activation, init, gain,
            bias_std, bias, norm, residual, residual_scale and dropout.
        input_mean_square: of one input, whose mean then counts as 0; None: what the config's data have.

    Returns:
        Predicted root mean square of dL/dh at the layers with weights, relative to the last one, shape (depth,). A
        branch that begins at 0 (residual="rezero") and whatever lies in front of a zero weight matrix has 0.

    Raises:
        ValueError: where there is no law: init "constant" (weights that are not random), norm "group" (its groups are
            too narrow for the mean over a group to be an expectation), and in a convolutional network norm "batch" and
            init "lsuv" (both need to know how neighbouring pixels correlate).

    References:
        schoenholz2017, xiao2018, yang2017, yang2019, salimans2016, mishkin2016
    """
    _refuse_what_has_no_law(config)
    if config.init == "zero":
        return np.append(np.zeros(config.depth - 1), 1.0)
    with np.errstate(over="ignore"):  # inf is the right picture of such an explosion
        forward, backward = (_plain, _plain_back) if config.residual is None else (_stream, _stream_back)
        logarithms = backward(config, *forward(config, _inputs(config, input_mean_square)))
        return np.exp(0.5 * np.array([*logarithms, 0.0]))


def _refuse_what_has_no_law(config):
    conv = config.model == "conv"
    reasons = {
        'init="constant"': (config.init == "constant", "equal weights are not random"),
        'norm="group"': (config.norm == "group", "a group is too narrow for its mean square to be an expectation"),
        'model="conv", norm="batch"': (
            conv and config.norm == "batch",
            "it depends on how neighbouring pixels correlate",
        ),
        'model="conv", init="lsuv"': (
            conv and config.init == "lsuv",
            "it depends on how neighbouring pixels correlate",
        ),
    }
    for asked, (holds, reason) in reasons.items():
        if holds:
            raise ValueError(f"gradient_profile({asked}): there is no law for it, since {reason}; measure it instead")


def _inputs(config, mean_square_of_inputs):
    square, shared = (1.0, 0.0) if config.data == "synthetic" else _INPUTS[config.scaling]
    if mean_square_of_inputs is not None:
        square, shared = mean_square_of_inputs, 0.0
    return _Signal(np.full(_places(config), square), np.full(_places(config), shared))


def _places(config):
    return (_SIDE, _SIDE) if config.model == "conv" else (1, 1)


# --- forwards: the statistics of each layer's signal


def _plain(config, signal):
    """Return what is known of each hidden layer, in order, and the gradient that arrives at the last: mean squares."""
    layers = []
    for number in range(1, config.depth):
        h, back = _map(config, number, signal)
        u, norm = _normalized(config.norm, h)
        signal, slope = _activated(config, u, config.dropout)
        layers.append(_Hidden(slope, norm, back))
    return layers, _output_back(config, signal) * np.ones(_places(config))


def _stream(config, signal):
    """Return what is known of each block, in order, and the gradient that arrives at the last: mean squares."""
    scale = branch_scale(config.residual, config.residual_scale, config.depth)
    x, _ = _map(config, 1, signal)
    blocks = []
    for number in range(2, config.depth):
        u, norm_before = _normalized(config.norm if config.residual == "preactivation" else None, x)
        branch, slope = _activated(config, u, config.dropout)
        h, back = _map(config, number, branch)
        y, norm_behind = _normalized(None if config.residual == "preactivation" else config.norm, h)
        x = _Signal(x.square + scale**2 * y.square, x.shared + scale**2 * y.shared, x.centre + scale * y.centre)
        blocks.append((_Hidden(slope / norm_before, norm_behind, back), scale))
    arriving = _output_back(config, x) * np.ones(_places(config))
    if config.model == "conv" and config.residual == "preactivation":  # a norm and an activation end this stream
        u, size = _normalized(config.norm, x)
        arriving = arriving * _activated(config, u, dropout=0.0)[1] / size
    return blocks, arriving


def _map(config, number, signal):
    """Send a signal through the weights of a hidden layer; return its output and the backward factor."""
    taps = 9 if config.model == "conv" else 1
    channels = (1 if config.model == "conv" else _PIXELS) if number == 1 else config.width
    variance, bias_variance = _variances(config, taps * channels, taps * config.width, config.width, signal)
    forwards = channels * variance
    total = signal.square + signal.centre**2
    h = _Signal(
        forwards * _around(config, total) + bias_variance,
        forwards * _around(config, signal.shared + signal.centre**2) + bias_variance,
        config.bias,
    )
    return h, config.width * variance


def _variances(config, fan_in, fan_out, rows, signal):
    """Return the variances of a layer's weights and of its random biases."""
    bias_variance = 1.0 / (3.0 * fan_in) if config.init == "torch" else config.bias_std**2
    if config.init not in ("orthogonal", "lsuv"):
        return weight_variance(config.init, config.gain, fan_in, fan_out), bias_variance
    variance = weight_variance("orthogonal", config.gain, fan_in, rows)  # of the matrix that is drawn
    if config.init == "lsuv":
        before = fan_in * variance * float(signal.square[0, 0] + signal.centre**2) + bias_variance
        variance *= config.gain**2 / before if before > 0 else 1.0
    return variance, bias_variance


def _output_back(config, signal):
    features = config.width * (_SIDE // _POOL) ** 2 if config.model == "conv" else config.width
    if config.depth == 1:
        features = features // config.width if config.model == "conv" else _PIXELS
    variance, _ = _variances(config, features, _CLASSES, _CLASSES, signal)
    return _CLASSES * variance / (_POOL**4 if config.model == "conv" else 1.0)


def _around(config, places):
    """Sum a 3x3 convolution's neighbours, nothing beyond the border; without places the signal itself."""
    if config.model != "conv":
        return places
    framed = np.pad(places, 1)
    return sum(framed[i : i + _SIDE, j : j + _SIDE] for i in range(3) for j in range(3))


def _normalized(norm, h):
    """Return what a normalization makes of h, and the mean square of what it divides by."""
    if norm not in ("batch", "layer"):
        return h, 1.0
    size = float(np.mean(h.square - h.shared if norm == "batch" else h.square))
    if not size > 0.0:
        raise ValueError(f'gradient_profile(norm="{norm}"): a layer puts out a constant; there is nothing to normalize')
    if norm == "batch":
        return _Signal(np.ones_like(h.square), np.zeros_like(h.shared)), size
    return _Signal(h.square / size, h.shared / size), size


def _activated(config, u, dropout):
    """Return the signal behind activation and dropout, and the mean square of their slope."""
    phi = make_activation(config.activation)
    shifted = config.activation if u.centre == 0.0 else lambda v: phi(v + u.centre)
    kept = 1.0 - dropout
    square = _each(lambda q, _: mean_square(shifted, q), u) / kept
    slope = _each(lambda q, _: mean_square_slope(shifted, q), u) / kept
    if config.norm != "batch":
        return _Signal(square, np.zeros_like(square)), slope  # only batch norm asks what inputs share
    return _Signal(square, _each(lambda q, r: _shared(shifted, q, r), u)), slope


def _shared(activation, square, shared):
    phi = make_activation(activation)
    with torch.no_grad():
        if shared == 0.0:
            return gaussian_mean(phi, square) ** 2
        return gaussian_pair_mean(phi, square)(min(1.0, shared / square))


def _each(function, u):
    """Apply a function of (square, shared) to each place, once for places that are alike."""
    pairs = np.stack([u.square.ravel(), u.shared.ravel()], axis=1)
    distinct, where = np.unique(pairs, axis=0, return_inverse=True)
    return np.array([function(*pair) for pair in distinct.tolist()])[where.ravel()].reshape(u.square.shape)


# --- backwards: the logarithm of the mean square of delta, relative to the output layer's


def _plain_back(config, layers, arriving):
    (arriving, level), logarithms = _levelled(arriving, 0.0), []
    for layer in reversed(layers):
        delta, level = _levelled(arriving * layer.slope / layer.norm, level)
        logarithms.append(level)
        arriving, level = _around(config, delta), level + _log(layer.back)
    return logarithms[::-1]


def _stream_back(config, blocks, stream):
    (stream, level), logarithms = _levelled(stream, 0.0), []
    for block, scale in reversed(blocks):
        share = scale**2 / block.norm
        logarithms.append(level + _log(share * float(np.mean(stream))))
        passed = share * block.slope * block.back * _around(config, stream)
        stream, level = _levelled(stream + passed, level)
    return [level, *logarithms[::-1]]


def _levelled(places, level):
    """Return places with mean 1 and the level that they stood on: mean squares of deep networks underflow a float."""
    mean = float(np.mean(places))
    return (places / mean if 0.0 < mean < math.inf else places), level + _log(mean)


def _log(value):
    return math.log(value) if value != 0.0 else -math.inf
