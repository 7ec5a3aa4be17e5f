"""Closed-form predictions of mean-field theory, to hold against measurements.

The setting: weights with mean 0 and variance ``weight_variance / fan_in``, biases with variance ``bias_variance``, wide
layers. A pre-activation is then Gaussian with some variance q, and every prediction is a Gaussian mean over it
(poole2016, schoenholz2017). Names in this module: ``weight_variance`` is sigma_w**2, ``bias_variance`` sigma_b**2.
"""

import math
from itertools import pairwise

import numpy as np
import torch

from gradcourse.models import activation_name, make_activation, one_thread, weight_variance

_REACH = 12.0  # standard deviations: what lies beyond has probability 4e-33
_SETTLED = 1e-12  # a panel whose two estimates agree to this is done
_SMALLEST_PANEL = 1e-13


def _lobatto(count):
    """Return nodes and weights of Gauss-Lobatto quadrature on [-1, 1]: it looks at both ends, so no jump hides there.

    The ends are taken 1e-12 inside: the first value behind a kink counts to its own side, and 0/0 at 0 is not asked.
    """
    legendre = np.polynomial.Legendre.basis(count - 1)
    nodes = np.array([-1.0, *legendre.deriv().roots(), 1.0])
    weights = 2.0 / (count * (count - 1) * legendre(nodes) ** 2)
    return torch.from_numpy((1.0 - 1e-12) * nodes), torch.from_numpy(weights)


_NODES, _WEIGHTS = _lobatto(12)


def gaussian_mean(function, variance=1.0):
    """Return E[f(sqrt(variance) z)] for a standard normal z.

    Gauss-Lobatto on panels that are split where they disagree with their two parts, so that kinks and jumps
    (ReLU and its slope) are found wherever they are; Gauss-Hermite is biased by a node on the kink.

    Args:
        function: elementwise, on a float64 tensor of any shape.
        variance: of the argument, >= 0.
    """
    with one_thread():
        return _gaussian_mean(function, math.sqrt(variance))


def _gaussian_mean(function, scale):
    edges = torch.linspace(-_REACH, _REACH, 49, dtype=torch.float64)  # 0, where most kinks lie, is one of them
    left, right = edges[:-1], edges[1:]
    total = 0.0
    while len(left):
        middle = 0.5 * (left + right)
        whole = _panel_integrals(function, scale, left, right)
        parts = _panel_integrals(function, scale, left, middle) + _panel_integrals(function, scale, middle, right)
        error = (whole - parts).abs()
        done = (error <= _SETTLED * (1.0 + parts.abs())) | (right - left < _SMALLEST_PANEL)
        done |= ~torch.isfinite(error)  # splitting does not cure NaN and inf: they stay visible in the total
        total += float(parts[done].sum())
        left, right = torch.cat([left[~done], middle[~done]]), torch.cat([middle[~done], right[~done]])
    return total


def _panel_integrals(function, scale, left, right):
    half = 0.5 * (right - left)
    z = 0.5 * (left + right)[:, None] + half[:, None] * _NODES  # (panels, nodes)
    density = torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
    return half * ((function(scale * z) * density) @ _WEIGHTS)


def slope(activation):
    """Return phi', as a function on float64 tensors, for an activation given by name or as a callable."""
    phi = make_activation(activation)

    def derivative(u):
        u = u.detach().requires_grad_()
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(phi(u).sum(), u)
        return gradient

    return derivative


def variance_map(activation, weight_variance, bias_variance=0.0):
    """Return the map from one layer's pre-activation variance to the next one's.

    q_next = sigma_w**2 E[phi(sqrt(q) z)**2] + sigma_b**2 (poole2016).
    """
    for name, value in (("weight_variance", weight_variance), ("bias_variance", bias_variance)):
        if not (math.isfinite(value) and value >= 0):
            raise ValueError(f"{name}={value!r}: a variance must be finite and >= 0")
    return lambda q: weight_variance * mean_square(activation, q) + bias_variance


