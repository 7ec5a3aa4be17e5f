"""How alike two inputs become, or how far they move apart, on their way through the layers."""

import math

import torch

from gradcourse.models import activation_name, make_activation
from gradcourse.theory.gaussian import gaussian_pair_mean, slope
from gradcourse.theory.meanfield import LEVEL, bisect, variance_fixed_point, variance_map


def correlation_map(activation, weight_variance, bias_variance=0.0, variance=None):
    """Return the map from the correlation of two inputs' pre-activations in one layer to that in the next.

    c_next = (sigma_w**2 E[phi(u1) phi(u2)] + sigma_b**2) / q_next, with u1 and u2 Gaussian of variance q and
    correlation c (poole2016). For ReLU without bias it is the arc-cosine kernel (cho2009):
    (sin t + (pi - t) cos t) / pi with c = cos t.

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.
        variance: q, the pre-activation variance of both inputs; None: the fixed point q*, where q_next = q.

    Returns:
        A function of one float in [-1, 1].

    Raises:
        ValueError: when q* is 0 or infinite and no variance was given, or the next layer's variance is 0.

    References:
        poole2016, cho2009
    """
    next_variance = variance_map(activation, weight_variance, bias_variance)
    q = _settled(activation, weight_variance, bias_variance, "correlation_map") if variance is None else variance
    if not (math.isfinite(q) and q > 0):
        raise ValueError(f"correlation_map(variance={variance!r}): the variance must be finite and > 0")
    q_next = next_variance(q)
    if q_next == 0.0:
        raise ValueError("correlation_map: the next layer's variance is 0, so that its correlation means nothing")
    pair_mean = gaussian_pair_mean(_without_gradient(activation), q)

    def next_correlation(correlation):
        return min(1.0, max(-1.0, (weight_variance * pair_mean(correlation) + bias_variance) / q_next))

    return next_correlation


def _without_gradient(activation):
    phi = make_activation(activation)

    def function(u):
        with torch.no_grad():
            return phi(u)

    return function


def _settled(activation, weight_variance, bias_variance, asked):
    q = variance_fixed_point(activation, weight_variance, bias_variance)
    if q == 0.0 or math.isinf(q):
        raise ValueError(
            f"{asked}({activation_name(activation)}, weight_variance={weight_variance:g}, "
            f"bias_variance={bias_variance:g}): the variance has no fixed point to look at, since it "
            f"{'dies out' if q == 0.0 else 'grows without bound'}; give correlation_map a variance instead"
        )
    return q


def correlation_fixed_point(activation, weight_variance, bias_variance=0.0):
    """Return c*, the correlation to which two inputs that begin with one in [0, 1) settle in deep layers.

    It is 1 in the ordered phase and at criticality, below 1 in the chaotic phase (poole2016). There is only one: by
    the Hermite series of phi the map is a power series in c with coefficients >= 0, so that it is convex on [0, 1],
    begins at or above 0 and ends in (1, 1). At criticality c approaches 1 only like a power of depth. A linear network
    without bias keeps every correlation; for it the answer is 1.

    Args:
        activation: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.

    Returns:
        c*, in [0, 1]; 1.0 when it is within 1e-9 of 1.

    Raises:
        ValueError: when q* is 0 or infinite.
    """
    _settled(activation, weight_variance, bias_variance, "correlation_fixed_point")
    next_correlation = correlation_map(activation, weight_variance, bias_variance)
    if next_correlation(0.0) < 1e-12 and next_correlation(0.5) < 0.5 * (1.0 - LEVEL):
        return 0.0
    for gap in (0.1**power for power in range(1, 10)):
        if next_correlation(1.0 - gap) - (1.0 - gap) < -1e-11:
            return bisect(lambda c: next_correlation(c) - c, 0.0, 1.0 - gap)
    return 1.0


def depth_scale(activation, weight_variance, bias_variance=0.0):
    """Return xi_c, the number of layers over which the distance of a correlation from c* falls by a factor e.

    xi_c = -1 / ln(sigma_w**2 E[phi'(u1) phi'(u2)]) at correlation c* (schoenholz2017): the logarithm's argument is the
    slope of the correlation map at c*. In the ordered phase that slope is chi, so that xi_c is also the number of
    layers over which the mean-square gradient falls by e. Networks on the digits
    trained up to about 6 xi_c layers deep.

    Args:
        activation: a continuous one: a name or a callable on tensors.
        weight_variance: sigma_w**2.
        bias_variance: sigma_b**2.

    Returns:
        Layers; inf at criticality, 0.0 where one layer is enough.

    Raises:
        ValueError: when q* is 0 or infinite, or for an activation with a jump, whose slope says nothing about it.
    """
    q = _settled(activation, weight_variance, bias_variance, "depth_scale")
    c = correlation_fixed_point(activation, weight_variance, bias_variance)
    rate = weight_variance * gaussian_pair_mean(slope(activation), q)(c)
    if c < 1.0 - 1e-6:
        _check_slope(activation, correlation_map(activation, weight_variance, bias_variance), c, rate)
    if rate <= 0.0:
        return 0.0
    return math.inf if abs(rate - 1.0) <= LEVEL else -1.0 / math.log(rate)


def _check_slope(activation, next_correlation, c, rate):
    """Refuse an activation whose autograd slope misses what the correlation map does: one with a jump."""
    step = 1e-3 * (1.0 - c)
    seen = (next_correlation(c + step) - next_correlation(c - step)) / (2.0 * step)
    if abs(seen - rate) > 1e-2 * max(seen, rate):
        raise ValueError(
            f"depth_scale: the activation {activation_name(activation)} jumps, so that its slope ({rate:.3g} in the "
            f"map) is not how correlations move ({seen:.3g}); take a continuous one"
        )