def variance_fixed_point(activation, weight_variance, bias_variance=0.0, start=1.0):
    """Return q*, the pre-activation variance at which deep layers settle (poole2016).

    Found by bisection from `start` in the direction in which the variance map moves, since iterating the map converges
    only like 1/layers at criticality.

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
        start: the variance at the first layer; matters where several fixed points exist (He ReLU keeps any).

    Returns:
        q*; 0.0 when the signal dies out, inf when it grows without bound.

    Raises:
        ValueError: for a start that is not > 0, or an activation that is NaN somewhere.
    """
    if not (math.isfinite(start) and start > 0):
        raise ValueError(f"start={start!r}: the variance at the first layer must be finite and > 0")
    next_variance = variance_map(activation, weight_variance, bias_variance)
    first = next_variance(start)
    if math.isnan(first):
        raise ValueError(f"activation {activation_name(activation)} is NaN at some pre-activations: it has no variance")
    if math.isclose(first, start, rel_tol=1e-9):
        return start
    factor = 2.0 if first > start else 0.5
    here = start
    while here < 1e12 if first > start else here > 1e-12:
        there = here * factor
        if (next_variance(there) - there) * (first - start) <= 0:
            return _bisect(lambda q: next_variance(q) - q, min(here, there), max(here, there))
        here = there
    return math.inf if first > start else 0.0


def _bisect(function, low, high):
    sign = math.copysign(1.0, function(low))
    for _ in range(60):
        middle = 0.5 * (low + high)
        if function(middle) * sign > 0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def gradient_factor(activation, weight_variance, bias_variance=0.0):
    """Return chi, the factor by which the mean-square gradient changes per layer towards the input.

    chi = sigma_w**2 E[phi'(sqrt(q*) z)**2] (schoenholz2017). The norm changes by sqrt(chi). Below 1 the gradient
    vanishes, above 1 it explodes.

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
    """
    q = variance_fixed_point(activation, weight_variance, bias_variance)
    return weight_variance * mean_square_slope(activation, q)


def mean_square(activation, variance):
    """Return E[phi(u)**2] for a Gaussian pre-activation u of the given variance."""
    phi = make_activation(activation)
    with torch.no_grad():
        return gaussian_mean(lambda u: phi(u) ** 2, variance)


def mean_square_slope(activation, variance):
    """Return E[phi'(u)**2] for a Gaussian pre-activation u of the given variance, in its limit for 0 and inf."""
    derivative = slope(activation)
    return gaussian_mean(lambda u: derivative(u) ** 2, min(max(variance, 1e-24), 1e24))


def gradient_profile(config, input_mean_square=1.0):
    """Predict how the gradient changes from layer to layer in the network of a Config.

    Follows the variance q_l forwards through each layer and the mean square of delta_l = dL/dz_l backwards:
    E delta_l**2 = fan_out Var(W_{l+1}) E[phi'(sqrt(q_l) z)**2] E delta_{l+1}**2. Exact for wide layers; nothing is
    assumed to have settled.

    Args:
        config: a Config.
        input_mean_square: of one input pixel.

    Returns:
        Predicted root mean square of dL/dz at the linear layers, relative to the last one, shape (depth,).
    """
    sizes = [64, *[config.width] * (config.depth - 1), 10]
    q = input_mean_square
    log_factors = []
    for number, (fan_in, fan_out) in enumerate(pairwise(sizes), start=1):
        variance = weight_variance(config.init, config.gain, fan_in, fan_out)
        if number > 1:
            chi = fan_out * variance * mean_square_slope(config.activation, q)
            log_factors.append(-math.inf if chi == 0 else 0.5 * math.log(chi))
            q = mean_square(config.activation, q)
        q = fan_in * variance * q + (1.0 / (3.0 * fan_in) if config.init == "torch" else config.bias_std**2)
    with np.errstate(over="ignore"):  # inf is the right picture of such an explosion
        return np.exp(np.append(np.cumsum(log_factors[::-1])[::-1], 0.0))
